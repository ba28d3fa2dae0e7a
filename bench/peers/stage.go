package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/pgtether/pgtether/internal/lab"
)

// stage is one PostgreSQL server and the peers in front of it.
type stage struct {
	set   settings
	lab   *lab.Lab
	node  *lab.Node
	dir   string // ours; the lab has its own
	peers []*peer

	cert, key, pem string // what the peers show to clients that ask for TLS; pem is both in one file, as HAProxy wants it
	runs           int    // names the files of one measurement
}

// setStage starts the server and every peer, and returns when a login works through each. Nothing is left of a stage that could not be set.
func setStage(ctx context.Context, s settings) (st *stage, err error) {
	st = &stage{set: s}
	defer func() {
		if err != nil {
			err = errors.Join(err, st.close())
			st = nil
		}
	}()
	if st.dir, err = os.MkdirTemp("", "pgtether-peers-"); err != nil {
		return st, fmt.Errorf("make working directory: %w", err)
	}
	if st.lab, err = lab.Start(ctx, labOptions(s)); err != nil {
		return st, err
	}
	st.node = st.lab.Node(lab.RegionA)
	if err := st.makeTLS(); err != nil {
		return st, err
	}
	if err := st.fill(ctx); err != nil {
		return st, err
	}
	for _, name := range s.peers {
		p, err := st.start(ctx, name, st.node.Addr())
		if err != nil {
			return st, fmt.Errorf("start %s: %w", name, err)
		}
		st.peers = append(st.peers, p)
		if err := st.awaitLogin(ctx, p); err != nil {
			return st, fmt.Errorf("start %s: %w", name, err)
		}
	}
	return st, nil
}

// labOptions: a server that holds the tables in memory.
func labOptions(s settings) lab.Options {
	most := slices.Max(append([]int{32}, s.clients...))
	return lab.Options{
		Single: true, TLS: lab.TLSShared, MaxConnections: most + 88,
		Settings: map[string]string{
			"shared_buffers": strconv.Itoa(128+20*s.scale) + "MB", "max_wal_size": "4GB", "checkpoint_timeout": "30min",
		},
	}
}

// makeTLS issues the certificate that all peers show.
func (st *stage) makeTLS() (err error) {
	if st.cert, st.key, err = st.lab.TLS().Issue("peers"); err != nil {
		return err
	}
	var both []byte
	for _, file := range []string{st.cert, st.key} {
		content, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("read certificate: %w", err)
		}
		both = append(both, content...)
	}
	st.pem, err = st.lab.WriteFile("peers.pem", string(both))
	return err
}

// fill makes the tables.
func (st *stage) fill(ctx context.Context) error {
	if _, err := st.pgbench(ctx, st.node.Addr(), "--initialize", "--quiet", "--scale", strconv.Itoa(st.set.scale)); err != nil {
		return fmt.Errorf("make tables of pgbench: %w", err)
	}
	return st.node.Exec(ctx, st.lab.AppDatabase, `CREATE UNLOGGED TABLE sink (v bytea); ALTER TABLE sink OWNER TO "`+st.lab.AppUser+`"`)
}

// endSessions ends the application's sessions on the server and returns when none is left.
func (st *stage) endSessions(ctx context.Context) error {
	for {
		left, err := st.node.QueryText(ctx, "postgres", "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '"+st.lab.AppUser+"'")
		if err != nil || left == "0" {
			return err
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}

// host and port of a peer's address.
func split(address string) (host, port string) {
	i := len(address) - 1
	for i >= 0 && address[i] != ':' {
		i--
	}
	return address[:max(i, 0)], address[i+1:]
}

// pgbench runs pgbench to its end and returns what it said.
func (st *stage) pgbench(ctx context.Context, address string, args ...string) (string, error) {
	path, err := st.lab.Program("pgbench")
	if err != nil {
		return "", err
	}
	host, port := split(address)
	env := []string{"PGPASSWORD=" + st.lab.AppPassword, "PGSSLMODE=disable"}
	return st.lab.Command(ctx, env, path, append(args, "--host", host, "--port", port, "--username", st.lab.AppUser, st.lab.AppDatabase)...)
}

// file names a new file of one measurement, in the lab's directory, where pgbench may write.
func (st *stage) file(kind string) string {
	st.runs++
	return filepath.Join(st.lab.Dir(), fmt.Sprintf("%s-%d", kind, st.runs))
}

// close ends the peers and the server.
func (st *stage) close() error {
	var errs []error
	for _, p := range slices.Backward(st.peers) {
		errs = append(errs, p.stop())
	}
	if st.lab != nil {
		errs = append(errs, st.lab.Close())
	}
	if st.dir != "" {
		errs = append(errs, os.RemoveAll(st.dir))
	}
	return errors.Join(errs...)
}
