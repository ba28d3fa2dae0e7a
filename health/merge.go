package health

import (
	"strings"

	"github.com/pgtether/pgtether/decision"
)

// facts are those of the fresh connection, else of the kept one, else none. Two answers of one round are never mixed.
func (r *round) facts() facts {
	for _, w := range []way{fresh, persistent} {
		if r.done[w] && r.outcomes[w].attempt.Evidence == decision.Answers {
			return r.outcomes[w].facts
		}
	}
	return facts{}
}

// needsIdentity reports whether the replication way must be tried for what an ordinary one has just shown.
func (r *round) needsIdentity(res wayResult) bool {
	if res.way == replication {
		return false
	}
	switch res.attempt.Evidence {
	case decision.Alive:
		return true // too many connections, no such database: the replication connection may get in where this one did not
	case decision.Answers:
		o := res.facts.observation
		r.prober.recall(&o, res.facts.started)
		return !r.prober.settled(o, res.facts.started)
	default:
		return false // refused: so would be the other; silent: no time is left
	}
}

// complete reports whether the identity of a node is known to its end.
func complete(o decision.Observation) bool {
	return o.SystemID.Known && o.Timeline.Known && o.History.Known
}

// settled reports whether asking over the replication connection would tell nothing new: the identity is complete, or it is but for a
// history that the server does not have.
func (p *Prober) settled(o decision.Observation, started decision.Opt[string]) bool {
	if complete(o) {
		return true
	}
	return o.SystemID.Known && o.Timeline.Known && started.Known && p.gone == timelineKey{started.V, o.Timeline.V} && p.now() < p.goneUntil
}

// recall fills in what an earlier round read and what this round proves to be unchanged: the history of a timeline of the same start of the
// server; the timeline of a standby whose receiver is streaming that very one.
func (p *Prober) recall(o *decision.Observation, started decision.Opt[string]) {
	if o.Role == decision.RoleStandby && !o.Timeline.Known && started.Known && p.standby.server == started.V {
		if r := o.Receiver.V; o.Receiver.Known && r.Status == "streaming" && r.Timeline == decision.Some(p.standby.timeline) {
			o.Timeline = r.Timeline
		}
	}
	if o.Timeline.Known && !o.History.Known {
		o.History = p.history.get(started, o.Timeline.V)
	}
}

// observation merges what the ways told and updates what the prober remembers for the next round.
func (r *round) observation() decision.Observation {
	p, f := r.prober, r.facts()
	o := f.observation
	o.Persistent, o.Fresh, o.Replication = r.outcomes[persistent].attempt, r.outcomes[fresh].attempt, r.outcomes[replication].attempt
	if o.Persistent.Evidence == decision.Answers {
		o.AdvisoryLock = r.outcomes[persistent].facts.lock
	}
	switch {
	case r.started[fresh]:
		p.proof = r.prove()
	case r.stalled:
		p.proof = proof{}
	default:
		o.Fresh = p.proof.attempt
	}
	if o.Fresh.Evidence != decision.Answers {
		o.TransactionReadOnly = decision.Opt[bool]{} // a session may have kept its own
	}
	if o.Replication.Evidence == decision.Answers {
		p.learn(&o, f.started, r.outcomes[replication].identity)
	}
	p.recall(&o, f.started)
	p.wanting = o.Persistent.Evidence != decision.Answers || o.Fresh.Evidence != decision.Answers || !p.settled(o, f.started)
	if replicationDenied(o) {
		p.deniedUntil = p.now().Add(deniedPause)
	}
	return o
}

// replicationDenied reports whether asking again at once would be as useless as it was now: the server does not let the role in.
func replicationDenied(o decision.Observation) bool {
	a := o.Replication
	return a.Evidence == decision.Alive && (strings.HasPrefix(a.SQLState, "28") || a.SQLState == "42501")
}

// learn adds what the replication connection told. Where it contradicts the SQL of the same round (a promotion between the two) the timeline
// stays what the SQL says, or unknown; the next round sees one truth.
func (p *Prober) learn(o *decision.Observation, started decision.Opt[string], id identity) {
	if o.Role == decision.RoleUnknown {
		o.Role = id.role
		switch id.role {
		case decision.RolePrimary:
			o.FlushLSN = id.position
		case decision.RoleStandby:
			o.ReceivedLSN = id.position
		}
	} else if id.role != decision.RoleUnknown && id.role != o.Role {
		return
	}
	if !o.SystemID.Known {
		o.SystemID = decision.Some(id.systemID)
	}
	if o.SystemID.V != id.systemID || o.Timeline.Known && o.Timeline.V != id.timeline {
		return
	}
	o.Timeline, o.History = decision.Some(id.timeline), id.history
	if id.history.Known {
		p.history.put(started, id.timeline, id.history.V)
	}
	if id.historyGone && started.Known {
		p.gone, p.goneUntil = timelineKey{started.V, id.timeline}, p.now().Add(deniedPause)
	}
	if o.Role == decision.RoleStandby && started.Known {
		p.standby = timelineKey{started.V, id.timeline}
	}
}
