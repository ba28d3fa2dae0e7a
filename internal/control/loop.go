package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgtether/pgtether/decision"
	"github.com/pgtether/pgtether/internal/metrics"
)

// Router is the data plane as the engine's actions need it.
type Router interface {
	// Open sends logins to the node under the epoch and lets the held ones go. Sessions that waited across the last cut are moved there, or ended,
	// by what lossless allows; moved is called once when that is over, from any goroutine, if there were any.
	Open(epoch uint64, node, address string, lossless decision.Lossless, moved func(decision.SessionCounts))
	// Hold keeps new logins waiting; sessions of the open epoch go on.
	Hold(why decision.HoldReason)
	// Cut closes every path of every epoch up to epoch. When it returns not one byte reaches such a backend any more.
	Cut(epoch uint64, why decision.CutReason) CutReport
	// Drain stops sessions of epochs up to epoch at the end of their transaction and keeps them waiting there. It returns at once; drained is called
	// once when none is left to stop, from any goroutine, unless the drain was undone or cut.
	Drain(epoch uint64, drained func())
	// Undrain lets those sessions go on.
	Undrain(epoch uint64)
	// Refuse refuses new logins, and those that are held, at once.
	Refuse(why decision.HoldReason)
	// DataPlane says what only the forwarding paths know of the epoch that is not yet cut. It must not block.
	DataPlane() DataPlane
}

// CutReport is what a cut did.
type CutReport struct {
	// Ended is the number of sessions that ended.
	Ended int
	// LastByteAge is how long ago a backend of the epoch last sent a byte to a client; negative when it never did.
	LastByteAge time.Duration
}

// DataPlane is what the forwarding paths know at one moment.
type DataPlane struct {
	// HeardAge is how long ago a backend last sent a byte to a client; negative when it never did.
	HeardAge time.Duration
	// Relaxed counts the commits that asked for less than synchronous replication; negative when they are not counted.
	Relaxed int64
	// Left counts the sessions of the epoch that is being drained; unknown when none is.
	Left decision.Opt[decision.SessionsLeft]
}

// Prober is the health side as the engine's actions need it. Neither call blocks.
type Prober interface {
	// Kick asks for a probe round of the node at once.
	Kick(node string)
	// Pace sets the interval between the probe rounds of every node.
	Pace(interval time.Duration)
}

// Operator does to nodes what the engine asks for. Every call blocks, ends when ctx does, and may be made beside others; the loop makes them
// on goroutines of its own.
type Operator interface {
	// Fence keeps the old writer from accepting writes and says in words what was done, and up to where what was committed there is on disk, if it
	// made sure of that.
	Fence(ctx context.Context, a decision.Fence) (detail string, end decision.Opt[decision.LSN], err error)
	// Promote sends pg_promote(false), once.
	Promote(ctx context.Context, node string) error
	// Verify proves that a promoted node can commit.
	Verify(ctx context.Context, a decision.Verify) error
	// Unfence undoes what a fence by SQL did.
	Unfence(ctx context.Context, node string) error
	// EndConflicts ends the queries that hold replay back on a standby.
	EndConflicts(ctx context.Context, node string) error
	// RestoreSync sets synchronous_standby_names on a writer.
	RestoreSync(ctx context.Context, node, names string) error
	// Checkpoint makes a checkpoint.
	Checkpoint(ctx context.Context, node string) error
}

// Config is what a Loop needs.
type Config struct {
	Engine decision.Config
	Store  *Store
	Events *EventLog
	Router Router
	Prober Prober
	// Operator is needed unless the mode is, and stays, observe.
	Operator Operator
	Clock    *Clock
	Log      *slog.Logger
	Metrics  *metrics.Control
	// Record and LastKnown are those that OpenStore returned.
	Record    decision.Record
	LastKnown decision.Opt[decision.LastKnown]
	// Evidence says how changes of the writer are recorded.
	Evidence Evidence
}

// Loop owns the engine.
type Loop struct {
	cfg    Config
	engine *decision.Engine

	// inbox takes what the other goroutines have to say to the engine; Run is its only reader. It is never closed.
	inbox chan func()
	// over takes what a Drain or an Open came to. It has room for more of them than the engine can have asked for since Run last read it, so
	// that the data plane may say so from within the call, and after Run has returned. It is never closed.
	over chan decision.Completed
	// done is closed when Run has returned: nobody reads the inbox any more.
	done chan struct{}
	view atomic.Pointer[View]

	// errands are the calls of the Operator that are under way; they end with life.
	errands sync.WaitGroup
	life    context.Context
	// replies are the commands whose Answer is awaited, by number.
	replies     map[uint64]*Reply
	lastCommand uint64

	lastChange  decision.Opt[decision.Change]
	eventsLate  bool
	lastHandled decision.Instant

	recorder *recorder
}

// View is one consistent picture of the engine, made after each event.
type View struct {
	Status   decision.Status
	Decision decision.Decision
}

// New makes a Loop; Run starts it. It fails when the record contradicts itself.
func New(cfg Config) (*Loop, error) {
	if err := cfg.Engine.Validate(); err != nil {
		return nil, fmt.Errorf("check engine configuration: %w", err)
	}
	l := &Loop{cfg: cfg, inbox: make(chan func(), 64), over: make(chan decision.Completed, 64), done: make(chan struct{}), replies: map[uint64]*Reply{}}
	rec := cfg.Record
	if rec.Promotion.Known {
		rec.Promotion.V.Noted = cfg.Events.Has(string(decision.NotePromotionRequested), rec.Promotion.V.Epoch)
	}
	l.engine = decision.New(cfg.Engine, rec, cfg.LastKnown)
	l.lastChange = l.engine.Status().LastChange
	l.recorder = newRecorder(cfg)
	l.recorder.start(l.engine)
	l.publish()
	return l, nil
}

// Run drives the engine until ctx ends. It holds logins until the engine opens a writer, and leaves the data plane as it is when it returns.
func (l *Loop) Run(ctx context.Context) error {
	defer l.record()()
	life, end := context.WithCancel(ctx)
	l.life = life
	defer l.errands.Wait()
	defer end()
	defer close(l.done)
	l.cfg.Router.Hold(decision.HoldNoWriter)
	l.tick()
	every := l.engine.TickEvery()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if now := l.engine.TickEvery(); now != every {
			if now < every { // what the data plane said last may be as old as that, and counts from here on
				l.tick()
			}
			every = now
			ticker.Reset(every)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
			l.tick()
		case c := <-l.over:
			c.At = l.now()
			l.step(c)
		case f := <-l.inbox:
			f()
		}
	}
}

// record starts the goroutine that writes evidence; what it returns waits for its end.
func (l *Loop) record() (end func()) {
	var writing sync.WaitGroup
	stop := make(chan struct{}) // closed when the loop has ended
	writing.Go(func() { l.recorder.files.run(stop) })
	return func() {
		l.recorder.stopped()
		close(stop)
		writing.Wait()
	}
}

// ErrStopped is returned to whoever asks a Loop that has ended.
var ErrStopped = errors.New("the control loop has stopped")

// Observe hands a probe's result to the engine. It blocks only while the engine is busy, and drops the result when the Loop has ended.
func (l *Loop) Observe(o decision.Observation) {
	select {
	case l.inbox <- func() { l.step(decision.Observed{At: l.now(), Observation: o}) }:
	case <-l.done:
	}
}

// Reconfigure hands a new, valid configuration to the engine and returns when it is in force. When ctx ends first it may come into force all the same.
func (l *Loop) Reconfigure(ctx context.Context, c decision.Config) error {
	if err := c.Validate(); err != nil {
		return fmt.Errorf("check engine configuration: %w", err)
	}
	return l.ask(ctx, func() { l.step(decision.Reconfigured{At: l.now(), Config: c}) })
}

// WhatIf answers a hypothetical question with today's facts. Nothing changes by it.
func (l *Loop) WhatIf(ctx context.Context, q decision.Question) (decision.Decision, error) {
	var d decision.Decision
	err := l.ask(ctx, func() { d = l.engine.Decide(q) })
	return d, err
}

// Plan says what a switchover would do now, step by step, and why it would be refused, if it would. Nothing changes by it.
func (l *Loop) Plan(ctx context.Context, c decision.Switch) (steps []decision.PlanStep, refusal decision.Opt[decision.Refusal], err error) {
	err = l.ask(ctx, func() { steps, refusal = l.engine.Plan(c) })
	return steps, refusal, err
}

// Reply is what became of a command, with the decision as it stands after it.
type Reply struct {
	// Refusal is known when the command changed nothing.
	Refusal  decision.Opt[decision.Refusal]
	Message  string
	Decision decision.Decision
}

// Command hands an operator's command to the engine and returns its answer. What was accepted goes on after the return.
func (l *Loop) Command(ctx context.Context, c decision.Command) (Reply, error) {
	var r Reply
	err := l.ask(ctx, func() {
		l.lastCommand++
		l.replies[l.lastCommand] = &r
		l.step(decision.Commanded{At: l.now(), CommandID: l.lastCommand, Command: c})
		delete(l.replies, l.lastCommand)
		r.Decision = l.View().Decision
	})
	if err != nil {
		return Reply{}, err
	}
	return r, nil
}

// View returns the picture after the last event. It never blocks.
func (l *Loop) View() View { return *l.view.Load() }

// ask runs f on the goroutine that owns the engine and waits for its end. When ctx ends first f may run all the same, after the return; when the loop has
// ended, it has not run and will not.
func (l *Loop) ask(ctx context.Context, f func()) error {
	finished := make(chan struct{}) // closed when f has run
	select {
	case l.inbox <- func() { f(); close(finished) }:
	case <-l.done:
		return ErrStopped
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	var err error
	select {
	case <-finished:
	case <-l.done:
		err = ErrStopped
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	select {
	case <-finished: // which may have been so when the select took another of its cases
		return nil
	default:
		return err
	}
}

// now is the instant of the next event. The engine demands that instants never decrease.
func (l *Loop) now() decision.Instant {
	l.lastHandled = max(l.lastHandled, l.cfg.Clock.Now())
	return l.lastHandled
}

// tick tells the engine that time has passed, and what the data plane knows now.
func (l *Loop) tick() { l.step(decision.Tick{At: l.now(), DataPlane: l.dataPlane()}) }

// step gives the engine one event, performs what it asks for, and goes on with the outcomes until nothing is left to do.
func (l *Loop) step(ev decision.Event) {
	queue := []decision.Event{ev}
	for len(queue) > 0 {
		actions := l.engine.Step(queue[0])
		l.recorder.stepped(l.engine, queue[0], actions)
		queue = queue[1:]
		for _, a := range actions {
			if outcome, ok := l.perform(a); ok {
				queue = append(queue, decision.Completed{At: l.now(), ActionID: a.Head().ID, Outcome: outcome})
			}
		}
		l.recorder.performed()
	}
	l.publish()
}

func (l *Loop) publish() {
	v := &View{Status: l.engine.Status(), Decision: l.engine.Decide(decision.Question{})}
	l.view.Store(v)
	l.countChange(v.Status.LastChange)
}

// countChange counts a change of writer once, when it first shows in the status.
func (l *Loop) countChange(c decision.Opt[decision.Change]) {
	if !c.Known || (l.lastChange.Known && l.lastChange.V.Epoch == c.V.Epoch) {
		return
	}
	l.lastChange = c
	l.cfg.Metrics.Changed(string(c.V.Kind), string(c.V.Lossless))
	for _, s := range c.V.Steps {
		l.cfg.Metrics.StepTook(s.Step.String(), s.Took)
	}
}

func (l *Loop) dataPlane() decision.DataPlane {
	d := l.cfg.Router.DataPlane()
	out := decision.DataPlane{Left: d.Left}
	if d.HeardAge >= 0 {
		out.Heard = decision.Some(l.lastHandled.Add(-d.HeardAge))
	}
	if d.Relaxed >= 0 {
		out.Relaxed = decision.Some(uint64(d.Relaxed))
	}
	return out
}
