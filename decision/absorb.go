package decision

import (
	"fmt"
	"strings"
	"time"
)

// advance moves the clock. A gap between two events is an input of its own: the process stood still while the world went on, so what was
// observed before is worth nothing and no failure may be said to have lasted through it.
func (e *Engine) advance(at Instant) {
	if at < e.now {
		panic(fmt.Sprintf("decision: invariant: time went back from %s to %s", time.Duration(e.now), time.Duration(at)))
	}
	gap := at.Sub(e.now)
	stalled := e.started && gap > e.cfg.StallAfter()
	if !e.started {
		e.watching = at
	}
	e.now, e.started = at, true
	if !stalled {
		return
	}
	e.freshAfter, e.watching, e.stalledFor = at, at, gap
	if e.step != Halted {
		e.change.V.requested = e.change.V.requested.Add(gap) // nobody watched the promotion meanwhile
	}
	for i := range e.views {
		e.views[i].interrupt()
	}
	e.remark(NoteStalled, "stalled", []Operand{{"gap_ms", gap.Milliseconds()}, {"threshold_ms", e.cfg.StallAfter().Milliseconds()}},
		"no event for %s: every observation is too old, and nothing counts as having failed meanwhile", gap)
}

// tick takes what the data plane knows, and lets what failed be tried again.
func (e *Engine) tick(ev Tick) {
	e.retryDisk, e.retryCut = false, false
	if e.keepErr != "" && e.lastKnown.Known && e.now.Sub(e.keptAt) >= askAgain {
		e.keep() // a writer that is dead says nothing that could be kept, and the disk may be well again
	}
	e.plane, e.planeAt = ev.DataPlane, e.now
	// A byte from a backend is a sign of life: the failure is counted from the first failing round after it.
	if v := e.writerView(); v != nil && e.plane.Heard.Known && v.failingSince.Known && e.plane.Heard.V >= v.failingSince.V {
		v.failingSince = Opt[Instant]{}
	}
}

// observe takes a probe round. Rounds of nodes that are no longer configured, and rounds that are older than the one known, are dropped.
func (e *Engine) observe(o Observation) {
	i := e.node(o.Node)
	if i < 0 {
		return
	}
	v := &e.views[i]
	if v.seen && o.Began < v.obs.Began || o.Began < e.freshAfter {
		return
	}
	v.take(e.now, o, e.fresh(v))
	if e.stalledFor > 0 && e.allSeen() {
		e.stalledFor = 0
	}
	e.remember(v)
	e.sample(o)
	e.poll(v)
}

// allSeen says whether every node has been observed since the start or the last stall.
func (e *Engine) allSeen() bool {
	for i := range e.views {
		if v := &e.views[i]; !v.seen || v.obs.Began < e.freshAfter {
			return false
		}
	}
	return true
}

// complete takes the outcome of an action. An outcome that nobody waits for changes nothing.
func (e *Engine) complete(ev Completed) {
	switch {
	case e.pending.Known && e.pending.V.id == ev.ActionID:
		e.persisted(ev.Outcome)
	case e.cutting.Known && e.cutting.V.id == ev.ActionID:
		e.cut(ev.Outcome)
	case e.change.Known && e.change.V.drain.busy && e.change.V.drain.id == ev.ActionID:
		e.change.V.drain.take(ev.Outcome)
	case e.change.Known && e.change.V.fence.busy && e.change.V.fence.id == ev.ActionID:
		e.fenceDone(ev.Outcome)
	case e.change.Known && e.change.V.promote.busy && e.change.V.promote.id == ev.ActionID:
		e.promoteDone(ev.Outcome)
	case e.change.Known && e.change.V.verify.busy && e.change.V.verify.id == ev.ActionID:
		e.verifyDone(ev.Outcome)
	case e.lateFence == Some(ev.ActionID):
		e.lateFence = Opt[uint64]{}
	case e.unfence.busy && e.unfence.id == ev.ActionID:
		e.unfenced(ev.Outcome)
	case e.restore.busy && e.restore.id == ev.ActionID:
		e.syncRestored(ev.Outcome)
	case e.rememberID == ev.ActionID:
		e.keepErr = ev.Outcome.Err
	case e.openID == ev.ActionID && e.rec.LastChange.Known && e.rec.LastChange.V.Epoch == e.opened && ev.Outcome.Sessions != (SessionCounts{}):
		s := &e.rec.LastChange.V.Sessions
		s.Moved += ev.Outcome.Sessions.Moved
		s.Ended += ev.Outcome.Sessions.Ended
		s.Refused += ev.Outcome.Sessions.Refused
		e.openID, e.dirty = 0, true
	}
}

// persisted takes the outcome of the Persist that is awaited. A record that could not be written is as if it had never been asked for; it is
// tried again with every tick, so that a disk that is well again is noticed.
func (e *Engine) persisted(o Outcome) {
	p := e.pending.V
	e.pending = Opt[pendingPersist]{}
	e.diskErr = o.Err
	if !o.OK() {
		e.retryDisk, e.dirty = true, true
		return
	}
	if !p.turns {
		return
	}
	if p.rec.Epoch != e.rec.Epoch {
		e.lastKnown, e.restored, e.plane, e.confirmed = Opt[LastKnown]{}, Opt[uint64]{}, DataPlane{}, nil
		e.change = Opt[change]{}
		e.restore, e.syncSaid = errand{}, "" // of another writer
	}
	if p.rec.Phase == PhasePromoting {
		e.change.V.requested = e.now
	}
	if p.rec.Phase == PhaseDrain && !e.rec.Planned.Known && p.rec.Planned.Known {
		p.rec.Planned, p.stale = Opt[Planned]{}, true // it was undone meanwhile
	}
	e.ordered = e.ordered && p.rec.Planned.Known
	paused := e.rec.Paused
	if p.rec.Phase == PhaseDrain && e.rec.Next.Known && !p.rec.Next.Known {
		p.rec.Next, p.stale = e.rec.Next, true // an operator accepted it meanwhile
	}
	e.rec, e.dirty = p.rec, p.rec.Paused != paused || p.stale
	e.rec.Paused = paused // an operator's word while it was being written
	e.forgetUnconfigured()
	if v := e.writerView(); v != nil && p.rec.Phase == PhaseOpen {
		e.remember(v) // the round that proved the writer is its first known position
	}
}

// cut takes the outcome of the Cut that is awaited.
func (e *Engine) cut(o Outcome) {
	c := e.cutting.V
	e.cutting = Opt[pendingCut]{}
	if !o.OK() {
		e.retryCut = true
		if e.cutFailed == c.epoch {
			return
		}
		e.cutFailed = c.epoch
		e.remark(NoteStep, "cut_failed", []Operand{{"error", o.Err}}, "epoch %d is not cut yet; it is tried again", c.epoch)
		return
	}
	e.cutDone = max(e.cutDone, c.epoch)
	e.silentFrom = Some(e.now)
	if e.opened != c.epoch {
		e.silentFrom = Some(Instant(0)) // only an earlier run served it
	}
	if o.LastByte.Known && o.LastByte.V < e.now {
		e.silentFrom = o.LastByte
	}
	e.marks.cut, e.ended = Some(e.now), o.Sessions.Ended
	if e.change.Known {
		e.change.V.cutAt = Some(e.now)
	}
	e.emit(ProbeNow{Header: e.head("cut_done"), Node: e.rec.Writer.Node})
}

// reconfigure takes a new configuration. A node whose name or address changed is a node nobody has seen yet.
func (e *Engine) reconfigure(c Config) {
	if err := c.Validate(); err != nil {
		e.remark(NoteReload, "reconfigured", []Operand{{"error", strings.ReplaceAll(err.Error(), "\n", "; ")}}, "the new configuration is refused and the old one kept")
		return
	}
	old := e.views
	e.cfg = c.clone()
	e.views = make([]view, len(e.cfg.Nodes))
	for i, n := range e.cfg.Nodes {
		e.views[i] = view{node: n}
		for k := range old {
			if old[k].node == n {
				e.views[i] = old[k]
			}
		}
	}
	e.forgetUnconfigured()
	e.remark(NoteReload, "reconfigured", []Operand{{"nodes", uint64(len(c.Nodes))}, {"mode", c.Mode.String()}}, "the configuration was reloaded")
}

// forgetUnconfigured drops what the record awaits from nodes that have left the configuration: taking a node out is an operator's word that
// nothing is to be expected of it any more.
func (e *Engine) forgetUnconfigured() {
	if e.rec.Previous != "" && e.node(e.rec.Previous) < 0 {
		e.rec.Previous, e.dirty = "", true
	}
	if e.rec.Next.Known && e.node(e.rec.Next.V.Node) < 0 {
		e.rec.Next, e.dirty = Opt[Writer]{}, true
	}
}
