package health

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/pgtether/pgtether/decision"
	"github.com/pgtether/pgtether/internal/metrics"
)

// stage runs a watcher on synthetic time and notes when rounds began. They take no time unless told otherwise.
type stage struct {
	*Watcher
	start time.Time
	stop  context.CancelFunc
	ended chan error

	mu        sync.Mutex
	began     []time.Duration
	glances   []bool
	delivered []decision.Observation
	running   atomic.Int32
}

func newStage(t *testing.T, cfg WatcherConfig, took ...time.Duration) *stage {
	t.Helper()
	s := &stage{start: time.Now(), ended: make(chan error, 1)}
	if cfg.Interval == 0 {
		cfg.Interval = time.Second
	}
	if cfg.Jitter == nil {
		cfg.Jitter = func(time.Duration) time.Duration { return 0 }
	}
	probe := cfg.Probe
	cfg.Node = "region-a"
	cfg.Probe = func(ctx context.Context, glance bool) decision.Observation {
		if s.running.Add(1) > 1 {
			t.Error("two rounds at once")
		}
		defer s.running.Add(-1)
		s.mu.Lock()
		s.began = append(s.began, time.Since(s.start))
		s.glances = append(s.glances, glance)
		n := len(s.began)
		s.mu.Unlock()
		if probe != nil {
			return probe(ctx, glance)
		}
		if len(took) > 0 {
			time.Sleep(took[0])
		}
		return decision.Observation{Took: time.Duration(n)} // the number of the round
	}
	deliver := cfg.Deliver
	cfg.Deliver = func(o decision.Observation) {
		s.mu.Lock()
		s.delivered = append(s.delivered, o)
		s.mu.Unlock()
		if deliver != nil {
			deliver(o)
		}
	}
	s.Watcher = NewWatcher(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	s.stop = cancel
	go func() { s.ended <- s.Run(ctx) }()
	return s
}

// at waits until so long after the start.
func (s *stage) at(d time.Duration) {
	time.Sleep(time.Until(s.start.Add(d)))
	synctest.Wait()
}

func (s *stage) wantRounds(t *testing.T, want ...time.Duration) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if fmt.Sprint(s.began) != fmt.Sprint(want) {
		t.Errorf("rounds began at %v, want %v", s.began, want)
	}
}

func (s *stage) end(t *testing.T) {
	t.Helper()
	s.stop()
	if err := <-s.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Run returned %v", err)
	}
}

const ms = time.Millisecond

func TestRoundsBeginAtOnceAndThenEveryInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, WatcherConfig{}, 10*ms)
		s.at(3500 * ms)
		s.wantRounds(t, 0, 1000*ms, 2000*ms, 3000*ms)
		s.end(t)
		for _, o := range s.delivered {
			if o.ProberStalled {
				t.Errorf("round %d is said to be late", o.Took)
			}
		}
	})
}

func TestJitterSpreadsFromTheSecondRoundOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, WatcherConfig{Jitter: func(d time.Duration) time.Duration { return d / 4 }})
		s.at(3500 * ms)
		s.wantRounds(t, 0, 1250*ms, 2250*ms, 3250*ms)
		s.end(t)
	})
}

func TestTheDefaultJitterStaysWithinTheInterval(t *testing.T) {
	w := NewWatcher(WatcherConfig{Interval: time.Second})
	for range 1000 {
		if d := w.cfg.Jitter(time.Second); d < 0 || d >= time.Second {
			t.Fatalf("jitter %s", d)
		}
	}
}

func TestALongRoundDelaysTheNextAndIsNoStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, WatcherConfig{}, 3500*ms)
		s.at(8 * time.Second)
		s.wantRounds(t, 0, 3500*ms, 7000*ms)
		s.end(t)
		for _, o := range s.delivered {
			if o.ProberStalled {
				t.Errorf("round %d is said to be late", o.Took)
			}
		}
	})
}

func TestKicksAreOneRoundAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, WatcherConfig{})
		s.at(300 * ms)
		for range 10 {
			s.Kick()
		}
		s.at(1200 * ms)
		s.wantRounds(t, 0, 300*ms)
		s.at(1400 * ms)
		s.wantRounds(t, 0, 300*ms, 1300*ms) // the interval counts from the kicked round
		s.end(t)
	})
}

func TestAKickDuringARoundAsksForAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, WatcherConfig{}, 200*ms)
		s.at(100 * ms)
		s.Kick()
		s.at(500 * ms)
		s.wantRounds(t, 0, 200*ms)
		s.end(t)
	})
}

func TestAStormOfKicksIsNoStormOfLogins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, WatcherConfig{})
		for range 1000 {
			s.Kick()
			time.Sleep(ms)
		}
		s.end(t)
		if n := len(s.began); n < 15 || n > int(time.Second/minPause)+1 {
			t.Errorf("%d rounds in a second of kicks, want at most %d", n, time.Second/minPause+1)
		}
	})
}

func TestOnlyRoundsThatNobodyAskedForAreGlances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, WatcherConfig{})
		s.at(1500 * time.Millisecond)
		s.Kick()
		s.at(1700 * time.Millisecond)
		_, err := s.AskNow(t.Context())
		must(t, err)
		s.at(3000 * time.Millisecond)
		s.SetInterval(decision.FastProbeInterval) // a writer is awaited
		s.at(3050 * time.Millisecond)
		s.SetInterval(time.Second)
		s.at(4500 * time.Millisecond)
		s.end(t)
		s.wantRounds(t, 0, time.Second, 1500*time.Millisecond, 1700*time.Millisecond, 2700*time.Millisecond, 3000*time.Millisecond, 4000*time.Millisecond)
		if want := []bool{true, true, false, false, true, false, true}; !slices.Equal(s.glances, want) {
			t.Errorf("glances: %v, want %v", s.glances, want)
		}
	})
}

func TestSetIntervalTakesEffectAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, WatcherConfig{})
		s.at(600 * ms)
		s.SetInterval(200 * ms)
		s.at(1100 * ms)
		s.wantRounds(t, 0, 600*ms, 800*ms, 1000*ms)
		s.SetInterval(time.Second)
		s.at(2100 * ms)
		s.wantRounds(t, 0, 600*ms, 800*ms, 1000*ms, 2000*ms)
		s.end(t)
		for _, o := range s.delivered {
			if o.ProberStalled {
				t.Errorf("round %d is said to be late", o.Took)
			}
		}
	})
}

func TestAnIntervalHasAFloor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, WatcherConfig{})
		s.SetInterval(0)
		s.at(220 * ms)
		s.wantRounds(t, 0, 50*ms, 100*ms, 150*ms, 200*ms)
		s.end(t)
	})
}

func TestAskNowWaitsForARoundThatBeganAfterTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, WatcherConfig{}, 300*ms)
		s.at(100 * ms) // in the middle of round 1
		o, err := s.AskNow(t.Context())
		if err != nil || o.Took != 2 {
			t.Errorf("answer of round %d, %v; want round 2", o.Took, err)
		}
		if at := time.Since(s.start); at != 600*ms {
			t.Errorf("answered at %s, want 600ms", at)
		}
		s.end(t)
	})
}

func TestManyAskersShareOneRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, WatcherConfig{})
		s.at(500 * ms)
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if _, err := s.AskNow(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := len(s.began); n > 3 { // those who asked when it had just begun share the next one
			t.Errorf("%d rounds for questions of one moment", n-1)
		}
		s.end(t)
	})
}

func TestAskNowIsNotHeldUpByADelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := newStage(t, WatcherConfig{Deliver: func(decision.Observation) { <-release }})
		s.at(10 * ms)
		go func() {
			time.Sleep(100 * ms)
			release <- struct{}{} // round 1, which began before the call
		}()
		if _, err := s.AskNow(t.Context()); err != nil {
			t.Error(err)
		}
		s.stop()
		close(release)
		<-s.ended
	})
}

func TestAskNowEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, WatcherConfig{}, time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.AskNow(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		if len(s.asking) != 0 {
			t.Error("a question that nobody waits for is kept")
		}
		s.end(t)
	})
}

func TestAskNowEndsWithTheWatcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, WatcherConfig{Probe: func(ctx context.Context, _ bool) decision.Observation {
			<-ctx.Done()
			return decision.Observation{}
		}})
		answers := make(chan error, 1)
		go func() {
			_, err := s.AskNow(t.Context())
			answers <- err
		}()
		s.at(100 * ms)
		s.end(t)
		if err := <-answers; !errors.Is(err, ErrStopped) {
			t.Errorf("error %v, want ErrStopped", err)
		}
		if _, err := s.AskNow(t.Context()); !errors.Is(err, ErrStopped) {
			t.Errorf("after the end: %v, want ErrStopped", err)
		}
		s.Kick() // must not block
	})
}

func TestRunReturnsOnlyWhenItsRoundHasAndDeliversNothingCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, WatcherConfig{Probe: func(ctx context.Context, _ bool) decision.Observation {
			<-ctx.Done()
			time.Sleep(time.Second) // what a prober needs to let go
			return decision.Observation{}
		}})
		s.at(100 * ms)
		s.end(t)
		if at := time.Since(s.start); at != 1100*ms {
			t.Errorf("Run returned at %s, before its round did", at)
		}
		if len(s.delivered) != 0 {
			t.Errorf("delivered %v", s.delivered)
		}
	})
}

func TestALateRoundSaysSo(t *testing.T) {
	for _, c := range []struct {
		name  string
		still time.Duration
		kick  bool
		want  bool
	}{
		{"a little late", 900 * ms, false, false},
		{"late by more than an interval", 1100 * ms, false, true},
		{"late, and a kick wakes it instead of its timer", 1100 * ms, true, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			var skew atomic.Int64 // how long the process stood still
			s := newStage(t, WatcherConfig{clock: func() time.Time { return time.Now().Add(time.Duration(skew.Load())) }})
			s.at(999 * ms)
			skew.Store(int64(c.still))
			if c.kick {
				skew.Add(int64(ms))
				s.Kick()
			}
			s.at(1100 * ms)
			s.SetInterval(time.Second)
			s.end(t)
			if len(s.delivered) != 2 || s.delivered[1].ProberStalled != c.want {
				t.Errorf("%s: delivered %+v", c.name, s.delivered)
			}
		})
	}
}

func TestChangesAreToldAndRepetitionsAreNot(t *testing.T) {
	var buf bytes.Buffer
	log := slog.New(slog.NewTextHandler(&buf, &slog.HandlerOptions{Level: slog.LevelInfo, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	w := NewWatcher(WatcherConfig{Node: "region-a", Interval: time.Second, Log: log})
	answers := decision.Observation{Fresh: decision.Attempt{Evidence: decision.Answers}, Role: decision.RolePrimary}
	standby := answers
	standby.Role = decision.RoleStandby
	refused := decision.Observation{Fresh: decision.Attempt{Evidence: decision.Refused, Detail: "connection refused"}}
	denied := decision.Observation{Fresh: decision.Attempt{Evidence: decision.Alive, SQLState: "28P01", Detail: "FATAL: password authentication failed"}}
	var n narrator
	for _, o := range []decision.Observation{answers, answers, standby, standby} {
		w.record(&n, o)
	}
	for range 2*repeatEvery + 1 {
		w.record(&n, refused)
	}
	w.record(&n, denied)
	w.record(&n, answers)
	want := strings.Join([]string{
		`level=INFO msg="node answers" node=region-a reason=answers state=primary`,
		`level=INFO msg="node answers" node=region-a reason=answers state=standby`,
		`level=WARN msg="node does not answer" node=region-a reason=refused state=unknown err="connection refused"`,
		`level=WARN msg="node does not answer" node=region-a reason=refused state=unknown err="connection refused"`,
		`level=WARN msg="node does not answer" node=region-a reason=refused state=unknown err="connection refused"`,
		`level=ERROR msg="probe cannot log in: no automatic failover while this lasts" node=region-a reason=alive state=unknown err="28P01 FATAL: password authentication failed"`,
		`level=INFO msg="node answers" node=region-a reason=answers state=primary`,
	}, "\n") + "\n"
	if buf.String() != want {
		t.Errorf("log:\n%swant:\n%s", buf.String(), want)
	}
}

func TestRoundsAreCounted(t *testing.T) {
	reg := prometheus.NewRegistry()
	set := metrics.New(reg, metrics.Labels{Nodes: []string{"region-a"}})
	w := NewWatcher(WatcherConfig{Node: "region-a", Interval: time.Second, Metrics: set.Health})
	var n narrator
	w.record(&n, decision.Observation{Took: 1500 * ms, Fresh: decision.Attempt{Evidence: decision.Silent}})
	w.record(&n, decision.Observation{Took: 250 * ms, Fresh: decision.Attempt{Evidence: decision.Answers}})
	err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP pgtether_probe_seconds Duration of the last probe round of a node.
# TYPE pgtether_probe_seconds gauge
pgtether_probe_seconds{node="region-a"} 0.25
# HELP pgtether_probes_total Probe rounds by node and by the evidence that they gave.
# TYPE pgtether_probes_total counter
pgtether_probes_total{evidence="alive",node="region-a"} 0
pgtether_probes_total{evidence="answers",node="region-a"} 1
pgtether_probes_total{evidence="refused",node="region-a"} 0
pgtether_probes_total{evidence="silent",node="region-a"} 1
pgtether_probes_total{evidence="unknown",node="region-a"} 0
`), "pgtether_probes_total", "pgtether_probe_seconds")
	if err != nil {
		t.Error(err)
	}
}

// TestAnySchedule drives watchers with random calls: rounds never overlap, never follow each other faster than the pause, and every question is
// answered by a round that began after it.
func TestAnySchedule(t *testing.T) {
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			s := newStage(t, WatcherConfig{Jitter: func(d time.Duration) time.Duration { return d / 3 }})
			var wg sync.WaitGroup
			for range 200 {
				time.Sleep(time.Duration(rnd.IntN(400)) * ms)
				switch rnd.IntN(4) {
				case 0:
					s.Kick()
				case 1:
					s.SetInterval(time.Duration(rnd.IntN(1500)) * ms)
				case 2:
					called := time.Since(s.start)
					wg.Go(func() {
						o, err := s.AskNow(t.Context())
						s.mu.Lock()
						defer s.mu.Unlock()
						if err != nil || s.began[o.Took-1] < called {
							t.Errorf("seed %d: asked at %s, answered by a round of %s: %v", seed, called, s.began[max(o.Took-1, 0)], err)
						}
					})
				}
			}
			wg.Wait()
			s.end(t)
			for i := 1; i < len(s.began); i++ {
				if gap := s.began[i] - s.began[i-1]; gap < minPause {
					t.Errorf("seed %d: rounds %d and %d are %s apart", seed, i, i+1, gap)
				}
			}
			if want := len(s.began); len(s.delivered) < want-1 {
				t.Errorf("seed %d: %d rounds, %d delivered", seed, want, len(s.delivered))
			}
		})
	}
}
