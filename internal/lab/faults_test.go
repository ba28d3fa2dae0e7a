//go:build linux

package lab_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pgtether/pgtether/internal/lab"
)

func login(t *testing.T, ctx context.Context, n *lab.Node) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(ctx, n.SuperDSN("postgres"))
	must(t, err)
	t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

// wantHang checks that do does not come back while its context runs.
func wantHang(t *testing.T, ctx context.Context, what string, do func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if err := do(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%s ends with %v, want it to hang", what, err)
	}
}

func connectTo(n *lab.Node) func(context.Context) error {
	return func(ctx context.Context) error {
		c, err := pgx.Connect(ctx, n.SuperDSN("postgres"))
		if err == nil {
			err = c.Close(context.WithoutCancel(ctx))
		}
		return err
	}
}

func wantRefused(t *testing.T, n *lab.Node) {
	t.Helper()
	if c, err := net.DialTimeout("tcp", n.Addr(), time.Minute); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial %s gives %v and %v, want a refusal", n.Name(), c, err)
	}
}

// One server goes through the faults of its processes, one after the other; each leaves it running.
func TestProcessFaults(t *testing.T) {
	ctx, l := start(t, lab.Options{Single: true})
	n := l.Node(lab.RegionA)
	must(t, n.Exec(ctx, "postgres", "CREATE TABLE kept AS SELECT 1 AS x"))
	for _, step := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"a killed server is gone at once and keeps its data", func(t *testing.T) {
			must(t, n.Kill9())
			wantRefused(t, n)
			if left := n.Processes(); len(left) > 0 || n.Running() || n.PID() != 0 {
				t.Errorf("processes %v are left", left)
			}
			must(t, n.Start(ctx))
		}},
		{"a busy backend survives a killed postmaster", func(t *testing.T) {
			keepBusy(t, ctx, n)
			must(t, n.Kill9Postmaster())
			wantRefused(t, n)
			waitFor(t, "the idle children to leave", func() bool { return len(n.Processes()) == 1 })
			must(t, n.Start(ctx))
		}},
		{"a killed child restarts the server", func(t *testing.T) {
			c, pid := login(t, ctx, n), n.PID()
			must(t, n.Kill9Child("checkpointer"))
			if _, err := c.Exec(ctx, "SELECT pg_sleep(100)"); err == nil {
				t.Error("a session survived")
			}
			waitFor(t, "the end of crash recovery", func() bool { return connectTo(n)(ctx) == nil })
			if n.PID() != pid {
				t.Errorf("postmaster is %d, want still %d", n.PID(), pid)
			}
		}},
		{"a frozen postmaster keeps its sessions", func(t *testing.T) {
			c := login(t, ctx, n)
			must(t, n.FreezePostmaster())
			wantHang(t, ctx, "a new login", connectTo(n))
			_, err := c.Exec(ctx, "INSERT INTO kept VALUES (2)")
			must(t, err)
			must(t, n.Thaw())
			must(t, connectTo(n)(ctx))
		}},
		{"a frozen server answers nobody and goes on when thawed", func(t *testing.T) {
			c := login(t, ctx, n)
			must(t, n.FreezeAll())
			wantHang(t, ctx, "a new login", connectTo(n))
			answered := make(chan error, 1)
			go func() { _, err := c.Exec(ctx, "SELECT 1"); answered <- err }()
			select {
			case err := <-answered:
				t.Errorf("a session of a frozen server gets an answer: %v", err)
			case <-time.After(300 * time.Millisecond):
			}
			must(t, n.Thaw())
			must(t, <-answered)
		}},
		{"a fast stop ends sessions", func(t *testing.T) {
			c := login(t, ctx, n)
			must(t, n.Stop(ctx, lab.Fast))
			wantRefused(t, n)
			_, err := c.Exec(ctx, "SELECT 1")
			wantState(t, err, "57P01")
			must(t, n.Start(ctx))
		}},
		{"an immediate stop needs recovery", func(t *testing.T) {
			must(t, n.Stop(ctx, lab.Immediate))
			wantRefused(t, n)
			must(t, n.Start(ctx))
		}},
		{"a smart stop waits for its sessions", func(t *testing.T) {
			c := login(t, ctx, n)
			wantHang(t, ctx, "the stop", func(ctx context.Context) error { return n.Stop(ctx, lab.Smart) })
			wantState(t, connectTo(n)(ctx), "57P03")
			must(t, c.Close(ctx))
			waitFor(t, "the server to end", func() bool { return !n.Running() && len(n.Processes()) == 0 })
			must(t, n.Start(ctx))
		}},
		{"new settings hold at once and after a restart", func(t *testing.T) {
			must(t, n.Configure(map[string]string{"work_mem": "7MB"}))
			must(t, n.Await(ctx, "current_setting('work_mem') = '7MB'"))
			must(t, n.Stop(ctx, lab.Fast))
			must(t, n.Start(ctx))
			want(t, "work_mem", ask(t, ctx, n, "SHOW work_mem"), "7MB")
		}},
	} {
		t.Run(step.name, func(t *testing.T) {
			step.run(t)
			want(t, "first row", ask(t, ctx, n, "SELECT min(x) FROM kept"), "1")
		})
	}
}

func TestFaultsOfAServerThatIsDownAreRefused(t *testing.T) {
	ctx, l := start(t, lab.Options{Single: true})
	n := l.Node(lab.RegionA)
	if err := n.Start(ctx); err == nil || !strings.Contains(err.Error(), "it is running") {
		t.Errorf("a second start says %v", err)
	}
	if err := n.Stop(ctx, "gently"); err == nil || !strings.Contains(err.Error(), "unknown mode") {
		t.Errorf("an unknown mode says %v", err)
	}
	if err := n.Kill9Child("no such thing"); err == nil {
		t.Error("a process that does not exist was killed")
	}
	must(t, n.Stop(ctx, lab.Fast))
	for name, fault := range map[string]func() error{
		"Kill9": n.Kill9, "Kill9Postmaster": n.Kill9Postmaster, "FreezeAll": n.FreezeAll, "FreezePostmaster": n.FreezePostmaster, "Thaw": n.Thaw,
		"Kill9Child": func() error { return n.Kill9Child("walwriter") },
		"Stop":       func() error { return n.Stop(ctx, lab.Fast) },
	} {
		if err := fault(); err == nil || !strings.Contains(err.Error(), lab.RegionA) {
			t.Errorf("%s of a stopped server says %v, want an error that names the node", name, err)
		}
	}
}

func TestStandbyFaults(t *testing.T) {
	ctx, l := start(t, lab.Options{})
	a, b := l.Node(lab.RegionA), l.Node(lab.RegionB)
	must(t, a.Exec(ctx, "postgres", "CREATE TABLE t (x int)"))
	must(t, b.AwaitCaughtUp(ctx, a))

	must(t, b.PauseReplay(ctx))
	must(t, a.Exec(ctx, "postgres", "INSERT INTO t VALUES (1)"))
	received := ask(t, ctx, a, "SELECT pg_current_wal_lsn()")
	must(t, b.Await(ctx, "pg_last_wal_receive_lsn() >= '"+received+"'::pg_lsn"))
	want(t, "rows on a paused standby", ask(t, ctx, b, "SELECT count(*) FROM t"), "0")
	must(t, b.ResumeReplay(ctx))
	must(t, b.Await(ctx, "(SELECT count(*) FROM t) = 1"))

	// The standby is a witness of its primary's death because wal_receiver_timeout is low.
	must(t, a.FreezeAll())
	must(t, b.Await(ctx, "NOT EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming')"))
	must(t, a.Thaw())
	must(t, b.AwaitStreaming(ctx))

	must(t, a.Kill9())
	must(t, b.Promote(ctx))
	want(t, "region-b in recovery", ask(t, ctx, b, "SELECT pg_is_in_recovery()"), "f")
	want(t, "timeline", ask(t, ctx, b, "SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)"), "00000002")
	if primary := l.Primary(ctx); primary != b {
		t.Error("the primary is not region-b")
	}
	if err := b.Promote(ctx); err == nil {
		t.Error("a primary was promoted again")
	}
}

func TestSynchronousCommitsWaitForTheStandby(t *testing.T) {
	ctx, l := start(t, lab.Options{Synchronous: true})
	a, b := l.Node(lab.RegionA), l.Node(lab.RegionB)
	want(t, "sync_state", ask(t, ctx, a, "SELECT sync_state FROM pg_stat_replication"), "sync")
	must(t, a.Exec(ctx, "keycloak", "CREATE TABLE t (x int); GRANT ALL ON t TO keycloak"))
	must(t, b.FreezeAll())
	c, err := pgx.Connect(ctx, a.AppDSN())
	must(t, err)
	defer c.Close(ctx)
	wantHang(t, ctx, "a commit", func(ctx context.Context) error { _, err := c.Exec(ctx, "INSERT INTO t VALUES (1)"); return err })
	must(t, b.Thaw())
	must(t, a.Exec(ctx, "keycloak", "INSERT INTO t VALUES (2)"))
	want(t, "the setting the standby inherits", ask(t, ctx, b, "SHOW synchronous_standby_names"), `"region-a"`)
}

func TestPartitionBetweenTheNodes(t *testing.T) {
	ctx, l := start(t, lab.Options{RelayReplication: true})
	a, b := l.Node(lab.RegionA), l.Node(lab.RegionB)
	must(t, a.ReplicationRelay().Partition())
	must(t, b.Await(ctx, "NOT EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming')"))
	must(t, a.Exec(ctx, "postgres", "CREATE TABLE t (x int)")) // clients still reach it
	must(t, a.ReplicationRelay().Heal())
	must(t, b.AwaitStreaming(ctx))
	must(t, b.AwaitCaughtUp(ctx, a))
}

func TestRelayInFrontOfANode(t *testing.T) {
	ctx, l := start(t, lab.Options{Single: true, Archive: true})
	n := l.Node(lab.RegionA)
	r, err := n.Relay()
	must(t, err)
	var log lab.ByteLog
	r.Observe(log.Note)
	c, err := pgx.Connect(ctx, l.AppDSNAt(r.Addr()))
	must(t, err)
	defer c.Close(ctx)
	r.Blackhole(lab.FromTarget)
	wantHang(t, ctx, "a query", func(ctx context.Context) error { _, err := c.Exec(ctx, "CREATE TABLE unheard (x int)"); return err })
	// The request went through, the answer did not: the doubt that a commit is left in.
	waitFor(t, "the table", func() bool {
		found, err := n.QueryText(ctx, "keycloak", "SELECT to_regclass('public.unheard')")
		return err == nil && found == "unheard"
	})
	if log.Bytes(lab.ToTarget) == 0 {
		t.Error("the observer saw nothing")
	}
	must(t, n.Exec(ctx, "postgres", "SELECT pg_switch_wal()"))
	must(t, n.Await(ctx, "(SELECT archived_count FROM pg_stat_archiver) > 0"))
}

func sysidOf(t *testing.T, ctx context.Context, n *lab.Node) string {
	t.Helper()
	return ask(t, ctx, n, "SELECT system_identifier FROM pg_control_system()")
}

// An old primary comes back in every way there is, on a pair whose roles swap each time.
func TestRejoin(t *testing.T) {
	ctx, l := start(t, lab.Options{RelayReplication: true})
	a, b := l.Node(lab.RegionA), l.Node(lab.RegionB)

	t.Run("a clean stop rejoins without rewind", func(t *testing.T) {
		must(t, a.Stop(ctx, lab.Fast))
		must(t, b.Promote(ctx))
		must(t, a.Demote(ctx, b))
		must(t, a.AwaitStreaming(ctx))
		must(t, a.AwaitCaughtUp(ctx, b)) // else its own promotion would make another timeline 2
	})
	t.Run("a diverged primary is refused until it is rewound", func(t *testing.T) {
		must(t, b.ReplicationRelay().Partition())
		must(t, b.Exec(ctx, "postgres", "CREATE TABLE diverged (x int)"))
		must(t, a.Promote(ctx))
		must(t, a.Exec(ctx, "postgres", "CREATE TABLE kept (x int)"))
		must(t, b.ReplicationRelay().Heal())
		must(t, b.Rewind(ctx, a))
		must(t, b.AwaitCaughtUp(ctx, a))
		want(t, "tables", ask(t, ctx, b, "SELECT string_agg(tablename, ',') FROM pg_tables WHERE schemaname = 'public'"), "kept")
	})
	t.Run("a rebuild works in any state", func(t *testing.T) {
		must(t, b.Promote(ctx))
		must(t, a.FreezeAll())
		must(t, a.Rebuild(ctx, b))
		want(t, "region-a in recovery", ask(t, ctx, a, "SELECT pg_is_in_recovery()"), "t")
		if err := b.Rebuild(ctx, b); err == nil || !b.Running() {
			t.Errorf("a rebuild from itself says %v", err)
		}
	})
	t.Run("a further standby may follow a standby", func(t *testing.T) {
		c, err := l.AddStandby(ctx, "region-c", "", a)
		must(t, err)
		must(t, b.Exec(ctx, "postgres", "CREATE TABLE cascaded (x int)"))
		must(t, c.AwaitCaughtUp(ctx, b))
		if _, err := l.AddStandby(ctx, "region-c", "", a); err == nil {
			t.Error("a name was given twice")
		}
	})
	t.Run("a copy is a second primary of the same system", func(t *testing.T) {
		twin, err := l.AddCopy(ctx, "twin", "127.0.0.9", b)
		must(t, err)
		want(t, "system identifier", sysidOf(t, ctx, twin), sysidOf(t, ctx, b))
		want(t, "twin in recovery", ask(t, ctx, twin, "SELECT pg_is_in_recovery()"), "f")
		timeline := "SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)"
		want(t, "timeline", ask(t, ctx, twin, timeline), ask(t, ctx, b, timeline))
	})
	t.Run("a stranger may take a node's place", func(t *testing.T) {
		address := a.Addr()
		must(t, a.Kill9())
		stranger, err := l.AddCluster(ctx, "stranger", address)
		must(t, err)
		if stranger.Addr() != address || sysidOf(t, ctx, stranger) == sysidOf(t, ctx, b) {
			t.Errorf("stranger at %s has system identifier %s: want it at %s, another than the pair's", stranger.Addr(), sysidOf(t, ctx, stranger), address)
		}
		c, err := pgx.Connect(ctx, stranger.AppDSN())
		must(t, err)
		must(t, c.Close(ctx))
	})
	if names := len(l.Nodes()); names != 5 || !slices.ContainsFunc(l.Nodes(), func(n *lab.Node) bool { return n.Name() == "twin" }) {
		t.Errorf("the lab has %d nodes, want 5", names)
	}
}
