package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"
)

// startPrimary makes region-a and starts it.
func (l *Lab) startPrimary(ctx context.Context) error {
	if l.opts.External {
		return nil
	}
	n, err := l.newNode(RegionA, l.opts.Addresses[RegionA])
	if err != nil {
		return err
	}
	return n.startAsCluster(ctx)
}

// startAsCluster makes the node a cluster of its own, with the lab's roles.
func (n *Node) startAsCluster(ctx context.Context) error {
	for _, step := range []func(context.Context) error{n.initdb, n.startOnFreePort, n.createRoles, n.createProbeRole} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// initdb makes an empty cluster, with a system identifier of its own.
func (n *Node) initdb(ctx context.Context) error {
	passwordFile := n.dataDir + ".password"
	if err := n.lab.account.writeFile(passwordFile, []byte(n.lab.superPassword)); err != nil {
		return err
	}
	defer os.Remove(passwordFile)
	err := n.lab.run(ctx, tool{path: n.lab.install.program("initdb"), args: []string{
		"--pgdata", n.dataDir, "--no-sync", "--encoding=UTF8", "--locale=C", "--username", superuser,
		"--auth=scram-sha-256", "--pwfile", passwordFile,
	}})
	if err != nil {
		return fmt.Errorf("make cluster of node %s: %w", n.name, err)
	}
	return nil
}

// startOnFreePort starts a new node, on another port when somebody took the chosen one meanwhile.
func (n *Node) startOnFreePort(ctx context.Context) error {
	for try := 1; ; try++ {
		err := n.Start(ctx)
		if err == nil || try == 5 || portIsFree(n.ip, n.port) || n.fixedPort {
			return err
		}
		port, portErr := freePort(n.ip)
		if portErr != nil {
			return errors.Join(err, portErr)
		}
		n.port = port
	}
}

// createRoles makes the replication role and the application's role and database. Commits are local: with Options.Synchronous
// the standby that they would wait for does not exist yet.
func (n *Node) createRoles(ctx context.Context) error {
	l := n.lab
	quote := func(name string) string { return pgx.Identifier{name}.Sanitize() }
	literal := func(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
	stored := "scram-sha-256"
	if l.opts.AppAuth == "md5" {
		stored = "md5"
	}
	return n.withSuper(ctx, "postgres", func(ctx context.Context, c *pgx.Conn) error {
		for _, sql := range []string{
			"SET synchronous_commit = local",
			"SET password_encryption = 'scram-sha-256'",
			fmt.Sprintf("CREATE ROLE %s LOGIN REPLICATION PASSWORD %s", replicationRole, literal(l.replPassword)),
			fmt.Sprintf("SET password_encryption = %s", literal(stored)),
			fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD %s", quote(l.AppUser), literal(l.AppPassword)),
			fmt.Sprintf("CREATE DATABASE %s OWNER %s", quote(l.AppDatabase), quote(l.AppUser)),
		} {
			if _, err := c.Exec(ctx, sql); err != nil {
				return fmt.Errorf("create roles and database: %w", err)
			}
		}
		return nil
	})
}

// createProbeRole runs configs/sql/probe-role.sql as its reader would: once, on the writer, as superuser, through psql.
func (n *Node) createProbeRole(ctx context.Context) error {
	return n.lab.CreateProbeRole(ctx, n.SuperDSN("postgres"))
}

// CreateProbeRole runs configs/sql/probe-role.sql through psql on a writer, given by a superuser's URL. The lab does so by itself on the
// servers that it starts.
func (l *Lab) CreateProbeRole(ctx context.Context, superDSN string) error {
	script := l.opts.ProbeRoleScript
	if script == "" {
		path := l.opts.ProbeRoleSQL
		if path == "" {
			if path = findInModule("configs", "sql", "probe-role.sql"); path == "" {
				return nil
			}
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read probe role script: %w", err)
		}
		script = string(content)
	}
	psql, err := clientProgram(ctx, l.install, "psql")
	if err != nil {
		return err
	}
	err = l.run(ctx, tool{path: psql, stdin: script,
		args: []string{"--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--set", "password=" + l.opts.ProbePassword,
			"--set", "role=" + l.opts.ProbeUser, "--file", "-", superDSN},
		env: []string{"PGOPTIONS=-c synchronous_commit=local -c password_encryption=scram-sha-256"}})
	if err != nil {
		return fmt.Errorf("create probe role: %w", err)
	}
	l.ProbeUser, l.ProbePassword = l.opts.ProbeUser, l.opts.ProbePassword
	return nil
}

// findInModule looks for a file under the root of the module that encloses the working directory, where tests run.
func findInModule(parts ...string) string {
	dir, err := os.Getwd()
	if err != nil {
		return ""
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			path := filepath.Join(append([]string{dir}, parts...)...)
			if _, err := os.Stat(path); err != nil {
				return ""
			}
			return path
		}
		if dir == filepath.Dir(dir) {
			return ""
		}
	}
}

// startStandby makes region-b from region-a and waits until it streams.
func (l *Lab) startStandby(ctx context.Context) error {
	if l.opts.Single || l.opts.External {
		return nil
	}
	a := l.Node(RegionA)
	b, err := l.newNode(RegionB, l.opts.Addresses[RegionB])
	if err != nil {
		return err
	}
	b.synchronousWith = RegionA
	if err := b.cloneAsStandby(ctx, a); err != nil {
		return err
	}
	if err := b.startOnFreePort(ctx); err != nil {
		return err
	}
	if err := b.awaitFollowing(ctx, a); err != nil {
		return err
	}
	a.synchronousWith = RegionB
	if !l.opts.Synchronous {
		return nil
	}
	if err := a.Configure(nil); err != nil { // only now: until it streams every commit would hang
		return err
	}
	return a.Await(ctx, "EXISTS (SELECT FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum'))")
}
