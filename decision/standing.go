package decision

import (
	"fmt"
	"slices"
)

// standing is how the epoch's writer stands, by its latest round.
type standing uint8

const (
	// standUnknown: nothing fresh is known.
	standUnknown standing = iota
	// standProven: it answered as the primary that the epoch names.
	standProven
	// standServing: it lives, and nothing that it said speaks against it.
	standServing
	// standStarting: it says that it starts up or shuts down.
	standStarting
	// standFailing: every probe was silent or refused.
	standFailing
	// standDemoted: it is in recovery.
	standDemoted
	// standOtherSystem: another database system answers there.
	standOtherSystem
	// standOtherTimeline: it is on a timeline other than the epoch's.
	standOtherTimeline
)

// String returns the word used in operands.
func (s standing) String() string {
	switch s {
	case standProven:
		return "proven"
	case standServing:
		return "serving"
	case standStarting:
		return "starting"
	case standFailing:
		return "failing"
	case standDemoted:
		return "in_recovery"
	case standOtherSystem:
		return "other_system"
	case standOtherTimeline:
		return "other_timeline"
	default:
		return "unknown"
	}
}

// disproved says whether the node answered and is not the epoch's writer.
func (s standing) disproved() bool {
	return s == standDemoted || s == standOtherSystem || s == standOtherTimeline
}

// standing judges the node that the epoch names.
func (e *Engine) standing(w Writer, v *view) standing {
	if v == nil {
		return standUnknown
	}
	o := &v.obs
	switch c := e.class(v); {
	case c == classUnknown:
		return standUnknown
	case c == classFailing:
		return standFailing
	case c == classStarting:
		return standStarting
	case o.SystemID.Known && o.SystemID.V != w.SystemID:
		return standOtherSystem
	case c == classStandby:
		return standDemoted
	case o.Timeline.Known && (o.Timeline.V != w.Timeline || o.History.Known && w.History.Known && !slices.Equal(o.History.V, w.History.V)):
		return standOtherTimeline
	case c == classPrimary && o.SystemID.Known && o.Timeline.Known:
		return standProven
	default:
		return standServing
	}
}

// standingText says in words how the node that the epoch names stands.
func (e *Engine) standingText(w Writer, v *view) string {
	if v == nil {
		return fmt.Sprintf("%s is not configured", w.Node)
	}
	o, name := &v.obs, v.node.Name
	switch e.standing(w, v) {
	case standUnknown:
		return fmt.Sprintf("nothing fresh is known of %s", name)
	case standFailing:
		return fmt.Sprintf("every probe of %s fails (%s)", name, detail(*o))
	case standStarting:
		return fmt.Sprintf("%s starts up or shuts down (%s)", name, detail(*o))
	case standOtherSystem:
		return fmt.Sprintf("%s has the system identifier %s, the epoch's is %s", name, o.SystemID.V, w.SystemID)
	case standDemoted:
		return fmt.Sprintf("%s is in recovery", name)
	case standOtherTimeline:
		if o.Timeline.V == w.Timeline {
			return fmt.Sprintf("timeline %d of %s has another history than the epoch's", w.Timeline, name)
		}
		return fmt.Sprintf("%s is on timeline %d, the epoch's is %d", name, o.Timeline.V, w.Timeline)
	case standProven:
		return fmt.Sprintf("%s answers as the primary of the epoch", name)
	default:
		return fmt.Sprintf("%s lives and does not say whether it is the primary of the epoch (%s)", name, detail(*o))
	}
}

// namedByReplication says whether a node that could not tell its role showed, on the replication connection, that it is still the epoch's
// system on the epoch's timeline.
func namedByReplication(w Writer, o *Observation) bool {
	return o.SystemID == Some(w.SystemID) && o.Timeline == Some(w.Timeline)
}

// successors returns the nodes that answer as primaries of a timeline that left the epoch's.
func (e *Engine) successors(w Writer) (found []int) {
	for i := range e.views {
		v := &e.views[i]
		if e.class(v) != classPrimary || v.obs.SystemID != Some(w.SystemID) || v.obs.Timeline == Some(w.Timeline) {
			continue
		}
		if d, _, _ := descent(w, v.obs.Timeline, v.obs.History); d == Pass {
			found = append(found, i)
		}
	}
	return found
}

// leftUnseen says whether a node was promoted from the epoch's timeline while this run has opened no epoch yet: an earlier run, on a state that
// was put back since, or a person may have made it the writer. The epoch on disk is then no proof, whoever answers, until one of the two is
// gone; a node that was seen so and is silent is gone only when it has been for long enough.
func (e *Engine) leftUnseen(s *sight) bool {
	w := e.rec.Writer
	old := e.viewOf(w.Node)
	if e.opened != 0 || old == nil {
		return false
	}
	next := e.successors(w)
	for i := range e.views {
		v := &e.views[i]
		if v == old || e.class(v).tellsRole() || v.lastRole != RolePrimary || v.lastTimeline.V <= w.Timeline {
			continue
		}
		if gone, _, _ := e.unseenLongEnough(v, old); !gone {
			next = append(next, i)
		}
	}
	if len(next) == 0 {
		return false
	}
	v := &e.views[next[0]]
	s.message = fmt.Sprintf("%s answers as the primary of epoch %d, and %s as that of timeline %d, which left it before pgtether started: neither is served",
		w.Node, e.rec.Epoch, v.node.Name, v.lastTimeline.V)
	return true
}

// mayFollow says whether pgtether follows a promotion that others did. In mode observe they decide; otherwise pgtether decides, and takes
// over what others did only when the writer is gone and nothing that was known to be written is missing.
func (e *Engine) mayFollow(w Writer, candidate *view, st standing, stable bool) (bool, string) {
	if e.cfg.Mode == ModeObserve {
		return true, ""
	}
	if candidate.node.Name != w.Node && !e.writerGone(st, stable) && e.node(w.Node) >= 0 {
		return false, fmt.Sprintf("it was promoted by others while the writer %s is not known to be gone; the mode is %s", w.Node, e.cfg.Mode)
	}
	if next, ok := e.rec.Next.Get(); ok && continues(next, candidate) {
		return true, "" // it is followed already, or an operator accepted it
	}
	_, fork, _ := descent(w, candidate.obs.Timeline, candidate.obs.History)
	k, ok := e.lastKnown.Get()
	if !ok || fork < k.LSN {
		last := "unknown"
		if ok {
			last = k.LSN.String()
		}
		return false, fmt.Sprintf("it was promoted by others at %s, and the last known position of %s is %s: an operator must approve it", fork, w.Node, last)
	}
	return true, ""
}

// writerGone says whether the epoch's writer has shown that it is none any more, or has failed for long enough.
func (e *Engine) writerGone(st standing, stable bool) bool {
	return st.disproved() || st == standFailing && stable
}

// writerOf returns what an epoch would name if the node became its writer. The caller has checked that the facts are known.
func writerOf(v *view) Writer {
	return Writer{Node: v.node.Name, Address: v.node.Address, SystemID: v.obs.SystemID.V, Timeline: v.obs.Timeline.V, History: v.obs.History}.clone()
}
