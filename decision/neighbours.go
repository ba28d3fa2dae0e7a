package decision

import (
	"fmt"
	"strings"
	"time"
)

// endConflictsEvery is the least time between two EndConflicts.
const endConflictsEvery = 5 * time.Second

// rival names another pgtether that watches the same nodes; empty when none is seen. Two that decide on their own could promote twice, so
// neither does until one is gone.
func (e *Engine) rival() string {
	for i := range e.views {
		v := &e.views[i]
		if !e.fresh(v) {
			continue
		}
		if names, ok := v.obs.Rivals.Get(); ok && len(names) > 0 {
			return fmt.Sprintf("another pgtether (%s) watches %s: only one may decide", strings.Join(names, ", "), v.node.Name)
		}
		if ours, ok := v.obs.AdvisoryLock.Get(); ok && !ours {
			return fmt.Sprintf("another pgtether holds the lock on %s: only one may decide", v.node.Name)
		}
	}
	return ""
}

// liftFence undoes a fence by SQL once the node is the open writer again, or nothing else keeps it from being opened, or it is a standby: what was meant
// to keep writes off an old writer must not keep them off when its turn comes.
func (e *Engine) liftFence(s *sight) {
	v := e.viewOf(e.rec.Fenced)
	if e.rec.Fenced == "" || v == nil {
		return
	}
	asked := e.unfence.busy || e.unfence.sent.Known && e.now.Sub(e.unfence.sent.V) < askAgain
	fencing := e.lateFence.Known || e.change.Known && !s.unfence // a fence may yet take hold, or is meant to stand
	if asked || fencing {
		return
	}
	isWriter := (s.unfence || e.state.open() && v.node.Name == e.rec.Writer.Node) && e.class(v) == classPrimary
	follows := e.class(v) == classStandby && v.obs.Timeline == Some(e.rec.Writer.Timeline)
	if !isWriter && !follows {
		return
	}
	a := Unfence{Header: e.head("fence_over"), Node: v.node.Name, Address: v.node.Address}
	e.unfence = errand{id: a.ID, busy: true, sent: Some(e.now), err: e.unfence.err}
	e.emit(a)
}

// unfenced takes the outcome.
func (e *Engine) unfenced(o Outcome) {
	was := e.unfence.err
	e.unfence.take(o)
	switch {
	case o.OK():
		e.remark(NoteStep, "fence_over", []Operand{{"node", e.rec.Fenced}}, "the fence of %s is undone", e.rec.Fenced)
		if v := e.viewOf(e.rec.Fenced); v != nil {
			v.settings.DefaultReadOnly = Opt[bool]{} // what was read before is not so any more
		}
		e.rec.Fenced, e.dirty = "", true
	case o.Err != was:
		e.remark(NoteStep, "fence_over", []Operand{{"node", e.rec.Fenced}, {"error", o.Err}}, "the fence of %s could not be undone: %s", e.rec.Fenced, o.Err)
	}
}

// freeReplay has the queries ended that hold replay back on a standby, once the writer is gone and nothing else is in the way: they read what is
// about to be replaced, and everybody waits for them.
func (e *Engine) freeReplay(s *sight) {
	if s.situation != sitUndecided || e.cfg.Mode != ModeAuto || e.conflictsEnded.Known && e.now.Sub(e.conflictsEnded.V) < endConflictsEvery {
		return
	}
	d := e.verdict(e.ask(EventPrimaryDead, false, ""))
	v := e.viewOf(d.Candidate.V)
	if len(d.Blocking) != 1 || d.Blocking[0] != "replay_caught_up" || v == nil || v.obs.ReplayWaits.V == "" || awaitsWAL(v.obs) {
		return
	}
	e.conflictsEnded = Some(e.now)
	e.remark(NoteStep, "replay_held_back", []Operand{{"node", v.node.Name}, {"waits_for", v.obs.ReplayWaits.V}},
		"queries on %s hold replay back (%s): they are ended", v.node.Name, v.obs.ReplayWaits.V)
	e.emit(EndConflicts{Header: e.head("replay_held_back"), Node: v.node.Name})
}
