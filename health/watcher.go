package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/pgtether/pgtether/decision"
	"github.com/pgtether/pgtether/internal/metrics"
)

// ErrStopped is returned by AskNow when the watcher's Run has ended or ends before the round it waits for.
var ErrStopped = errors.New("prober stopped")

// minPause is the least time between the starts of two rounds: a storm of kicks must not become a storm of logins.
const minPause = 50 * time.Millisecond

// WatcherConfig says what a Watcher watches and where it delivers. Node, Probe, Deliver and Interval are required.
type WatcherConfig struct {
	// Node is the configured name.
	Node string
	// Probe makes one round and returns when it is over, early when ctx ends. It is never called twice at once. glance says that nobody has asked for
	// the round, and that the pace is not the one at which a writer is awaited.
	Probe func(ctx context.Context, glance bool) decision.Observation
	// Deliver gets every observation, in order, from the goroutine of Run. It may block: no round starts meanwhile.
	Deliver func(decision.Observation)
	// Interval is the time between the starts of two rounds; SetInterval changes it.
	Interval time.Duration
	// Jitter returns a random duration in [0, d), by which the rounds of many watchers are spread; default random.
	Jitter func(d time.Duration) time.Duration
	// Metrics and Log may be nil.
	Metrics *metrics.Health
	// Log gets results at debug level and changes of evidence above it.
	Log *slog.Logger

	clock func() time.Time // time.Now, except where a test lets the process stand still
}

// Watcher schedules the probe of one node. Its methods may be called from any goroutine.
type Watcher struct {
	cfg  WatcherConfig
	wake chan struct{} // holds a token when the schedule has changed: a kick, a question, another interval

	mu       sync.Mutex
	interval time.Duration
	kicked   bool
	asking   []chan decision.Observation // questions that wait for the next round to begin; closed without a value when Run ends
	stopped  bool
}

// NewWatcher returns a watcher that does nothing before Run.
func NewWatcher(cfg WatcherConfig) *Watcher {
	if cfg.Jitter == nil {
		cfg.Jitter = func(d time.Duration) time.Duration { return rand.N(max(d, 1)) }
	}
	if cfg.clock == nil {
		cfg.clock = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Watcher{cfg: cfg, wake: make(chan struct{}, 1), interval: max(cfg.Interval, minPause)}
}

// Kick asks for a round at once. It never blocks. Kicks that come before the round begins are one; a kick during a round asks for another
// one after it, because what was seen may be younger than what the running round has asked.
func (w *Watcher) Kick() {
	w.mu.Lock()
	w.kicked = true
	w.mu.Unlock()
	w.rouse()
}

// SetInterval changes the time between the starts of two rounds, from the running one on.
func (w *Watcher) SetInterval(d time.Duration) {
	w.mu.Lock()
	w.interval = max(d, minPause)
	w.mu.Unlock()
	w.rouse()
}

func (w *Watcher) rouse() {
	select {
	case w.wake <- struct{}{}:
	default: // a token is waiting already
	}
}

// AskNow returns the observation of a round that began after the call. It fails when ctx ends first, and with ErrStopped when the watcher has
// stopped. The observation is delivered like any other, too.
func (w *Watcher) AskNow(ctx context.Context) (decision.Observation, error) {
	result := make(chan decision.Observation, 1)
	w.mu.Lock()
	if w.stopped {
		w.mu.Unlock()
		return decision.Observation{}, ErrStopped
	}
	w.asking = append(w.asking, result)
	w.kicked = true
	w.mu.Unlock()
	w.rouse()
	select {
	case o, ok := <-result:
		if !ok {
			return decision.Observation{}, ErrStopped
		}
		return o, nil
	case <-ctx.Done():
		w.forget(result)
		return decision.Observation{}, fmt.Errorf("probe node %s: %w", w.cfg.Node, context.Cause(ctx))
	}
}

// forget drops a question that nobody waits for any more, so that a node that is asked often but answers slowly gathers none.
func (w *Watcher) forget(result chan decision.Observation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, waiting := range w.asking {
		if waiting == result {
			w.asking = append(w.asking[:i], w.asking[i+1:]...)
			return
		}
	}
}

// Run probes until ctx ends and returns its cause, after the running round has ended. It is called once.
func (w *Watcher) Run(ctx context.Context) error {
	defer w.stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var tell narrator
	// The first round is made at once: until it is over nobody can be served. Only from the second one on are the rounds of watchers that
	// were started together spread over the interval.
	last, spread := time.Time{}, w.cfg.Jitter(w.cfg.Interval)
	for {
		start, late := w.await(ctx, timer, last, spread)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !last.IsZero() {
			spread = 0
		}
		last = start
		asked, glance := w.begin()
		o := w.cfg.Probe(ctx, glance && late <= w.cfg.Interval)
		if ctx.Err() != nil { // what was cut short proves nothing
			closeAll(asked)
			return context.Cause(ctx)
		}
		// Two intervals without a round are a stall, whatever the faster interval of the moment: between rounds nothing is measured.
		o.ProberStalled = o.ProberStalled || late > w.cfg.Interval
		w.record(&tell, o)
		for _, result := range asked {
			result <- o
		}
		w.cfg.Deliver(o)
	}
}

// await waits until the next round may begin or ctx ends, and returns when that is and how much later than it should have been.
func (w *Watcher) await(ctx context.Context, timer *time.Timer, last time.Time, spread time.Duration) (start time.Time, late time.Duration) {
	// A round cannot begin before its predecessor was delivered, nor before somebody asked for it: neither is lateness.
	earliest := w.cfg.clock()
	for {
		due := w.due(last, spread)
		if due.Before(earliest) {
			due = earliest
		}
		now := w.cfg.clock()
		if !now.Before(due) || ctx.Err() != nil {
			return now, max(late, now.Sub(due))
		}
		timer.Reset(due.Sub(now))
		select {
		case <-timer.C:
		case <-w.wake:
		case <-ctx.Done():
		}
		earliest = w.cfg.clock()
		late = max(late, earliest.Sub(due))
	}
}

// due is when the round after the one that started at last is to begin.
func (w *Watcher) due(last time.Time, spread time.Duration) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case last.IsZero():
		return last
	case w.kicked:
		return last.Add(minPause)
	default:
		return last.Add(w.interval + spread)
	}
}

// begin takes the questions that the round which begins now answers, and with them the kicks.
func (w *Watcher) begin() (asked []chan decision.Observation, glance bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	asked, glance = w.asking, !w.kicked && w.interval > decision.FastProbeInterval
	w.asking, w.kicked = nil, false
	return asked, glance
}

// stop answers those who still ask.
func (w *Watcher) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	closeAll(w.asking)
	w.asking = nil
}

func closeAll(asked []chan decision.Observation) {
	for _, result := range asked {
		close(result)
	}
}
