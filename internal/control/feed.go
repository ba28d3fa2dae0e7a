package control

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxQueued is how many events may wait for the hook; the oldest beyond it are left out.
	maxQueued = 1000
	// feedGrace is how long the hook may go on, and take what still waits, once the process ends.
	feedGrace = 3 * time.Second
)

// EventFeed runs hooks.on_event for every event that is appended after its making, one at a time and in order, whatever the last run came to. It reads
// the log behind /events, so whoever appends never waits for it. It gives each event once at most: those of a crash, those beyond maxQueued
// that a slow program leaves waiting, and those that wait when the process ends are not given again; the lost ones are counted and logged, and
// all are in /events.
type EventFeed struct {
	events *EventLog
	hooks  func() Hooks
	render func(Event) []byte
	log    *slog.Logger

	at   uint64 // the number of the last event that was taken; owned by Run
	lost atomic.Uint64
}

// NewEventFeed makes a feed of what is appended from now on; Run starts it. hooks gives the programs as they are configured at the moment, render
// what they are given of an event.
func NewEventFeed(events *EventLog, hooks func() Hooks, render func(Event) []byte, log *slog.Logger) *EventFeed {
	return &EventFeed{events: events, hooks: hooks, render: render, log: log, at: events.Newest()}
}

// Lost is how many events the hook was not given although one was configured.
func (f *EventFeed) Lost() uint64 { return f.lost.Load() }

// Run feeds the hook until ctx ends, then for a bounded time what waits still. No program is left running when it returns.
func (f *EventFeed) Run(ctx context.Context) {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var end sync.WaitGroup
	defer end.Wait()
	defer cancel()
	end.Go(func() { endAfter(ctx, work, cancel) })
	for {
		changed := f.events.Changed() // before the look, so that nothing falls between the two
		for f.next(work) {
		}
		select {
		case <-changed:
		case <-ctx.Done():
			f.drop(f.events.Newest()-f.at, "the process ends")
			return
		}
	}
}

// endAfter ends the work a while after ctx has ended.
func endAfter(ctx, work context.Context, cancel context.CancelFunc) {
	select {
	case <-work.Done():
		return
	case <-ctx.Done():
	}
	timer := time.NewTimer(feedGrace)
	defer timer.Stop()
	select {
	case <-work.Done():
	case <-timer.C:
		cancel()
	}
}

// next gives the hook the oldest event that waits. It returns false when none does, and when no more may be given.
func (f *EventFeed) next(work context.Context) bool {
	newest := f.events.Newest()
	if f.at >= newest || work.Err() != nil {
		return false
	}
	hooks := f.hooks()
	if hooks.OnEvent == "" {
		f.at = newest
		return false
	}
	if waiting := newest - f.at; waiting > maxQueued {
		f.drop(waiting-maxQueued, "the hook is too slow")
	}
	for _, ev := range f.events.Since(f.at, 1) {
		f.at = ev.Seq
		if err := hooks.run(work, "on_event", hooks.OnEvent, f.render(ev)); err != nil {
			f.log.Warn("event hook failed", "seq", ev.Seq, "kind", ev.Kind, "err", err)
		}
	}
	return true
}

// drop leaves out the oldest events that wait.
func (f *EventFeed) drop(n uint64, why string) {
	if n == 0 || f.hooks().OnEvent == "" {
		return
	}
	f.log.Warn("events are not given to the hook", "first", f.at+1, "last", f.at+n, "reason", why)
	f.at += n
	f.lost.Add(n)
}

// Newest is the number of the last event, 0 when there is none.
func (l *EventLog) Newest() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next - 1
}
