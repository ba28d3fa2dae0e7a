package lab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// slotName of a standby's physical slot on whatever primary it streams from.
func (n *Node) slotName() string { return strings.ReplaceAll(strings.ToLower(n.name), "-", "_") }

// replicationAddr is where standbys of this node connect: itself, or its relay.
func (n *Node) replicationAddr() string {
	if n.upstream != nil {
		return n.upstream.Addr()
	}
	return n.Addr()
}

// primaryConninfo is what a standby of this node has in primary_conninfo.
func (n *Node) primaryConninfo(user, password string) string {
	host, port, _ := net.SplitHostPort(n.replicationAddr()) // our own address, well formed
	return fmt.Sprintf("host=%s port=%s user=%s password=%s sslmode=prefer", host, port, user, password)
}

// ensureSlot makes the physical slot for a standby on this node, and reserves WAL at once.
func (n *Node) ensureSlot(ctx context.Context, standby *Node) error {
	return n.Exec(ctx, "postgres", fmt.Sprintf(
		"SET synchronous_commit = local; SELECT pg_create_physical_replication_slot('%[1]s', true) "+
			"WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '%[1]s')", standby.slotName()))
}

// cloneAsStandby fills the node's empty data directory with a base backup of primary, to follow it through a slot.
func (n *Node) cloneAsStandby(ctx context.Context, primary *Node) error {
	if err := primary.ensureSlot(ctx, n); err != nil {
		return err
	}
	basebackup := n.lab.install.program("pg_basebackup")
	if basebackup == "" {
		if err := n.copyOnline(ctx, primary); err != nil {
			return err
		}
		return n.followInConfig(primary)
	}
	err := n.lab.run(ctx, tool{path: basebackup, args: []string{
		"--pgdata", n.dataDir, "--dbname", primary.primaryConninfo(replicationRole, n.lab.replPassword),
		"--write-recovery-conf", "--slot", n.slotName(), "--wal-method=stream", "--checkpoint=fast", "--no-sync",
	}})
	if err != nil {
		return fmt.Errorf("clone node %s from %s: %w", n.name, primary.name, err)
	}
	return nil
}

// followInConfig makes the stopped node a standby of primary at its next start: standby.signal, and the connection in
// postgresql.auto.conf, where pg_basebackup -R puts it too.
func (n *Node) followInConfig(primary *Node) error {
	if err := n.lab.account.writeFile(filepath.Join(n.dataDir, "standby.signal"), nil); err != nil {
		return err
	}
	return n.setAuto(map[string]string{
		"primary_conninfo":  primary.primaryConninfo(replicationRole, n.lab.replPassword),
		"primary_slot_name": n.slotName(),
	})
}

// setAuto replaces parameters in the stopped node's postgresql.auto.conf; an empty value removes the line.
func (n *Node) setAuto(values map[string]string) error {
	path := filepath.Join(n.dataDir, "postgresql.auto.conf")
	content, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read settings of node %s: %w", n.name, err)
	}
	var kept strings.Builder
	for line := range strings.Lines(string(content)) {
		name, _, _ := strings.Cut(line, "=")
		if _, replaced := values[strings.TrimSpace(name)]; !replaced {
			kept.WriteString(strings.TrimRight(line, "\n") + "\n")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if values[name] != "" {
			fmt.Fprintf(&kept, "%s = '%s'\n", name, quoteSetting(values[name]))
		}
	}
	return n.lab.account.writeFile(path, []byte(kept.String()))
}
