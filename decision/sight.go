package decision

import (
	"fmt"
	"strings"
	"time"
)

// sight is everything the table and the work after it look at. It is computed from the engine's facts and changes none of them.
type sight struct {
	situation situation
	// message says the situation in one sentence, with its operands.
	message string
	// place and what the record says about it.
	state    State
	opened   bool // the record's epoch has been opened in this run
	previous bool // a former writer is awaited as a standby
	// standing of the writer that the epoch names, and whether its failure has lasted long enough.
	standing standing
	stable   bool
	// ready: a standby could take over; otherwise unready names the criteria that do not pass. follows, rejoined: the former writer is back as a standby, and has caught up.
	ready, follows, rejoined bool
	unready                  string
	// drain: the open epoch must end.
	drain bool
	// successor is the index of the descendant that is followed, -1 for none; left is one for which the epoch's timeline was left, followed
	// or not.
	successor, left int
	// adopt is the index of the node that the next epoch may name now, -1 for none.
	adopt int
	// promote is the index of the node that may be promoted now, -1 for none; turn: the point of no return may be passed now.
	promote int
	turn    bool
	// planned: a change that an operator has ordered is under way.
	planned bool
	// unfence: the epoch's writer is well, and only its fence keeps it from being opened under a fresh epoch.
	unfence bool
}

// look adds the facts up.
func (e *Engine) look() *sight {
	s := &sight{state: e.state, successor: -1, left: -1, adopt: -1, promote: -1, previous: e.rec.Previous != "", opened: e.rec.Phase == PhaseOpen && e.opened == e.rec.Epoch}
	rec := e.rec
	if e.pending.Known && e.pending.V.turns {
		rec = e.pending.V.rec
	}
	if rec.Phase != PhaseNone {
		s.standing, s.message = e.standing(rec.Writer, e.viewOf(rec.Writer.Node)), e.standingText(rec.Writer, e.viewOf(rec.Writer.Node))
		s.stable = e.failureStable(e.viewOf(rec.Writer.Node))
	}
	switch {
	case e.change.Known:
		s.planned = e.change.V.kind == ChangeSwitchover
		e.lookChange(s)
	case rec.Phase == PhaseNone:
		e.lookFirst(s)
	case rec.Phase == PhaseOpen && rec.Epoch != e.rec.Epoch:
		s.situation, s.message = sitAdopt, fmt.Sprintf("%s becomes the writer of epoch %d as soon as that is on disk", rec.Writer.Node, rec.Epoch)
	case rec.Phase == PhaseOpen:
		e.lookOpen(s)
		e.lookOrdered(s)
	default:
		e.lookDrained(s, rec)
	}
	if e.state.open() && s.situation == sitWell {
		s.ready, s.unready = e.standbyReady()
		if s.previous {
			s.follows, s.rejoined = e.rejoining()
		}
	}
	return s
}

// viewOf returns the view of the named node, nil when it is not configured.
func (e *Engine) viewOf(name string) *view {
	if i := e.node(name); i >= 0 {
		return &e.views[i]
	}
	return nil
}

// failureStable says whether the node has failed for long enough, without interruption, to count as gone: silent or refused for stable_for, or
// starting up for longer than primary_start_timeout.
func (e *Engine) failureStable(v *view) bool {
	if v == nil {
		return false
	}
	switch e.class(v) {
	case classFailing:
		d, ok := elapsed(v.failingSince, e.now)
		return ok && d >= e.cfg.StableFor
	case classStarting:
		d, ok := elapsed(v.startingSince, e.now)
		return ok && d > e.cfg.PrimaryStartTimeout
	}
	return false
}

// lookFirst judges a cluster that has had no epoch.
func (e *Engine) lookFirst(s *sight) {
	e.consistentPrimary(s, sitNoWriter)
}

// lookOpen judges an epoch that may be open.
func (e *Engine) lookOpen(s *sight) {
	w, v := e.rec.Writer, e.writerView()
	if v == nil || v.node.Address != w.Address {
		s.situation, s.drain = sitUnconfigured, true
		s.message = fmt.Sprintf("%s at %s, the writer of epoch %d, is no longer configured", w.Node, w.Address, e.rec.Epoch)
		return
	}
	if e.lookForSuccessor(s, e.rec) {
		s.drain = true
		return
	}
	if e.lookApproved(s) {
		return
	}
	switch s.standing {
	case standDemoted, standOtherSystem, standOtherTimeline:
		s.situation, s.drain = sitNotPrimary, true
	case standProven, standServing:
		s.situation = e.lookServing(s, v)
	case standStarting, standFailing:
		s.situation = e.lookFailing(s)
	default:
		switch {
		case !s.opened:
			s.situation = sitProving
		case s.state.open() && e.now.Sub(max(v.told, e.freshAfter)) <= e.cfg.FreshFor():
			s.situation = sitWell // a late probe is not a failed one
		default:
			s.situation = sitStale
		}
	}
}

// lookServing judges a writer that is proven, or that lives and says nothing against it.
func (e *Engine) lookServing(s *sight, v *view) situation {
	switch {
	case s.state.open():
		return sitWell
	case s.standing == standServing && (!s.opened || !namedByReplication(e.rec.Writer, &v.obs)):
		if !s.opened {
			return sitProving
		}
		return sitUnproven
	case !s.opened && !e.othersSeen():
		s.message += "; the other nodes have not been probed yet"
		return sitProving
	case e.leftUnseen(s):
		return sitConflict
	}
	return sitWell
}

// othersSeen says whether every node has been observed since the start or the last stall, or has had the time to be: a promotion that went
// unseen meanwhile shows itself now.
func (e *Engine) othersSeen() bool {
	return e.allSeen() || e.now.Sub(e.watching) > e.cfg.FreshFor()
}

// lookFailing judges a writer that does not serve: how long already, and what the standbys see.
func (e *Engine) lookFailing(s *sight) situation {
	if !s.stable {
		if s.standing == standStarting {
			return sitStarting
		}
		return sitFailing
	}
	if v := e.streamingStandby(); v != nil {
		s.message += fmt.Sprintf("; %s still receives from it: only this proxy cannot see it", v.node.Name)
		return sitIsolated
	}
	if e.cfg.Mode == ModeObserve {
		s.message += "; the mode is observe: another node must be promoted by others"
		return sitAwaiting
	}
	d := e.verdict(e.ask(EventPrimaryDead, false, ""))
	if d.Safe {
		s.promote = e.node(d.Candidate.V)
		s.message += fmt.Sprintf("; every criterion passes: %s is promoted", d.Candidate.V)
		return sitPromotable
	}
	s.message += "; a promotion is blocked by " + strings.Join(d.Blocking, ", ")
	return sitUndecided
}

// lookApproved judges whether an operator's approval lets a change begin now. It was judged when it came; nothing has happened since.
func (e *Engine) lookApproved(s *sight) bool {
	a, ok := e.approval.Get()
	if !ok || e.state.open() {
		return false
	}
	s.situation, s.promote = sitPromotable, e.node(a.target)
	s.message += "; an operator approved the promotion of " + a.target
	return true
}

// streamingStandby returns a standby that still hears the writer, nil when none does.
func (e *Engine) streamingStandby() *view {
	for i := range e.views {
		v := &e.views[i]
		if v.node.Name == e.rec.Writer.Node {
			continue
		}
		if w := e.witness(v); w.verdict == Fail {
			return v
		}
	}
	return nil
}

// lookDrained judges an epoch that has ended or is ending.
func (e *Engine) lookDrained(s *sight, rec Record) {
	w := rec.Writer
	if e.lookForSuccessor(s, rec) {
		return
	}
	if n, ok := rec.Next.Get(); ok && !e.undone(rec) {
		s.situation = sitSuperseded
		s.message = fmt.Sprintf("timeline %d was left: %s was seen as the primary of timeline %d and does not answer as such now", w.Timeline, n.Node, n.Timeline)
		return
	}
	i := e.node(w.Node)
	switch {
	case i < 0:
		e.consistentPrimary(s, sitClosed)
	case e.lookApproved(s):
	case s.standing.disproved():
		s.situation = sitNotPrimary
	case e.cfg.Mode != ModeObserve && (s.standing == standFailing || s.standing == standStarting):
		s.situation = e.lookFailing(s)
	case s.standing != standProven:
		s.situation = sitClosed
		s.message = fmt.Sprintf("epoch %d has ended; %s", rec.Epoch, s.message)
	case !e.othersSeen():
		s.situation = sitClosed
		s.message = fmt.Sprintf("epoch %d has ended; %s; the other nodes have not been probed yet", rec.Epoch, s.message)
	case e.leftUnseen(s):
		s.situation = sitConflict
	default:
		if rival := e.rivalOf(i); rival != nil {
			s.situation = sitConflict
			s.message = fmt.Sprintf("%s and %s both answer as primary on timeline %d", w.Node, rival.node.Name, w.Timeline)
			return
		}
		if e.lateFence.Known { // what is opened now it may still take down
			s.situation = sitClosed
			s.message = fmt.Sprintf("epoch %d has ended; %s proves itself again, and its fence, which was begun, must end first", rec.Epoch, w.Node)
			return
		}
		if e.rec.Fenced == w.Node { // clients would meet read-only transactions
			s.situation, s.unfence = sitClosed, true
			s.message = fmt.Sprintf("epoch %d has ended; %s proves itself again, and its fence must be undone first", rec.Epoch, w.Node)
			if e.unfence.err != "" {
				s.message += ": " + e.unfence.err
			}
			return
		}
		s.situation, s.adopt = sitAdopt, i
		s.message = fmt.Sprintf("%s proves itself again, under a fresh epoch", w.Node)
	}
}

// undone says whether the node that was seen promoted is a standby on the epoch's timeline again: its promotion no longer exists there.
func (e *Engine) undone(rec Record) bool {
	v := e.viewOf(rec.Next.V.Node)
	if v == nil || e.class(v) != classStandby || v.obs.SystemID != Some(rec.Writer.SystemID) {
		return false
	}
	d, fork, _ := descent(rec.Writer, v.obs.Timeline, v.obs.History)
	return d == Pass && fork == 0
}

// rivalOf returns another primary of the same system and timeline as the node's, nil when there is none.
func (e *Engine) rivalOf(i int) *view {
	for k := range e.views {
		v := &e.views[k]
		if k != i && e.class(v) == classPrimary && v.obs.SystemID == e.views[i].obs.SystemID && v.obs.Timeline == e.views[i].obs.Timeline && !e.sameServer(k, i) {
			return v
		}
	}
	return nil
}

// lookForSuccessor judges promotions that others did from the epoch's timeline; false when there is none to follow.
func (e *Engine) lookForSuccessor(s *sight, rec Record) bool {
	var follow []int
	for _, i := range e.successors(rec.Writer) {
		if ok, _ := e.mayFollow(rec.Writer, &e.views[i], s.standing, s.stable); ok {
			follow = append(follow, i)
		}
	}
	if len(follow) == 0 {
		return false
	}
	v := &e.views[follow[0]]
	s.left = follow[0]
	switch {
	case len(follow) > 1:
		s.situation = sitConflict
		s.message = fmt.Sprintf("%s (timeline %d) and %s (timeline %d) were both promoted from timeline %d", v.node.Name, v.obs.Timeline.V,
			e.views[follow[1]].node.Name, e.views[follow[1]].obs.Timeline.V, rec.Writer.Timeline)
		return true
	case rec.Next.Known && !continues(rec.Next.V, v):
		s.situation = sitConflict
		s.message = fmt.Sprintf("%s is the primary of timeline %d, which does not continue timeline %d of %s, that was seen before", v.node.Name,
			v.obs.Timeline.V, rec.Next.V.Timeline, rec.Next.V.Node)
		return true
	}
	s.situation, s.successor = sitSuccessor, follow[0]
	_, fork, _ := descent(rec.Writer, v.obs.Timeline, v.obs.History)
	s.message = fmt.Sprintf("%s is the primary of timeline %d, which left timeline %d at %s", v.node.Name, v.obs.Timeline.V, rec.Writer.Timeline, fork)
	wait := e.oldWriterStands(rec, v)
	if wait == "" {
		wait = e.rivalMayStand(rec, v)
	}
	if wait == "" && !e.othersSeen() {
		wait = "the other nodes have not been probed yet"
	}
	if wait == "" {
		s.adopt = s.successor
	} else {
		s.message += "; " + wait
	}
	return true
}

// continues says whether the node is the one that was seen before, or descends from it.
func continues(next Writer, v *view) bool {
	d, fork, _ := descent(next, v.obs.Timeline, v.obs.History)
	return d == Pass && fork != 0 || d != Fail && v.node.Name == next.Node && v.obs.Timeline == Some(next.Timeline)
}

// oldWriterStands says why a descendant may not be adopted yet: the old writer has not shown, since the descendant was seen or for stable_for,
// that it no longer answers as primary. Empty when it may.
func (e *Engine) oldWriterStands(rec Record, next *view) string {
	v := e.viewOf(rec.Writer.Node)
	if v == nil || v.node == next.node {
		return ""
	}
	name := v.node.Name
	asked := e.successorSince.Known && v.obs.Began >= e.successorSince.V
	switch c := e.class(v); {
	case c == classUnknown && (!e.fresh(v) || !v.muteSince.Known):
		return "nothing fresh is known of " + name
	case c == classPrimary:
		if v.obs.SystemID.Known && v.obs.SystemID.V != rec.Writer.SystemID {
			return "" // another system answers there now
		}
		return name + " still answers as primary"
	case c == classBlind || c == classBusy || c == classUnknown:
		if d, ok := elapsed(v.muteSince, e.now); !ok || d < e.cfg.StableFor {
			return fmt.Sprintf("%s does not say what it is, for %s of %s", name, d.Round(time.Millisecond), e.cfg.StableFor)
		}
		return ""
	default:
		if d, ok := elapsed(v.muteSince, e.now); asked || ok && d >= e.cfg.StableFor {
			return ""
		}
		return name + " is asked once more"
	}
}

// rivalMayStand says why a descendant may not be adopted yet: another node that answered as primary of a later timeline cannot be asked any
// more, and may still be one. Empty when it may.
func (e *Engine) rivalMayStand(rec Record, next *view) string {
	for i := range e.views {
		v := &e.views[i]
		if v.node == next.node || v.node.Name == rec.Writer.Node || v.lastRole != RolePrimary || v.lastTimeline.V <= rec.Writer.Timeline || e.class(v).tellsRole() {
			continue
		}
		if d, ok := elapsed(v.muteSince, e.now); !ok || d < e.cfg.StableFor {
			return fmt.Sprintf("%s answered as primary of timeline %d and cannot be asked, for %s of %s", v.node.Name, v.lastTimeline.V,
				d.Round(time.Millisecond), e.cfg.StableFor)
		}
	}
	return ""
}
