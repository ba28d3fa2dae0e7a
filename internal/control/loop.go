package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/pgtether/pgtether/decision"
	"github.com/pgtether/pgtether/internal/metrics"
)

// Router is the data plane as the engine's actions need it.
type Router interface {
	// Open sends logins to the node under the epoch and lets the held ones go.
	Open(epoch uint64, node, address string)
	// Hold keeps new logins waiting; sessions of the open epoch go on.
	Hold(why decision.HoldReason)
	// Cut closes every path of every epoch up to epoch. When it returns not one byte reaches such a backend any more.
	Cut(epoch uint64, why decision.CutReason) CutReport
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
}

// Prober is the health side as the engine's actions need it. Neither call blocks.
type Prober interface {
	// Kick asks for a probe round of the node at once.
	Kick(node string)
	// Pace sets the interval between the probe rounds of every node.
	Pace(interval time.Duration)
}

// Config is what a Loop needs.
type Config struct {
	Engine  decision.Config
	Store   *Store
	Events  *EventLog
	Router  Router
	Prober  Prober
	Clock   *Clock
	Log     *slog.Logger
	Metrics *metrics.Control
	// Record and LastKnown are those that OpenStore returned.
	Record    decision.Record
	LastKnown decision.Opt[decision.LastKnown]
}

// Loop owns the engine.
type Loop struct {
	cfg    Config
	engine *decision.Engine

	// inbox takes what the other goroutines have to say to the engine; Run is its only reader. It is never closed.
	inbox chan func()
	// done is closed when Run has returned: nobody reads the inbox any more.
	done chan struct{}
	view atomic.Pointer[View]

	lastChange  decision.Opt[decision.Change]
	eventsLate  bool
	lastHandled decision.Instant
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
	l := &Loop{cfg: cfg, inbox: make(chan func(), 64), done: make(chan struct{})}
	l.engine = decision.New(cfg.Engine, cfg.Record, cfg.LastKnown)
	l.lastChange = l.engine.Status().LastChange
	l.publish()
	return l, nil
}

// Run drives the engine until ctx ends. It holds logins until the engine opens a writer, and leaves the data plane as it is when it returns.
func (l *Loop) Run(ctx context.Context) error {
	defer close(l.done)
	l.cfg.Router.Hold(decision.HoldNoWriter)
	l.step(decision.Tick{At: l.now(), DataPlane: l.dataPlane()})
	ticker := time.NewTicker(l.cfg.Engine.TickInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
			l.step(decision.Tick{At: l.now(), DataPlane: l.dataPlane()})
		case f := <-l.inbox:
			f()
		}
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

// Reconfigure hands a new, valid configuration to the engine and returns when it is in force.
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

// View returns the picture after the last event. It never blocks.
func (l *Loop) View() View { return *l.view.Load() }

// ask runs f on the goroutine that owns the engine and waits for its end.
func (l *Loop) ask(ctx context.Context, f func()) error {
	finished := make(chan struct{}) // closed when f has run
	select {
	case l.inbox <- func() { f(); close(finished) }:
	case <-l.done:
		return ErrStopped
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-finished:
		return nil
	case <-l.done:
		return ErrStopped
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// now is the instant of the next event. The engine demands that instants never decrease.
func (l *Loop) now() decision.Instant {
	l.lastHandled = max(l.lastHandled, l.cfg.Clock.Now())
	return l.lastHandled
}

// step gives the engine one event, performs what it asks for, and goes on with the outcomes until nothing is left to do.
func (l *Loop) step(ev decision.Event) {
	queue := []decision.Event{ev}
	for len(queue) > 0 {
		actions := l.engine.Step(queue[0])
		queue = queue[1:]
		for _, a := range actions {
			if outcome, ok := l.perform(a); ok {
				queue = append(queue, decision.Completed{At: l.now(), ActionID: a.Head().ID, Outcome: outcome})
			}
		}
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
	var out decision.DataPlane
	if d.HeardAge >= 0 {
		out.Heard = decision.Some(l.lastHandled.Add(-d.HeardAge))
	}
	if d.Relaxed >= 0 {
		out.Relaxed = decision.Some(uint64(d.Relaxed))
	}
	return out
}
