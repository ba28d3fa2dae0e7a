package failover

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/test/rig"
)

// atPromotion runs do once, before the first pg_promote passes to region-b: its outcome is the relay's.
func (w *world) atPromotion(do func(relay *lab.Relay)) {
	w.Helper()
	relay, err := w.b.Relay()
	w.must(err)
	w.nodes = []rig.Node{{Name: lab.RegionA, Addr: w.a.Addr()}, {Name: lab.RegionB, Addr: relay.Addr()}}
	var once sync.Once
	relay.Observe(func(e lab.Event) {
		if e.Direction == lab.ToTarget && bytes.Contains(e.Bytes, []byte("pg_promote(false")) {
			once.Do(func() { do(relay) })
		}
	})
}

func TestAPgtetherKilledWhileItPromotesCompletesItAfterItsRestart(t *testing.T) {
	t.Parallel()
	bothWays(t, "killed at pg_promote", lab.Options{}, func(t *testing.T, opts lab.Options) {
		w := newAuto(t, opts)
		killed := make(chan struct{})
		w.atPromotion(func(*lab.Relay) { w.proxy.Kill(); close(killed) })
		w.startOpen()
		load := w.load()
		w.runs(4 * time.Second)
		w.must(w.a.Kill9())
		<-killed
		w.start()
		w.await("the promotion is completed", func(s rig.Status) bool { return s.State == "NEW_PRIMARY" && *s.Epoch == 2 })
		w.promotedOnce(lab.RegionB)
		load.awaitAck(w, time.Now())
		load.halt()
	})
}

func TestAPgtetherKilledAtTheFenceStaysSafeAndPromotesOnce(t *testing.T) {
	t.Parallel()
	bothWays(t, "killed at the fence", lab.Options{}, func(t *testing.T, opts lab.Options) {
		w := newAuto(t, opts)
		mark := filepath.Join(t.TempDir(), "killed")
		w.extra += "[hooks]\nfence = \"[ -e " + mark + " ] || { touch " + mark + "; kill -9 $PPID; sleep 1; }\"\n"
		w.startOpen()
		load := w.load()
		w.runs(4 * time.Second)
		w.must(w.a.Kill9())
		for {
			if _, err := os.Stat(mark); err == nil {
				break
			}
			if w.ctx.Err() != nil {
				t.Fatal("the fence was never run")
			}
			time.Sleep(20 * time.Millisecond)
		}
		w.proxy.Kill() // it is dead already; this waits for it
		w.start()
		w.await("the new writer is open", func(s rig.Status) bool { return s.State == "NEW_PRIMARY" && *s.Epoch == 2 })
		w.promotedOnce(lab.RegionB)
		load.awaitAck(w, time.Now())
		load.halt()
	})
}

func TestAnAnswerOfPgPromoteThatIsLostIsNoSecondPromotion(t *testing.T) {
	t.Parallel()
	bothWays(t, "F32 the answer is lost", lab.Options{}, func(t *testing.T, opts lab.Options) {
		w := newAuto(t, opts)
		w.atPromotion(func(r *lab.Relay) {
			r.Blackhole(lab.FromTarget)
			time.AfterFunc(1500*time.Millisecond, func() { _ = r.Heal() })
		})
		w.startOpen()
		load := w.load()
		w.runs(4 * time.Second)
		w.must(w.a.Kill9())
		w.await("the new writer is open", func(s rig.Status) bool { return s.State == "NEW_PRIMARY" })
		w.promotedOnce(lab.RegionB)
		load.halt()
	})
}

func TestAPromotionThatTakesEffectLateIsWaitedForAndTheOldWriterIsNotOpened(t *testing.T) {
	t.Parallel()
	bothWays(t, "F32 the promotion is late", lab.Options{}, func(t *testing.T, opts lab.Options) {
		w := newAuto(t, opts)
		frozen := make(chan error, 1)
		w.atPromotion(func(*lab.Relay) { frozen <- w.b.FreezePostmaster() })
		w.startOpen()
		load := w.load()
		w.runs(4 * time.Second)
		w.must(w.a.Kill9())
		w.must(<-frozen)
		w.await("the promotion is asked for", func(s rig.Status) bool { return s.Step == "promoting" })
		w.must(w.a.Start(w.ctx))
		w.stays("nobody is opened meanwhile", 3*time.Second, func(s rig.Status) bool { return s.State == "PROMOTING" && s.Writer == nil })
		w.must(w.b.Thaw())
		w.await("the promotion takes effect", func(s rig.Status) bool { return s.Writer != nil && *s.Writer == lab.RegionB })
		w.promotedOnce(lab.RegionB)
		load.halt()
	})
}

func TestATargetThatDiesHaltsUntilItVerifies(t *testing.T) {
	t.Parallel()
	w := newAuto(t, lab.Options{})
	w.extra += "promote_timeout = \"3s\"\n"
	w.atPromotion(func(*lab.Relay) { _ = w.b.Kill9() })
	w.startOpen()
	load := w.load()
	w.runs(4 * time.Second)
	w.must(w.a.Kill9())
	s := w.await("it halts", func(s rig.Status) bool { return s.Step == "halted" })
	if s.State != "PROMOTING" || s.Writes != "refused" || s.Writer != nil {
		t.Errorf("halted: %+v", s)
	}
	if _, err := w.login(); sqlState(err) != "57P03" {
		t.Errorf("a login got %s, want 57P03 at once", sqlState(err))
	}
	w.must(w.a.Start(w.ctx)) // the old writer is back, and is not opened: the promotion may have happened
	w.stays("the old writer is not opened", 3*time.Second, func(s rig.Status) bool { return s.Step == "halted" })
	if len(w.kinds("halted")) == 0 {
		t.Error("no event says that it halted")
	}
	w.must(w.b.Start(w.ctx))
	w.must(w.b.Promote(w.ctx))
	w.await("the target verifies after all", func(s rig.Status) bool { return s.Writer != nil && *s.Writer == lab.RegionB })
	w.promotedOnce(lab.RegionB)
	load.halt()
}

func TestWithoutADurableStateNothingIsPromoted(t *testing.T) {
	t.Parallel()
	w := newAuto(t, lab.Options{})
	w.startOpen()
	w.exec(w.mustLogin(), "CREATE TABLE t (k int)")
	w.runs(3 * time.Second)
	// A directory where the temporary file is written: the state cannot be replaced, not even by root.
	w.must(os.Mkdir(filepath.Join(w.dir, "state", "state.json.new"), 0o700))
	w.must(w.a.Kill9())
	w.stays("nothing is promoted", watchedFor, onEpochOne)
	w.explained("state_durable")
	w.notPromoted()
	w.must(os.Remove(filepath.Join(w.dir, "state", "state.json.new")))
	w.await("with a durable state it goes on", func(s rig.Status) bool { return s.State == "NEW_PRIMARY" })
	w.promotedOnce(lab.RegionB)
}

func TestWithALostStateBesideADeadPrimaryNothingIsPromoted(t *testing.T) {
	t.Parallel()
	w := newAuto(t, lab.Options{})
	w.startOpen()
	w.proxy.Kill()
	w.must(w.a.Kill9())
	w.dir += "-elsewhere"
	w.start()
	w.stays("no writer is known", watchedFor, func(s rig.Status) bool { return s.Writes == "held" && s.Epoch == nil })
	w.notPromoted()
	w.must(w.a.Start(w.ctx))
	w.awaitOpen(lab.RegionA)
}

func TestASecondPgtetherTurnsAutomationOffOnBoth(t *testing.T) {
	t.Parallel()
	w := newAuto(t, lab.Options{})
	w.startOpen()
	other, err := rig.Start(w.ctx, w.lab, rig.Options{Binary: binary, Dir: w.dir + "-second", Mode: "auto", Extra: quick})
	w.must(err)
	defer func() { w.must(other.Stop()) }()
	for len(w.decision().Criterion("automation_on").Explanation) == 0 || w.decision().Criterion("automation_on").Verdict == "pass" {
		if w.ctx.Err() != nil {
			t.Fatal("a second pgtether is not noticed")
		}
		time.Sleep(100 * time.Millisecond)
	}
	time.Sleep(2 * time.Second)
	w.must(w.a.Kill9())
	w.stays("neither promotes", watchedFor, onEpochOne)
	w.notPromoted()
}
