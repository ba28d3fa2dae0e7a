package health

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgtether/pgtether/decision"
)

func settings() decision.Settings {
	return decision.Settings{
		MaxConnections: decision.Some(100), MaxWorkerProcesses: decision.Some(8), MaxWalSenders: decision.Some(10),
		MaxPreparedTransactions: decision.Some(0), MaxLocksPerTransaction: decision.Some(64),
		WalLogHints: decision.Some(true), DataChecksums: decision.Some(false), SynchronousStandbyNames: decision.Some(""), SynchronousCommit: decision.Some("on"),
		DefaultReadOnly: decision.Some(false), WalReceiverTimeout: decision.Some(5 * time.Second), RecoveryMinApplyDelay: decision.Some(time.Duration(0)),
		RelaxedRoles: decision.Some(0), CanPromote: decision.Some(true), CanSetSyncNames: decision.Some(true),
	}
}

func allGrants() row {
	r := row{"superuser": "f"}
	for _, name := range append([]string{"replication", "pg_monitor", "pg_signal_backend", "emit", "pg_checkpoint", "pg_reload_conf"}, fenceParameters...) {
		r[name] = "t"
	}
	return r
}

// wellPair is a pair about which there is nothing to say but that it is asynchronous.
func wellPair() []patient {
	ok := decision.Attempt{Evidence: decision.Answers}
	seen := decision.Observation{
		Persistent: ok, Fresh: ok, Replication: ok, SystemID: decision.Some("7"), Timeline: decision.Some(uint32(1)),
		History: decision.Some([]decision.TimelineSwitch{}), VersionNum: decision.Some(150012), Settings: settings(),
	}
	a, b := seen, seen
	a.Role, a.ServerID = decision.RolePrimary, decision.Some("1:5432:/a")
	a.Senders = decision.Some([]decision.Sender{{ApplicationName: "region-b", State: "streaming", SyncState: "async"}})
	a.Receiver = decision.Some(decision.Receiver{})
	b.Role, b.ServerID = decision.RoleStandby, decision.Some("2:5432:/b")
	b.Senders = decision.Some([]decision.Sender{})
	b.Receiver = decision.Some(decision.Receiver{Running: true, Status: "streaming", SlotName: "region_b", Timeline: decision.Some(uint32(1))})
	b.ReplayPaused = decision.Some("not paused")
	extra := row{"primary_slot_name": "region_b", "max_standby_streaming_delay": "30000", "client_connection_check_interval": "1000", "fsync": "on"}
	return []patient{
		{name: "region-a", seen: a, role: allGrants(), extra: extra, slots: []row{{"slot_name": "region_b", "active": "t", "wal_status": "reserved"}}},
		{name: "region-b", seen: b, role: allGrants(), extra: extra},
	}
}

const asynchronous = "region-a info: replication is asynchronous: a crash can lose what the standby had not received"

func lines(all []Finding) []string {
	var out []string
	for _, f := range all {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s: %s", f.Node, f.Severity, f.What)))
	}
	return out
}

func TestAWellPairHasNothingToSay(t *testing.T) {
	if got := lines(judge(wellPair())); len(got) != 1 || got[0] != asynchronous {
		t.Errorf("findings: %q", got)
	}
}

func TestEveryRuleFinds(t *testing.T) {
	down := func(n *patient, e decision.Evidence, state, detail string) {
		a := decision.Attempt{Evidence: e, SQLState: state, Detail: detail}
		n.seen = decision.Observation{Fresh: a, Persistent: a}
	}
	for _, c := range []struct {
		what   string // node, severity and text
		change func(a, b *patient)
	}{
		{"region-b blocker: the probe cannot log in: 28P01 FATAL: no", func(_, b *patient) { down(b, decision.Alive, "28P01", "FATAL: no") }},
		{"region-b blocker: all connections are taken: FATAL: sorry", func(_, b *patient) { down(b, decision.Alive, "53300", "FATAL: sorry") }},
		{"region-b blocker: answers, but not with what was asked for: 57P03 FATAL: starting up", func(_, b *patient) { down(b, decision.Alive, "57P03", "FATAL: starting up") }},
		{"region-b blocker: answers, but not with what was asked for: no answer in time", func(_, b *patient) {
			b.seen.Fresh = decision.Attempt{Evidence: decision.Answers}
			b.seen.Persistent = decision.Attempt{Evidence: decision.Silent, Detail: "no answer in time"}
		}},
		{"region-b blocker: does not answer: connection refused", func(_, b *patient) { down(b, decision.Refused, "", "connection refused") }},
		{"region-b blocker: does not answer: no answer in time", func(_, b *patient) { down(b, decision.Silent, "", "no answer in time") }},
		{"region-b blocker: cannot be probed: too many open files", func(_, b *patient) { down(b, decision.EvidenceUnknown, "", "too many open files") }},
		{"region-b blocker: the timeline cannot be read over a replication connection: 28000 no pg_hba.conf entry", func(_, b *patient) {
			b.seen.Timeline, b.seen.Replication = decision.Opt[uint32]{}, decision.Attempt{Evidence: decision.Alive, SQLState: "28000", Detail: "no pg_hba.conf entry"}
		}},
		{"region-b blocker: the probe's role lacks pg_monitor: the WAL receiver and senders cannot be seen", func(_, b *patient) { b.role["pg_monitor"] = "f" }},
		{"region-b blocker: the probe's role may not execute pg_promote in this database", func(_, b *patient) { b.seen.Settings.CanPromote = decision.Some(false) }},
		{"region-b blocker: the probe's role lacks REPLICATION", func(_, b *patient) { b.role["replication"] = "f" }},
		{"region-b warning: the probe's role is a superuser: it needs far less", func(_, b *patient) { b.role["superuser"] = "t" }},
		{"region-b warning: the probe's role lacks pg_signal_backend: sessions on an old writer cannot be ended", func(_, b *patient) { b.role["pg_signal_backend"] = "f" }},
		{"region-b warning: the probe's role may not execute pg_logical_emit_message: that a new writer commits is not tried", func(_, b *patient) { b.role["emit"] = "f" }},
		{"region-b info: PostgreSQL 13 and 14 let only a superuser change parameters: an old writer is fenced by ending its sessions and by hooks.fence", func(a, b *patient) {
			a.seen.VersionNum, b.seen.VersionNum = decision.Some(140010), decision.Some(140010)
		}},
		{"region-b warning: the probe's role lacks ALTER SYSTEM on synchronous_standby_names, pg_reload_conf: an old writer cannot be fenced by SQL", func(_, b *patient) {
			b.role["synchronous_standby_names"], b.role["pg_reload_conf"] = "f", "f"
		}},
		{"region-b warning: allow_alter_system is off: an old writer cannot be fenced by SQL", func(_, b *patient) { b.extra["allow_alter_system"] = "off" }},
		{"region-b blocker: receives nothing from a primary: no WAL receiver runs", func(_, b *patient) { b.seen.Receiver = decision.Some(decision.Receiver{}) }},
		{`region-b blocker: the WAL receiver is "waiting", not streaming`, func(_, b *patient) { b.seen.Receiver.V.Status = "waiting" }},
		{"region-b warning: streams without a replication slot: the primary may remove WAL that the standby still needs", func(_, b *patient) { b.seen.Receiver.V.SlotName = "" }},
		{"region-b warning: wal_receiver_timeout is off: the standby does not notice that its primary is dead", func(_, b *patient) {
			b.seen.Settings.WalReceiverTimeout = decision.Some(time.Duration(0))
		}},
		{"region-b warning: wal_receiver_timeout is 1m0s: so long may a failover wait for the standby to notice that its primary is dead", func(_, b *patient) {
			b.seen.Settings.WalReceiverTimeout = decision.Some(time.Minute)
		}},
		{"region-a info: wal_receiver_timeout is 1m0s: so long may a failover wait for the standby to notice that its primary is dead", func(a, _ *patient) {
			a.seen.Settings.WalReceiverTimeout = decision.Some(time.Minute)
		}},
		{"region-b blocker: replay is paused", func(_, b *patient) { b.seen.ReplayPaused = decision.Some("paused") }},
		{"region-b blocker: recovery_min_apply_delay is 1h0m0s: a delayed standby is no candidate", func(_, b *patient) {
			b.seen.Settings.RecoveryMinApplyDelay = decision.Some(time.Hour)
		}},
		{"region-b warning: max_standby_streaming_delay is -1: one query on the standby can hold replay, and with it a promotion, back for ever", func(_, b *patient) {
			b.extra["max_standby_streaming_delay"] = "-1"
		}},
		{`region-b info: synchronous_standby_names is "x" here too: pgtether clears it when it promotes this node and puts it back when the other one streams`, func(_, b *patient) {
			b.seen.Settings.SynchronousStandbyNames = decision.Some("x")
		}},
		{`region-b blocker: synchronous_standby_names is "x" here too: after a promotion every commit would wait for a standby that is not there`, func(_, b *patient) {
			b.seen.Settings.SynchronousStandbyNames, b.seen.Settings.CanSetSyncNames = decision.Some("x"), decision.Some(false)
		}},
		{"region-a blocker: synchronous_standby_names is set and no standby is synchronous: commits wait", func(a, _ *patient) {
			a.seen.Settings.SynchronousStandbyNames = decision.Some("x")
		}},
		{"region-b warning: wal_log_hints and data checksums are off: after a failover this node cannot be rewound and must be built anew", func(_, b *patient) {
			b.seen.Settings.WalLogHints = decision.Some(false)
		}},
		{"region-a blocker: default_transaction_read_only is on: writes fail (a fence that was not undone?)", func(a, _ *patient) { a.seen.Settings.DefaultReadOnly = decision.Some(true) }},
		{"region-b warning: default_transaction_read_only is on: writes fail (a fence that was not undone?)", func(_, b *patient) { b.seen.Settings.DefaultReadOnly = decision.Some(true) }},
		{"region-a warning: synchronous_commit is local for the whole server: no failover is lossless", func(a, _ *patient) {
			a.seen.Settings.SynchronousCommit = decision.Some("local")
		}},
		{`region-a info: role "keycloak" has synchronous_commit=off: its commits may be lost even by a failover that is otherwise lossless`, func(a, _ *patient) {
			a.lax = []row{{"role": "keycloak", "database": "", "setting": "synchronous_commit=off"}}
		}},
		{`region-a info: role "r" in database "d" has synchronous_commit=local: its commits may be lost even by a failover that is otherwise lossless`, func(a, _ *patient) {
			a.lax = []row{{"role": "r", "database": "d", "setting": "synchronous_commit=local"}}
		}},
		{`region-a info: database "d" has synchronous_commit=off: its commits may be lost even by a failover that is otherwise lossless`, func(a, _ *patient) {
			a.lax = []row{{"database": "d", "setting": "synchronous_commit=off"}}
		}},
		{`region-a blocker: replication slot "region_b" has lost WAL that its standby needs`, func(a, _ *patient) { a.slots[0]["wal_status"] = "lost" }},
		{`region-a warning: replication slot "region_b" is used by nobody and keeps WAL until the disk is full`, func(a, _ *patient) { a.slots[0]["active"] = "f" }},
		{"region-a warning: fsync is off: a crash of the machine can corrupt this node", func(a, _ *patient) { a.extra["fsync"] = "off" }},
		{"region-a info: client_connection_check_interval is 0: a statement runs on after its client is gone, and may still commit", func(a, _ *patient) {
			a.extra["client_connection_check_interval"] = "0"
		}},
		{"blocker: no node is a primary", func(a, _ *patient) { a.seen.Role = decision.RoleStandby }},
		{"blocker: region-a and region-b are primaries at the same time: split brain", func(_, b *patient) { b.seen.Role = decision.RolePrimary }},
		{"blocker: no standby could take over", func(_, b *patient) { down(b, decision.Refused, "", "") }},
		{"blocker: region-a and region-b are one and the same server", func(a, b *patient) { b.seen.ServerID = a.seen.ServerID }},
		{"blocker: region-a and region-b are not copies of one cluster: their system identifiers are 7 and 8", func(_, b *patient) { b.seen.SystemID = decision.Some("8") }},
		{"region-b blocker: is on timeline 2, the primary on 1", func(_, b *patient) { b.seen.Timeline = decision.Some(uint32(2)) }},
		{"blocker: region-a runs PostgreSQL 15, region-b runs 16", func(_, b *patient) { b.seen.VersionNum = decision.Some(160001) }},
		{"info: region-a runs PostgreSQL 15.12, region-b runs 15.3", func(_, b *patient) { b.seen.VersionNum = decision.Some(150003) }},
		{"region-b blocker: max_connections is 50, less than the primary's 100: this node would shut down when promoted", func(_, b *patient) {
			b.seen.Settings.MaxConnections = decision.Some(50)
		}},
		{"region-b warning: max_locks_per_transaction is 128, the primary's only 64: after a failover the old primary could not follow this node", func(_, b *patient) {
			b.seen.Settings.MaxLocksPerTransaction = decision.Some(128)
		}},
	} {
		nodes := wellPair()
		for i := range nodes { // the two share one map
			extra := row{}
			for k, v := range nodes[i].extra {
				extra[k] = v
			}
			nodes[i].extra = extra
		}
		c.change(&nodes[0], &nodes[1])
		got := lines(judge(nodes))
		found := false
		for _, line := range got {
			found = found || line == c.what
		}
		if !found {
			t.Errorf("want %q among\n%s", c.what, strings.Join(got, "\n"))
		}
	}
}

func TestASynchronousPairIsNotToldThatItIsAsynchronous(t *testing.T) {
	nodes := wellPair()
	nodes[0].seen.Settings.SynchronousStandbyNames = decision.Some("region-b")
	nodes[0].seen.Senders.V[0].SyncState = "sync"
	if got := lines(judge(nodes)); len(got) != 0 {
		t.Errorf("findings: %q", got)
	}
}

func TestWhatIsNotKnownIsNotJudged(t *testing.T) {
	ok := decision.Attempt{Evidence: decision.Answers}
	bare := decision.Observation{Fresh: ok, Persistent: ok, Role: decision.RoleStandby}
	got := lines(judge([]patient{{name: "region-a", seen: bare}}))
	want := []string{"region-a blocker: the timeline cannot be read over a replication connection: not known", "info: one node is configured: there is nothing to fail over to"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("findings:\n%s", strings.Join(got, "\n"))
	}
}

func TestTheWorstComesFirst(t *testing.T) {
	nodes := wellPair()
	nodes[0].extra["fsync"] = "off" // shared by both
	nodes[0].seen.Settings.DefaultReadOnly = decision.Some(true)
	nodes[1].seen.SystemID = decision.Some("8")
	got := judge(nodes)
	var order []string
	for _, f := range got {
		order = append(order, f.Node+" "+string(f.Severity))
	}
	want := "region-a blocker, region-a warning, region-a info, region-b warning,  blocker"
	if strings.Join(order, ", ") != want {
		t.Errorf("order %q, want %q", strings.Join(order, ", "), want)
	}
}

func TestAFindingIsOneLineWhateverTheServerSays(t *testing.T) {
	nodes := wellPair()
	nodes[1].seen.ReplayPaused = decision.Some("x\ny\x1b[2J" + strings.Repeat("z", 4000))
	for _, f := range judge(nodes) {
		if strings.ContainsAny(f.What, "\n\x1b") || len(f.What) > 1100 {
			t.Errorf("finding %q", f.What)
		}
	}
}
