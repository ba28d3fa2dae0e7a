package decision

import (
	"fmt"
	"slices"
	"time"
)

// Engine is the failover state machine. It is not safe for concurrent use: one goroutine owns it.
type Engine struct {
	cfg   Config
	views []view // in the order of cfg.Nodes

	// now is the instant of the last event; it never decreases.
	now     Instant
	started bool
	// freshAfter is the end of the last stall: what was observed before it supports nothing.
	freshAfter Instant
	// watching is since when the nodes have been watched: the first event, or the end of the last stall.
	watching Instant
	// stalledFor is how long the last stall was; 0 when every node has been observed since.
	stalledFor time.Duration

	state State
	step  Step
	// since is when the state was entered, stepSince when the step was.
	since, stepSince Instant

	// rec is the record as it was last made durable, but for Previous, LastChange and Next, which may run ahead while dirty is set.
	//
	// Invariant: rec.Epoch never decreases.
	rec   Record
	dirty bool
	// pending is the Persist whose outcome is awaited.
	pending Opt[pendingPersist]
	// diskErr and keepErr are why the last Persist and Remember failed; empty when they succeeded.
	diskErr, keepErr string
	// retryDisk and retryCut are cleared by the next Tick: what failed is not repeated within one Step.
	retryDisk, retryCut bool

	// opened is the epoch that was last opened in this run, 0 for none.
	opened uint64
	// openID and rememberID are the latest actions of their kind, whose outcome is welcome but not awaited.
	openID, rememberID uint64
	// keptAt is when the last known position was last asked to be kept.
	keptAt Instant
	// cutting is the Cut whose outcome is awaited.
	cutting Opt[pendingCut]
	// cutNoted and cutFailed are the epochs whose cut, and whose cut's failure, has been noted: what is tried again is not said again.
	cutNoted, cutFailed uint64
	// ending is why the epoch that is cut next ends.
	ending ending
	// cutDone is the greatest epoch whose paths are certainly closed.
	//
	// Invariant: an epoch <= cutDone is never opened.
	cutDone uint64
	// silentFrom is when the cut epoch's writer certainly had sent its last byte through pgtether.
	silentFrom Opt[Instant]
	// ended counts the sessions that the last cut ended.
	ended uint64

	plane     DataPlane
	planeAt   Instant
	lastKnown Opt[LastKnown]
	// restored is the rate of an earlier run, used until this run has its own.
	restored Opt[uint64]

	// successorSince is when a descendant of the open epoch was first seen as primary.
	successorSince Opt[Instant]
	marks          marks

	// ordered: the planned change of the record was ordered in this run.
	ordered bool
	// change is the change of the writer that is under way, approval the operator's word of this Step.
	change   Opt[change]
	approval Opt[approval]
	// confirmed are positions of the open epoch's writer with the relaxed commits that had been counted by then.
	confirmed []confirmation
	restore   errand
	unfence   errand
	// lateFence is a Fence whose outcome is awaited although its change was undone: it may still take hold.
	lateFence Opt[uint64]
	// conflictsEnded is when queries that hold replay back were last asked to be ended.
	conflictsEnded Opt[Instant]
	// syncSaid is why synchronous_standby_names was last said not to be put back.
	syncSaid string

	pace     time.Duration
	autoWhy  string
	diskSaid string
	nextID   uint64
	out      []Action
}

type pendingPersist struct {
	id  uint64
	rec Record
	// turns is true when the record changes the epoch or its phase.
	turns bool
	// stale: an operator said something while the record was being written that it does not hold.
	stale bool
}

type pendingCut struct {
	id, epoch uint64
}

// marks are the instants that the times of a change are computed from.
type marks struct {
	failed, drained, cut, adopted Opt[Instant]
}

// New returns an engine that continues from what an earlier run left behind. Instants in rec and last must be on this run's clock
// (Record.Shift), on which the engine starts at 0. It panics on a configuration or record that does not validate: the caller has checked
// both.
func New(cfg Config, rec Record, last Opt[LastKnown]) *Engine {
	if err := cfg.Validate(); err != nil {
		panic("decision: invariant: configuration: " + err.Error())
	}
	if err := rec.Validate(); err != nil {
		panic("decision: invariant: record: " + err.Error())
	}
	e := &Engine{cfg: cfg.clone(), rec: rec.clone(), state: PrimaryFailed, step: Adopting}
	for _, n := range e.cfg.Nodes {
		e.views = append(e.views, view{node: n})
	}
	if k, ok := last.Get(); ok && k.Epoch == rec.Epoch && rec.Phase != PhaseNone {
		e.lastKnown, e.restored = Some(k.clone()), k.Rate
	}
	// The process that served the earlier epochs is gone, and every path with it. The recorded epoch itself may be opened again only if
	// its end had not been recorded.
	switch rec.Phase {
	case PhaseOpen:
		e.cutDone = rec.Epoch - 1
	case PhaseDrain, PhasePromoting:
		e.cutDone, e.silentFrom = rec.Epoch, Some(Instant(0))
	}
	if p, ok := e.rec.Promotion.Get(); ok {
		e.change = Some(resumed(p))
	}
	e.forgetUnconfigured()
	return e
}

// NewRecord returns the record of a cluster that has had no epoch yet.
func NewRecord() Record { return Record{Version: RecordVersion} }

// Step takes one event and returns what must be done, in order. It panics when an invariant is broken, events that go back in time included.
func (e *Engine) Step(ev Event) []Action {
	before := e.rec.Epoch
	e.out = nil
	e.advance(ev.instant())
	reply := func() {}
	switch ev := ev.(type) {
	case Tick:
		e.tick(ev)
	case Observed:
		e.observe(ev.Observation)
	case Completed:
		e.complete(ev)
	case Reconfigured:
		e.reconfigure(ev.Config)
	case Commanded:
		reply = e.command(ev)
	default:
		panic(fmt.Sprintf("decision: invariant: unknown event %T", ev))
	}
	e.settle()
	e.approval = Opt[approval]{} // it was taken, or what it was given for is gone
	reply()
	e.checkInvariants(before)
	return e.out
}

// TickEvery is how long the shell may let pass until the next Tick: Config.TickInterval while time is what is waited for. At rest, with an open
// writer that answers and nothing under way, time changes nothing but ages, and a failure shows in an observation first: then a Tick, each of
// which wakes the process, comes half a second apart, and at least twice between two probe rounds. When it becomes less, a Tick is due at once.
func (e *Engine) TickEvery() time.Duration {
	w := e.writerView()
	if !e.state.open() || e.planeAt <= e.since || w == nil || e.class(w) != classPrimary || e.change.Known || e.rec.Planned.Known || e.retryDisk || e.retryCut {
		return e.cfg.TickInterval
	}
	return max(e.cfg.TickInterval, min(restTick, e.cfg.ProbeInterval/2))
}

// settle walks the table until no row applies, then asks for what the new state needs.
func (e *Engine) settle() {
	e.noteQuarantines()
	if e.rec.Next.Known && e.undone(e.rec) {
		e.rec.Next, e.dirty = Opt[Writer]{}, true
	}
	e.judgeOrder()
	e.judgeChange()
	s := e.look()
	for range 4 * len(transitions) {
		t := e.row(s)
		if t == nil {
			e.work(s)
			e.announce()
			return
		}
		e.move(t, s)
		s = e.look()
	}
	panic(fmt.Sprintf("decision: invariant: the transition table does not settle in %s/%s (%s)", e.state, e.step, s.situation))
}

// row returns the first row of the table that applies, nil when none does.
func (e *Engine) row(s *sight) *Transition {
	for i := range transitions {
		t := &transitions[i]
		if t.when(s) && slices.Contains(t.From, Place{e.state, e.step}) {
			return t
		}
	}
	return nil
}

// move takes a row: the note first, then what leaving or entering an open state means for the data plane.
func (e *Engine) move(t *Transition, s *sight) {
	from := e.state
	kind := NoteTransition
	if from == t.To.State {
		kind = NoteStep
	} else {
		e.since = e.now
	}
	if t.To == halted {
		kind = NoteHalted
	}
	if c := &e.change.V; e.change.Known && from == Promoting && e.step != Checking {
		c.steps = append(slices.Clone(c.steps), StepTime{e.step, e.now.Sub(e.stepSince)})
	}
	was := Place{from, e.step}
	e.state, e.step, e.stepSince = t.To.State, t.To.Step, e.now
	e.note(Note{Header: e.head(s.situation.String()), From: from, To: e.state, Step: e.step, Kind: kind, Message: t.Why, Operands: e.operands(s)})
	switch {
	case from.open() && !e.state.open():
		e.marks = marks{failed: Some(e.now)}
		h := Hold{Header: e.head(s.situation.String()), Why: HoldNoWriter}
		if e.state == Promoting {
			h.Why = HoldPromoting
		}
		e.emit(h)
		for i := range e.views {
			if e.views[i].node.Name != e.rec.Writer.Node {
				e.emit(ProbeNow{Header: e.head(s.situation.String()), Node: e.views[i].node.Name})
			}
		}
	case !from.open() && e.state.open():
		e.open(s)
	default:
		e.rehold(was, s)
	}
	if t.then != nil {
		t.then(e, s)
	}
}

// rehold tells the data plane why logins wait, when that has changed.
func (e *Engine) rehold(was Place, s *sight) {
	h := Hold{Header: Header{Cause: s.situation.String()}, Why: HoldNoWriter, Refuse: e.step == Halted}
	if e.state == Promoting {
		h.Why = HoldPromoting
	}
	if (was.State == Promoting) != (e.state == Promoting) || (was.Step == Halted) != h.Refuse {
		h.Header = e.head(h.Cause)
		e.emit(h)
	}
}

// open lets logins go to the writer. The transition's note, and the record, are durable by now.
func (e *Engine) open(s *sight) {
	w := e.rec.Writer
	first := e.opened != e.rec.Epoch
	if first {
		e.note(Note{Header: e.head(s.situation.String()), From: e.state, To: e.state, Step: e.step, Kind: NoteOpened,
			Message: fmt.Sprintf("epoch %d is open on %s", e.rec.Epoch, w.Node),
			Operands: []Operand{{"node", w.Node}, {"address", w.Address}, {"system_identifier", w.SystemID},
				{"timeline", uint64(w.Timeline)}}})
		if c := &e.rec.LastChange; c.Known && c.V.Epoch == e.rec.Epoch && e.marks.adopted.Known {
			c.V.Steps = append(slices.Clone(c.V.Steps), StepTime{Opening, e.now.Sub(e.marks.adopted.V)})
			e.dirty = true
		}
	}
	e.opened = e.rec.Epoch
	o := Open{Header: e.head(s.situation.String()), Epoch: e.rec.Epoch, Node: w.Node, Address: w.Address, Lossless: e.kept()}
	e.marks, e.successorSince = marks{}, Opt[Instant]{}
	if first { // what becomes of the sessions that waited is told of the first opening of an epoch
		e.openID = o.ID
	}
	e.emit(o)
	if c := e.rec.LastChange; c.Known && c.V.Epoch == e.rec.Epoch && c.V.Kind != ChangeAdopted {
		e.emit(Checkpoint{Header: e.head(s.situation.String()), Node: w.Node})
	}
}

// kept says whether the commits that were acknowledged before the epoch that is opened now are on its writer. A writer that is opened again after a
// planned change was undone has them all, unless its server was restarted since the cut: then what asked for less than a flush may be gone.
func (e *Engine) kept() Lossless {
	if c := e.rec.LastChange; c.Known && c.V.Epoch == e.rec.Epoch {
		return c.V.Lossless
	}
	v := e.viewOf(e.rec.Writer.Node)
	if v == nil || e.ending.reason != CutDrained || !e.marks.cut.Known || v.obs.Began < e.marks.cut.V || !v.obs.StartedAgo.Known ||
		v.obs.StartedAgo.V <= e.now.Sub(e.marks.cut.V) {
		return LosslessUnknown
	}
	return LosslessProven
}

// head returns the next action's number with its cause.
func (e *Engine) head(cause string) Header {
	e.nextID++
	return Header{ID: e.nextID, Cause: cause}
}

func (e *Engine) emit(a Action) { e.out = append(e.out, a) }

// note stamps a note with the time and the epoch.
func (e *Engine) note(n Note) {
	n.At, n.Epoch = e.now, e.epoch()
	e.emit(n)
}

// remark adds a note that changes no state.
func (e *Engine) remark(kind NoteKind, cause string, operands []Operand, format string, args ...any) {
	e.note(Note{Header: e.head(cause), From: e.state, To: e.state, Step: e.step, Kind: kind, Message: fmt.Sprintf(format, args...), Operands: operands})
}

// epoch is unknown until the first adoption.
func (e *Engine) epoch() Opt[uint64] {
	switch e.rec.Phase {
	case PhaseNone:
		return Opt[uint64]{}
	case PhasePromoting:
		return Some(e.rec.Promotion.V.Epoch)
	}
	return Some(e.rec.Epoch)
}

// node returns the index of the named node, or -1.
func (e *Engine) node(name string) int {
	return slices.IndexFunc(e.views, func(v view) bool { return v.node.Name == name })
}

// writerView returns the view of the node that the epoch names, nil when there is no epoch or the node is not configured.
func (e *Engine) writerView() *view {
	if e.rec.Phase == PhaseNone {
		return nil
	}
	if i := e.node(e.rec.Writer.Node); i >= 0 {
		return &e.views[i]
	}
	return nil
}

// fresh says whether the node's latest round still supports a decision.
func (e *Engine) fresh(v *view) bool {
	return v.seen && v.obs.Began >= e.freshAfter && e.now.Sub(v.obs.Began) <= e.cfg.FreshFor()
}

// class is what the node's latest round means now: stale facts mean nothing.
func (e *Engine) class(v *view) class {
	if !e.fresh(v) {
		return classUnknown
	}
	return v.class
}

// age is how old the node's latest facts are.
func (e *Engine) age(v *view) Opt[time.Duration] {
	if v == nil || !v.seen {
		return Opt[time.Duration]{}
	}
	return Some(max(0, e.now.Sub(v.obs.Began)))
}
