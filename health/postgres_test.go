package health

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtether/pgtether/decision"
	"github.com/pgtether/pgtether/internal/lab"
)

// limit ends hangs; it asserts nothing.
const limit = 3 * time.Minute

func startLab(t *testing.T, opts lab.Options) (context.Context, *lab.Lab) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	l, err := lab.Start(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return ctx, l
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// labTarget has a timeout that only a hanging server exceeds.
func labTarget(l *lab.Lab, node string) Target {
	return Target{
		Node: node, Address: l.Node(node).Addr(), User: l.ProbeUser, Password: l.ProbePassword, Database: "postgres",
		Instance: "test", Timeout: 10 * time.Second,
	}
}

func newProber(t *testing.T) *Prober {
	t.Helper()
	p := NewProber(clock())
	t.Cleanup(p.Close)
	return p
}

// terminate ends sessions and waits until they are gone.
func terminate(ctx context.Context, t *testing.T, n *lab.Node, which string) {
	t.Helper()
	must(t, n.Exec(ctx, "postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "+which))
	must(t, n.Await(ctx, "NOT EXISTS (SELECT FROM pg_stat_activity WHERE "+which+")"))
}

// probeUntil makes rounds until one satisfies the condition.
func probeUntil(ctx context.Context, t *testing.T, p *Prober, target Target, what string, ok func(decision.Observation) bool) decision.Observation {
	t.Helper()
	return roundsUntil(ctx, t, p.Probe, target, what, ok)
}

func roundsUntil(ctx context.Context, t *testing.T, round func(context.Context, Target) decision.Observation, target Target, what string, ok func(decision.Observation) bool) decision.Observation {
	t.Helper()
	for {
		o := round(ctx, target)
		if ctx.Err() != nil {
			t.Fatalf("waiting for %s: %v; last: %+v", what, context.Cause(ctx), o)
		}
		if ok(o) {
			return o
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func known[T any](t *testing.T, name string, o decision.Opt[T]) T {
	t.Helper()
	if !o.Known {
		t.Errorf("%s is unknown", name)
	}
	return o.V
}

func same[T comparable](t *testing.T, name string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s = %v, want %v", name, got, want)
	}
}

// everySetting demands that no parameter is unknown.
func everySetting(t *testing.T, s decision.Settings) {
	t.Helper()
	known(t, "max_connections", s.MaxConnections)
	known(t, "max_worker_processes", s.MaxWorkerProcesses)
	known(t, "max_wal_senders", s.MaxWalSenders)
	known(t, "max_prepared_transactions", s.MaxPreparedTransactions)
	known(t, "max_locks_per_transaction", s.MaxLocksPerTransaction)
	same(t, "wal_log_hints", known(t, "wal_log_hints", s.WalLogHints), true)
	known(t, "data_checksums", s.DataChecksums)
	same(t, "synchronous_standby_names", known(t, "synchronous_standby_names", s.SynchronousStandbyNames), "")
	same(t, "synchronous_commit", known(t, "synchronous_commit", s.SynchronousCommit), "on")
	same(t, "default_transaction_read_only", known(t, "default_transaction_read_only", s.DefaultReadOnly), false)
	same(t, "wal_receiver_timeout", known(t, "wal_receiver_timeout", s.WalReceiverTimeout), 4*time.Second)
	same(t, "recovery_min_apply_delay", known(t, "recovery_min_apply_delay", s.RecoveryMinApplyDelay), 0)
	same(t, "relaxed roles", known(t, "relaxed roles", s.RelaxedRoles), 0)
	same(t, "can promote", known(t, "can promote", s.CanPromote), true)
}

func answersEverywhere(t *testing.T, o decision.Observation) {
	t.Helper()
	for name, a := range map[string]decision.Attempt{"persistent": o.Persistent, "fresh": o.Fresh} {
		if a.Evidence != decision.Answers {
			t.Errorf("%s = %s %s %s, want answers", name, a.Evidence, a.SQLState, a.Detail)
		}
	}
}

// TestProbeOfAPair walks one pair from health to failover; every step leaves the pair as the next one needs it.
func TestProbeOfAPair(t *testing.T) {
	ctx, l := startLab(t, lab.Options{MaxConnections: 30})
	a, b := l.Node(lab.RegionA), l.Node(lab.RegionB)
	ta, tb := labTarget(l, lab.RegionA), labTarget(l, lab.RegionB)
	pa, pb := newProber(t), newProber(t)
	systemID, err := a.QueryText(ctx, "postgres", "SELECT system_identifier FROM pg_control_system()")
	must(t, err)

	t.Run("a primary tells everything", func(t *testing.T) {
		o := probeUntil(ctx, t, pa, ta, "the sender", func(o decision.Observation) bool { return len(o.Senders.V) == 1 && o.Senders.V[0].Flush.Known })
		answersEverywhere(t, o)
		same(t, "node", o.Node, lab.RegionA)
		same(t, "role", o.Role, decision.RolePrimary)
		same(t, "system identifier", known(t, "system identifier", o.SystemID), systemID)
		same(t, "timeline", known(t, "timeline", o.Timeline), 1)
		same(t, "history", len(known(t, "history", o.History)), 0)
		same(t, "major version", known(t, "version", o.VersionNum)/10000, l.Version())
		same(t, "read only", known(t, "read only", o.TransactionReadOnly), false)
		known(t, "started ago", o.StartedAgo)
		if id := known(t, "server id", o.ServerID); !strings.Contains(id, a.DataDir()) {
			t.Errorf("server id = %q, want the data directory in it", id)
		}
		if current, flush := known(t, "current", o.CurrentLSN), known(t, "flush", o.FlushLSN); flush > current || flush == 0 {
			t.Errorf("flushed %s of %s", flush, current)
		}
		if o.ReceivedLSN.Known || o.ReplayedLSN.Known || o.ReplayPaused.Known {
			t.Errorf("a primary has a standby's positions: %+v", o)
		}
		same(t, "receiver", known(t, "receiver", o.Receiver), decision.Receiver{})
		s := o.Senders.V[0]
		same(t, "sender", s.ApplicationName+" "+s.State+" "+s.SyncState, lab.RegionB+" streaming async")
		known(t, "reply age", s.ReplyAge)
		everySetting(t, o.Settings)
		same(t, "can set synchronous_standby_names", known(t, "can set", o.Settings.CanSetSyncNames), l.Version() >= 15)
		same(t, "stalled", o.ProberStalled, false)
	})
	t.Run("on timeline 1 the replication connection is not used without need", func(t *testing.T) {
		o := pa.Probe(ctx, ta)
		same(t, "replication", o.Replication, decision.Attempt{})
	})
	t.Run("a standby tells everything", func(t *testing.T) {
		o := probeUntil(ctx, t, pb, tb, "streaming", func(o decision.Observation) bool {
			return o.Receiver.V.Status == "streaming" && o.Receiver.V.LatestEnd.Known // the primary's first message may be on its way
		})
		answersEverywhere(t, o)
		same(t, "role", o.Role, decision.RoleStandby)
		same(t, "system identifier", known(t, "system identifier", o.SystemID), systemID)
		same(t, "timeline", known(t, "timeline", o.Timeline), 1)
		same(t, "history", len(known(t, "history", o.History)), 0)
		same(t, "read only", known(t, "read only", o.TransactionReadOnly), true)
		if received, replayed := known(t, "received", o.ReceivedLSN), known(t, "replayed", o.ReplayedLSN); replayed > received || replayed == 0 {
			t.Errorf("replayed %s of %s", replayed, received)
		}
		same(t, "replay paused", known(t, "replay paused", o.ReplayPaused), "not paused")
		same(t, "replay waits", known(t, "replay waits", probeUntil(ctx, t, pb, tb, "replay to wait", func(o decision.Observation) bool {
			return o.ReplayWaits.V != ""
		}).ReplayWaits), "RecoveryWalStream")
		if o.CurrentLSN.Known || o.FlushLSN.Known {
			t.Errorf("a standby has a primary's positions: %+v", o)
		}
		r := known(t, "receiver", o.Receiver)
		same(t, "receiver runs", r.Running, true)
		same(t, "receiver's timeline", known(t, "receiver's timeline", r.Timeline), 1)
		same(t, "receiver's slot", r.SlotName, "region_b")
		same(t, "receiver's sender", fmt.Sprintf("%s:%d", r.SenderHost, r.SenderPort), a.Addr())
		known(t, "message age", r.MessageAge)
		known(t, "latest end", r.LatestEnd)
		same(t, "senders", len(known(t, "senders", o.Senders)), 0)
		everySetting(t, o.Settings)
	})
	t.Run("the timeline of a streaming standby needs no replication connection twice", func(t *testing.T) {
		o := probeUntil(ctx, t, pb, tb, "a round without replication", func(o decision.Observation) bool { return o.Replication == decision.Attempt{} })
		same(t, "timeline", known(t, "timeline", o.Timeline), 1)
	})
	t.Run("two addresses of one server have one server id", func(t *testing.T) {
		through, err := a.Relay()
		must(t, err)
		defer through.Close()
		other := ta
		other.Address = through.Addr()
		id1, id2 := pa.Probe(ctx, ta).ServerID, newProber(t).Probe(ctx, other).ServerID
		same(t, "server id", known(t, "server id", id2), known(t, "server id", id1))
		if id3 := pb.Probe(ctx, tb).ServerID; id3 == id1 {
			t.Errorf("two servers have one id %q", id3.V)
		}
	})
	t.Run("one connection is kept and shows its name", func(t *testing.T) {
		const mine = "SELECT count(*)||' '||min(application_name) FROM pg_stat_activity WHERE usename = 'pgtether' AND backend_type = 'client backend'"
		pa.Probe(ctx, ta)
		must(t, a.Await(ctx, "(SELECT count(*) FROM pg_stat_activity WHERE usename = 'pgtether') = 1"))
		text, err := a.QueryText(ctx, "postgres", mine)
		must(t, err)
		same(t, "connections", text, "1 pgtether/test")
	})
	t.Run("a killed session is no evidence of the next round", func(t *testing.T) {
		pa.Probe(ctx, ta)
		terminate(ctx, t, a, "usename = 'pgtether'")
		answersEverywhere(t, pa.Probe(ctx, ta))
	})
	t.Run("a changed parameter does not look like an end", func(t *testing.T) {
		pa.Probe(ctx, ta)
		kept := pa.persistent
		must(t, a.Configure(map[string]string{"timezone": "Asia/Tokyo"})) // reported to every session
		must(t, a.Await(ctx, "current_setting('timezone') = 'Asia/Tokyo'"))
		for range 5 {
			answersEverywhere(t, pa.Probe(ctx, ta))
		}
		if pa.persistent != kept {
			t.Error("the kept connection was dropped")
		}
	})
	t.Run("what roles ask of their commits is counted", func(t *testing.T) {
		must(t, a.Exec(ctx, "postgres", "ALTER ROLE keycloak SET synchronous_commit = off; ALTER DATABASE keycloak SET synchronous_commit = 'LOCAL'; "+
			"ALTER ROLE keycloak IN DATABASE keycloak SET synchronous_commit = remote_apply"))
		same(t, "relaxed roles", pa.Probe(ctx, ta).Settings.RelaxedRoles, decision.Some(2))
		must(t, a.Exec(ctx, "postgres", "ALTER ROLE keycloak IN DATABASE keycloak SET synchronous_commit = local; ALTER ROLE ALL SET synchronous_commit = '0'"))
		same(t, "relaxed roles", pa.Probe(ctx, ta).Settings.RelaxedRoles, decision.Some(4))
		must(t, a.Exec(ctx, "postgres", "ALTER ROLE keycloak RESET synchronous_commit; ALTER DATABASE keycloak RESET synchronous_commit; "+
			"ALTER ROLE keycloak IN DATABASE keycloak SET synchronous_commit = remote_write; ALTER ROLE ALL RESET synchronous_commit"))
		same(t, "relaxed roles", pa.Probe(ctx, ta).Settings.RelaxedRoles, decision.Some(0))
		must(t, a.Exec(ctx, "postgres", "ALTER ROLE keycloak IN DATABASE keycloak RESET synchronous_commit"))
	})
	t.Run("what the probe's own role asks is not taken for the server's", func(t *testing.T) {
		must(t, a.Configure(map[string]string{"synchronous_commit": "off"}))
		must(t, a.Await(ctx, "current_setting('synchronous_commit') = 'off'"))
		same(t, "synchronous_commit", newProber(t).Probe(ctx, ta).Settings.SynchronousCommit, decision.Some("off"))
		must(t, a.Exec(ctx, "postgres", "ALTER ROLE pgtether SET synchronous_commit = on"))
		same(t, "synchronous_commit", newProber(t).Probe(ctx, ta).Settings.SynchronousCommit, decision.Opt[string]{})
		must(t, a.Exec(ctx, "postgres", "ALTER ROLE pgtether RESET synchronous_commit"))
		must(t, a.Configure(map[string]string{"synchronous_commit": "on"}))
		must(t, a.Await(ctx, "current_setting('synchronous_commit') = 'on'"))
	})
	t.Run("a role's own settings do not change what is seen", func(t *testing.T) {
		must(t, a.Exec(ctx, "postgres", "ALTER ROLE pgtether SET default_transaction_isolation = 'serializable'; "+
			"ALTER ROLE pgtether SET search_path = pg_temp; ALTER ROLE pgtether SET statement_timeout = 1; ALTER ROLE pgtether SET DateStyle = 'German'"))
		must(t, b.AwaitCaughtUp(ctx, a))
		answersEverywhere(t, newProber(t).Probe(ctx, tb))
		must(t, a.Exec(ctx, "postgres", "ALTER ROLE pgtether RESET ALL"))
	})
	t.Run("paused replay is told", func(t *testing.T) {
		must(t, b.PauseReplay(ctx))
		same(t, "replay paused", pb.Probe(ctx, tb).ReplayPaused, decision.Some("paused"))
		must(t, a.Exec(ctx, "postgres", "CREATE TABLE gap AS SELECT 1"))
		o := probeUntil(ctx, t, pb, tb, "a gap", func(o decision.Observation) bool { return o.ReceivedLSN.V > o.ReplayedLSN.V })
		known(t, "replay lag", o.ReplayLag)
		must(t, b.ResumeReplay(ctx))
	})
	testLogins(t, ctx, a, b, ta, tb)
	t.Run("a frozen postmaster: the kept connection answers, fresh ones hang", func(t *testing.T) {
		answersEverywhere(t, pa.Probe(ctx, ta))
		must(t, a.FreezePostmaster())
		brief := ta
		brief.Timeout = 2 * time.Second
		o := pa.Probe(ctx, brief)
		must(t, a.Thaw())
		same(t, "persistent", o.Persistent.Evidence, decision.Answers)
		same(t, "fresh", o.Fresh.Evidence, decision.Silent)
		same(t, "evidence", o.Evidence(), decision.Answers)
		same(t, "role", o.Role, decision.RolePrimary)
		same(t, "timeline", known(t, "timeline", o.Timeline), 1)
		if o.TransactionReadOnly.Known {
			t.Error("transaction_read_only is the fresh connection's word, and there was none")
		}
		answersEverywhere(t, probeUntil(ctx, t, pa, ta, "the thaw", func(o decision.Observation) bool { return o.Fresh.Evidence == decision.Answers }))
	})
	t.Run("a frozen server is silent", func(t *testing.T) {
		must(t, a.FreezeAll())
		brief := ta
		brief.Timeout = time.Second
		began := time.Now()
		o := pa.Probe(ctx, brief)
		if took := time.Since(began); took > brief.Timeout+slack {
			t.Errorf("round took %s", took)
		}
		must(t, a.Thaw())
		same(t, "persistent", o.Persistent.Evidence, decision.Silent)
		same(t, "fresh", o.Fresh.Evidence, decision.Silent)
		same(t, "evidence", o.Evidence(), decision.Silent)
		same(t, "role", o.Role, decision.RoleUnknown)
	})
	t.Run("a promoted standby shows its new timeline and its fork at once", func(t *testing.T) {
		before := probeUntil(ctx, t, pb, tb, "a caught up standby", func(o decision.Observation) bool { return o.Role == decision.RoleStandby })
		must(t, b.Promote(ctx))
		for name, p := range map[string]*Prober{"kept": pb, "new": newProber(t)} {
			o := p.Probe(ctx, tb)
			answersEverywhere(t, o)
			same(t, name+": role", o.Role, decision.RolePrimary)
			same(t, name+": timeline", known(t, "timeline", o.Timeline), 2)
			history := known(t, name+": history", o.History)
			if len(history) != 1 || history[0].Timeline != 1 || history[0].At < before.ReplayedLSN.V {
				t.Errorf("%s: history = %v, want timeline 1 to end at or after %s", name, history, before.ReplayedLSN.V)
			}
			same(t, name+": system identifier", known(t, "system identifier", o.SystemID), systemID)
		}
		o := pb.Probe(ctx, tb)
		same(t, "replication", o.Replication, decision.Attempt{}) // the history is known now
		same(t, "history", len(known(t, "history", o.History)), 1)
	})
	t.Run("a killed server is refused", func(t *testing.T) {
		answersEverywhere(t, pa.Probe(ctx, ta))
		must(t, a.Kill9())
		o := pa.Probe(ctx, ta)
		same(t, "fresh", o.Fresh.Evidence, decision.Refused)
		same(t, "persistent", o.Persistent.Evidence, decision.Refused)
		same(t, "evidence", o.Evidence(), decision.Refused)
		same(t, "detail", o.Fresh.Detail, "connection refused")
	})
}

// testLogins are the ways in which a server refuses the probe itself.
func testLogins(t *testing.T, ctx context.Context, a, b *lab.Node, ta, tb Target) {
	for _, c := range []struct {
		name, sqlState string
		change         func(*Target)
	}{
		{"wrong password", "28P01", func(t *Target) { t.Password = "wrong" }},
		{"no such role", "28P01", func(t *Target) { t.User = "nobody_here" }},
		{"no such database", "3D000", func(t *Target) { t.Database = "nowhere" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			target := ta
			c.change(&target)
			o := newProber(t).Probe(ctx, target)
			for name, attempt := range map[string]decision.Attempt{"persistent": o.Persistent, "fresh": o.Fresh} {
				if attempt.Evidence != decision.Alive || attempt.SQLState != c.sqlState {
					t.Errorf("%s = %s %s %s, want alive %s", name, attempt.Evidence, attempt.SQLState, attempt.Detail, c.sqlState)
				}
			}
			if c.sqlState == "3D000" { // a physical replication connection needs no database
				same(t, "evidence", o.Evidence(), decision.Answers)
				known(t, "system identifier", o.SystemID)
			} else {
				same(t, "evidence", o.Evidence(), decision.Alive)
			}
		})
	}
	t.Run("without pg_monitor facts are unknown, not wrong", func(t *testing.T) {
		must(t, a.Exec(ctx, "postgres", "SET password_encryption = 'scram-sha-256'; CREATE ROLE blind LOGIN PASSWORD 'blind'"))
		must(t, b.AwaitCaughtUp(ctx, a))
		for _, target := range []Target{ta, tb} {
			target.User, target.Password = "blind", "blind"
			o := newProber(t).Probe(ctx, target)
			answersEverywhere(t, o)
			if o.Role == decision.RoleUnknown || !o.SystemID.Known || !o.Settings.MaxConnections.Known {
				t.Errorf("%s: what everybody may see is unknown: %+v", target.Node, o)
			}
			if target.Node == lab.RegionB && (o.Receiver.Known || o.Timeline.Known) || target.Node == lab.RegionA && o.Senders.Known || o.ServerID.Known {
				t.Errorf("%s: facts that the role may not see: %+v", target.Node, o)
			}
			same(t, "can promote", o.Settings.CanPromote, decision.Some(false))
			same(t, "can set synchronous_standby_names", o.Settings.CanSetSyncNames, decision.Some(false))
			if target.Node == lab.RegionB {
				same(t, "replication", o.Replication.Evidence.String()+" "+o.Replication.SQLState, "alive 42501")
			}
		}
		must(t, a.Exec(ctx, "postgres", "DROP ROLE blind"))
	})
	t.Run("when all connections are taken the replication connection answers", func(t *testing.T) {
		release := exhaust(t, ctx, a)
		o := newProber(t).Probe(ctx, ta)
		release()
		for name, attempt := range map[string]decision.Attempt{"persistent": o.Persistent, "fresh": o.Fresh} {
			same(t, name, attempt.Evidence.String()+" "+attempt.SQLState, "alive 53300")
		}
		same(t, "replication", o.Replication.Evidence, decision.Answers)
		same(t, "evidence", o.Evidence(), decision.Answers)
		same(t, "role", o.Role, decision.RolePrimary)
		same(t, "timeline", known(t, "timeline", o.Timeline), 1)
		known(t, "system identifier", o.SystemID)
		known(t, "history", o.History)
		known(t, "flushed", o.FlushLSN)
	})
}

// exhaust takes every connection of the node and returns how to let them go.
func exhaust(t *testing.T, ctx context.Context, n *lab.Node) (release func()) {
	t.Helper()
	var taken []*pgx.Conn
	release = func() {
		for _, c := range taken {
			c.Close(context.WithoutCancel(ctx))
		}
	}
	for range 1000 {
		c, err := pgx.Connect(ctx, n.SuperDSN("postgres"))
		if err != nil {
			if !strings.Contains(err.Error(), "53300") {
				release()
				t.Fatal(err)
			}
			return release
		}
		taken = append(taken, c)
	}
	release()
	t.Fatal("connections without end")
	return nil
}
