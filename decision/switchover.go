package decision

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// holdReserve is what is left of hold.session when a planned change that is not past the point of no return is undone: sessions that are kept
// waiting, and logins, must still be served within their budget.
const holdReserve = 3 * time.Second

// Planned is a change of the writer that an operator has ordered. It is on disk before the first client notices anything, so that a restart can
// say what was interrupted.
type Planned struct {
	Node    string  `json:"node"`
	Address string  `json:"address"`
	At      Instant `json:"at_ns"`
	// Force closes the paths when the time for open transactions is up, instead of undoing the change.
	Force bool `json:"force,omitempty"`
	// Drain is how long open transactions may take to end.
	Drain time.Duration `json:"drain_ns"`
}

// Switch orders a planned change of the writer: open transactions may end, the old writer is fenced, and the named node is promoted once it has
// replayed everything. Until the promotion is asked for, any failure returns to the old writer.
type Switch struct {
	// To is the node that is to become the writer.
	To string
	// Force closes the paths when Drain is over, instead of undoing the change.
	Force bool
	// Drain is how long open transactions may take to end; 0 takes the configured time.
	Drain time.Duration
}

// Name returns "switchover".
func (Switch) Name() string { return "switchover" }

// order takes the operator's order. What it lets happen begins once the order is on disk.
func (e *Engine) order(c Switch) (string, Opt[Refusal]) {
	p, refusal := e.judgeSwitch(c)
	if refusal.Known {
		return "", refusal
	}
	e.rec.Planned, e.dirty, e.ordered = Some(p), true, true
	return fmt.Sprintf("the writer is changed to %s: open transactions have %s to end", c.To, p.Drain), Opt[Refusal]{}
}

// judgeSwitch says whether a switchover may be ordered now, and what would be.
func (e *Engine) judgeSwitch(c Switch) (p Planned, refusal Opt[Refusal]) {
	i := e.node(c.To)
	switch {
	case i < 0:
		return p, refuse(RefusedUnknownNode, "the nodes are listed by /status", "no node is called %q", c.To)
	case e.cfg.Mode == ModeObserve:
		return p, refuse(RefusedModeObserve, "promote the node with what manages it; pgtether follows", "the mode is observe: others promote")
	case e.state == Promoting:
		return p, refuse(RefusedUnderWay, "", "the writer is being changed already (%s)", e.step)
	case e.rec.Planned.Known:
		return p, refuse(RefusedUnderWay, "", "a switchover to %s has been ordered already", e.rec.Planned.V.Node)
	case !e.state.open():
		return p, refuse(RefusedBlocked, "see /decision for what is awaited, and approve for a writer that is lost",
			"a switchover needs a writer that is open: the state is %s", Place{e.state, e.step})
	case c.To == e.rec.Writer.Node:
		return p, refuse(RefusedBlocked, "", "%s is the writer already", c.To)
	case e.diskErr != "":
		return p, refuse(RefusedBlocked, "", "the writer is not changed while the state cannot be written: %s", e.diskErr)
	case c.Drain < 0:
		return p, refuse(RefusedBlocked, "", "the time for open transactions must not be negative")
	}
	p = Planned{Node: c.To, Address: e.views[i].node.Address, At: e.now, Force: c.Force, Drain: e.drainOf(c)}
	if most := e.cfg.HoldSession - holdReserve; p.Drain > most {
		return p, refuse(RefusedBlocked, "shorten it, or raise hold.session", "open transactions may take at most %s (hold.session less %s), not %s", most,
			holdReserve, p.Drain)
	}
	if d := e.verdict(e.askFor(EventSwitchover, false, c.To, Some(approval{target: c.To}))); !d.Safe {
		return p, refuse(RefusedBlocked, "see /decision/what-if?event=switchover&to="+c.To, "a switchover to %s is blocked by %s", c.To, strings.Join(d.Blocking, ", "))
	}
	return p, Opt[Refusal]{}
}

// drainOf is how long open transactions may take to end in a switchover that is ordered so.
func (e *Engine) drainOf(c Switch) time.Duration { return cmp.Or(c.Drain, e.cfg.DrainTimeout) }

// countermand takes back an order that has not begun.
func (e *Engine) countermand(why string) {
	p := e.rec.Planned.V
	e.rec.Planned, e.dirty, e.ordered = Opt[Planned]{}, true, false
	e.remark(NoteUndone, "undone", []Operand{{"target", p.Node}, {"reason", why}}, "the switchover to %s is undone: %s", p.Node, why)
}

// judgeOrder gives up an order that can no longer begin: one of an earlier run, or one whose writer does not serve any more.
func (e *Engine) judgeOrder() {
	switch {
	case !e.rec.Planned.Known || e.change.Known || e.pending.Known && e.pending.V.turns:
	case !e.ordered:
		e.countermand("pgtether was started again in the middle of it")
	case e.diskErr != "":
		e.countermand("the state cannot be written: " + e.diskErr)
	case !e.state.open():
		e.countermand("the writer does not serve any more")
	case e.rec.Fenced == e.rec.Planned.V.Node && e.now.Sub(e.rec.Planned.V.At) > settleWithin:
		e.countermand(fmt.Sprintf("the fence of %s is still not undone, and it could not commit", e.rec.Fenced))
	}
}

// lookOrdered says whether an ordered change begins now: its order is on disk, and the writer is well.
func (e *Engine) lookOrdered(s *sight) {
	p, ok := e.rec.Planned.Get()
	if !ok || s.situation != sitWell || !e.state.open() || e.dirty || e.pending.Known || e.unfence.busy || e.rec.Fenced == p.Node {
		return
	}
	s.situation = sitOrdered
	s.message += fmt.Sprintf("; an operator has ordered a switchover to %s", p.Node)
}

// beginPlanned starts the ordered change.
func (e *Engine) beginPlanned(*sight) {
	p := e.rec.Planned.V
	e.change = Some(change{kind: ChangeSwitchover, target: Node{p.Node, p.Address}, approval: Some(approval{target: p.Node}), began: e.now})
	e.emit(ProbeNow{Header: e.head("switchover"), Node: e.rec.Writer.Node}) // the others are asked by whoever leaves an open state
}

// event is what the change answers.
func (c *change) event() ChangeEvent {
	if c.kind == ChangeSwitchover {
		return EventSwitchover
	}
	return EventPrimaryDead
}

// lookPlanned says which step a planned change is at while the paths of the old writer are not closed.
func (e *Engine) lookPlanned(s *sight, c *change) {
	p, target := e.rec.Planned.V, c.target.Name
	switch {
	case e.pending.Known && e.pending.V.turns:
		s.situation, s.message = sitCutting, fmt.Sprintf("the end of epoch %d is made durable", e.rec.Epoch)
	case !c.drain.sent.Known && !e.checkedSince(c):
		s.situation, s.message = sitChecking, fmt.Sprintf("the criteria of a switchover to %s are judged once more, by fresh facts", target)
	case !c.drain.done && !(p.Force && e.drainOver(c)):
		s.situation = sitDraining
		s.message = fmt.Sprintf("open transactions have %s of %s left to end, idle sessions wait%s", max(0, p.Drain-e.drainedFor(c)).Round(time.Millisecond), p.Drain,
			e.leftText())
	default:
		s.situation, s.drain = sitCutting, true
		s.message = fmt.Sprintf("an operator has ordered a switchover to %s", target)
		if !c.drain.done {
			s.message += fmt.Sprintf(", by force after %s%s", p.Drain, e.leftText())
		}
	}
}

// leftText says whom a drain waits for, as far as that is known.
func (e *Engine) leftText() string {
	n, ok := e.plane.Left.Get()
	if !ok {
		return ""
	}
	return ": " + n.String()
}

// drainedFor is how long open transactions have been given.
func (e *Engine) drainedFor(c *change) time.Duration {
	if !c.drain.sent.Known {
		return 0
	}
	return e.now.Sub(c.drain.sent.V)
}

func (e *Engine) drainOver(c *change) bool { return e.drainedFor(c) >= e.rec.Planned.V.Drain }

// checkedSince says whether the criteria pass by facts that are younger than the change.
func (e *Engine) checkedSince(c *change) bool {
	for _, name := range []string{e.rec.Writer.Node, c.target.Name} {
		if v := e.viewOf(name); v == nil || !v.seen || v.obs.Began <= c.began || e.class(v) == classUnknown {
			return false
		}
	}
	return e.verdict(e.ask(EventSwitchover, false, "")).Safe
}

// plannedUndoReason says why a planned change must be given up, besides what holds for every change; empty when it goes on.
func (e *Engine) plannedUndoReason(c *change) string {
	w, st := e.rec.Writer, e.standing(e.rec.Writer, e.writerView())
	fenced, tried := c.fenced.Get()
	well := st == standProven || st == standServing || st == standUnknown || e.stopping() && (st == standFailing || st == standStarting)
	switch {
	case !c.fencedAt.Known && !well:
		return e.standingText(w, e.writerView())
	case !c.drain.sent.Known && e.now.Sub(c.began) > e.cfg.FreshFor():
		return "the nodes were asked once more and did not answer in time"
	case e.now.Sub(c.began) >= e.cfg.HoldSession-holdReserve && !e.stopping():
		return fmt.Sprintf("it has taken %s, and clients wait no longer than hold.session (%s)", e.now.Sub(c.began).Round(time.Millisecond), e.cfg.HoldSession)
	case c.drain.err != "":
		return "sessions could not be brought to rest: " + c.drain.err
	case c.drain.sent.Known && !c.drain.done && !e.rec.Planned.V.Force && e.rec.Phase == PhaseOpen && e.drainOver(c):
		return fmt.Sprintf("open transactions have not ended within %s%s", e.rec.Planned.V.Drain, e.leftText())
	case c.fencedAt.Known && !tried:
		return fmt.Sprintf("%s cannot be fenced: it does not answer, and there is no hooks.fence", w.Node)
	case c.fencedAt.Known && !fenced:
		return fmt.Sprintf("%s could not be fenced (%s)", w.Node, c.fenceSay)
	}
	return ""
}

// stopping says whether the operator's program, which may stop the old writer, has been called: then neither its end nor that nobody streams from it
// any more speaks against the change. What counts is that its end is replayed.
func (e *Engine) stopping() bool {
	return e.change.Known && e.change.V.kind == ChangeSwitchover && e.change.V.fence.sent.Known && e.cfg.FenceHook
}

// startDrain asks for sessions to be stopped at the end of their transactions.
func (e *Engine) startDrain(c *change) {
	if c.drain.sent.Known {
		return
	}
	a := Drain{Header: e.head("draining"), Epoch: e.rec.Epoch}
	c.drain = errand{id: a.ID, busy: true, sent: Some(e.now)}
	e.emit(a)
}

// sampleEnd follows a planned change to its end: the old writer's last position, seen after the fence, and the candidate's replay of it. A
// writer that the operator's fence has stopped is no longer there to be asked: then what it said once the paths were closed counts.
func (e *Engine) sampleEnd(o Observation) {
	c := &e.change.V
	if e.rec.Phase != PhaseDrain || !c.cutAt.Known || o.Began <= c.cutAt.V {
		return
	}
	switch {
	case o.Node == e.rec.Writer.Node:
		if st := e.standing(e.rec.Writer, e.writerView()); st == standProven && o.CurrentLSN.Known {
			c.end = Some(max(c.end.V, o.CurrentLSN.V))
		}
		c.endSeen = c.fencedAt.Known && o.Began > c.fencedAt.V && c.end.Known && e.class(e.writerView()) != classUnknown
	case o.Node == c.target.Name && classify(o) == classStandby:
		c.received, c.replayed = o.ReceivedLSN, o.ReplayedLSN
	default:
		return
	}
	c.sampled = c.endSeen && c.replayed.Known && c.replayed.V >= c.end.V
	if c.endSeen && !c.sampled && e.now.Sub(c.polled) >= pollEvery {
		c.polled = e.now
		e.emit(ProbeNow{Header: e.head("sampling"), Node: c.target.Name})
	}
}

// sampleText says what a planned change waits for once the old writer is fenced.
func (e *Engine) sampleText(c *change) string {
	switch {
	case !c.endSeen:
		return fmt.Sprintf("%s is asked for its last position", e.rec.Writer.Node)
	case !c.replayed.Known:
		return fmt.Sprintf("%s must replay up to %s", c.target.Name, c.end.V)
	}
	return fmt.Sprintf("%s must replay up to %s, %s more", c.target.Name, c.end.V, sizeText(uint64(max(c.end.V, c.replayed.V)-c.replayed.V)))
}

// plannedLoss is the loss of a planned change whose old writer has been replayed to its end. Commits that did not wait for the disk can be beyond
// what a server says it has written: unless they were flushed with the fence, they are counted, as after a crash.
func (e *Engine) plannedLoss(c *change) loss {
	l := loss{lossless: LosslessProven, bytes: Some(uint64(0)), relaxed: Some(uint64(0)), age: Some(time.Duration(0)),
		why: fmt.Sprintf("the paths to the old writer are closed, it is fenced, and its end at %s is replayed", c.end.V)}
	if c.flushed {
		return l
	}
	switch l.relaxed = e.unconfirmed(c.replayed); {
	case !l.relaxed.Known:
		l.lossless = LosslessBounded
	case l.relaxed.V > 0:
		l.lossless = LosslessRelaxed
	}
	if l.lossless != LosslessProven {
		l.why += "; commits that asked for less could not be flushed there first"
	}
	return l
}

// plannedStatus is how far the switchover has come.
func (e *Engine) plannedStatus() Opt[PlannedStatus] {
	c := &e.change.V
	p, ok := e.rec.Planned.Get()
	switch {
	case ok:
	case e.change.Known && c.kind == ChangeSwitchover:
		return Some(PlannedStatus{To: c.target.Name, Since: e.rec.Promotion.V.At})
	default:
		return Opt[PlannedStatus]{}
	}
	out := PlannedStatus{To: p.Node, Force: p.Force, Since: p.At, Drain: p.Drain, Undoable: true}
	if e.change.Known && c.drain.sent.Known && e.rec.Phase == PhaseOpen {
		out.DrainLeft, out.Sessions = Some(max(0, p.Drain-e.drainedFor(c))), e.plane.Left
	}
	if c.endSeen && c.replayed.Known {
		out.ToReplay = Some(uint64(max(c.end.V, c.replayed.V) - c.replayed.V))
	}
	return Some(out)
}
