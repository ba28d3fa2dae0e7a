package decision

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// changeInputs are those of the exploration and what only a change of writer by pgtether knows: outcomes that come in another order, that are
// lost, that never come; the end of the process; an operator's commands; a reload.
func changeInputs(shown []cond) []input {
	var overridable []string
	for _, name := range CriterionNames() {
		if !slices.Contains(neverOverridden, name) {
			overridable = append(overridable, name)
		}
	}
	epoch := func(s *shell) uint64 { return s.e.Status().Epoch.V }
	other := func(s *shell) string {
		if s.e.rec.Writer.Node == "region-b" {
			return "region-a"
		}
		return "region-b"
	}
	list := inputs(shown)
	for name, c := range map[string]func(*shell) Command{
		"approve":            func(s *shell) Command { return Approve{Epoch: epoch(s), Target: other(s)} },
		"approve overriding": func(s *shell) Command { return Approve{Epoch: epoch(s), Target: other(s), Override: overridable} },
		"resolve a":          func(s *shell) Command { return Resolve{Epoch: epoch(s), Writer: "region-a"} },
		"resolve b":          func(s *shell) Command { return Resolve{Epoch: epoch(s), Writer: "region-b"} },
		"switchover":         func(s *shell) Command { return Switch{To: other(s)} },
		"switchover, forced": func(s *shell) Command { return Switch{To: other(s), Force: true, Drain: time.Second} },
		"abort":              func(*shell) Command { return Abort{} },
		"hold":               func(*shell) Command { return Pause{} },
		"resume":             func(*shell) Command { return Resume{} },
	} {
		list = append(list, input{name: name, do: func(s *shell) { s.operator(c(s)) }})
	}
	slices.SortFunc(list, func(a, b input) int { return strings.Compare(a.name, b.name) })
	return append(list,
		input{name: "newest done", needs: 2, do: func(s *shell) { s.reportAt(len(s.waiting) - 1) }},
		input{name: "lost", needs: 1, do: func(s *shell) { s.lost = true; s.report(); s.lost = false }},
		input{name: "deaf", needs: 1, do: func(s *shell) { s.deaf = true; s.report(); s.deaf = false }},
		input{name: "restart", do: func(s *shell) { s.restart(); s.step(Tick{At: s.now}) }},
		input{name: "written, restart", needs: 1, do: func(s *shell) {
			for _, w := range s.waiting {
				if w.rec != nil {
					s.file = *w.rec
				}
			}
			s.restart()
			s.step(Tick{At: s.now})
		}},
		input{name: "b is left out", do: func(s *shell) { s.reload(0) }},
		input{name: "b moves", do: func(s *shell) { s.reload(2) }},
		input{name: "b is back", do: func(s *shell) { s.reload(1) }},
	)
}

// reload hands in a configuration: without region-b, with it, with it at another address.
func (s *shell) reload(how int) {
	cfg := s.e.cfg.clone()
	cfg.Nodes = slices.Clone(quickConfig(2).Nodes)
	switch how {
	case 0:
		cfg.Nodes = cfg.Nodes[:1]
	case 2:
		cfg.Nodes[1].Address = "10.0.0.99:5432"
	}
	s.now = s.now.Add(10 * time.Millisecond)
	s.step(Reconfigured{At: s.now, Config: cfg})
}

// completes checks that a promotion that is on disk ends by its target verifying, also out of a halt.
func (x *exploration) completes(s *shell) {
	p, ok := s.e.rec.Promotion.Get()
	if !ok {
		return // the record is on disk, and nobody was told: the next event tells
	}
	s.calm()
	if s.e.rec.Phase != PhasePromoting {
		return
	}
	s.reload(1)
	target := s.e.node(p.Node)
	primary := condPrimary2
	if s.e.rec.Writer.Timeline == 2 {
		primary = condPrimary3
	}
	s.conds[target], s.conds[1-target] = primary, condRefused
	s.wait(12)
	if s.broken != "" || !s.taking || s.target != p.Node || s.e.rec.Epoch != p.Epoch {
		x.t.Fatalf("the target verifies, and %s stays: %s %s\nafter %s", Place{s.e.state, s.e.step}, s.e.Status().Message, s.broken, strings.Join(x.path, ", "))
	}
	x.completed++
}

// settles checks that an operator can end it by naming the old writer, under an epoch that nobody was promised.
func (x *exploration) settles(s *shell) {
	s.calm()
	p, ok := s.e.rec.Promotion.Get()
	if !ok {
		return
	}
	s.reload(1)
	s.deaf = true
	primary, _ := condsOf(s.e.rec.Writer)
	old := s.e.node(s.e.rec.Writer.Node)
	s.conds[old], s.conds[1-old] = primary, condRefused
	s.wait(2)
	if s.e.rec.Phase != PhasePromoting {
		return // the target had verified, or an operator had decided
	}
	s.wait(6)
	if s.e.step != Halted {
		x.t.Fatalf("%s instead of a halt: %s\nafter %s", Place{s.e.state, s.e.step}, s.e.Status().Message, strings.Join(x.path, ", "))
	}
	s.operator(Resolve{Epoch: p.Epoch, Writer: s.e.rec.Writer.Node})
	s.wait(2)
	if s.broken != "" || !s.taking || s.target != s.e.cfg.Nodes[old].Name || s.e.rec.Epoch != p.Epoch+1 {
		x.t.Fatalf("resolve does not end %s: %s %s\nafter %s", Place{s.e.state, s.e.step}, s.e.Status().Message, s.broken, strings.Join(x.path, ", "))
	}
	x.settled++
}

// TestEveryStepOfAChangeIsExploredAndLeft drives a failover to each of its steps and lets everything happen there.
func TestEveryStepOfAChangeIsExploredAndLeft(t *testing.T) {
	t.Parallel()
	starts := append(slices.Clone(whileUndoable[1:]), whilePromoting...)
	for _, mode := range []Mode{ModeAuto, ModeManual} {
		for _, start := range starts {
			t.Run(fmt.Sprint(mode, " ", start.Step), func(t *testing.T) {
				s := inStepOf(t, mode, start)
				depth := 3
				if mode == ModeManual {
					depth-- // what differs shows at once
				}
				x := exploreChange(t, s, depth)
				if x.completed == 0 && slices.Contains(whilePromoting, start) || x.settled == 0 && start == halted {
					t.Error("no promotion was completed, or none was settled: the exploration does not reach far enough")
				}
			})
		}
	}
}

// TestEveryStepOfASwitchoverIsExploredAndLeft drives a switchover to each of its steps and lets everything happen there.
func TestEveryStepOfASwitchoverIsExploredAndLeft(t *testing.T) {
	t.Parallel()
	for _, start := range append(slices.Clone(whileUndoable), whilePromoting...) {
		t.Run(start.Step.String(), func(t *testing.T) {
			s := inStepOfSwitchover(t, start)
			depth := 3
			if start == halted || start == opening || start == verifying {
				depth-- // from the point of no return on it is as after a failover
			}
			x := exploreChange(t, s, depth)
			if x.completed == 0 && slices.Contains(whilePromoting, start) || x.settled == 0 && start == halted {
				t.Error("no promotion was completed, or none was settled: the exploration does not reach far enough")
			}
		})
	}
}

// inStepOfSwitchover returns a shell whose switchover has come to a step; outcomes wait from there on.
func inStepOfSwitchover(t *testing.T, at Place) *shell {
	t.Helper()
	cfg := quickConfig(2)
	cfg.Mode, cfg.PromoteTimeout = ModeAuto, 4*time.Second
	s := newShell(cfg, NewRecord())
	s.wait(3)
	s.deaf = at == halted
	s.operator(Switch{To: "region-b"})
	s.late = at != halted
	for range 60 {
		if s.drive(at, 1) || at == halted && s.drive(at, 9) {
			s.late = true
			return s
		}
		for len(s.waiting) > 0 && (Place{s.e.state, s.e.step}) != at {
			s.report()
		}
	}
	t.Fatalf("the switchover stops at %s: %s", Place{s.e.state, s.e.step}, s.e.Status().Message)
	return nil
}

// TestEveryRecordIsExploredInEveryMode begins with what an earlier run can have left on disk.
func TestEveryRecordIsExploredInEveryMode(t *testing.T) {
	t.Parallel()
	a := Writer{Node: "region-a", Address: "10.0.0.11:5432", SystemID: ourSystem, Timeline: 1, History: Some([]TimelineSwitch(nil))}
	record := func(phase Phase) Record {
		rec := Record{Version: RecordVersion, Epoch: 3, Phase: phase, Writer: a}
		if phase == PhasePromoting {
			rec.Promotion = Some(Promotion{Epoch: 4, Node: "region-b", Address: "10.0.0.12:5432", Kind: ChangeFailover, Automatic: true, Received: Some(forkLSN),
				Replayed: Some(forkLSN), Lossless: LosslessUnknown})
		}
		return rec
	}
	for _, mode := range []Mode{ModeObserve, ModeManual, ModeAuto} {
		for _, phase := range []Phase{PhaseOpen, PhaseDrain, PhasePromoting} {
			t.Run(fmt.Sprint(mode, " ", phase), func(t *testing.T) {
				cfg := quickConfig(2)
				cfg.Mode, cfg.PromoteTimeout = mode, 4*time.Second
				s := newShell(cfg, record(phase))
				s.late = phase != PhaseOpen
				depth := 2
				if phase == PhaseOpen && mode == ModeAuto {
					depth++
				}
				exploreChange(t, s, depth)
			})
		}
	}
}

// exploreChange lets everything happen to a shell.
func exploreChange(t *testing.T, s *shell, depth int) *exploration {
	t.Helper()
	shown := []cond{condPrimary1, condStandby1, condStandbyLost, condPrimary2, condBehind, condRefused, condStarting, condOtherSystem}
	if raceEnabled {
		depth = min(depth, 2)
	}
	x := &exploration{t: t, inputs: changeInputs(shown), healed: map[string]bool{}, places: map[Place]bool{}}
	x.walk(s, depth)
	t.Logf("%d steps, %d kinds of situation left again: %d by the target, %d by resolve", x.steps, len(x.healed), x.completed, x.settled)
	return x
}

// inStepOf returns a shell whose failover has come to a step; outcomes wait from there on.
func inStepOf(t *testing.T, mode Mode, at Place) *shell {
	t.Helper()
	cfg := quickConfig(2)
	cfg.Mode, cfg.FenceHook, cfg.PromoteTimeout = mode, true, 4*time.Second
	s := newShell(cfg, NewRecord())
	s.wait(3)
	s.conds = [3]cond{condRefused, condStandbyLost, condStandbyLost}
	switch at {
	case draining, cutting, fencing, verifying, opening:
		s.late = true
	case halted:
		s.deaf = true
	case promoting:
		s.late = true
	}
	if mode == ModeManual {
		s.wait(3)
		s.operator(Approve{Epoch: 1, Target: "region-b"})
	}
	for range 40 {
		if s.drive(at, 6) {
			s.late = true
			return s
		}
		for len(s.waiting) > 0 && (Place{s.e.state, s.e.step}) != at {
			s.report()
		}
	}
	t.Fatalf("the failover stops at %s: %s", Place{s.e.state, s.e.step}, s.e.Status().Message)
	return nil
}
