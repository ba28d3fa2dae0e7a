package lab

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"
)

// copyOnline is a base backup of a running node by PostgreSQL's low-level API, for installations without pg_basebackup: start,
// copy the files, stop, write the label that stop returns, then the WAL up to there.
func (n *Node) copyOnline(ctx context.Context, from *Node) error {
	start, stop := "SELECT pg_backup_start('lab', true)", "SELECT labelfile FROM pg_backup_stop(false)"
	if n.lab.install.major < 15 {
		start, stop = "SELECT pg_start_backup('lab', true, false)", "SELECT labelfile FROM pg_stop_backup(false, false)"
	}
	err := from.withSuper(ctx, "postgres", func(ctx context.Context, c *pgx.Conn) error { // one session from start to stop
		if _, err := c.Exec(ctx, start); err != nil {
			return fmt.Errorf("start backup: %w", err)
		}
		if err := n.lab.account.copyTree(from.dataDir, n.dataDir, notInBackup); err != nil {
			return err
		}
		var label string
		if err := c.QueryRow(ctx, stop).Scan(&label); err != nil {
			return fmt.Errorf("stop backup: %w", err)
		}
		return n.lab.account.writeFile(filepath.Join(n.dataDir, "backup_label"), []byte(label))
	})
	if err != nil {
		return fmt.Errorf("copy node %s to %s: %w", from.name, n.name, err)
	}
	// The segments are still there: the slot keeps them, or no checkpoint has come between.
	err = n.lab.account.copyTree(filepath.Join(from.dataDir, "pg_wal"), filepath.Join(n.dataDir, "pg_wal"), notNeededWAL)
	if err != nil {
		return fmt.Errorf("copy WAL of node %s to %s: %w", from.name, n.name, err)
	}
	return nil
}

// notNeededWAL leaves out what the archiver of the other node has noted.
func notNeededWAL(rel string, entry fs.DirEntry) bool {
	return strings.HasPrefix(rel, "archive_status"+string(filepath.Separator)) || !entry.IsDir() && strings.HasPrefix(rel, "xlogtemp")
}
