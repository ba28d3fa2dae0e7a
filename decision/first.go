package decision

import (
	"fmt"
	"time"
)

// consistentPrimary looks for the one primary that may become the writer when no epoch says who it is: at the very first start, and when the
// epoch's node was taken out of the configuration. It fails closed: two primaries, two systems, or a standby that is ahead of the primary
// mean that nobody is served. A node that cannot be asked is waited for, but not for ever (unseenLongEnough).
func (e *Engine) consistentPrimary(s *sight, none situation) {
	s.situation = none
	p := -1
	for i := range e.views {
		v := &e.views[i]
		if e.class(v) != classPrimary || e.outOfPlay(i) {
			continue
		}
		if p >= 0 {
			s.situation = sitConflict
			s.message = fmt.Sprintf("%s and %s both answer as primary: neither is served", e.views[p].node.Name, v.node.Name)
			return
		}
		p = i
	}
	if a, b := e.twoSystems(); a != nil {
		s.situation = sitConflict
		s.message = fmt.Sprintf("%s has the system identifier %s and %s has %s: they are not one cluster, and nothing says which one is meant", a.node.Name,
			a.obs.SystemID.V, b.node.Name, b.obs.SystemID.V)
		return
	}
	if p < 0 {
		s.message = "no node answers as primary"
		return
	}
	v := &e.views[p]
	if why := e.unfit(v); why != "" {
		s.message = why
		return
	}
	unseen := ""
	for i := range e.views {
		if i == p || e.outOfPlay(i) {
			continue
		}
		wait, ahead, unasked := e.otherNode(&e.views[i], v)
		switch {
		case ahead:
			s.situation, s.message = sitConflict, wait
			return
		case wait != "":
			s.message = wait
			return
		case unasked != "":
			unseen = unasked
		}
	}
	s.situation, s.adopt = sitAdopt, p
	s.message = v.node.Name + " is the one consistent primary"
	if unseen != "" {
		s.message += "; " + unseen
	}
}

// outOfPlay says whether a node cannot be the writer whatever it says: a second address of another node's server, or another system than
// the epoch's.
func (e *Engine) outOfPlay(i int) bool {
	v := &e.views[i]
	if e.rec.Phase != PhaseNone && v.obs.SystemID.Known && v.obs.SystemID.V != e.rec.Writer.SystemID && e.class(v) != classUnknown {
		return true
	}
	return e.duplicateOf(i) >= 0
}

// unfit says why a lone primary cannot be named by an epoch yet; empty when it can.
func (e *Engine) unfit(v *view) string {
	if !v.obs.SystemID.Known || !v.obs.Timeline.Known {
		return v.node.Name + " answers as primary and does not tell its system identifier or timeline"
	}
	if e.rec.Phase == PhaseNone {
		return ""
	}
	// The epoch's own timeline is enough here: it was the operator who took the old node out, or renamed it.
	if v.obs.Timeline.V == e.rec.Writer.Timeline {
		return ""
	}
	if d, _, why := descent(e.rec.Writer, v.obs.Timeline, v.obs.History); d != Pass {
		return fmt.Sprintf("%s answers as primary, but %s", v.node.Name, why)
	}
	return ""
}

// otherNode judges what another node says about the lone primary p: why one must wait, whether it contradicts, or, when it could not be
// asked for long enough, a sentence about that.
func (e *Engine) otherNode(v, p *view) (wait string, ahead bool, unasked string) {
	name := v.node.Name
	switch e.class(v) {
	case classStandby:
		switch t, ok := v.obs.Timeline.Get(); {
		case !v.obs.SystemID.Known:
			return name + " is a standby and does not tell its system identifier", false, ""
		case ok && t > p.obs.Timeline.V:
			return fmt.Sprintf("%s is a standby on timeline %d, ahead of the primary %s on timeline %d: a newer primary exists somewhere", name, t,
				p.node.Name, p.obs.Timeline.V), true, ""
		}
		return "", false, ""
	case classUnknown:
		if !e.fresh(v) || !v.muteSince.Known {
			return name + " has not been probed yet", false, ""
		}
	}
	mute, since, need := e.unseenLongEnough(v, p)
	if mute {
		return "", false, fmt.Sprintf("%s could not be asked for %s (%s)", name, since.Round(time.Millisecond), detail(v.obs))
	}
	return fmt.Sprintf("%s answers as primary; %s cannot be asked (%s), it is waited for %s of %s", p.node.Name, name, detail(v.obs),
		since.Round(time.Millisecond), need), false, ""
}

// unseenLongEnough says whether a node that cannot be asked has been so, and the lone primary has answered, without interruption for long
// enough that the rest may start without it. A node that lives could be a primary any moment and is given primary_start_timeout; a dead one
// stable_for.
func (e *Engine) unseenLongEnough(v, p *view) (ok bool, lasted, need time.Duration) {
	need = e.cfg.StableFor
	since := v.failingSince
	if e.class(v) != classFailing {
		since, need = v.muteSince, max(e.cfg.StableFor, e.cfg.PrimaryStartTimeout)
	}
	lasted, _ = elapsed(since, e.now)
	answered, _ := elapsed(p.primarySince, e.now)
	return since.Known && p.primarySince.Known && min(lasted, answered) >= need, min(lasted, answered), need
}

// twoSystems returns two nodes with different system identifiers, nil when all that are known agree. With an epoch the epoch's counts, and
// others are quarantined instead.
func (e *Engine) twoSystems() (a, b *view) {
	if e.rec.Phase != PhaseNone {
		return nil, nil
	}
	for i := range e.views {
		v := &e.views[i]
		if e.class(v) == classUnknown || !v.obs.SystemID.Known {
			continue
		}
		if a != nil && a.obs.SystemID.V != v.obs.SystemID.V {
			return a, v
		}
		if a == nil {
			a = v
		}
	}
	return nil, nil
}

// sameServer says whether two nodes are two addresses of one running server.
func (e *Engine) sameServer(i, k int) bool {
	a, b := &e.views[i], &e.views[k]
	return e.class(a) != classUnknown && e.class(b) != classUnknown && a.obs.SystemID.Known && a.obs.ServerID.Known &&
		a.obs.SystemID == b.obs.SystemID && a.obs.ServerID == b.obs.ServerID
}

// duplicateOf returns the index of the node whose server this one is a second address of, -1 for none. The epoch's writer keeps its name;
// otherwise the one that is configured first does.
func (e *Engine) duplicateOf(i int) int {
	isWriter := func(k int) bool { return e.rec.Phase != PhaseNone && e.views[k].node.Name == e.rec.Writer.Node }
	for k := range e.views {
		if k != i && e.sameServer(i, k) && !isWriter(i) && (k < i || isWriter(k)) {
			return k
		}
	}
	return -1
}
