package decision

import (
	"fmt"
	"slices"
)

// descent says whether a node on timeline tl with history hist continues the writer's timeline, and where it left it. A timeline's number
// alone proves nothing: two branches of one cluster can both be "timeline 2", so the switch positions are compared as well.
//
// On the writer's own timeline there is no fork, and equal numbers with an unread history are Unknown.
func descent(w Writer, tl Opt[uint32], hist Opt[[]TimelineSwitch]) (v Verdict, fork LSN, why string) {
	t, ok := tl.Get()
	if !ok {
		return Unknown, 0, "its timeline is not known"
	}
	ours, theirs := w.History, hist
	switch {
	case t < w.Timeline:
		return Fail, 0, fmt.Sprintf("it is on timeline %d, before the epoch's timeline %d", t, w.Timeline)
	case t == w.Timeline && t == 1:
		return Pass, 0, "it is on the epoch's timeline 1"
	case !theirs.Known:
		return Unknown, 0, fmt.Sprintf("the history of its timeline %d could not be read", t)
	case t == w.Timeline && !ours.Known:
		return Unknown, 0, fmt.Sprintf("the history of the epoch's timeline %d is not known", t)
	case t == w.Timeline && slices.Equal(ours.V, theirs.V):
		return Pass, 0, fmt.Sprintf("it is on the epoch's timeline %d", t)
	case t == w.Timeline:
		return Fail, 0, fmt.Sprintf("its timeline %d has another history than the epoch's timeline %d", t, w.Timeline)
	}
	at := slices.IndexFunc(theirs.V, func(s TimelineSwitch) bool { return s.Timeline == w.Timeline })
	if at < 0 {
		return Fail, 0, fmt.Sprintf("the history of its timeline %d does not contain the epoch's timeline %d", t, w.Timeline)
	}
	if ours.Known && !slices.Equal(ours.V, theirs.V[:at]) {
		return Fail, 0, fmt.Sprintf("its timeline %d descends from another timeline %d than the epoch's", t, w.Timeline)
	}
	fork = theirs.V[at].At
	return Pass, fork, fmt.Sprintf("its timeline %d left the epoch's timeline %d at %s", t, w.Timeline, fork)
}

// leftAt returns where the given timeline ended in the writer's history.
func leftAt(w Writer, timeline uint32) Opt[LSN] {
	for _, s := range w.History.V {
		if w.History.Known && s.Timeline == timeline {
			return Some(s.At)
		}
	}
	return Opt[LSN]{}
}
