package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgtether/pgtether/decision"
	"github.com/pgtether/pgtether/internal/metrics"
)

// pair is a simulated primary with its standby under a Loop with a real state directory: what the nodes show follows from what was done to them.
type pair struct {
	*bench
	log bytes.Buffer

	mu       sync.Mutex
	dead     bool // region-a
	promoted bool // region-b
	refuses  error
	promotes []time.Time
	noReturn time.Time     // when the record that promotes was on disk
	evidence chan struct{} // when not nil, no bundle is written before it is closed
}

func (p *pair) Fence(context.Context, decision.Fence) (string, decision.Opt[decision.LSN], error) {
	return "fenced", decision.Opt[decision.LSN]{}, nil
}
func (p *pair) Verify(context.Context, decision.Verify) error     { return nil }
func (p *pair) Unfence(context.Context, string) error             { return nil }
func (p *pair) EndConflicts(context.Context, string) error        { return nil }
func (p *pair) RestoreSync(context.Context, string, string) error { return nil }
func (p *pair) Checkpoint(context.Context, string) error          { return nil }
func (p *pair) set(change func())                                 { p.mu.Lock(); defer p.mu.Unlock(); change() }
func (p *pair) Promote(_ context.Context, node string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.promotes = append(p.promotes, time.Now())
	p.promoted = p.refuses == nil
	return p.refuses
}

// renderPlainly is a rendering that any difference shows in.
func renderPlainly(d decision.Decision, wall func(decision.Instant) time.Time) []byte {
	b, err := json.Marshal(struct {
		At time.Time
		decision.Decision
	}{wall(d.At).UTC(), d})
	if err != nil {
		panic(err)
	}
	return b
}

func pairConfig(mode decision.Mode) decision.Config {
	c := engineConfig()
	c.Mode, c.ProbeInterval, c.ProbeTimeout, c.StableFor = mode, 500*time.Millisecond, 500*time.Millisecond, 300*time.Millisecond
	return c
}

func startPair(t *testing.T, dir string, mode decision.Mode, prepare ...func(*pair)) *pair {
	t.Helper()
	return startPairWith(t, dir, pairConfig(mode), prepare...)
}

func startPairWith(t *testing.T, dir string, engine decision.Config, prepare ...func(*pair)) *pair {
	t.Helper()
	p := &pair{bench: &bench{t: t, dir: dir, router: &fakeRouter{heard: -1}, clock: NewClock()}}
	store, rec, last, err := OpenStore(dir, p.clock)
	if err != nil {
		t.Fatal(err)
	}
	events, err := OpenEventLog(dir)
	if err != nil {
		t.Fatal(err)
	}
	p.store, p.events = store, events
	set := metrics.New(prometheus.NewRegistry(), metrics.Labels{Nodes: []string{"region-a", "region-b"}})
	p.loop, err = New(Config{
		Engine: engine, Store: store, Events: events, Router: p.router, Prober: fakeProber{}, Operator: p, Clock: p.clock,
		Log: slog.New(slog.NewTextHandler(io.MultiWriter(&p.log), nil)), Metrics: set.Control, Record: rec, LastKnown: last,
		Evidence: Evidence{Version: "v0.0.0-test", Render: renderPlainly},
	})
	if err != nil {
		t.Fatal(err)
	}
	real := store.ops.writeSync
	store.ops.writeSync = func(path string, b []byte) error {
		err := real(path, b)
		p.set(func() {
			if p.noReturn.IsZero() && bytes.Contains(b, []byte(`"phase":"promoting"`)) {
				p.noReturn = time.Now()
			}
		})
		return err
	}
	files := p.loop.recorder.files
	files.ops.writeSync = func(path string, b []byte) error {
		if p.evidence != nil {
			<-p.evidence
		}
		return real(path, b)
	}
	for _, f := range prepare {
		f(p)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.loop.Run(ctx) }()
	p.stop = sync.OnceFunc(func() {
		cancel(errors.New("the test is over"))
		<-ended
		if err := events.Close(); err != nil {
			t.Error(err)
		}
		store.Close()
	})
	t.Cleanup(p.stop)
	return p
}

// look hands in a round of both nodes.
func (p *pair) look() {
	p.mu.Lock()
	dead, promoted := p.dead, p.promoted
	p.mu.Unlock()
	a, b := p.observation("region-a", decision.RolePrimary, 1), p.observation("region-b", decision.RoleStandby, 1)
	if promoted {
		b = p.observation("region-b", decision.RolePrimary, 2)
		b.History = decision.Some([]decision.TimelineSwitch{{Timeline: 1, At: 0x4000000}})
	}
	for _, o := range []*decision.Observation{&a, &b} {
		o.StartedAgo = decision.Some(time.Hour)
		o.Settings = decision.Settings{
			MaxConnections: decision.Some(100), MaxWorkerProcesses: decision.Some(8), MaxWalSenders: decision.Some(10),
			MaxPreparedTransactions: decision.Some(0), MaxLocksPerTransaction: decision.Some(64), SynchronousStandbyNames: decision.Some(""),
			SynchronousCommit: decision.Some("on"), WalReceiverTimeout: decision.Some(5 * time.Second), RelaxedRoles: decision.Some(0),
			RecoveryMinApplyDelay: decision.Some(time.Duration(0)), CanPromote: decision.Some(true), CanSetSyncNames: decision.Some(true),
		}
	}
	a.Senders = decision.Some([]decision.Sender{{ApplicationName: "region-b", State: "streaming", SyncState: "async"}})
	if !promoted {
		b.ReplayPaused = decision.Some("not paused")
		b.Receiver = decision.Some(decision.Receiver{Running: !dead})
		if !dead {
			b.Receiver.V.Status, b.Receiver.V.MessageAge, b.Receiver.V.Timeline = "streaming", decision.Some(time.Duration(0)), decision.Some(uint32(1))
		}
	}
	if dead {
		no := decision.Attempt{Evidence: decision.Refused, Detail: "connection refused"}
		a = decision.Observation{Node: "region-a", Began: p.clock.Now(), Persistent: no, Fresh: no, Replication: no}
	}
	p.loop.Observe(a)
	p.loop.Observe(b)
}

func (p *pair) ready() {
	p.t.Helper()
	until := time.Now().Add(2500 * time.Millisecond) // a write rate needs samples over a second
	p.await("the standby could take over", p.look, func(v View) bool {
		return v.Status.State == decision.StandbyReady && v.Status.CrashLossBytes.Known && time.Now().After(until)
	})
}

// bundles are the files that are there, oldest first.
func bundles(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, evidenceDir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// onlyBundle reads the one file that must be there, replays it, and returns it with what the replay did.
func onlyBundle(t *testing.T, dir string) (*Bundle, Replayed) {
	t.Helper()
	names := bundles(t, dir)
	if len(names) != 1 || !bundleName.MatchString(names[0]) {
		t.Fatalf("bundles %q, want one", names)
	}
	path := filepath.Join(dir, evidenceDir, names[0])
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := ReadBundle(file)
	if err != nil {
		t.Fatal(err)
	}
	r, err := b.Replay(renderPlainly)
	if err != nil {
		t.Fatal(err)
	}
	if r.Steps != len(b.Steps) || r.Decisions != len(b.Decisions) || r.Steps < 5 {
		t.Fatalf("%d of %d steps, %d of %d decisions", r.Steps, len(b.Steps), r.Decisions, len(b.Decisions))
	}
	t.Logf("%s: %d bytes, %d steps, %d decisions", names[0], len(file), r.Steps, r.Decisions)
	return b, r
}

func moments(b *Bundle) (out []Moment) {
	for _, d := range b.Decisions {
		out = append(out, d.Moment)
	}
	return out
}

func kinds(events []Event) (out []string) {
	for _, ev := range events {
		if !slices.Contains(out, ev.Kind) {
			out = append(out, ev.Kind)
		}
	}
	return out
}
