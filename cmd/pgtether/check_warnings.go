package main

import (
	"fmt"
	"time"

	"github.com/pgtether/pgtether/decision"
)

// slowWitness is the wal_receiver_timeout above which a standby notices the loss of its primary too late to be of use as a witness.
const slowWitness = 10 * time.Second

// warningsAbout lists what does not block a failover but makes it slower, lossier or harder to come back from.
func warningsAbout(o decision.Observation) []string {
	if o.Evidence() != decision.Answers {
		return nil
	}
	var out []string
	warn := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for _, way := range ways(o) {
		warn("%s", way)
	}
	s := o.Settings
	if o.Role == decision.RoleStandby {
		if t, ok := s.WalReceiverTimeout.Get(); ok && (t == 0 || t > slowWitness) {
			warn("wal_receiver_timeout is %s: the standby notices a silent primary only then, and a failover waits for it; 5s is a good value", never(t))
		}
		if !o.Receiver.Known {
			warn("pg_stat_wal_receiver cannot be read: grant pg_monitor to the probe's role (configs/sql/probe-role.sql)")
		}
	}
	if o.Role == decision.RolePrimary {
		if v, ok := s.DefaultReadOnly.Get(); ok && v {
			warn("default_transaction_read_only is on: applications cannot write unless they set it off")
		}
		if !o.Senders.Known {
			warn("pg_stat_replication cannot be read: grant pg_monitor to the probe's role (configs/sql/probe-role.sql)")
		}
	}
	hints, knownHints := s.WalLogHints.Get()
	sums, knownSums := s.DataChecksums.Get()
	if knownHints && knownSums && !hints && !sums {
		warn("neither wal_log_hints nor data checksums are on: pg_rewind cannot bring this node back after a failover, it has to be copied anew")
	}
	if n, ok := s.RelaxedRoles.Get(); ok && n > 0 {
		warn("%d settings of roles or databases lower synchronous_commit: their commits may be lost in a crash (pg_db_role_setting)", n)
	}
	if v, ok := o.VersionNum.Get(); ok && v < 130000 {
		warn("the server's version number is %d: PostgreSQL 13 or newer is needed", v)
	}
	return out
}

// ways says which of the probe's ways into a node that answers do not work, and what that costs.
func ways(o decision.Observation) (out []string) {
	for _, w := range []struct {
		name    string
		attempt decision.Attempt
		cost    string
	}{
		{"a new connection", o.Fresh, "a server that takes no new connections is served on old ones only"},
		{"the open connection", o.Persistent, "a server that is merely full cannot be told from one that is dead"},
		{"the replication connection", o.Replication, "when every ordinary slot is taken, nothing tells system and timeline; grant REPLICATION " +
			"(configs/sql/probe-role.sql) and let pg_hba.conf admit it"},
	} {
		tried := w.attempt.Evidence != decision.EvidenceUnknown || w.attempt.Detail != ""
		if tried && w.attempt.Evidence != decision.Answers {
			out = append(out, w.name+" of the probe does not get an answer ("+orUnknown(w.attempt.Detail)+"): "+w.cost)
		}
	}
	return out
}

func never(d time.Duration) string {
	if d == 0 {
		return "0 (never)"
	}
	return d.String()
}
