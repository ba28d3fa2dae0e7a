package health

import (
	"time"

	"github.com/pgtether/pgtether/decision"
)

// FreshEvery bounds the time between two logins of a prober on a node that is well: what a login costs the server (a process that starts, reads the
// catalogs and ends) is more than all that a round asks.
const FreshEvery = 5 * time.Second

// proof is a login that was answered, and what the kept connection told in the same round. The zero value is none.
type proof struct {
	at      decision.Instant
	attempt decision.Attempt
	// server is what must not have changed since.
	server sign
	// readOnly and defaultReadOnly are what a new session has of its own.
	readOnly, defaultReadOnly decision.Opt[bool]
}

// sign is what the kept connection tells that would make one want to know what a new one sees.
type sign struct {
	role            decision.Role
	started         decision.Opt[string]
	defaultReadOnly decision.Opt[bool]
}

func signOf(f facts) sign {
	return sign{role: f.observation.Role, started: f.started, defaultReadOnly: f.observation.Settings.DefaultReadOnly}
}

// prove returns the proof that a round of all ways has given.
func (r *round) prove() proof {
	login, kept := r.outcomes[fresh], r.outcomes[persistent]
	if login.attempt.Evidence != decision.Answers || kept.attempt.Evidence != decision.Answers || login.facts.started != kept.facts.started {
		return proof{}
	}
	o := login.facts.observation
	return proof{at: r.began, attempt: login.attempt, server: signOf(kept.facts), readOnly: o.TransactionReadOnly, defaultReadOnly: o.Settings.DefaultReadOnly}
}

// lasts reports whether a round that begins now need not log in again.
func (p proof) lasts(now decision.Instant) bool {
	return p.attempt.Evidence == decision.Answers && p.server.started.Known && now.Sub(p.at) < FreshEvery
}

// covers reports whether what the kept connection told leaves the proof as good as it was.
func (p proof) covers(kept outcome) bool {
	return kept.attempt.Evidence == decision.Answers && signOf(kept.facts) == p.server
}

// lend puts the proof into the observation of a round that did not log in.
func (p proof) lend(o *decision.Observation) {
	o.Fresh, o.TransactionReadOnly, o.Settings.DefaultReadOnly = p.attempt, p.readOnly, p.defaultReadOnly
}
