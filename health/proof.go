package health

import (
	"context"
	"time"

	"github.com/pgtether/pgtether/decision"
)

// FreshEvery bounds the time between two logins of a prober on a node that is well: a login (a process that starts, reads the catalogs and ends) costs the
// server more than all that a round asks.
const FreshEvery = 5 * time.Second

// proof is a login that was answered, and what it had in common with the kept connection. The zero value is none.
type proof struct {
	at      decision.Instant
	attempt decision.Attempt
	found   sign
}

// sign is what must be the same for two sessions to find the same: the server and its role, and the settings that each session begins with.
type sign struct {
	role decision.Role
	// started is when the postmaster started, by the node's clock: it changes at every restart.
	started                              decision.Opt[string]
	transactionReadOnly, defaultReadOnly decision.Opt[bool]
	synchronousCommit                    decision.Opt[string]
}

// readSign reads what whereAmI asks for; false when not even the role was told.
func readSign(r row) (sign, bool) {
	s := sign{role: decision.RolePrimary, started: text(r, "started"), transactionReadOnly: boolean(r, "transaction_read_only"),
		defaultReadOnly: boolean(r, "default_transaction_read_only"), synchronousCommit: text(r, "synchronous_commit")}
	recovery, ok := boolean(r, "in_recovery").Get()
	if recovery {
		s.role = decision.RoleStandby
	}
	return s, ok
}

// prove returns the proof that a round of all ways has given.
func (r *round) prove() proof {
	if !r.bothAnswer() || r.stalled || r.differs() {
		return proof{}
	}
	return proof{at: r.began, attempt: r.outcomes[fresh].attempt, found: r.outcomes[persistent].facts.sign}
}

// differs reports whether both ways answered, and found something else.
func (r *round) differs() bool {
	return r.bothAnswer() && r.outcomes[fresh].facts.sign != r.outcomes[persistent].facts.sign
}

func (r *round) bothAnswer() bool {
	return r.outcomes[fresh].attempt.Evidence == decision.Answers && r.outcomes[persistent].attempt.Evidence == decision.Answers
}

// renew ends a kept session that twice in a row did not find what a new one does: settings of the role, or of all, were changed since it began, or it is
// in another server. The next round opens another. Once may be a change between the two questions, and with the session goes its advisory lock.
func (r *round) renew(ctx context.Context) {
	p, before := r.prober, r.prober.differed
	p.differed = r.differs() && p.persistent != nil
	if before && p.differed {
		p.persistent.close(ctx)
		p.persistent, p.differed = nil, false
	}
}

// lasts reports whether a round that begins now need not log in again.
func (p proof) lasts(now decision.Instant) bool {
	return p.attempt.Evidence == decision.Answers && p.found.started.Known && now.Sub(p.at) < FreshEvery
}

// patience is how long a glance waits for the kept connection: what is left of the timeout is enough for a login that takes twice as long as the last
// one. 0: there is no such time.
func (p proof) patience(timeout time.Duration) time.Duration {
	return max(min(timeout/4, timeout-2*p.attempt.Took), 0)
}

// covers reports whether what the kept connection told leaves the proof as good as it was.
func (p proof) covers(kept outcome) bool {
	return kept.attempt.Evidence == decision.Answers && kept.facts.sign == p.found
}
