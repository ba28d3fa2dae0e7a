package decision

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// input is one thing that can happen next in the exploration.
type input struct {
	name string
	// needs is how many outcomes must be waiting.
	needs int
	do    func(*shell)
}

// inputs are every condition of every node, time, a stall, and the outcome of what is under way, good or bad.
func inputs(shown []cond) (list []input) {
	for i, name := range []string{"a", "b"} {
		for _, c := range shown {
			list = append(list, input{name: name + "=" + c.String(), do: func(s *shell) {
				s.conds[i] = c
				s.now = s.now.Add(50 * time.Millisecond)
				s.observe(i)
			}})
		}
	}
	return append(list,
		input{name: "wait", do: func(s *shell) { s.wait(3) }},
		input{name: "stall", do: func(s *shell) { s.now = s.now.Add(20 * time.Second); s.step(Tick{At: s.now}) }},
		input{name: "done", needs: 1, do: func(s *shell) { s.report() }},
		input{name: "fails", needs: 1, do: func(s *shell) {
			s.diskFull, s.cutStuck, s.fails = true, true, true
			s.report()
			s.diskFull, s.cutStuck, s.fails = false, false, false
		}},
	)
}

// exploration counts what was met on the way.
type exploration struct {
	t      *testing.T
	inputs []input
	steps  int
	// healed remembers the kinds of situation whose exit has been tried already.
	healed map[string]bool
	places map[Place]bool
	path   []string
	// changes counts the situations of a change that were left by its completion and by resolve.
	completed, settled int
}

func (x *exploration) walk(s *shell, depth int) {
	if depth == 0 || x.t.Failed() {
		return
	}
	for _, in := range x.inputs {
		if in.needs > len(s.waiting) {
			continue
		}
		next := s.fork()
		x.path = append(x.path, in.name)
		x.try(next, in)
		x.walk(next, depth-1)
		x.path = x.path[:len(x.path)-1]
	}
}

// try does one input and checks everything that must hold after it.
func (x *exploration) try(s *shell, in input) {
	defer func() {
		if p := recover(); p != nil {
			x.t.Fatalf("%v\nafter %s", p, strings.Join(x.path, ", "))
		}
	}()
	in.do(s)
	x.steps++
	if s.broken != "" {
		x.t.Fatalf("%s\nafter %s", s.broken, strings.Join(x.path, ", "))
	}
	sight := s.e.look()
	place := Place{s.e.state, s.e.step}
	x.places[place] = true
	if !placeFits(place, sight.situation) {
		// What is being written since this very Step counts from the next event on.
		later := s.fork()
		later.step(Tick{At: later.now})
		place, sight = Place{later.e.state, later.e.step}, later.e.look()
	}
	if !placeFits(place, sight.situation) {
		x.t.Fatalf("rests at %s in %s\nafter %s", place, sight.situation, strings.Join(x.path, ", "))
	}
	if sight.message == "" {
		x.t.Fatalf("%s without a word\nafter %s", sight.situation, strings.Join(x.path, ", "))
	}
	kind := fmt.Sprint(place, sight.situation, s.e.rec.Phase, s.e.rec.Next.Known, s.e.rec.Writer.Node, s.e.rec.Writer.Timeline, s.e.opened == s.e.rec.Epoch,
		len(s.waiting), s.conds, sight.standing)
	if !x.healed[kind] {
		x.healed[kind] = true
		x.explained(s)
		if s.file.Phase == PhasePromoting || s.e.rec.Phase == PhasePromoting {
			x.completes(s.fork())
			x.settles(s.fork())
			return
		}
		x.leaves(s.fork())
	}
}

// explained checks that every refusal has a reason.
func (x *exploration) explained(s *shell) {
	for _, q := range []Question{{}, {Event: EventPrimaryDead}, {Event: EventSwitchover, To: "region-b"}} {
		d := s.e.Decide(q)
		if d.Safe == (len(d.Blocking) > 0) || d.NextAction == "" || len(d.Criteria) != len(rules) || d.Safe && s.e.cfg.Mode == ModeObserve ||
			!d.Safe && d.Risk != RiskHigh {
			x.t.Fatalf("%+v\nafter %s", d, strings.Join(x.path, ", "))
		}
		for _, c := range d.Criteria {
			if c.Explanation == "" || (!c.Overridden && (c.Verdict == Fail || c.Verdict == Unknown)) != slices.Contains(d.Blocking, c.Name) {
				x.t.Fatalf("criterion %+v of %v\nafter %s", c, d.Blocking, strings.Join(x.path, ", "))
			}
		}
	}
}

// leaves checks that there is a way out: the cluster is put right by hand, and logins are taken again.
func (x *exploration) leaves(s *shell) {
	s.calm()
	if len(s.e.cfg.Nodes) != 2 || s.e.cfg.Nodes[1] != quickConfig(2).Nodes[1] {
		s.reload(1)
	}
	writer := 0
	rec := s.e.rec
	if rec.Next.Known {
		rec.Writer = rec.Next.V
	}
	primary, standby := condsOf(rec.Writer)
	if rec.Writer.Node == "region-b" {
		writer = 1
	}
	s.conds[writer], s.conds[1-writer] = primary, standby
	s.wait(12)
	// An approved change goes on whatever its writer shows.
	if !s.taking || s.target != s.e.rec.Writer.Node || s.target != s.e.cfg.Nodes[writer].Name && !s.e.rec.LastChange.Known {
		x.t.Fatalf("no way out of %s: %s\nafter %s", Place{s.e.state, s.e.step}, s.e.Status().Message, strings.Join(x.path, ", "))
	}
}

// condsOf returns what the epoch's writer shows when it is well, and its standby.
func condsOf(w Writer) (primary, standby cond) {
	switch {
	case w.SystemID == otherSystem:
		return condOtherSystem, condOtherStandby
	case w.Timeline == 2 && w.Fork() != Some(forkLSN):
		return condBehind, condStandbyLost
	case w.Timeline == 2:
		return condPrimary2, condStandby2
	case w.Timeline == 3:
		return condPrimary3, condStandbyLost
	case w.Timeline == 4:
		return condPrimaryOther, condStandby1
	}
	return condPrimary1, condStandby1
}

func TestEverySituationIsExploredAndLeft(t *testing.T) {
	t.Parallel()
	few := []cond{condPrimary1, condStandby1, condPrimary2, condOtherSystem, condRefused, condStarting}
	var all []cond
	for c := range conds {
		all = append(all, c)
	}
	a := Writer{Node: "region-a", Address: "10.0.0.11:5432", SystemID: ourSystem, Timeline: 1, History: Some([]TimelineSwitch(nil))}
	b := Writer{Node: "region-b", Address: "10.0.0.12:5432", SystemID: ourSystem, Timeline: 2, History: Some([]TimelineSwitch{{1, forkLSN}})}
	rec := func(phase Phase, w Writer, next Opt[Writer], previous string) Record {
		return Record{Version: RecordVersion, Epoch: 3, Phase: phase, Writer: w, Next: next, Previous: previous}
	}
	places := map[Place]bool{}
	for _, start := range []struct {
		name  string
		rec   Record
		warm  bool // the writer is open before the exploration begins
		late  bool // outcomes are reported only by the inputs done and fails
		shown []cond
		depth int
	}{
		{"nothing is known", NewRecord(), false, true, all, 3},
		{"an open writer", NewRecord(), true, true, all, 3},
		{"an open writer, few conditions", NewRecord(), true, false, few, 4},
		{"an open epoch on disk", rec(PhaseOpen, a, Opt[Writer]{}, ""), false, true, all, 3},
		{"an ended epoch on disk", rec(PhaseDrain, a, Opt[Writer]{}, ""), false, true, all, 3},
		{"an epoch that was left", rec(PhaseDrain, a, Some(b), ""), false, true, few, 3},
		{"a new writer", rec(PhaseOpen, b, Opt[Writer]{}, "region-a"), false, false, few, 4},
	} {
		t.Run(start.name, func(t *testing.T) {
			depth := start.depth
			if raceEnabled {
				depth--
			}
			s := newShell(quickConfig(2), start.rec)
			if start.warm {
				s.wait(3)
				if !s.taking {
					t.Fatal("the writer is not open")
				}
			}
			s.late = start.late
			x := &exploration{t: t, inputs: inputs(start.shown), healed: map[string]bool{}, places: places}
			x.walk(s, depth)
			t.Logf("%d steps, %d kinds of situation left again", x.steps, len(x.healed))
		})
	}
	for _, p := range append(slices.Clone(whileOpen), whileClosed...) {
		if !places[p] && p != rejoining {
			t.Errorf("%s was never met: the exploration does not reach far enough", p)
		}
	}
}
