package failover

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/test/rig"
)

// watchedFor is longer than stable_for and a whole change of writer together.
const watchedFor = 6 * time.Second

// notPromoted fails unless nothing was promoted, and nothing asked for.
func (w *world) notPromoted() {
	w.Helper()
	if asked := w.kinds("promotion_requested"); len(asked) > 0 {
		w.Errorf("a promotion was requested: %+v", asked)
	}
	if recovery, err := w.b.QueryText(w.ctx, "postgres", "SELECT pg_is_in_recovery()"); err == nil && recovery != "t" && recovery != "true" {
		w.Errorf("the standby was promoted")
	}
}

// bothWays runs a test with asynchronous and with synchronous replication.
func bothWays(t *testing.T, name string, opts lab.Options, do func(*testing.T, lab.Options)) {
	t.Helper()
	for _, synchronous := range []bool{false, true} {
		kind := map[bool]string{false: ", asynchronous", true: ", synchronous"}[synchronous]
		t.Run(name+kind, func(t *testing.T) {
			t.Parallel()
			o := opts
			o.Synchronous = synchronous
			do(t, o)
		})
	}
}

// TestFaultsThatMustNotLeadToAPromotion does one fault each to a pair whose proxy would promote, and watches for longer than a failover takes.
func TestFaultsThatMustNotLeadToAPromotion(t *testing.T) {
	for name, c := range map[string]struct {
		opts lab.Options
		// relayed leads the probes and sessions of region-a through a relay, which fault gets.
		relayed bool
		fault   func(*world, *lab.Relay) (undo func())
		// criterion that says why, when one does.
		criterion string
		// open: the writer is served all the while.
		open bool
	}{
		"F02 a backend is killed": {fault: func(w *world, _ *lab.Relay) func() {
			w.must(w.a.Kill9Child("checkpointer"))
			return nil
		}},
		"F04 the postmaster hangs": {open: true, fault: func(w *world, _ *lab.Relay) func() {
			w.must(w.a.FreezePostmaster())
			return func() { w.must(w.a.Thaw()) }
		}},
		"F06 only the proxy cannot see the primary": {relayed: true, criterion: "standby_sees_primary_gone", fault: func(w *world, r *lab.Relay) func() {
			r.Blackhole()
			return func() { w.must(r.Heal()) }
		}},
		"F24 the probe may not see the receiver of the standby, which still receives": {relayed: true, criterion: "standby_sees_primary_gone",
			fault: func(w *world, r *lab.Relay) func() {
				w.must(w.a.Exec(w.ctx, "postgres", "REVOKE pg_monitor FROM "+w.lab.ProbeUser))
				w.must(w.b.AwaitCaughtUp(w.ctx, w.a))
				r.Blackhole()
				return func() { w.must(r.Heal()) }
			}},
		"F07 only the standby cannot see the primary": {opts: lab.Options{RelayReplication: true}, open: true, fault: func(w *world, _ *lab.Relay) func() {
			w.a.ReplicationRelay().Blackhole()
			return func() { w.must(w.a.ReplicationRelay().Heal()) }
		}},
		"F12 the primary takes no more connections": {opts: lab.Options{MaxConnections: 20}, open: true, fault: func(w *world, _ *lab.Relay) func() {
			var held []*pgx.Conn
			for range 40 {
				c, err := pgx.Connect(w.ctx, w.a.SuperDSN("postgres"))
				if err != nil {
					break
				}
				held = append(held, c)
			}
			return func() {
				for _, c := range held {
					_ = c.Close(context.Background())
				}
			}
		}},
		// A terminated probe session looks like a server that is going down for a round: logins may wait that long.
		"F13 the probe may not log in": {criterion: "automation_on", fault: func(w *world, _ *lab.Relay) func() {
			w.must(w.a.Exec(w.ctx, "postgres", "ALTER ROLE "+w.lab.ProbeUser+" NOLOGIN"))
			w.must(w.a.Exec(w.ctx, "postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '"+w.lab.ProbeUser+"'"))
			return nil
		}},
		"F14 the primary is restarted": {fault: func(w *world, _ *lab.Relay) func() {
			w.must(w.a.Kill9())
			w.must(w.a.Start(w.ctx))
			return nil
		}},
	} {
		bothWays(t, name, c.opts, func(t *testing.T, opts lab.Options) {
			w := newAuto(t, opts)
			var relay *lab.Relay
			if c.relayed {
				var err error
				relay, err = w.a.Relay()
				w.must(err)
				w.nodes = []rig.Node{{Name: lab.RegionA, Addr: relay.Addr()}, {Name: lab.RegionB, Addr: w.b.Addr()}}
			}
			w.startOpen()
			w.runs(3 * time.Second) // nothing but the fault may be what keeps it from promoting
			undo := c.fault(w, relay)
			w.stays("nothing changes", watchedFor, func(s rig.Status) bool { return onEpochOne(s) && (!c.open || s.Writes == "open") })
			if c.criterion != "" {
				w.explained(c.criterion)
			}
			w.notPromoted()
			if undo != nil {
				undo()
			}
			if c.criterion != "automation_on" {
				w.awaitOpen(lab.RegionA)
			}
			w.notPromoted()
		})
	}
}

// TestAStandbyThatCouldNotTakeOverIsNotPromoted kills the primary of a pair whose standby lacks one thing, and reads why nothing happens.
func TestAStandbyThatCouldNotTakeOverIsNotPromoted(t *testing.T) {
	for name, c := range map[string]struct {
		opts      lab.Options
		extra     string
		before    func(*world)
		criterion string
		words     string
	}{
		"F16 it is too far behind": {opts: lab.Options{RelayReplication: true}, extra: "max_lag = \"64KiB\"\n", criterion: "lag_within_limit", words: "KiB",
			before: func(w *world) {
				w.a.ReplicationRelay().Blackhole()
				w.must(w.a.Exec(w.ctx, "keycloak", "CREATE TABLE much AS SELECT repeat('x', 1000) FROM generate_series(1, 1000)"))
				time.Sleep(3 * time.Second)
			}},
		"F18 its replay is paused": {criterion: "replay_not_paused", words: "paused", before: func(w *world) { w.must(w.b.PauseReplay(w.ctx)) }},
		"F19 a parameter is too small": {opts: lab.Options{NodeSettings: map[string]map[string]string{lab.RegionB: {"max_locks_per_transaction": "64"}}},
			criterion: "promotable", words: "max_locks_per_transaction", before: func(w *world) {
				w.must(w.a.Configure(map[string]string{"max_locks_per_transaction": "200"}))
				w.must(w.a.Stop(w.ctx, lab.Fast))
				w.must(w.a.Start(w.ctx))
				time.Sleep(2 * time.Second)
			}},
		"F21 it applies late": {opts: lab.Options{NodeSettings: map[string]map[string]string{lab.RegionB: {"recovery_min_apply_delay": "1h"}}},
			criterion: "promotable", words: "recovery_min_apply_delay"},
		"F34 pg_promote is denied": {criterion: "promotable", words: "pg_promote", before: func(w *world) {
			w.must(w.a.Exec(w.ctx, "postgres", "REVOKE EXECUTE ON FUNCTION pg_promote(boolean, integer) FROM "+w.lab.ProbeUser))
			w.must(w.b.AwaitCaughtUp(w.ctx, w.a))
		}},
		"the fence is required and there is none": {extra: "require_fence = true\n[hooks]\nfence = \"exit 1\"\n", criterion: "", words: ""},
	} {
		bothWays(t, name, c.opts, func(t *testing.T, opts lab.Options) {
			if c.before != nil && opts.Synchronous && opts.RelayReplication {
				return // a commit would wait for the standby that is kept behind
			}
			w := newAuto(t, opts)
			w.extra += c.extra
			w.start()
			w.awaitOpen(lab.RegionA)
			time.Sleep(3 * time.Second)
			if c.before != nil {
				c.before(w)
			}
			w.await("the writer is open", func(s rig.Status) bool { return s.Writes == "open" })
			time.Sleep(2 * time.Second)
			w.must(w.a.Kill9())
			w.stays("the epoch is not given to another node", watchedFor, onEpochOne)
			w.notPromoted()
			if c.criterion != "" {
				w.explained(c.criterion, c.words)
			} else {
				w.awaitUndone("old_writer_fenced")
			}
		})
	}
}

// awaitUndone waits until a change is undone for that reason; on a busy machine there may be others before.
func (w *world) awaitUndone(why string) {
	w.Helper()
	for {
		undone := w.kinds("undone")
		if slices.ContainsFunc(undone, func(e rig.Event) bool { return strings.Contains(e.Message, why) }) {
			return
		}
		if w.ctx.Err() != nil {
			w.Fatalf("no change was undone for %s: %+v", why, undone)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func TestBothNodesDieAndTheWriterComesBackAsItWas(t *testing.T) {
	t.Parallel()
	w := newAuto(t, lab.Options{})
	w.startOpen()
	w.exec(w.mustLogin(), "CREATE TABLE t (k int)")
	w.runs(3 * time.Second)
	w.must(w.b.Kill9())
	w.must(w.a.Kill9())
	w.await("nobody is there", func(s rig.Status) bool { return s.State == "PRIMARY_FAILED" })
	w.stays("nothing is promoted", 4*time.Second, onEpochOne)
	w.must(w.b.Start(w.ctx))
	w.must(w.a.Start(w.ctx))
	w.awaitOpen(lab.RegionA)
	w.exec(w.mustLogin(), "INSERT INTO t VALUES (1)")
	if len(w.kinds("promotion_requested")) > 0 {
		t.Error("a promotion was requested")
	}
}

func TestAQueryThatHoldsReplayBackIsEndedWhenTheWriterIsGone(t *testing.T) {
	t.Parallel()
	w := newAuto(t, lab.Options{NodeSettings: map[string]map[string]string{lab.RegionB: {"max_standby_streaming_delay": "-1", "hot_standby_feedback": "off"}}})
	w.startOpen()
	c := w.mustLogin()
	w.exec(c, "CREATE TABLE rows AS SELECT generate_series(1, 1000) AS k")
	w.must(w.b.AwaitCaughtUp(w.ctx, w.a))
	reader, err := pgx.Connect(w.ctx, w.b.AppDSN())
	w.must(err)
	defer reader.Close(context.Background())
	w.exec(reader, "BEGIN ISOLATION LEVEL REPEATABLE READ")
	w.exec(reader, "SELECT count(*) FROM rows")
	w.exec(c, "DELETE FROM rows")
	w.exec(c, "VACUUM rows")
	w.must(w.b.Await(w.ctx, "EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'startup' AND wait_event LIKE 'RecoveryConflict%')"))
	time.Sleep(6 * time.Second) // long enough for the gap to count as stuck
	w.must(w.a.Kill9())
	w.await("the new writer is open", func(s rig.Status) bool { return s.State == "NEW_PRIMARY" && *s.Writer == lab.RegionB })
	w.promotedOnce(lab.RegionB)
}
