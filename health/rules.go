package health

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/pgtether/pgtether/decision"
)

// maxWitnessTimeout is the wal_receiver_timeout above which a standby notices the death of its primary too late to be of use as a witness.
const maxWitnessTimeout = 10 * time.Second

const (
	hintRole = "Run configs/sql/probe-role.sql on the writer, in probe.database."
	hintHBA  = "pg_hba.conf needs a line \"host replication <probe.user> <address of pgtether> scram-sha-256\", and the role REPLICATION."
)

// nodeRules look at one node that answers.
var nodeRules = []func(*findings, patient){
	(*findings).identity, (*findings).privileges, (*findings).grants, (*findings).receiver, (*findings).replay, (*findings).synchronous,
	(*findings).rewind, (*findings).commits, (*findings).replicationSlots, (*findings).behaviour,
}

// pairRules look at the nodes together.
var pairRules = []func(*findings){(*findings).roles, (*findings).oneSystem, (*findings).versions, (*findings).parameters}

// reachable reports whether the node's own words are there to be judged.
func (f *findings) reachable(n patient) bool {
	o := n.seen
	evidence := o.Evidence()
	detail := detailOf(o, evidence)
	login := o.Fresh
	switch {
	case o.Fresh.Evidence == decision.Answers && o.Persistent.Evidence == decision.Answers:
		return true
	case login.Evidence == decision.Alive && misconfigured(login.SQLState):
		f.add(n.name, Blocker, "the probe cannot log in: "+login.SQLState+" "+login.Detail, hintRole+" pg_hba.conf must let it in; probe.user, probe.password_file and probe.database must be right.")
	case login.SQLState == "53300":
		f.add(n.name, Blocker, "all connections are taken: "+login.Detail, "Raise max_connections or lower the pools; from PostgreSQL 16 on reserved_connections keeps some for the probe's role.")
	case evidence == decision.Alive || evidence == decision.Answers:
		failed := login
		if login.Evidence == decision.Answers {
			failed = o.Persistent // one of the two ways in is enough to be alive, not to be judged
		}
		f.add(n.name, Blocker, "answers, but not with what was asked for: "+detailOr(failed, cmp.Or(detail, failed.Evidence.String())), "")
	case evidence == decision.Refused:
		f.add(n.name, Blocker, "does not answer: connection refused", "Is PostgreSQL running, and does it listen on this address (listen_addresses, port)?")
	case evidence == decision.Silent:
		f.add(n.name, Blocker, "does not answer: "+detail, "Is the address right, and does a firewall let pgtether through?")
	default:
		f.add(n.name, Blocker, "cannot be probed: "+detail, "")
	}
	return false
}

func detailOr(a decision.Attempt, other string) string {
	if a.Detail != "" {
		return strings.TrimSpace(a.SQLState + " " + a.Detail)
	}
	return other
}

// identity: without the timeline and its history nothing can be said about who descends from whom.
func (f *findings) identity(n patient) {
	if complete(n.seen) {
		return
	}
	f.add(n.name, Blocker, "the timeline cannot be read over a replication connection: "+detailOr(n.seen.Replication, "not known"), hintHBA)
}

// privileges: those without which a failover cannot be decided or done.
func (f *findings) privileges(n patient) {
	if n.role["pg_monitor"] == "f" {
		f.add(n.name, Blocker, "the probe's role lacks pg_monitor: the WAL receiver and senders cannot be seen", hintRole)
	}
	if n.seen.Settings.CanPromote == decision.Some(false) {
		f.add(n.name, Blocker, "the probe's role may not execute pg_promote in this database", hintRole)
	}
	if n.role["replication"] == "f" && n.role["superuser"] == "f" {
		f.add(n.name, Blocker, "the probe's role lacks REPLICATION", hintRole)
	}
	if n.role["superuser"] == "t" {
		f.add(n.name, Warning, "the probe's role is a superuser: it needs far less", hintRole+" Use a role of its own.")
	}
}

// grants: those without which less can be done.
func (f *findings) grants(n patient) {
	if n.role["pg_signal_backend"] == "f" {
		f.add(n.name, Warning, "the probe's role lacks pg_signal_backend: sessions on an old writer cannot be ended", hintRole)
	}
	if n.role["emit"] == "f" {
		f.add(n.name, Warning, "the probe's role may not execute pg_logical_emit_message: that a new writer commits is not tried", hintRole)
	}
	if version, ok := n.seen.VersionNum.Get(); ok && version < 150000 {
		f.add(n.name, Info, "PostgreSQL 13 and 14 let only a superuser change parameters: an old writer is fenced by ending its sessions and by hooks.fence", "")
		return
	}
	var missing []string
	for _, name := range fenceParameters {
		if n.role[name] == "f" {
			missing = append(missing, "ALTER SYSTEM on "+name)
		}
	}
	for _, name := range []string{"pg_reload_conf", "pg_checkpoint"} {
		if n.role[name] == "f" {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		f.add(n.name, Warning, "the probe's role lacks "+strings.Join(missing, ", ")+": an old writer cannot be fenced by SQL", hintRole)
	}
	if n.extra["allow_alter_system"] == "off" {
		f.add(n.name, Warning, "allow_alter_system is off: an old writer cannot be fenced by SQL", "Turn it on, or rely on hooks.fence or an agent.")
	}
}

// receiver: a standby must stream, through a slot, and notice the death of its primary.
func (f *findings) receiver(n patient) {
	if n.seen.Role != decision.RoleStandby {
		f.witness(n, Info)
		return
	}
	f.witness(n, Warning)
	r, ok := n.seen.Receiver.Get()
	switch {
	case !ok: // for want of pg_monitor, which is said elsewhere
	case !r.Running:
		f.add(n.name, Blocker, "receives nothing from a primary: no WAL receiver runs", "See the standby's log; check primary_conninfo.")
	case r.Status != "streaming":
		f.add(n.name, Blocker, fmt.Sprintf("the WAL receiver is %q, not streaming", r.Status), "A standby that waits cannot follow: it may have diverged and need pg_rewind.")
	case r.SlotName == "":
		f.add(n.name, Warning, "streams without a replication slot: the primary may remove WAL that the standby still needs", "Create a physical slot on the primary and set primary_slot_name.")
	}
}

func (f *findings) witness(n patient, severity Severity) {
	timeout, ok := n.seen.Settings.WalReceiverTimeout.Get()
	hint := "Set it to 5s to 10s on both nodes."
	switch {
	case !ok:
	case timeout == 0:
		f.add(n.name, severity, "wal_receiver_timeout is off: the standby does not notice that its primary is dead", hint)
	case timeout > maxWitnessTimeout:
		f.add(n.name, severity, fmt.Sprintf("wal_receiver_timeout is %s: so long may a failover wait for the standby to notice that its primary is dead", timeout), hint)
	}
}

// replay: what is received must be replayed, and nothing may hold it back.
func (f *findings) replay(n patient) {
	if n.seen.Role != decision.RoleStandby {
		return
	}
	if state, ok := n.seen.ReplayPaused.Get(); ok && state != "not paused" {
		f.add(n.name, Blocker, "replay is "+state, "SELECT pg_wal_replay_resume(). If nobody paused it, see the standby's log: a parameter may be too low.")
	}
	if delay, ok := n.seen.Settings.RecoveryMinApplyDelay.Get(); ok && delay > 0 {
		f.add(n.name, Blocker, fmt.Sprintf("recovery_min_apply_delay is %s: a delayed standby is no candidate", delay), "Set it to 0.")
	}
	if n.extra["max_standby_streaming_delay"] == "-1" {
		f.add(n.name, Warning, "max_standby_streaming_delay is -1: one query on the standby can hold replay, and with it a promotion, back for ever", "Set it to some seconds.")
	}
}

// synchronous: what a commit waits for, before and after a promotion.
func (f *findings) synchronous(n patient) {
	waits, ok := n.seen.Settings.SynchronousStandbyNames.Get()
	switch {
	case !ok:
	case n.seen.Role == decision.RolePrimary && waits == "":
		f.add(n.name, Info, "replication is asynchronous: a crash can lose what the standby had not received", "Set synchronous_standby_names for failovers that are proven lossless.")
	case n.seen.Role == decision.RolePrimary:
		f.synchronousNow(n)
	case waits != "" && n.seen.Settings.CanSetSyncNames == decision.Some(true):
		f.add(n.name, Info, fmt.Sprintf("synchronous_standby_names is %q here too: pgtether clears it when it promotes this node and puts it back when the other one streams", waits), "")
	case waits != "":
		f.add(n.name, Blocker, fmt.Sprintf("synchronous_standby_names is %q here too: after a promotion every commit would wait for a standby that is not there", waits),
			"Empty it on this node, or grant ALTER SYSTEM on it to the probe's role (PostgreSQL 15 and later).")
	}
}

// synchronousNow: a name that no standby bears makes every commit wait.
func (f *findings) synchronousNow(n patient) {
	senders, ok := n.seen.Senders.Get()
	if !ok {
		return
	}
	for _, s := range senders {
		if s.SyncState == "sync" || s.SyncState == "quorum" {
			return
		}
	}
	f.add(n.name, Blocker, "synchronous_standby_names is set and no standby is synchronous: commits wait", "Start the standby, or compare the names with its application_name (cluster_name or primary_conninfo).")
}

// rewind: whether the node can come back after it was the old writer.
func (f *findings) rewind(n patient) {
	s := n.seen.Settings
	if s.WalLogHints == decision.Some(false) && s.DataChecksums == decision.Some(false) {
		f.add(n.name, Warning, "wal_log_hints and data checksums are off: after a failover this node cannot be rewound and must be built anew", "Set wal_log_hints = on (needs a restart).")
	}
}

// commits: who asks for less than the others, and who cannot write at all.
func (f *findings) commits(n patient) {
	if n.seen.Settings.DefaultReadOnly == decision.Some(true) {
		severity := Warning
		if n.seen.Role == decision.RolePrimary {
			severity = Blocker
		}
		f.add(n.name, severity, "default_transaction_read_only is on: writes fail (a fence that was not undone?)", "ALTER SYSTEM RESET default_transaction_read_only; SELECT pg_reload_conf().")
	}
	switch level := n.seen.Settings.SynchronousCommit.V; level {
	case "off", "local":
		f.add(n.name, Warning, "synchronous_commit is "+level+" for the whole server: no failover is lossless", "Set it to on; lower it for single transactions only.")
	}
	if n.seen.Role != decision.RolePrimary {
		return // the same catalog everywhere
	}
	for _, r := range n.lax {
		f.add(n.name, Info, fmt.Sprintf("%s has %s: its commits may be lost even by a failover that is otherwise lossless", laxOwner(r), r["setting"]), "")
	}
}

func laxOwner(r row) string {
	switch {
	case r["role"] != "" && r["database"] != "":
		return fmt.Sprintf("role %q in database %q", r["role"], r["database"])
	case r["role"] != "":
		return fmt.Sprintf("role %q", r["role"])
	case r["database"] != "":
		return fmt.Sprintf("database %q", r["database"])
	default:
		return "every role"
	}
}

// replicationSlots: one that nobody uses fills the disk; a lost one keeps its standby out for ever.
func (f *findings) replicationSlots(n patient) {
	if n.seen.Role != decision.RolePrimary {
		return
	}
	for _, s := range n.slots {
		switch {
		case s["wal_status"] == "lost":
			f.add(n.name, Blocker, fmt.Sprintf("replication slot %q has lost WAL that its standby needs", s["slot_name"]), "The standby must be built anew; drop the slot and create it again.")
		case s["active"] == "f":
			f.add(n.name, Warning, fmt.Sprintf("replication slot %q is used by nobody and keeps WAL until the disk is full", s["slot_name"]), "Start its standby or drop it; max_slot_wal_keep_size bounds what it keeps.")
		}
	}
}

// behaviour: parameters that make a failover worse than it need be.
func (f *findings) behaviour(n patient) {
	if n.extra["fsync"] == "off" {
		f.add(n.name, Warning, "fsync is off: a crash of the machine can corrupt this node", "Set it to on.")
	}
	if n.extra["client_connection_check_interval"] == "0" {
		f.add(n.name, Info, "client_connection_check_interval is 0: a statement runs on after its client is gone, and may still commit", "Set it to 1s or so.")
	}
}

// roles: exactly one primary, and a standby to take over.
func (f *findings) roles() {
	primaries, standbys := f.with(decision.RolePrimary), f.with(decision.RoleStandby)
	switch {
	case len(f.nodes) == 1:
		f.add("", Info, "one node is configured: there is nothing to fail over to", "Add a second [[node]].")
		return
	case len(primaries) == 0:
		f.add("", Blocker, "no node is a primary", "")
	case len(primaries) > 1:
		f.add("", Blocker, names(primaries)+" are primaries at the same time: split brain", "Find out which one holds the true data, and stop the other.")
	}
	if len(standbys) == 0 {
		f.add("", Blocker, "no standby could take over", "")
	}
}

// oneSystem: a standby of this primary, on its timeline, and not the same server twice.
func (f *findings) oneSystem() {
	for i, n := range f.nodes {
		for _, other := range f.nodes[:i] {
			if id, ok := n.seen.ServerID.Get(); ok && other.seen.ServerID == decision.Some(id) {
				f.add("", Blocker, other.name+" and "+n.name+" are one and the same server", "Check the addresses.")
			}
			if id, ok := n.seen.SystemID.Get(); ok && other.seen.SystemID.Known && other.seen.SystemID.V != id {
				f.add("", Blocker, fmt.Sprintf("%s and %s are not copies of one cluster: their system identifiers are %s and %s", other.name, n.name, other.seen.SystemID.V, id), "Check the addresses.")
			}
		}
	}
	primaries := f.with(decision.RolePrimary)
	if len(primaries) != 1 || !primaries[0].seen.Timeline.Known {
		return
	}
	timeline := primaries[0].seen.Timeline.V
	for _, n := range f.with(decision.RoleStandby) {
		if own, ok := n.seen.Timeline.Get(); ok && own != timeline {
			f.add(n.name, Blocker, fmt.Sprintf("is on timeline %d, the primary on %d", own, timeline), "If it does not catch up by itself it has diverged and needs pg_rewind.")
		}
	}
}

// versions: physical replication works within one major version.
func (f *findings) versions() {
	for i, n := range f.nodes {
		for _, other := range f.nodes[:i] {
			a, aOK := other.seen.VersionNum.Get()
			b, bOK := n.seen.VersionNum.Get()
			switch {
			case !aOK || !bOK || a == b:
			case a/10000 != b/10000:
				f.add("", Blocker, fmt.Sprintf("%s runs PostgreSQL %d, %s runs %d", other.name, a/10000, n.name, b/10000), "Physical replication needs one major version.")
			default:
				f.add("", Info, fmt.Sprintf("%s runs PostgreSQL %d.%d, %s runs %d.%d", other.name, a/10000, a%10000, n.name, b/10000, b%10000), "Bring both to the newest minor version.")
			}
		}
	}
}

// parameters: the five below which a promoted standby shuts down instead of serving, and, the other way round, the old primary could not follow.
func (f *findings) parameters() {
	primaries := f.with(decision.RolePrimary)
	if len(primaries) != 1 {
		return
	}
	p := primaries[0]
	for _, n := range f.with(decision.RoleStandby) {
		for i, ours := range five(n.seen.Settings) {
			theirs := five(p.seen.Settings)[i]
			switch {
			case !ours.value.Known || !theirs.value.Known:
			case ours.value.V < theirs.value.V:
				f.add(n.name, Blocker, fmt.Sprintf("%s is %d, less than the primary's %d: this node would shut down when promoted", ours.name, ours.value.V, theirs.value.V), "Raise it here and restart.")
			case ours.value.V > theirs.value.V:
				f.add(n.name, Warning, fmt.Sprintf("%s is %d, the primary's only %d: after a failover the old primary could not follow this node", ours.name, ours.value.V, theirs.value.V), "Raise it on the primary and restart.")
			}
		}
	}
}

type parameter struct {
	name  string
	value decision.Opt[int]
}

func five(s decision.Settings) []parameter {
	return []parameter{
		{"max_connections", s.MaxConnections}, {"max_worker_processes", s.MaxWorkerProcesses}, {"max_wal_senders", s.MaxWalSenders},
		{"max_prepared_transactions", s.MaxPreparedTransactions}, {"max_locks_per_transaction", s.MaxLocksPerTransaction},
	}
}
