package decision

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

// panics returns what the function panicked with, empty when it did not.
func panics(f func()) (text string) {
	defer func() {
		if p := recover(); p != nil {
			text = fmt.Sprint(p)
		}
	}()
	f()
	return ""
}

func TestABrokenPromiseStopsTheEngine(t *testing.T) {
	open := func() *world {
		w := newWorld(testConfig("region-a", "region-b"), NewRecord(), Opt[LastKnown]{})
		w.run(3 * time.Second)
		return w
	}
	for name, c := range map[string]struct {
		do   func(*world)
		says string
	}{
		"time goes back":                {func(w *world) { w.e.Step(Tick{At: w.now - 1}) }, "time went back"},
		"an event nobody knows":         {func(w *world) { w.e.Step(nil) }, ""},
		"open while the epoch is cut":   {func(w *world) { w.e.cutDone = 1; w.e.Step(Tick{At: w.now}) }, "is cut"},
		"open while another was opened": {func(w *world) { w.e.opened = 9; w.e.Step(Tick{At: w.now}) }, "was opened"},
		"an epoch that went back":       {func(w *world) { w.e.checkInvariants(2) }, "epoch went back from 2 to 1"},
		"a torn record":                 {func(w *world) { w.e.rec.Writer.Node = ""; w.e.Step(Tick{At: w.now}) }, "contradicts itself"},
		"a step without a state":        {func(w *world) { w.e.step = Blocked; w.e.checkInvariants(1) }, "with step"},
		"an epoch that skips one": {func(w *world) {
			rec := w.e.rec.clone()
			rec.Epoch = 3
			w.e.rec.Phase, w.e.state, w.e.step, w.e.cutDone = PhaseDrain, PrimaryFailed, Adopting, 1
			w.e.pending = Some(pendingPersist{id: 99, rec: rec, turns: true})
			w.e.checkInvariants(1)
		}, "epoch 3 begins while 1 is drain"},
		"an epoch before the cut": {func(w *world) {
			rec := w.e.rec.clone()
			rec.Epoch = 2
			w.e.rec.Phase, w.e.state, w.e.step = PhaseDrain, PrimaryFailed, Adopting
			w.e.pending = Some(pendingPersist{id: 99, rec: rec, turns: true})
			w.e.checkInvariants(1)
		}, "epoch 2 begins before 1 is cut"},
		"an open that the record does not name": {func(w *world) {
			w.e.out = []Action{Note{}, Open{Epoch: 1, Node: "region-b", Address: "10.0.0.12:5432"}}
			w.e.checkInvariants(1)
		}, "open names 1 region-b, the record 1 region-a"},
		"an open nobody was told of": {func(w *world) {
			w.e.out = []Action{Open{Epoch: 1, Node: "region-a", Address: "10.0.0.11:5432"}}
			w.e.checkInvariants(1)
		}, "without a note before it"},
		"an open of a writer that is not proven": {func(w *world) {
			w.e.views[0].class = classStandby
			w.e.out = []Action{Note{}, Open{Epoch: 1, Node: "region-a", Address: "10.0.0.11:5432"}}
			w.e.checkInvariants(1)
		}, "on a writer that is in_recovery"},
		"a cut of an open epoch": {func(w *world) {
			w.e.cutNoted = 1
			w.e.out = []Action{Cut{Epoch: 1}}
			w.e.checkInvariants(1)
		}, "cut of 1 while epoch 1 is open"},
		"a promotion that is not on disk": {func(w *world) {
			w.e.out = []Action{Promote{Epoch: 2, Node: "region-b", Address: "10.0.0.12:5432"}}
			w.e.checkInvariants(1)
		}, "promotion of region-b for 2"},
		"a promotion before the cut": {func(w *world) {
			rec := w.e.rec.clone()
			rec.Phase, rec.Promotion = PhasePromoting, Some(Promotion{Epoch: 2, Node: "region-b", Address: "10.0.0.12:5432"})
			w.e.rec.Phase, w.e.state, w.e.step = PhaseDrain, PrimaryFailed, Adopting
			w.e.pending = Some(pendingPersist{id: 99, rec: rec, turns: true})
			w.e.checkInvariants(1)
		}, "a promotion begins before epoch 1 is cut"},
		"a promotion of an open epoch": {func(w *world) {
			rec := w.e.rec.clone()
			rec.Phase, rec.Promotion = PhasePromoting, Some(Promotion{Epoch: 2, Node: "region-b", Address: "10.0.0.12:5432"})
			w.e.state, w.e.step, w.e.pending = PrimaryFailed, Adopting, Some(pendingPersist{id: 99, rec: rec, turns: true})
			w.e.checkInvariants(1)
		}, "a promotion after epoch 1 begins while 1 is open"},
		"a change without its state": {func(w *world) { w.e.change = Some(change{}); w.e.checkInvariants(1) }, "with change true"},
		"a verification of nothing": {func(w *world) {
			w.e.out = []Action{Verify{Epoch: 2, Node: "region-b"}}
			w.e.checkInvariants(1)
		}, "verification of region-b for 2"},
		"a fence of an open writer": {func(w *world) {
			w.e.out = []Action{Fence{Epoch: 1, Node: "region-a"}}
			w.e.checkInvariants(1)
		}, "fence of region-a while epoch 1"},
		"names that are put back elsewhere": {func(w *world) {
			w.e.out = []Action{RestoreSync{Node: "region-b"}}
			w.e.checkInvariants(1)
		}, "names are put back on region-b"},
		"a command nobody knows":           {func(w *world) { w.e.Step(Commanded{At: w.now}) }, "unknown command"},
		"a bad configuration at the start": {func(*world) { New(Config{}, NewRecord(), Opt[LastKnown]{}) }, "configuration"},
		"a bad record at the start":        {func(*world) { New(testConfig("a"), Record{}, Opt[LastKnown]{}) }, "record"},
	} {
		got := panics(func() { c.do(open()) })
		if got == "" || !strings.Contains(got, c.says) || c.says != "" && !strings.HasPrefix(got, "decision: invariant: ") {
			t.Errorf("%s: panicked with %q, want %q", name, got, c.says)
		}
	}
}

// TestNothingVisibleHappensBeforeItIsOnDisk follows an adoption action by action with every outcome held back.
func TestNothingVisibleHappensBeforeItIsOnDisk(t *testing.T) {
	s := newShell(quickConfig(2), NewRecord())
	s.wait(3)
	s.late = true
	kinds := func(actions []Action) (out []string) {
		for _, a := range actions {
			switch a.(type) {
			case Persist, Cut, Open, Hold:
				out = append(out, strings.TrimPrefix(fmt.Sprintf("%T", a), "decision."))
			}
		}
		return out
	}
	expect := func(what string, got []string, want ...string) {
		t.Helper()
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%s: %v, want %v", what, got, want)
		}
	}
	observe := func(i int, c cond) []string {
		s.conds[i] = c
		s.now = s.now.Add(100 * time.Millisecond)
		return kinds(s.e.Step(Observed{At: s.now, Observation: c.observation(s.e.cfg.Nodes[i].Name, s.now)}))
	}
	complete := func() []string {
		return kinds(s.e.Step(Completed{At: s.now, ActionID: s.e.pending.V.id | s.e.cutting.V.id}))
	}
	expect("a promotion is seen", observe(1, condPrimary2), "Hold", "Persist")
	if s.e.pending.V.rec.Phase != PhaseDrain {
		t.Fatalf("what is written is %+v", s.e.pending.V.rec)
	}
	expect("time passes", kinds(s.e.Step(Tick{At: s.now})))
	expect("the old writer dies", observe(0, condRefused))
	expect("the end is on disk", complete(), "Cut")
	expect("time passes", kinds(s.e.Step(Tick{At: s.now})))
	expect("another probe", observe(1, condPrimary2))
	expect("the cut is done", complete(), "Persist")
	if p := s.e.pending.V.rec; p.Phase != PhaseOpen || p.Epoch != 2 || p.Writer.Node != "region-b" {
		t.Fatalf("what is written is %+v", p)
	}
	expect("time passes", kinds(s.e.Step(Tick{At: s.now})))
	if s.e.Status().Epoch != Some(uint64(1)) {
		t.Fatal("an epoch is shown that is not on disk")
	}
	expect("the epoch is on disk", complete(), "Open", "Persist")
	if st := s.e.Status(); st.Writer != Some("region-b") || st.Epoch != Some(uint64(2)) || st.State != NewPrimary {
		t.Fatalf("%+v", st)
	}
}

func TestOutcomesThatNobodyWaitsForChangeNothing(t *testing.T) {
	w := pair(t, nil)
	before := statusText(w.e.Status())
	for _, id := range []uint64{0, 1, 2, w.e.nextID, w.e.nextID + 1, 1 << 60} {
		if id == w.e.rememberID {
			continue
		}
		for _, o := range []Outcome{{}, {Err: "no"}} {
			if a := w.e.Step(Completed{At: w.now, ActionID: id, Outcome: o}); len(a) != 0 {
				t.Errorf("outcome %+v of %d led to %v", o, id, a)
			}
		}
	}
	if after := statusText(w.e.Status()); after != before {
		t.Errorf("changed:\n%s", firstDifference(before, after))
	}
	// An outcome that is reported twice counts once.
	s := newShell(quickConfig(2), NewRecord())
	s.late = true
	s.wait(1)
	id := s.e.pending.V.id
	s.e.Step(Completed{At: s.now, ActionID: id})
	epoch := s.e.rec.Epoch
	if a := s.e.Step(Completed{At: s.now, ActionID: id, Outcome: Outcome{Err: "late news"}}); len(a) != 0 || s.e.rec.Epoch != epoch || epoch != 1 {
		t.Errorf("the second report led to %v, epoch %d", a, s.e.rec.Epoch)
	}
}

func TestLateAndForeignObservationsAreDropped(t *testing.T) {
	w := pair(t, nil)
	old := condRefused.observation("region-a", w.now-Instant(2*time.Second))
	stranger := condPrimary2.observation("region-x", w.now)
	for _, o := range []Observation{old, stranger} {
		if a := w.e.Step(Observed{At: w.now, Observation: o}); len(a) != 0 {
			t.Errorf("%s led to %v", o.Node, a)
		}
	}
	// A round that began before a stall says nothing about the time after it.
	began := w.now
	w.jump(time.Minute)
	w.step(Tick{At: w.now})
	w.step(Observed{At: w.now, Observation: condPrimary1.observation("region-a", began)})
	if d := w.e.Decide(Question{}); judged(t, d, "primary_unreachable").Verdict != Unknown {
		t.Error("a round from before the stall is believed")
	}
}

func TestAStallEndsEverySeries(t *testing.T) {
	w := pair(t, nil)
	serverCommand(t, w, []string{"region-a", "dies"})
	w.run(3 * time.Second)
	if !w.e.views[0].failingSince.Known || !w.e.views[0].muteSince.Known {
		t.Fatal("the failure is not counted")
	}
	w.jump(3 * time.Second)
	w.e.Step(Tick{At: w.now})
	for i := range w.e.views {
		if v := &w.e.views[i]; v.failingSince.Known || v.muteSince.Known || v.primarySince.Known || v.startingSince.Known {
			t.Errorf("%s is still said to have been so for long", v.node.Name)
		}
	}
}

func TestAStatusSharesNoMemoryWithTheEngine(t *testing.T) {
	w := pair(t, nil)
	serverCommand(t, w, []string{"region-a", "dies"})
	w.promote(w.server("region-b"))
	w.run(3 * time.Second)
	s := w.e.Status()
	if !s.LastChange.Known || len(s.LastChange.V.Steps) == 0 || !s.LastKnown.Known || len(s.Nodes) != 2 {
		t.Fatalf("too little to compare: %+v", s)
	}
	before := statusText(w.e.Status())
	s.LastChange.V.Steps[0].Took, s.Nodes[0].Quarantine = 99, "x"
	d := w.e.Decide(Question{})
	d.Criteria[0].Explanation, d.Blocking[0] = "x", "x"
	if after := statusText(w.e.Status()); after != before {
		t.Errorf("writing to the snapshot changed the engine:\n%s", firstDifference(before, after))
	}
	for i := range w.notes {
		w.notes[i].Operands = nil
	}
	file := w.file.clone()
	w.file.Writer.History.V[0].At = 1
	if !reflect.DeepEqual(w.e.rec.Writer, file.Writer) {
		t.Error("writing to a persisted record changed the engine")
	}
}

func TestNotesTellOneStory(t *testing.T) {
	for file, text := range scripts(t) {
		_, w := runScript(t, text)
		if w == nil {
			continue
		}
		for i, n := range w.notes {
			if n.Message == "" || strings.HasSuffix(n.Message, ".") || n.Cause == "" || n.At > w.now {
				t.Errorf("%s: note %d is %+v", file, i, n)
			}
			if (n.Kind == NoteTransition) != (n.From != n.To) {
				t.Errorf("%s: %s from %s to %s", file, n.Kind, n.From, n.To)
			}
			for _, o := range n.Operands {
				switch o.Value.(type) {
				case string, bool, int64, uint64, nil:
				default:
					t.Errorf("%s: operand %s is a %T", file, o.Key, o.Value)
				}
			}
		}
	}
}

func TestActionsAreNumberedInOrder(t *testing.T) {
	e := New(testConfig("region-a"), NewRecord(), Opt[LastKnown]{})
	last := uint64(0)
	for i := range 20 {
		at := Instant(i) * Instant(time.Second)
		for _, a := range e.Step(Observed{At: at, Observation: condPrimary1.observation("region-a", at)}) {
			if a.Head().ID <= last || a.Head().Cause == "" {
				t.Errorf("%T has number %d after %d, cause %q", a, a.Head().ID, last, a.Head().Cause)
			}
			last = a.Head().ID
		}
		if e.pending.Known {
			e.Step(Completed{At: at, ActionID: e.pending.V.id})
			last = e.nextID
		}
	}
}

func TestProbesAreFastWhileNoWriterIsOpen(t *testing.T) {
	w := newWorld(testConfig("region-a", "region-b"), NewRecord(), Opt[LastKnown]{})
	serverCommand(t, w, []string{"region-a", "dies"})
	w.run(time.Second)
	if w.pace != FastProbeInterval {
		t.Errorf("before the first writer the pace is %s", w.pace)
	}
	serverCommand(t, w, []string{"region-a", "returns"})
	w.run(time.Second)
	if w.pace != time.Second {
		t.Errorf("with an open writer the pace is %s", w.pace)
	}
	cfg := testConfig("region-a")
	cfg.ProbeInterval = 50 * time.Millisecond
	w = newWorld(cfg, NewRecord(), Opt[LastKnown]{})
	serverCommand(t, w, []string{"region-a", "dies"})
	w.run(time.Second)
	if w.pace != 50*time.Millisecond {
		t.Errorf("a pace that is faster already becomes %s", w.pace)
	}
}

func TestAChangeKeepsItsSessionCountsAndTimes(t *testing.T) {
	w := pair(t, nil)
	serverCommand(t, w, []string{"region-a", "freezes"})
	w.server("region-b").noReceiver = true
	w.run(3 * time.Second)
	w.promote(w.server("region-b"))
	w.run(3 * time.Second)
	id := w.e.openID
	w.e.open(w.e.look()) // again, as after a hiccup of the writer: the sessions of the first opening are still on their way
	w.e.out = nil
	w.step(Completed{At: w.now, ActionID: id, Outcome: Outcome{Sessions: SessionCounts{Moved: 2, Refused: 1}}})
	w.step(Completed{At: w.now, ActionID: id, Outcome: Outcome{Sessions: SessionCounts{Moved: 2, Refused: 1}}})
	c := w.file.LastChange.V
	if c.Sessions != (SessionCounts{Moved: 2, Ended: 3, Refused: 1}) {
		t.Errorf("the record says %+v", c.Sessions)
	}
	var steps []string
	for _, s := range c.Steps {
		steps = append(steps, s.Step.String())
	}
	if got := strings.Join(steps, " "); got != "confirming cutting adopting opening" || c.Steps[0].Took < time.Second {
		t.Errorf("the steps were %v", c.Steps)
	}
}

func TestADiskThatIsWellAgainIsNoticed(t *testing.T) {
	w := pair(t, nil)
	// Remember is best effort, and its failure shows all the same.
	w.step(Completed{At: w.now, ActionID: w.e.rememberID, Outcome: Outcome{Err: "no space left on device"}})
	if judged(t, w.e.Decide(Question{}), "state_durable").Verdict != Fail {
		t.Error("a failed Remember does not show")
	}
	w.run(2 * time.Second)
	w.step(Completed{At: w.now, ActionID: w.e.rememberID})
	if judged(t, w.e.Decide(Question{}), "state_durable").Verdict != Pass {
		t.Error("a Remember that succeeded does not show")
	}
	// A record that could not be written is written again although nothing else wants it.
	w.disk = "no space left on device"
	w.server("region-a").role = RoleStandby
	w.run(2 * time.Second)
	w.server("region-a").role = RolePrimary
	w.run(time.Second)
	if s := w.e.Status(); s.State != StandbyReady || len(s.Degraded) != 1 {
		t.Fatalf("the writer that proves itself again is in %s, degraded %q", s.State, s.Degraded)
	}
	w.disk = ""
	w.run(time.Second)
	if s := w.e.Status(); len(s.Degraded) != 0 || s.Epoch != Some(uint64(1)) {
		t.Errorf("epoch %v, degraded %q", s.Epoch, s.Degraded)
	}
}

// TestTicksAreRareOnlyWhileNothingIsWaitedFor: each tick wakes the process, so that at rest there are few; what time decides is not kept waiting by that.
func TestTicksAreRareOnlyWhileNothingIsWaitedFor(t *testing.T) {
	w := newWorld(testConfig("region-a", "region-b"), NewRecord(), Opt[LastKnown]{})
	busy, rest := w.cfg.TickInterval, 500*time.Millisecond
	expect := func(what string, want time.Duration) {
		t.Helper()
		if got := w.e.TickEvery(); got != want {
			t.Errorf("%s (%s/%s): a tick every %s, want %s", what, w.e.state, w.e.step, got, want)
		}
	}
	expect("before anything is known", busy)
	w.run(5 * time.Second)
	expect("a writer is open", rest)

	answer := func(node string, word string) {
		s := w.server(node)
		s.fresh, s.persistent, s.replication = attemptOf(word), attemptOf(word), attemptOf(word)
	}
	answer("region-b", "refused")
	w.run(3 * time.Second)
	expect("the standby is down", rest)
	answer("region-b", "answers")

	answer("region-a", "refused")
	w.run(1200 * time.Millisecond)
	expect("the writer fails", busy)
	answer("region-a", "answers")
	w.run(5 * time.Second)
	expect("it answers again", rest)

	w.e.planeAt = w.e.since
	expect("the data plane has not spoken since the state began", busy)
	w.step(Tick{At: w.now})
	expect("it has", rest)

	w.disk = "no space left on device"
	w.e.dirty = true
	w.step(Tick{At: w.now})
	expect("the disk is full", busy)
	w.disk = ""
	w.step(Tick{At: w.now})
	expect("the disk has room again", rest)

	w.jump(w.cfg.FreshFor() + time.Second)
	w.step(Tick{At: w.now})
	expect("what is known is old", busy)
	w.run(5 * time.Second)

	for probe, want := range map[time.Duration]time.Duration{10 * time.Second: rest, 600 * time.Millisecond: 300 * time.Millisecond, 100 * time.Millisecond: busy} {
		c := w.cfg.clone()
		c.ProbeInterval = probe
		w.step(Reconfigured{At: w.now, Config: c})
		expect("probes every "+probe.String(), want)
	}
}
