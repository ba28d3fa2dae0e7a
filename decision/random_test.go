package decision

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "seed of the random sequences; 0 takes one from the clock and prints it")
	countFlag = flag.Int("sequences", 20000, "number of random sequences")
)

func quickConfig(nodes int) Config {
	c := testConfig([]string{"region-a", "region-b", "region-c"}[:nodes]...)
	c.StableFor, c.PrimaryStartTimeout, c.TickInterval = 2*time.Second, 3*time.Second, time.Second
	return c
}

// TestRandomSequences throws random histories at the engine, on two nodes and on three. The engine's own invariants and the shell's promises
// hold after every event; after every quiet time logins go where the oracle says.
func TestRandomSequences(t *testing.T) {
	t.Parallel()
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d (go test ./decision -run TestRandomSequences -seed %d -sequences %d)", seed, seed, *countFlag)
	count := *countFlag
	if raceEnabled {
		count /= 20
	}
	const parts = 4
	opened := make([]int, parts)
	t.Run("parts", func(t *testing.T) {
		for part := range parts {
			t.Run(fmt.Sprint(part), func(t *testing.T) {
				t.Parallel()
				for i := part; i < count; i += parts {
					r := rand.New(rand.NewPCG(seed, uint64(i)))
					if err := randomSequence(r, &opened[part]); err != "" {
						t.Fatalf("seed %d, sequence %d: %s", seed, i, err)
					}
				}
			})
		}
	})
	total := 0
	for _, n := range opened {
		total += n
	}
	if total < count/4 {
		t.Errorf("only %d of %d sequences ended with an open writer: they do not exercise much", total, count)
	}
}

// randomSequence runs one history and returns what went wrong.
func randomSequence(r *rand.Rand, opened *int) (problem string) {
	var story []string
	say := func(format string, args ...any) { story = append(story, fmt.Sprintf(format, args...)) }
	defer func() {
		if p := recover(); p != nil {
			problem = fmt.Sprintf("%v\nafter: %s", p, strings.Join(story, ", "))
		}
	}()
	s := newShell(quickConfig(2+r.IntN(2)), randomRecord(r))
	say("record %d %s %s/%d next %v previous %q", s.file.Epoch, s.file.Phase, s.file.Writer.Node, s.file.Writer.Timeline, s.file.Next.Known, s.file.Previous)
	for range 4 + r.IntN(12) {
		randomInput(r, s, say)
		if s.broken != "" {
			return s.broken + "\nafter: " + strings.Join(story, ", ")
		}
	}
	s.calm()
	for i := range s.conds {
		if s.conds[i] == condProberLate {
			s.conds[i] = condSilent // the prober is well again too
		}
	}
	s.wait(9)
	for i := range s.e.cfg.Nodes {
		say("%s=%s", s.e.cfg.Nodes[i].Name, s.conds[i])
	}
	want, got := oracle(s), ""
	if s.taking {
		got = s.target
		*opened++
	}
	switch {
	case s.broken != "":
		return s.broken + "\nafter: " + strings.Join(story, ", ")
	case got != want:
		st := s.e.Status()
		return fmt.Sprintf("logins go to %q, the oracle says %q; %s/%s: %s\nafter: %s", got, want, st.State, st.Step, st.Message, strings.Join(story, ", "))
	}
	return ""
}

func randomInput(r *rand.Rand, s *shell, say func(string, ...any)) {
	i := r.IntN(len(s.e.cfg.Nodes))
	switch k := r.IntN(20); {
	case k < 9:
		s.conds[i] = cond(r.IntN(int(conds)))
		if r.IntN(3) == 0 { // things that belong together happen together
			s.conds = [3]cond{condRefused, condPrimary2, s.conds[2]}
		}
		say("%s shows %s", s.e.cfg.Nodes[i].Name, s.conds[i])
		s.now = s.now.Add(time.Duration(r.IntN(500)) * time.Millisecond)
		s.observe(i)
	case k < 13:
		n := 1 + r.IntN(5)
		say("wait %d", n)
		s.wait(n)
	case k == 13:
		say("stall")
		s.now = s.now.Add(10 * time.Second)
		s.step(Tick{At: s.now})
	case k == 14:
		s.diskFull = !s.diskFull
		say("disk full %v", s.diskFull)
	case k == 15:
		s.cutStuck = !s.cutStuck
		say("cut stuck %v", s.cutStuck)
	case k == 16:
		s.late = !s.late
		say("outcomes late %v", s.late)
	case k == 17:
		say("report")
		s.report()
	case k == 18:
		say("heard")
		s.step(Tick{At: s.now, DataPlane: DataPlane{Heard: Some(s.now)}})
	default:
		say("restart")
		s.restart()
	}
}

// randomRecord returns a record that an earlier run can have left.
func randomRecord(r *rand.Rand) Record {
	rec := NewRecord()
	if r.IntN(3) == 0 {
		return rec
	}
	rec.Epoch, rec.Phase = 1+uint64(r.IntN(5)), []Phase{PhaseOpen, PhaseDrain}[r.IntN(2)]
	rec.Writer = Writer{Node: "region-a", Address: "10.0.0.11:5432", SystemID: ourSystem, Timeline: 1, History: Some([]TimelineSwitch(nil))}
	other := Writer{Node: "region-b", Address: "10.0.0.12:5432", SystemID: ourSystem, Timeline: 2, History: Some([]TimelineSwitch{{1, forkLSN}})}
	switch r.IntN(3) {
	case 0:
		rec.Writer, rec.Previous = other, "region-a"
	case 1:
		if rec.Phase == PhaseDrain {
			rec.Next = Some(other)
		}
	}
	return rec
}
