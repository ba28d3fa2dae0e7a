package control

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/pgtether/pgtether/decision"
	"github.com/pgtether/pgtether/internal/metrics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeRouter records what it is told, with what was on disk at that moment.
type fakeRouter struct {
	mu     sync.Mutex
	calls  []string
	onCall func(call string)
	heard  time.Duration
	ticks  atomic.Int64 // each asks for the data plane once
}

func (r *fakeRouter) say(call string) {
	r.mu.Lock()
	r.calls = append(r.calls, call)
	on := r.onCall
	r.mu.Unlock()
	if on != nil {
		on(call)
	}
}

func (r *fakeRouter) Open(epoch uint64, node, address string, _ decision.Lossless, _ func(decision.SessionCounts)) {
	r.say("open " + node + " " + address)
}
func (r *fakeRouter) Hold(why decision.HoldReason)   { r.say("hold " + string(why)) }
func (r *fakeRouter) Refuse(why decision.HoldReason) { r.say("refuse " + string(why)) }
func (r *fakeRouter) Undrain(uint64)                 { r.say("undrain") }
func (r *fakeRouter) Drain(epoch uint64, drained func()) {
	r.say("drain")
	drained()
}
func (r *fakeRouter) Cut(epoch uint64, why decision.CutReason) CutReport {
	r.say("cut " + string(why))
	return CutReport{Ended: 3, LastByteAge: -1}
}
func (r *fakeRouter) DataPlane() DataPlane {
	r.ticks.Add(1)
	return DataPlane{HeardAge: r.heard, Relaxed: -1}
}

func (r *fakeRouter) seen() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.calls)
}

type fakeProber struct{}

func (fakeProber) Kick(string)        {}
func (fakeProber) Pace(time.Duration) {}

// bench is a Loop over a real state directory, a fake data plane and observations made by hand.
type bench struct {
	t      *testing.T
	dir    string
	router *fakeRouter
	loop   *Loop
	store  *Store
	events *EventLog
	clock  *Clock
	stop   func()
}

func engineConfig() decision.Config {
	return decision.Config{
		Nodes:        []decision.Node{{Name: "region-a", Address: "127.0.0.1:1"}, {Name: "region-b", Address: "127.0.0.1:2"}},
		Mode:         decision.ModeObserve,
		TickInterval: 20 * time.Millisecond, ProbeInterval: 2 * time.Second, ProbeTimeout: 2 * time.Second,
		StableFor: time.Second, PrimaryStartTimeout: time.Minute, PromoteTimeout: time.Minute, DrainTimeout: 10 * time.Second, HoldSession: 15 * time.Second, AntiFlap: time.Hour, MaxLagBytes: 16 << 20,
	}
}

func startBench(t *testing.T, dir string, prepare ...func(*bench)) *bench {
	t.Helper()
	b := &bench{t: t, dir: dir, router: &fakeRouter{heard: -1}, clock: NewClock()}
	store, rec, last, err := OpenStore(dir, b.clock)
	if err != nil {
		t.Fatal(err)
	}
	events, err := OpenEventLog(dir)
	if err != nil {
		t.Fatal(err)
	}
	b.store, b.events = store, events
	set := metrics.New(prometheus.NewRegistry(), metrics.Labels{Nodes: []string{"region-a", "region-b"}})
	loop, err := New(Config{
		Engine: engineConfig(), Store: store, Events: events, Router: b.router, Prober: fakeProber{}, Clock: b.clock,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Metrics: set.Control, Record: rec, LastKnown: last,
	})
	if err != nil {
		t.Fatal(err)
	}
	b.loop = loop
	for _, p := range prepare {
		p(b)
	}
	ctx, cancel := context.WithCancelCause(context.Background()) // t.Context ends before the cleanup does
	ended := make(chan error, 1)
	go func() { ended <- loop.Run(ctx) }()
	b.stop = sync.OnceFunc(func() {
		why := errors.New("the test is over")
		cancel(why)
		if err := <-ended; !errors.Is(err, why) {
			t.Errorf("Run returned %v, want the cause of its end", err)
		}
		if err := events.Close(); err != nil {
			t.Error(err)
		}
		store.Close()
	})
	t.Cleanup(b.stop)
	return b
}

// observe hands in a round of a healthy pair of which primary is the primary on the timeline.
func (b *bench) observe(primary string, timeline uint32) {
	for _, n := range engineConfig().Nodes {
		role := decision.RoleStandby
		if n.Name == primary {
			role = decision.RolePrimary
		}
		b.loop.Observe(b.observation(n.Name, role, timeline))
	}
}

func (b *bench) observation(node string, role decision.Role, timeline uint32) decision.Observation {
	ok := decision.Attempt{Evidence: decision.Answers}
	o := decision.Observation{
		Node: node, Began: b.clock.Now(), Persistent: ok, Fresh: ok, Replication: ok, Role: role,
		SystemID: decision.Some("7300000000000000000"), Timeline: decision.Some(timeline), ServerID: decision.Some(node),
		VersionNum: decision.Some(150012), TransactionReadOnly: decision.Some(role == decision.RoleStandby),
	}
	history := []decision.TimelineSwitch{}
	if timeline > 1 {
		history = append(history, decision.TimelineSwitch{Timeline: 1, At: 0x3000000})
	}
	o.History = decision.Some(history)
	if role == decision.RolePrimary {
		o.CurrentLSN, o.FlushLSN = decision.Some(decision.LSN(0x4000000)), decision.Some(decision.LSN(0x4000000))
	} else {
		o.ReceivedLSN, o.ReplayedLSN = decision.Some(decision.LSN(0x4000000)), decision.Some(decision.LSN(0x4000000))
	}
	return o
}

// await observes the pair again and again until the condition holds.
func (b *bench) await(what string, observe func(), holds func(View) bool) View {
	b.t.Helper()
	deadline := time.After(long)
	for {
		if observe != nil {
			observe()
		}
		v := b.loop.View()
		if holds(v) {
			return v
		}
		select {
		case <-deadline:
			b.t.Fatalf("not in time: %s; status %+v; calls %q", what, v.Status, b.router.seen())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// ticksWithin counts the ticks that come while it waits.
func (b *bench) ticksWithin(d time.Duration) int64 {
	before := b.router.ticks.Load()
	time.Sleep(d)
	return b.router.ticks.Load() - before
}

// awaitRest waits until ticks have become rare.
func (b *bench) awaitRest() {
	b.t.Helper()
	b.await("ticks have become rare", nil, func(View) bool { return b.ticksWithin(200*time.Millisecond) <= 1 })
}

func open(v View) bool { return v.Status.Writes == decision.WritesOpen }

func TestLoginsAreHeldFromTheStartUntilAWriterIsProven(t *testing.T) {
	b := startBench(t, t.TempDir())
	b.await("the first hold", nil, func(View) bool { return len(b.router.seen()) > 0 })
	if first := b.router.seen()[0]; first != "hold no_writer" {
		t.Fatalf("first call %q", first)
	}
	v := b.await("the writer is open", func() { b.observe("region-a", 1) }, open)
	if v.Status.Epoch != decision.Some(uint64(1)) || v.Status.Writer != decision.Some("region-a") {
		t.Fatalf("%+v", v.Status)
	}
	if calls := b.router.seen(); calls[len(calls)-1] != "open region-a 127.0.0.1:1" {
		t.Fatalf("calls %q", calls)
	}
}

func TestAnEpochIsOnDiskWithItsEventsBeforeItIsOpened(t *testing.T) {
	dir := t.TempDir()
	var recorded decision.Record
	var kinds []string
	b := startBench(t, dir, func(b *bench) {
		b.router.onCall = func(call string) {
			if !strings.HasPrefix(call, "open") {
				return
			}
			var r written[decision.Record]
			if _, err := b.store.read(recordFile, &r); err != nil {
				b.t.Errorf("opened without a record: %v", err)
			}
			recorded = r.Value
			lines, err := os.ReadFile(filepath.Join(dir, eventsFile))
			if err != nil {
				b.t.Errorf("opened without events: %v", err)
			}
			for line := range strings.Lines(string(lines)) {
				var ev Event
				if err := json.Unmarshal([]byte(line), &ev); err != nil {
					b.t.Errorf("event %q: %v", line, err)
				}
				kinds = append(kinds, ev.Kind)
			}
		}
	})
	b.await("the writer is open", func() { b.observe("region-a", 1) }, open)
	b.stop()
	if recorded.Epoch != 1 || recorded.Phase != decision.PhaseOpen || recorded.Writer.Node != "region-a" {
		t.Fatalf("on disk when the epoch was opened: %+v", recorded)
	}
	if !slices.Contains(kinds, "opened") {
		t.Fatalf("on disk when the epoch was opened: events %q", kinds)
	}
}

func TestWithoutADurableRecordNothingIsOpened(t *testing.T) {
	var mu sync.Mutex
	full := true
	b := startBench(t, t.TempDir(), func(b *bench) {
		real := b.store.ops.writeSync
		b.store.ops.writeSync = func(path string, data []byte) error {
			mu.Lock()
			defer mu.Unlock()
			if full {
				return errCrash
			}
			return real(path, data)
		}
	})
	until := time.Now().Add(300 * time.Millisecond)
	b.await("some rounds have passed", func() { b.observe("region-a", 1) }, func(View) bool { return time.Now().After(until) })
	for _, call := range b.router.seen() {
		if strings.HasPrefix(call, "open") {
			t.Fatalf("opened although the state could not be written: %q", b.router.seen())
		}
	}
	i := slices.IndexFunc(b.loop.View().Decision.Criteria, func(c decision.Criterion) bool { return c.Name == "state_durable" })
	if i < 0 || b.loop.View().Decision.Criteria[i].Verdict == decision.Pass {
		t.Fatal("nobody can see why: state_durable passes")
	}
	mu.Lock()
	full = false
	mu.Unlock()
	b.await("the writer is open once there is room", func() { b.observe("region-a", 1) }, open)
}

func TestAPromotionByOthersIsFollowedWithACutBeforeTheNextOpen(t *testing.T) {
	b := startBench(t, t.TempDir())
	b.await("the first writer is open", func() { b.observe("region-a", 1) }, open)
	v := b.await("the second writer is open", func() { b.observe("region-b", 2) },
		func(v View) bool { return open(v) && v.Status.Writer == decision.Some("region-b") })
	if v.Status.Epoch.V < 2 || v.Status.Timeline != decision.Some(uint32(2)) {
		t.Fatalf("%+v", v.Status)
	}
	calls := b.router.seen()
	cut := slices.IndexFunc(calls, func(c string) bool { return strings.HasPrefix(c, "cut") })
	second := slices.Index(calls, "open region-b 127.0.0.1:2")
	if cut < 0 || second < cut {
		t.Fatalf("calls %q", calls)
	}
	if c := v.Status.LastChange; !c.Known || c.V.Kind != decision.ChangeAdopted || c.V.From != "region-a" || c.V.To != "region-b" {
		t.Fatalf("last change %+v", c)
	}
}

func TestARestartKeepsTheEpochAndOpensOnlyItsWriter(t *testing.T) {
	dir := t.TempDir()
	b := startBench(t, dir)
	b.await("the writer is open", func() { b.observe("region-a", 1) }, open)
	id := b.store.ID()
	b.stop()
	b = startBench(t, dir)
	if v := b.loop.View(); open(v) || v.Status.Epoch != decision.Some(uint64(1)) {
		t.Fatalf("before any observation: %+v", v.Status)
	}
	v := b.await("the writer is open again", func() { b.observe("region-a", 1) }, open)
	if v.Status.Epoch != decision.Some(uint64(1)) || b.store.ID() != id {
		t.Fatalf("epoch %v under %s, want 1 under %s", v.Status.Epoch, b.store.ID(), id)
	}
}

func TestQuestionsAreAnsweredWithoutSideEffects(t *testing.T) {
	b := startBench(t, t.TempDir())
	b.await("the writer is open", func() { b.observe("region-a", 1) }, open)
	before := len(b.router.seen())
	d, err := b.loop.WhatIf(t.Context(), decision.Question{Event: decision.EventPrimaryDead})
	if err != nil || d.Event != decision.EventPrimaryDead || len(d.Criteria) == 0 {
		t.Fatalf("%+v, %v", d, err)
	}
	if len(b.router.seen()) != before {
		t.Fatalf("a question changed something: %q", b.router.seen()[before:])
	}
	b.stop()
	if _, err := b.loop.WhatIf(t.Context(), decision.Question{}); !errors.Is(err, ErrStopped) {
		t.Fatalf("a stopped loop said %v", err)
	}
	b.loop.Observe(b.observation("region-a", decision.RolePrimary, 1)) // must not block
}

func TestANewConfigurationIsInForceWhenReconfigureReturns(t *testing.T) {
	b := startBench(t, t.TempDir())
	cfg := engineConfig()
	cfg.Mode = 0
	if err := b.loop.Reconfigure(t.Context(), cfg); err == nil {
		t.Fatal("an invalid configuration was taken")
	}
	cfg = engineConfig()
	cfg.MaxLagBytes = 1
	if err := b.loop.Reconfigure(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	evs := b.events.Since(0, 100)
	if !slices.ContainsFunc(evs, func(ev Event) bool { return ev.Kind == "reload" }) {
		t.Fatalf("no event says so: %+v", evs)
	}
}

// lateContext lets nobody wait for it a second time before over is closed.
type lateContext struct {
	context.Context
	over  chan struct{}
	waits int
}

func (c *lateContext) Done() <-chan struct{} {
	if c.waits++; c.waits == 2 {
		<-c.over
	}
	return c.Context.Done()
}

// TestWhatTheLoopHasDoneIsNotCalledFailed: its end, and that of the asker's patience, may be there as soon as the answer.
func TestWhatTheLoopHasDoneIsNotCalledFailed(t *testing.T) {
	for range 50 {
		l := &Loop{inbox: make(chan func()), done: make(chan struct{})}
		ctx, cancel := context.WithCancel(t.Context())
		late := &lateContext{Context: ctx, over: make(chan struct{})}
		go func() {
			(<-l.inbox)()
			close(l.done)
			cancel()
			close(late.over)
		}()
		if err := l.ask(late, func() {}); err != nil {
			t.Fatalf("it was done, and is called failed: %v", err)
		}
	}
}

// TestTheLoopTicksAsOftenAsTheEngineAsksFor: rarely while a writer is open and answers, and at its pace as soon as it does not.
func TestTheLoopTicksAsOftenAsTheEngineAsksFor(t *testing.T) {
	b := startBench(t, t.TempDir())
	b.await("the writer is open", func() { b.observe("region-a", 1) }, open)
	b.awaitRest()
	silent := b.observation("region-a", decision.RolePrimary, 1)
	silent.Fresh, silent.Persistent, silent.Replication = decision.Attempt{Evidence: decision.Refused}, decision.Attempt{Evidence: decision.Refused}, decision.Attempt{}
	b.loop.Observe(silent)
	b.await("ticks come at their pace", nil, func(View) bool { return b.ticksWithin(200*time.Millisecond) >= 4 })
	b.await("the writer is open again", func() { b.observe("region-a", 1) }, open)
	b.awaitRest()
}

// TestTheDataPlaneIsAskedBetweenACutAndTheNextOpen: what it had counted when the ticks were rare may be half a second old.
func TestTheDataPlaneIsAskedBetweenACutAndTheNextOpen(t *testing.T) {
	b := startBench(t, t.TempDir())
	b.await("the first writer is open", func() { b.observe("region-a", 1) }, open)
	b.awaitRest()
	var atCut, atOpen atomic.Int64
	b.router.mu.Lock()
	b.router.onCall = func(call string) {
		switch {
		case strings.HasPrefix(call, "cut"):
			atCut.Store(b.router.ticks.Load())
		case strings.HasPrefix(call, "open"):
			atOpen.Store(b.router.ticks.Load())
		}
	}
	b.router.mu.Unlock()
	b.await("the second writer is open", func() { b.observe("region-b", 2) }, func(v View) bool { return open(v) && v.Status.Writer == decision.Some("region-b") })
	if atCut.Load() == 0 || atOpen.Load() <= atCut.Load() {
		t.Errorf("it was asked %d times until the cut, %d until the next open", atCut.Load(), atOpen.Load())
	}
}
