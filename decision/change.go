package decision

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// sampleStill is how long what the candidate has received must not have grown before it counts as all it will ever have.
	sampleStill = 500 * time.Millisecond
	// settleWithin is how long the criteria may stay unknown after the fence before the change is undone.
	settleWithin = 10 * time.Second
	// pollEvery is the least time between two extra rounds of a node that is being promoted.
	pollEvery = 50 * time.Millisecond
	// askAgain is the least time between two Promote, or two Verify, to the same node.
	askAgain = time.Second
)

// approval is an operator's word that a change may happen.
type approval struct {
	target    string
	overrides []string
}

// errand is an action whose outcome is awaited.
type errand struct {
	id   uint64
	busy bool
	// sent is when it was last asked for; unknown when never.
	sent Opt[Instant]
	done bool
	err  string
}

// take brings in the outcome.
func (r *errand) take(o Outcome) { r.busy, r.done, r.err = false, o.OK(), o.Err }

// change is a change of the writer by pgtether that is under way.
//
// Invariant: target never changes once the record is in PhasePromoting.
type change struct {
	kind      ChangeKind
	target    Node
	automatic bool
	approval  Opt[approval]
	began     Instant

	// What can still be undone.
	drain    errand
	cutAt    Opt[Instant] // when the paths were certainly closed
	fence    errand
	fencedAt Opt[Instant] // when the fence was done with, whatever came of it
	fenced   Opt[bool]    // unknown: not tried yet
	fenceSay string
	// received is the candidate's position after the cut, and since when it has not grown. replayed is beside it.
	received, replayed Opt[LSN]
	still              Instant
	sampled            bool
	// end is the old writer's last position in a planned change; endSeen: it was asked for after the fence.
	end     Opt[LSN]
	endSeen bool
	// flushed: no commit of the old writer's, however little it asked for, is beyond end.
	flushed bool

	// What cannot.
	promote, verify errand
	requested       Instant // since when this run waits for the promotion
	polled          Instant // when the target was last asked for an extra round
	contradiction   string
	resolved        Opt[Node]

	steps []StepTime
}

// begin starts the change that the criteria, or an operator, allow.
func (e *Engine) begin(s *sight) {
	target := e.views[s.promote].node
	e.change = Some(change{kind: ChangeFailover, target: target, automatic: !e.approval.Known, approval: e.approval, began: e.now})
	c := &e.change.V
	if m := e.marks.failed; m.Known {
		c.steps = append(c.steps, StepTime{Confirming, e.now.Sub(m.V)})
	}
	if e.rec.Phase == PhaseDrain && e.cutDone >= e.rec.Epoch {
		c.cutAt = Some(e.now)
		e.emit(ProbeNow{Header: e.head("reprobe"), Node: e.rec.Writer.Node})
	}
}

// resumed is the change that the record of an earlier run obliges to complete.
func resumed(p Promotion) change {
	c := change{kind: p.Kind, target: Node{p.Node, p.Address}, automatic: p.Automatic, received: p.Received, replayed: p.Replayed, fenceSay: p.Fence}
	if !p.Automatic {
		c.approval = Some(approval{target: p.Node, overrides: p.Overridden})
	}
	return c
}

// judgeChange gives the change up when it can still be undone and what it rested on is gone. It runs before the engine looks.
func (e *Engine) judgeChange() {
	if !e.change.Known {
		return
	}
	if e.rec.Phase == PhasePromoting {
		e.judgePromotion()
		return
	}
	if e.pending.Known && e.pending.V.turns {
		return // what is being written decides
	}
	if why := e.undoReason(&e.change.V); why != "" {
		e.undo(why)
	}
}

// undoReason says why the change must be given up; empty when it goes on.
func (e *Engine) undoReason(c *change) string {
	w := e.writerView()
	switch v := e.viewOf(c.target.Name); {
	case e.cfg.Mode == ModeObserve:
		return "the mode is observe now"
	case v == nil || v.node != c.target:
		return c.target.Name + " is no longer configured"
	case w == nil || w.node.Address != e.rec.Writer.Address:
		return fmt.Sprintf("%s at %s is no longer configured", e.rec.Writer.Node, e.rec.Writer.Address)
	case e.diskErr != "":
		return "the state cannot be written: " + e.diskErr
	}
	for _, i := range e.successors(e.rec.Writer) {
		return e.views[i].node.Name + " was promoted by others meanwhile"
	}
	var failed, open []string
	if c.kind == ChangeSwitchover {
		if why := e.plannedUndoReason(c); why != "" {
			return why
		}
	}
	d := e.verdict(e.ask(c.event(), false, ""))
	for _, cr := range d.Criteria {
		switch {
		case cr.Overridden:
		case cr.Verdict == Fail:
			failed = append(failed, cr.Name+": "+cr.Explanation)
		case cr.Verdict == Unknown:
			open = append(open, cr.Name)
		}
	}
	switch late := c.settling(e.now) > settleWithin; {
	case len(failed) > 0:
		return strings.Join(failed, "; ")
	case late && len(open) > 0:
		return fmt.Sprintf("after %s it is still not known whether these pass: %s", settleWithin, strings.Join(open, ", "))
	case late && c.fencedAt.Known && !c.sampled && c.kind == ChangeSwitchover:
		return fmt.Sprintf("within %s of the fence: %s", settleWithin, e.sampleText(c))
	case late && c.fencedAt.Known && !c.sampled:
		return fmt.Sprintf("what %s receives did not stand still within %s", c.target.Name, settleWithin)
	}
	return ""
}

// settling is how long the change has waited for nothing but facts: since the fence, or since the cut while the writer has not been asked.
func (c *change) settling(now Instant) time.Duration {
	switch {
	case c.fencedAt.Known:
		return now.Sub(c.fencedAt.V)
	case c.cutAt.Known && !c.fence.busy:
		return now.Sub(c.cutAt.V)
	}
	return 0
}

// undo gives the change up. Nothing irreversible has happened; how the writer is served again is for the facts to say. The failure of the
// writer is counted anew, so that what failed once is not tried again at once.
func (e *Engine) undo(why string) {
	c := e.change.V
	if c.fence.busy {
		e.lateFence = Some(c.fence.id)
	}
	wasOpen := e.rec.Phase == PhaseOpen && !(e.pending.Known && e.pending.V.turns)
	e.change = Opt[change]{}
	if e.rec.Planned.Known {
		e.rec.Planned, e.dirty, e.ordered = Opt[Planned]{}, true, false
	}
	if v := e.writerView(); v != nil {
		for _, since := range []*Opt[Instant]{&v.failingSince, &v.startingSince} {
			if since.Known {
				*since = Some(e.now)
			}
		}
	}
	e.remark(NoteUndone, "undone", []Operand{{"target", c.target.Name}, {"reason", why}}, "the change to %s is undone: %s", c.target.Name, why)
	if c.drain.sent.Known && wasOpen {
		e.emit(Undrain{Header: e.head("undone"), Epoch: e.rec.Epoch})
	}
}

// sample follows what the candidate has received since the paths were closed. It counts once it has stood still for sampleStill, seen after
// the fence: nothing that the old writer acknowledged through pgtether can be beyond it.
func (e *Engine) sample(o Observation) {
	c := &e.change.V
	if e.change.Known && c.kind == ChangeSwitchover {
		e.sampleEnd(o)
		return
	}
	if !e.change.Known || o.Node != c.target.Name || e.rec.Phase != PhaseDrain || !c.cutAt.Known || o.Began <= c.cutAt.V || classify(o) != classStandby {
		return
	}
	r, ok := o.ReceivedLSN.Get()
	if !ok {
		return
	}
	if !c.received.Known || c.received.V != r {
		c.received, c.still, c.sampled = Some(r), o.Began, false
	}
	c.replayed = o.ReplayedLSN
	c.sampled = c.fencedAt.Known && o.Began > c.fencedAt.V && o.Began.Sub(c.still) >= sampleStill
}

// lookChange says which step the change is at.
func (e *Engine) lookChange(s *sight) {
	c := &e.change.V
	p, promoting := e.rec.Promotion.Get()
	w, target := e.rec.Writer, c.target.Name
	switch {
	case promoting && e.pending.Known && e.pending.V.turns:
		s.situation = sitOpening
		s.message = fmt.Sprintf("%s becomes the writer of epoch %d as soon as that is on disk", e.pending.V.rec.Writer.Node, e.pending.V.rec.Epoch)
	case promoting && c.resolved.Known && c.resolved.V.Name == e.rec.Fenced:
		s.situation, s.unfence = sitHalted, true
		s.message = fmt.Sprintf("an operator says that %s is the writer; its fence is being undone first", c.resolved.V.Name)
	case promoting && c.resolved.Known:
		s.situation, s.adopt = sitOpening, e.node(c.resolved.V.Name)
		s.message = fmt.Sprintf("an operator says that %s is the writer", c.resolved.V.Name)
	case promoting && e.halted() != "":
		s.situation, s.message = sitHalted, e.halted()
	case promoting && c.verify.done:
		s.situation, s.adopt = sitOpening, e.node(target)
		s.message = fmt.Sprintf("%s has shown that it is the primary that was asked for, and that it can commit", target)
	case promoting && e.identified(c, p) == "":
		s.situation, s.message = sitVerifying, fmt.Sprintf("%s is out of recovery; it is asked to show that it can commit", target)
		if c.verify.err != "" {
			s.message += ": " + c.verify.err
		}
	case promoting:
		s.situation, s.message = sitPromoting, fmt.Sprintf("%s is being promoted for epoch %d; %s", target, p.Epoch, e.identified(c, p))
	case e.rec.Phase == PhaseOpen && c.kind == ChangeSwitchover:
		e.lookPlanned(s, c)
	case e.rec.Phase == PhaseOpen:
		s.situation, s.drain = sitDraining, true
		s.message += fmt.Sprintf("; the change to %s begins", target)
	case e.cutDone < e.rec.Epoch:
		s.situation, s.message = sitCutting, fmt.Sprintf("the paths of epoch %d on %s are being closed", e.rec.Epoch, w.Node)
	case !c.fence.sent.Known && !c.fencedAt.Known && !e.reprobed(c):
		s.situation, s.message = sitReprobing, fmt.Sprintf("%s is asked once more whether it is alive", w.Node)
	case !c.fencedAt.Known:
		s.situation, s.message = sitFencing, fmt.Sprintf("%s is fenced as far as it can be reached", w.Node)
	case !c.sampled && c.kind == ChangeSwitchover:
		s.situation, s.message = sitSampling, e.sampleText(c)
	case !c.sampled:
		s.situation, s.message = sitSampling, fmt.Sprintf("what %s has received must stand still for %s", target, sampleStill)
	default:
		s.situation = sitSampling
		d := e.verdict(e.ask(c.event(), false, ""))
		counted := e.planeAt > c.cutAt.V // the count of relaxed commits is whole only after the cut
		s.turn = d.Safe && counted
		s.message = fmt.Sprintf("%s has all it will ever have; the criteria are judged once more", target)
		if !d.Safe {
			s.message += ": not known yet: " + strings.Join(d.Blocking, ", ")
		}
	}
}

// reprobed says whether the writer has been asked since its paths were closed. What it said is for the criteria to judge.
func (e *Engine) reprobed(c *change) bool {
	v := e.writerView()
	return v != nil && c.cutAt.Known && v.seen && v.obs.Began > c.cutAt.V && e.class(v) != classUnknown
}

// workChange asks for what the step needs.
func (e *Engine) workChange(s *sight) {
	c := &e.change.V
	if e.rec.Phase == PhasePromoting {
		e.noteRequest()
	}
	switch s.situation {
	case sitDraining:
		if c.kind == ChangeSwitchover {
			e.startDrain(c)
		}
	case sitFencing:
		e.startFence(c)
	case sitSampling:
		if s.turn && !e.pending.Known {
			e.persist(s.situation.String(), e.promotionRecord(c), true)
		}
	case sitPromoting:
		e.startPromotion(c)
	case sitVerifying:
		e.startVerify(c)
	case sitHalted:
		if e.identified(c, e.rec.Promotion.V) == "" {
			e.startVerify(c)
		}
	case sitOpening:
		if !e.pending.Known {
			e.persist(s.situation.String(), e.succession(c, s.adopt), true)
		}
	}
}

// startFence fences the old writer, or says why that is not tried. On the node itself something can be done only if it may be alive, which
// an operator has then taken upon himself.
func (e *Engine) startFence(c *change) {
	alive := e.class(e.writerView()) != classFailing
	switch {
	case c.fence.busy:
	case !e.cfg.FenceHook && !alive:
		c.fencedAt, c.fenceSay = Some(e.now), "none: the old writer cannot be reached, and there is no hooks.fence"
	case alive && e.rec.Fenced != e.rec.Writer.Node && !e.frozenByOthers():
		// On disk before it is done, so that a restart knows what is to be undone.
		e.rec.Fenced, e.dirty = e.rec.Writer.Node, true
	case e.dirty || e.pending.Known:
	case !c.fence.sent.Known:
		f := Fence{Header: e.head("fencing"), Epoch: e.rec.Epoch, Node: e.rec.Writer.Node, Address: e.rec.Writer.Address, Hook: e.cfg.FenceHook, SQL: alive,
			Target: c.target.Name}
		c.fence = errand{id: f.ID, busy: true, sent: Some(e.now)}
		e.emit(f)
	}
}

// frozenByOthers says that the writer's transactions are read-only already without a fence of pgtether's: that is not to be undone.
func (e *Engine) frozenByOthers() bool {
	return e.writerView().settings.DefaultReadOnly == Some(true)
}

// fenceDone takes the outcome of the fence.
func (e *Engine) fenceDone(o Outcome) {
	c := &e.change.V
	c.fence.take(o)
	c.fencedAt, c.fenced = Some(e.now), Some(o.OK())
	if at, ok := o.End.Get(); ok {
		c.end, c.flushed = Some(max(c.end.V, at)), true
	}
	c.fenceSay = "fenced: " + o.Detail
	if !o.OK() {
		c.fenceSay = "failed: " + o.Err
	}
	e.remark(NoteStep, "fence", []Operand{{"node", e.rec.Writer.Node}, {"fence", c.fenceSay}}, "the fence of %s: %s", e.rec.Writer.Node, c.fenceSay)
	if c.kind == ChangeSwitchover {
		e.emit(ProbeNow{Header: e.head("sampling"), Node: e.rec.Writer.Node})
	}
}

// promotionRecord is the point of no return, with the loss stated from what the target has.
func (e *Engine) promotionRecord(c *change) Record {
	rec := e.rec.clone()
	l := e.lossAt(c.target.Name, c.received)
	if c.kind == ChangeSwitchover {
		l = e.plannedLoss(c)
	}
	p := Promotion{Epoch: rec.Epoch + 1, Node: c.target.Name, Address: c.target.Address, At: e.now, Kind: c.kind, Automatic: c.automatic,
		Overridden: slices.Clone(c.approval.V.overrides), Received: c.received, Replayed: c.replayed, Lossless: l.lossless, LossBytes: l.bytes,
		LossFrom: l.from, LossTo: l.to, RelaxedCommits: l.relaxed, LastKnownAge: l.age, Fence: c.fenceSay}
	if k, ok := e.lastKnown.Get(); ok {
		p.LastKnown = Some(k.LSN)
	}
	if v := e.viewOf(c.target.Name); v != nil {
		p.SyncNames = v.obs.Settings.SynchronousStandbyNames.V
	}
	rec.Phase, rec.Promotion, rec.Next, rec.Planned = PhasePromoting, Some(p), Opt[Writer]{}, Opt[Planned]{}
	if c.automatic {
		rec.LastAutomatic = Some(e.now)
	}
	return rec
}

// succession is the record of the epoch that the promoted node, or the one that an operator named, is opened under.
func (e *Engine) succession(c *change, i int) Record {
	rec, p, old := e.rec.clone(), e.rec.Promotion.V, e.rec.Writer
	v := &e.views[i]
	rec.Epoch, rec.Phase, rec.Promotion, rec.Next = p.Epoch, PhaseOpen, Opt[Promotion]{}, Opt[Writer]{}
	isTarget := v.node == c.target
	if !isTarget {
		rec.Epoch++ // the promised epoch names the target, and nobody else
	}
	rec.Writer = writerOf(v)
	if rec.Writer.Node == old.Node {
		return rec
	}
	rec.SyncNames = ""
	if isTarget {
		rec.SyncNames = p.SyncNames // emptied there, or left as it was: setting it back is right either way
	}
	rec.Previous = ""
	if e.node(old.Node) >= 0 {
		rec.Previous = old.Node
	}
	ch := Change{At: e.now, Kind: p.Kind, From: old.Node, To: rec.Writer.Node, Epoch: rec.Epoch, Lossless: p.Lossless, LossBytes: p.LossBytes,
		LossFrom: p.LossFrom, LossTo: p.LossTo, RelaxedCommits: p.RelaxedCommits, Sessions: SessionCounts{Ended: e.ended}, Steps: slices.Clone(c.steps)}
	if !isTarget {
		ch.Lossless, ch.LossBytes, ch.LossFrom, ch.LossTo = LosslessUnknown, Opt[uint64]{}, Opt[LSN]{}, Opt[LSN]{}
	}
	rec.LastChange = Some(ch)
	e.marks.adopted = Some(e.now)
	return rec
}
