//go:build linux

package lab_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pgtether/pgtether/internal/lab"
)

func TestPairIsWhatASiteRuns(t *testing.T) {
	ctx, l := start(t, lab.Options{
		MaxConnections: 57,
		Settings:       map[string]string{"work_mem": "5MB", "log_line_prefix": `it's \ here `},
		NodeSettings:   map[string]map[string]string{lab.RegionB: {"work_mem": "6MB"}},
		Addresses:      map[string]string{lab.RegionB: "127.0.0.12"},
		HBA:            []string{"host all nobody_here all reject"},
	})
	a, b := l.Node(lab.RegionA), l.Node(lab.RegionB)
	for _, n := range []*lab.Node{a, b} {
		for name, value := range map[string]string{
			"wal_log_hints": "on", "hot_standby": "on", "track_commit_timestamp": "on", "wal_receiver_timeout": "4s",
			"max_connections": "57", "wal_level": "replica", "cluster_name": n.Name(), "log_line_prefix": `it's \ here `,
			"work_mem": map[string]string{lab.RegionA: "5MB", lab.RegionB: "6MB"}[n.Name()],
		} {
			want(t, n.Name()+" "+name, ask(t, ctx, n, "SHOW "+name), value)
		}
		for _, pid := range n.Processes() {
			if uid := ownerOfProcess(t, pid); uid == 0 {
				t.Errorf("process %d of node %s runs as root", pid, n.Name())
			}
		}
	}
	if !strings.HasPrefix(b.Addr(), "127.0.0.12:") {
		t.Errorf("region-b is at %s, want it at 127.0.0.12", b.Addr())
	}
	want(t, "region-a in recovery", ask(t, ctx, a, "SELECT pg_is_in_recovery()"), "f")
	want(t, "region-b in recovery", ask(t, ctx, b, "SELECT pg_is_in_recovery()"), "t")
	want(t, "active slots", ask(t, ctx, a, "SELECT string_agg(slot_name, ',') FROM pg_replication_slots WHERE active"), "region_b")
	want(t, "application_name of the standby", ask(t, ctx, a, "SELECT application_name FROM pg_stat_replication"), lab.RegionB)
	want(t, "stored password", ask(t, ctx, a, "SELECT left(rolpassword, 14) FROM pg_authid WHERE rolname = 'keycloak'"), "SCRAM-SHA-256$")
	want(t, "same system", ask(t, ctx, a, "SELECT system_identifier FROM pg_control_system()"),
		ask(t, ctx, b, "SELECT system_identifier FROM pg_control_system()"))
	if primary := l.Primary(ctx); primary != a {
		t.Errorf("primary is %v, want region-a", primary)
	}
	if n := l.Node("region-c"); n != nil {
		t.Errorf("a node that does not exist is %s", n.Name())
	}

	app, err := pgx.Connect(ctx, a.AppDSN())
	must(t, err)
	defer app.Close(ctx)
	_, err = app.Exec(ctx, "CREATE TABLE t AS SELECT 7 AS x")
	must(t, err)
	must(t, b.AwaitCaughtUp(ctx, a))
	reader, err := pgx.Connect(ctx, b.AppDSN())
	must(t, err)
	defer reader.Close(ctx)
	var x int
	must(t, reader.QueryRow(ctx, "SELECT x FROM t").Scan(&x))
	if x != 7 {
		t.Errorf("standby reads %d, want the 7 that the primary wrote", x)
	}
	_, err = reader.Exec(ctx, "INSERT INTO t VALUES (8)")
	wantState(t, err, "25006")
	_, err = pgx.Connect(ctx, strings.Replace(a.AppDSN(), ":keycloak@", ":wrong@", 1))
	wantState(t, err, "28P01")
}

func wantState(t *testing.T, err error, state string) {
	t.Helper()
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) || pgErr.Code != state {
		t.Errorf("error is %v, want SQLSTATE %s", err, state)
	}
}

func ownerOfProcess(t *testing.T, pid int) int {
	t.Helper()
	info, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	if errors.Is(err, os.ErrNotExist) {
		return -1 // an autovacuum worker that has finished
	}
	must(t, err)
	return int(info.Sys().(*syscall.Stat_t).Uid)
}

func TestProbeRoleComesFromTheScript(t *testing.T) {
	script := filepath.Join(t.TempDir(), "probe-role.sql")
	must(t, os.WriteFile(script, []byte(`CREATE ROLE :"role" LOGIN REPLICATION PASSWORD :'password'; GRANT pg_monitor TO :"role";`), 0o644))
	ctx, l := start(t, lab.Options{Single: true, ProbeRoleSQL: script, ProbeUser: "prober"})
	c, err := pgx.Connect(ctx, l.Node(lab.RegionA).ProbeDSN("postgres"))
	must(t, err)
	defer c.Close(ctx)
	var role string
	must(t, c.QueryRow(ctx, "SELECT current_user").Scan(&role))
	want(t, "probe role", role, "prober")
	replication, err := pgconn.Connect(ctx, l.Node(lab.RegionA).ProbeDSN("postgres")+"&replication=true")
	must(t, err)
	defer replication.Close(ctx)
	_, err = replication.Exec(ctx, "IDENTIFY_SYSTEM").ReadAll()
	must(t, err)
}

func TestBrokenProbeRoleScriptFailsTheStart(t *testing.T) {
	parent := t.TempDir()
	must(t, os.Chmod(filepath.Dir(parent), 0o755))
	must(t, os.Chmod(parent, 0o755))
	_, err := lab.Start(within(t), lab.Options{Single: true, Dir: parent, ProbeRoleScript: "CREATE ROL x;"})
	if err == nil || !strings.Contains(err.Error(), `syntax error at or near "ROL"`) {
		t.Errorf("error is %v, want what psql said", err)
	}
	left, err := os.ReadDir(parent)
	must(t, err)
	if len(left) > 0 {
		t.Errorf("a failed start left %v", left)
	}
}

func TestStartRefusesContradictions(t *testing.T) {
	for name, c := range map[string]struct {
		opts lab.Options
		says string
	}{
		"synchronous alone":    {lab.Options{Single: true, Synchronous: true}, "needs a standby"},
		"too few connections":  {lab.Options{MaxConnections: 3}, "max_connections 3"},
		"unknown method":       {lab.Options{AppAuth: "peer"}, `application authentication "peer"`},
		"unknown node":         {lab.Options{NodeSettings: map[string]map[string]string{"region-c": {}}}, `unknown node "region-c"`},
		"settings of missing":  {lab.Options{Single: true, NodeSettings: map[string]map[string]string{lab.RegionB: {}}}, `unknown node "region-b"`},
		"not a parameter":      {lab.Options{Settings: map[string]string{"work mem": "1"}}, `"work mem"`},
		"line end in value":    {lab.Options{Settings: map[string]string{"work_mem": "1MB\nfsync = on"}}, "line ends"},
		"not loopback":         {lab.Options{Addresses: map[string]string{lab.RegionA: "192.0.2.1:5432"}}, "loopback"},
		"port out of range":    {lab.Options{Addresses: map[string]string{lab.RegionA: "127.0.0.1:70000"}}, "out of range"},
		"unknown TLS":          {lab.Options{TLS: 9}, "TLS mode 9"},
		"empty program folder": {lab.Options{BinDir: t.TempDir()}, "find postgres in"},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := lab.Start(within(t), c.opts)
			if err == nil {
				must(t, l.Close())
				t.Fatal("it started")
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("error is %q, want it to say %q", err, c.says)
			}
		})
	}
}

func TestOldServersAreRefused(t *testing.T) {
	dir := t.TempDir()
	for _, program := range []string{"postgres", "initdb"} {
		must(t, os.WriteFile(filepath.Join(dir, program), []byte("#!/bin/sh\necho 'postgres (PostgreSQL) 12.22'\n"), 0o755))
	}
	_, err := lab.Start(within(t), lab.Options{BinDir: dir})
	if !errors.Is(err, lab.ErrNoPostgres) || !strings.Contains(err.Error(), "version 12") {
		t.Errorf("error is %v, want ErrNoPostgres for version 12", err)
	}
}

func TestServerThatCannotStartSaysWhy(t *testing.T) {
	_, err := lab.Start(within(t), lab.Options{Single: true, Settings: map[string]string{"shared_buffers": "a lot"}})
	if err == nil || !strings.Contains(err.Error(), `invalid value for parameter "shared_buffers"`) {
		t.Errorf("error is %v, want the server's own words", err)
	}
}

func TestCallersEnvironmentIsNotSeenByThePrograms(t *testing.T) {
	for name, value := range map[string]string{"PGDATA": "/nonexistent", "PGPORT": "1", "PGUSER": "somebody", "PGOPTIONS": "-c nonsense=1"} {
		t.Setenv(name, value)
	}
	_, l := start(t, lab.Options{})
	if n := l.Node(lab.RegionB); n == nil || !n.Running() {
		t.Error("the standby does not run")
	}
}
