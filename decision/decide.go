package decision

import (
	"fmt"
	"slices"
	"strings"
)

// Decide says whether the writer may be changed, judged by the facts of now. It changes nothing: the same question between two Steps has
// the same answer, byte for byte.
func (e *Engine) Decide(q Question) Decision {
	event, asked := q.Event, q.Event != EventNone
	if !asked && e.rec.Phase != PhaseNone && (e.state == PrimaryFailed || e.state == Promoting) {
		event = EventPrimaryDead
		if e.change.Known {
			event = e.change.V.event()
		}
	}
	d := e.decide(e.ask(event, asked, q.To))
	outlook := d
	if q.Event != EventPrimaryDead {
		outlook = e.decide(e.ask(EventPrimaryDead, true, q.To))
	}
	d.IfPrimaryDies = Outlook{Safe: outlook.Safe, Risk: outlook.Risk, Lossless: outlook.Lossless, LossBytes: outlook.LossBytes,
		Blocking: slices.Clone(outlook.Blocking)}
	return d
}

// decide judges one inquiry and says what happens next.
func (e *Engine) decide(q *inquiry) Decision {
	d := e.verdict(q)
	d.NextAction = e.nextAction(q, d)
	return d
}

// verdict judges one inquiry.
func (e *Engine) verdict(q *inquiry) Decision {
	d := Decision{At: e.now, Epoch: e.epoch(), State: e.state, Event: q.event, Criteria: q.judge(), Lossless: q.loss.lossless,
		LossBytes: q.loss.bytes, RelaxedCommits: q.loss.relaxed}
	if e.rec.Phase != PhaseNone {
		d.Writer = Some(e.rec.Writer.Node)
	}
	if q.candidate != nil {
		d.Candidate = Some(q.candidate.node.Name)
	}
	d.Blocking = []string{}
	for _, c := range d.Criteria {
		switch {
		case c.Overridden:
			d.Overridden = append(d.Overridden, c.Name)
		case c.Verdict != Pass && c.Verdict != NotNeeded:
			d.Blocking = append(d.Blocking, c.Name)
		}
	}
	d.Safe = len(d.Blocking) == 0
	d.Risk = riskOf(d)
	return d
}

// riskOf grades a decision.
func riskOf(d Decision) Risk {
	switch {
	case !d.Safe || len(d.Overridden) > 0:
		return RiskHigh
	case d.Lossless == LosslessProven:
		return RiskLow
	default:
		return RiskMedium
	}
}

// nextAction says what happens next, and what a person could do.
func (e *Engine) nextAction(q *inquiry, d Decision) string {
	s := e.look()
	if q.asked {
		switch {
		case e.cfg.Mode == ModeObserve:
			return "none: mode is observe, others promote; pgtether would hold logins, cut the old writer and follow the promoted node"
		case d.Safe && e.cfg.Mode == ModeAuto:
			return "the writer could be changed: if it dies, " + d.Candidate.V + " is promoted"
		case d.Safe:
			return "the writer could be changed"
		}
		return "none: blocked by " + strings.Join(d.Blocking, ", ")
	}
	switch s.situation {
	case sitWell:
		return "none: " + d.Writer.V + " is the writer and is open"
	case sitFailing:
		return "wait whether " + d.Writer.V + " comes back within stable_for; logins are held"
	case sitStarting:
		return "wait until " + d.Writer.V + " has started, at most primary_start_timeout; logins are held"
	case sitAwaiting:
		return "wait until others promote a node or " + d.Writer.V + " comes back: promote the standby if the writer is lost" + e.primariesSetAside()
	case sitIsolated:
		return "wait: check the network between pgtether and " + d.Writer.V + ", which a standby still receives from"
	case sitUndecided:
		return "none: " + s.message + e.advice(d)
	case sitNotPrimary:
		if e.cfg.Mode != ModeObserve {
			return "wait: " + s.message + e.advice(d)
		}
		return "wait: " + s.message
	case sitOrdered:
		return "begin: " + s.message
	case sitChecking, sitDraining, sitCutting, sitReprobing, sitFencing, sitSampling:
		return "go on: " + s.message + "; until the promotion is asked for it can be undone (pgtether abort)"
	case sitPromoting, sitVerifying, sitOpening:
		return "go on: " + s.message + "; it can no longer be undone"
	case sitHalted:
		return "none: " + s.message + "; an operator must decide (pgtether resolve, or promote the target by hand), unless the target verifies after all"
	case sitSuccessor:
		return "follow: " + s.message
	case sitAdopt:
		return "open: " + s.message
	case sitConflict:
		return "none: an operator must settle it; " + s.message
	case sitSuperseded:
		return "wait: " + s.message + "; bring it back, or take it out of the configuration to return to the old timeline"
	default:
		return "wait: " + s.message
	}
}

// forbidden names the criteria that block and that nobody may override.
func forbidden(d Decision) (names []string) {
	for _, name := range d.Blocking {
		if slices.Contains(neverOverridden, name) {
			names = append(names, name)
		}
	}
	return names
}

// advice says what an operator can do about a promotion that is blocked.
func (e *Engine) advice(d Decision) string {
	for _, i := range e.successors(e.rec.Writer) {
		if v := &e.views[i]; e.mayApproveFollowing(v) == "" {
			return fmt.Sprintf("; an operator may accept the promotion of %s, which others did (pgtether approve)", v.node.Name)
		}
	}
	if never := forbidden(d); len(never) > 0 {
		return fmt.Sprintf("; nobody can override %s: bring %s back, or a standby that passes", strings.Join(never, ", "), d.Writer.V)
	}
	return "; an operator may approve it, naming what he overrides (pgtether approve)"
}

// primariesSetAside names the primaries that are not followed, and what an operator can do about it.
func (e *Engine) primariesSetAside() (text string) {
	for i := range e.views {
		if v := &e.views[i]; v.quarantine != "" && e.class(v) == classPrimary {
			text += fmt.Sprintf("; %s is not followed: %s (to accept it, take %s out of the configuration)", v.node.Name, v.quarantine, e.rec.Writer.Node)
		}
	}
	return text
}
