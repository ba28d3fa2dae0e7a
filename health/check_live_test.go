package health

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgtether/pgtether/internal/lab"
)

func testCheck(ctx context.Context, t *testing.T, l *lab.Lab) {
	a, b := l.Node(lab.RegionA), l.Node(lab.RegionB)
	targets := []Target{labTarget(l, lab.RegionA), labTarget(l, lab.RegionB)}
	must(t, b.AwaitStreaming(ctx))

	always := []string{
		"region-a warning: fsync is off: a crash of the machine can corrupt this node",
		"region-b warning: fsync is off: a crash of the machine can corrupt this node",
		"region-a info: replication is asynchronous: a crash can lose what the standby had not received",
	}
	for _, node := range []string{lab.RegionA, lab.RegionB} {
		if l.Version() >= 14 {
			always = append(always, node+" info: client_connection_check_interval is 0: a statement runs on after its client is gone, and may still commit")
		}
		if l.Version() < 15 {
			always = append(always, node+" info: PostgreSQL 13 and 14 let only a superuser change parameters: an old writer is fenced by ending its sessions and by hooks.fence")
		}
	}
	expect := func(t *testing.T, targets []Target, more ...string) {
		t.Helper()
		got := lines(Check(ctx, targets))
		want := append(append([]string{}, always...), more...)
		for _, line := range got {
			if !slices.Contains(want, line) {
				t.Errorf("unexpected: %s", line)
			}
		}
		for _, line := range want {
			if !slices.Contains(got, line) {
				t.Errorf("missing: %s", line)
			}
		}
	}
	t.Run("a well pair", func(t *testing.T) { expect(t, targets) })
	t.Run("a pair that was not prepared", func(t *testing.T) {
		must(t, b.PauseReplay(ctx))
		must(t, b.Configure(map[string]string{"wal_receiver_timeout": "60s", "synchronous_standby_names": "region_a", "max_standby_streaming_delay": "-1"}))
		must(t, a.Exec(ctx, "postgres", "SELECT pg_create_physical_replication_slot('forgotten', true)"))
		must(t, a.Exec(ctx, "postgres", "ALTER ROLE keycloak SET synchronous_commit = off"))
		must(t, b.Await(ctx, "current_setting('wal_receiver_timeout') = '1min' AND current_setting('max_standby_streaming_delay') = '-1'"))
		inherited := `region-b info: synchronous_standby_names is "region_a" here too: pgtether clears it when it promotes this node and puts it back when the other one streams`
		if l.Version() < 15 {
			inherited = `region-b blocker: synchronous_standby_names is "region_a" here too: after a promotion every commit would wait for a standby that is not there`
		}
		expect(t, targets,
			"region-b blocker: replay is paused",
			"region-b warning: wal_receiver_timeout is 1m0s: so long may a failover wait for the standby to notice that its primary is dead",
			"region-b warning: max_standby_streaming_delay is -1: one query on the standby can hold replay, and with it a promotion, back for ever",
			inherited,
			`region-a warning: replication slot "forgotten" is used by nobody and keeps WAL until the disk is full`,
			`region-a info: role "keycloak" has synchronous_commit=off: its commits may be lost even by a failover that is otherwise lossless`)
		must(t, b.ResumeReplay(ctx))
		must(t, b.Configure(map[string]string{"wal_receiver_timeout": "4s", "synchronous_standby_names": "", "max_standby_streaming_delay": "30s"}))
		must(t, a.Exec(ctx, "postgres", "SELECT pg_drop_replication_slot('forgotten')"))
		must(t, a.Exec(ctx, "postgres", "ALTER ROLE keycloak RESET synchronous_commit"))
		must(t, b.Await(ctx, "current_setting('wal_receiver_timeout') = '4s'"))
	})
	t.Run("a role without rights", func(t *testing.T) {
		must(t, a.Exec(ctx, "postgres", "SET password_encryption = 'scram-sha-256'; CREATE ROLE poor LOGIN PASSWORD 'poor'"))
		must(t, b.AwaitCaughtUp(ctx, a))
		var poor []Target
		for _, target := range targets {
			target.User, target.Password = "poor", "poor"
			poor = append(poor, target)
		}
		got := strings.Join(lines(Check(ctx, poor)), "\n")
		for _, node := range []string{"region-a", "region-b"} {
			fence := " warning: the probe's role lacks ALTER SYSTEM on default_transaction_read_only"
			if l.Version() < 15 {
				fence = " info: PostgreSQL 13 and 14 let only a superuser change parameters"
			}
			for _, want := range []string{" blocker: the probe's role lacks pg_monitor", " blocker: the probe's role may not execute pg_promote", " blocker: the probe's role lacks REPLICATION",
				" warning: the probe's role lacks pg_signal_backend", fence} {
				if !strings.Contains(got, node+want) {
					t.Errorf("missing: %s%s in\n%s", node, want, got)
				}
			}
		}
		if !strings.Contains(got, "region-b blocker: the timeline cannot be read over a replication connection: 42501") {
			t.Errorf("the standby's timeline is not missed:\n%s", got)
		}
	})
	t.Run("a wrong password", func(t *testing.T) {
		wrong := append([]Target{}, targets...)
		wrong[1].Password = "wrong"
		got := strings.Join(lines(Check(ctx, wrong)), "\n")
		if !strings.Contains(got, "region-b blocker: the probe cannot log in: 28P01 ") {
			t.Errorf("findings:\n%s", got)
		}
	})
	t.Run("one server under two names", func(t *testing.T) {
		twice := []Target{targets[0], targets[0]}
		twice[1].Node = "region-b"
		got := strings.Join(lines(Check(ctx, twice)), "\n")
		if !strings.Contains(got, "region-a and region-b are one and the same server") {
			t.Errorf("findings:\n%s", got)
		}
	})
	t.Run("a pool that has eaten all connections, and a standby that is down", func(t *testing.T) {
		var taken []*pgx.Conn
		for {
			c, err := pgx.Connect(ctx, a.SuperDSN("postgres"))
			if err != nil {
				break
			}
			taken = append(taken, c)
		}
		must(t, b.Kill9())
		got := strings.Join(lines(Check(ctx, targets)), "\n")
		for _, c := range taken {
			c.Close(ctx)
		}
		for _, want := range []string{"region-a blocker: all connections are taken", "region-b blocker: does not answer: connection refused", "blocker: no standby could take over"} {
			if !strings.Contains(got, want) {
				t.Errorf("missing: %s in\n%s", want, got)
			}
		}
	})
}
