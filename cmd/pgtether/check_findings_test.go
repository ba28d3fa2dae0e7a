package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgtether/pgtether/decision"
)

// TestCheckFindsWhatWouldBlockAFailover spoils one fact of a pair that is well, and looks for what the check says about which node.
func TestCheckFindsWhatWouldBlockAFailover(t *testing.T) {
	refused := decision.Attempt{Evidence: decision.Alive, SQLState: "28000", Detail: "no pg_hba.conf entry for replication"}
	for name, c := range map[string]struct {
		spoil func(a, b *decision.Observation)
		// blocks is a criterion that must be named at region-b, warns a part of a warning at the node.
		blocks, explained string
		node, warns       string
	}{
		"nothing":                {spoil: func(_, _ *decision.Observation) {}},
		"pg_promote not granted": {spoil: func(_, b *decision.Observation) { b.Settings.CanPromote = decision.Some(false) }, blocks: "promotable", explained: "pg_promote"},
		"apply delay": {spoil: func(_, b *decision.Observation) { b.Settings.RecoveryMinApplyDelay = decision.Some(time.Minute) },
			blocks: "promotable", explained: "recovery_min_apply_delay"},
		"max_connections": {spoil: func(_, b *decision.Observation) { b.Settings.MaxConnections = decision.Some(99) },
			blocks: "promotable", explained: "max_connections is 99 on region-b and 100 on the writer"},
		"max_worker_processes": {spoil: func(_, b *decision.Observation) { b.Settings.MaxWorkerProcesses = decision.Some(7) },
			blocks: "promotable", explained: "max_worker_processes"},
		"max_wal_senders": {spoil: func(_, b *decision.Observation) { b.Settings.MaxWalSenders = decision.Some(9) },
			blocks: "promotable", explained: "max_wal_senders"},
		"max_prepared_transactions": {spoil: func(a, _ *decision.Observation) { a.Settings.MaxPreparedTransactions = decision.Some(1) },
			blocks: "promotable", explained: "max_prepared_transactions"},
		"max_locks_per_transaction": {spoil: func(_, b *decision.Observation) { b.Settings.MaxLocksPerTransaction = decision.Some(63) },
			blocks: "promotable", explained: "max_locks_per_transaction"},
		"synchronous names, no grant": {spoil: func(_, b *decision.Observation) {
			b.Settings.SynchronousStandbyNames, b.Settings.CanSetSyncNames = decision.Some("region_a"), decision.Some(false)
		}, blocks: "target_can_commit", explained: "every commit would hang"},
		"synchronous names, granted": {spoil: func(_, b *decision.Observation) { b.Settings.SynchronousStandbyNames = decision.Some("region_a") }},
		"a slow witness": {spoil: func(_, b *decision.Observation) { b.Settings.WalReceiverTimeout = decision.Some(time.Minute) },
			node: "region-b", warns: "wal_receiver_timeout is 1m0s"},
		"a witness that is fast enough": {spoil: func(_, b *decision.Observation) { b.Settings.WalReceiverTimeout = decision.Some(10 * time.Second) }},
		"a witness that never notices": {spoil: func(_, b *decision.Observation) { b.Settings.WalReceiverTimeout = decision.Some(time.Duration(0)) },
			node: "region-b", warns: "wal_receiver_timeout is 0 (never)"},
		"no replication for the probe": {spoil: func(_, b *decision.Observation) { b.Replication = refused },
			node: "region-b", warns: "the replication connection of the probe does not get an answer (no pg_hba.conf entry for replication)"},
		"no new connections": {spoil: func(a, _ *decision.Observation) {
			a.Fresh = decision.Attempt{Evidence: decision.Silent, Detail: "timeout"}
		},
			node: "region-a", warns: "a new connection of the probe does not get an answer (timeout)"},
		"no open connection": {spoil: func(a, _ *decision.Observation) {
			a.Persistent = decision.Attempt{Evidence: decision.Silent, Detail: "reset"}
		}, node: "region-a", warns: "the open connection of the probe does not get an answer (reset)"},
	} {
		s := newScene(t, decision.ModeAuto)
		c.spoil(&s.a, &s.b)
		observations := []decision.Observation{s.a, s.b}
		engine := imagine(sceneConfig(decision.ModeAuto), observations)
		live := summarize(engine.Status(), engine.Decide(decision.Question{Event: decision.EventPrimaryDead}), observations)
		b := live.node(t, "region-b")
		if blocked := b.blockedBy(); c.blocks == "" && len(live.Blocking) > 0 || c.blocks != "" && !slices.Contains(blocked, c.blocks) {
			t.Errorf("%s: blocked by %v", name, live.Blocking)
		}
		if c.blocks != "" && !slices.ContainsFunc(b.Blocking, func(f finding) bool { return strings.Contains(f.Explanation, c.explained) }) {
			t.Errorf("%s: explained by %+v", name, b.Blocking)
		}
		for _, n := range live.Nodes {
			found := slices.ContainsFunc(n.Warnings, func(w string) bool { return strings.Contains(w, c.warns) })
			if c.node == n.Name && !found || c.node != n.Name && len(n.Warnings) > 0 {
				t.Errorf("%s: %s is warned about with %q", name, n.Name, n.Warnings)
			}
		}
		if (live.verdict() == nil) != (c.blocks == "") {
			t.Errorf("%s: the verdict is %v", name, live.verdict())
		}
	}
}
