package health

import (
	"context"
	"log/slog"
	"strings"

	"github.com/pgtether/pgtether/decision"
)

// repeatEvery is how many rounds without success pass between two lines in the log that say so.
const repeatEvery = 60

// narrator remembers what the log has been told about one node.
type narrator struct {
	told     bool
	evidence decision.Evidence
	role     decision.Role
	repeats  int
}

// record counts a round and logs it: each at debug level, a change of what is known above it.
func (w *Watcher) record(n *narrator, o decision.Observation) {
	evidence := o.Evidence()
	if w.cfg.Metrics != nil {
		w.cfg.Metrics.Probed(w.cfg.Node, evidence.String(), o.Took)
	}
	attrs := []slog.Attr{slog.String("node", w.cfg.Node), slog.String("reason", evidence.String()), slog.String("state", o.Role.String())}
	if detail := detailOf(o, evidence); detail != "" {
		attrs = append(attrs, slog.String("err", detail))
	}
	level, message := n.notice(o, evidence)
	w.cfg.Log.LogAttrs(context.Background(), level, message, attrs...)
}

// notice decides how loud a round is.
func (n *narrator) notice(o decision.Observation, evidence decision.Evidence) (slog.Level, string) {
	changed := !n.told || evidence != n.evidence || evidence == decision.Answers && o.Role != n.role
	n.told, n.evidence, n.role = true, evidence, o.Role
	if changed {
		n.repeats = 0
	} else {
		n.repeats++
	}
	switch {
	case !changed && (evidence == decision.Answers || n.repeats%repeatEvery != 0):
		return slog.LevelDebug, "node probed"
	case evidence == decision.Answers:
		return slog.LevelInfo, "node answers"
	case shutsOut(o):
		return slog.LevelError, "probe cannot log in: no automatic failover while this lasts"
	default:
		return slog.LevelWarn, "node does not answer"
	}
}

// shutsOut reports whether the server lives but does not let the probe in: then its death cannot be told from its refusal.
func shutsOut(o decision.Observation) bool {
	for _, a := range []decision.Attempt{o.Fresh, o.Persistent} {
		if a.Evidence == decision.Alive && misconfigured(a.SQLState) {
			return true
		}
	}
	return false
}

// misconfigured reports whether a SQLSTATE means that the probe's own role, password, database or pg_hba.conf line is wrong.
func misconfigured(sqlState string) bool {
	return strings.HasPrefix(sqlState, "28") || sqlState == "3D000" || sqlState == "42501" || sqlState == "55000"
}

// detailOf is what the attempt said that stands for the round.
func detailOf(o decision.Observation, evidence decision.Evidence) string {
	for _, a := range []decision.Attempt{o.Fresh, o.Persistent, o.Replication} {
		if a.Evidence == evidence && a.Detail != "" {
			if a.SQLState != "" {
				return a.SQLState + " " + a.Detail
			}
			return a.Detail
		}
	}
	return ""
}
