package decision

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestRandomChanges throws random histories at the engine in modes auto and manual: conditions, time, stalls, outcomes that are late, lost,
// failing or out of order, commands, restarts at any point. A reference model says when a promotion may begin; the shell holds every action
// against the promises; at the end logins go where they may, a failover succeeds when everything passes, and nothing is stuck.
func TestRandomChanges(t *testing.T) {
	t.Parallel()
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d (go test ./decision -run TestRandomChanges -seed %d -sequences %d)", seed, seed, *countFlag)
	count := *countFlag
	if raceEnabled {
		count /= 20
	}
	const parts = 4
	var promoted, switched, ended [parts]int
	t.Run("parts", func(t *testing.T) {
		for part := range parts {
			t.Run(fmt.Sprint(part), func(t *testing.T) {
				t.Parallel()
				for i := part; i < count; i += parts {
					p, sw, final, err := randomChange(rand.New(rand.NewPCG(seed, uint64(i))))
					if err != "" {
						t.Fatalf("seed %d, sequence %d: %s", seed, i, err)
					}
					promoted[part] += p
					switched[part] += sw
					ended[part] += final
				}
			})
		}
	})
	promotions, switchovers, finals := 0, 0, 0
	for part := range parts {
		promotions, switchovers, finals = promotions+promoted[part], switchovers+switched[part], finals+ended[part]
	}
	t.Logf("%d sequences, %d promotions on the way, %d of them switchovers, %d failovers at the end", count, promotions, switchovers, finals)
	if promotions < count/10 || switchovers < count/50 || finals < count/10 {
		t.Errorf("%d promotions, %d switchovers and %d failovers in %d sequences: they do not exercise much", promotions, switchovers, finals, count)
	}
}

// randomChange runs one history and returns what went wrong.
func randomChange(r *rand.Rand) (promotions, switched, final int, problem string) {
	var story []string
	say := func(format string, args ...any) { story = append(story, fmt.Sprintf(format, args...)) }
	fail := func(format string, args ...any) string {
		return fmt.Sprintf(format, args...) + "\nafter: " + strings.Join(story, ", ")
	}
	defer func() {
		if p := recover(); p != nil {
			problem = fail("%v", p)
		}
	}()
	cfg := quickConfig(2 + r.IntN(2))
	cfg.Mode, cfg.PromoteTimeout, cfg.FenceHook = []Mode{ModeAuto, ModeAuto, ModeManual}[r.IntN(3)], 4*time.Second, r.IntN(2) == 0
	s := newShell(cfg, NewRecord())
	s.seen = newModel(s)
	say("mode %s, %d nodes", cfg.Mode, len(cfg.Nodes))
	s.wait(3)
	for range 4 + r.IntN(16) {
		randomChangeInput(r, s, say)
		if s.broken != "" {
			return 0, 0, 0, fail("%s", s.broken)
		}
	}
	s.calm()
	for i := range s.conds {
		if s.conds[i] == condProberLate {
			s.conds[i] = condSilent
		}
	}
	s.wait(13)
	got := ""
	if s.taking {
		got = s.target
	}
	may, must := destinations(s)
	say("%v at the end", s.conds)
	switch st := s.e.Status(); {
	case s.broken != "":
		return 0, 0, 0, fail("%s", s.broken)
	case got != "" && got != may, must != "" && got != must:
		return 0, 0, 0, fail("logins go to %q, they may go to %q and must to %q; %s/%s: %s", got, may, must, st.State, st.Step, st.Message)
	}
	promotions = s.seen.promotions
	if why := s.putRight(); why != "" {
		return 0, 0, 0, fail("%s", why)
	}
	if w := s.file.Writer; r.IntN(2) == 0 && cfg.Mode == ModeAuto && w.Timeline == 1 && w.SystemID == ourSystem {
		if why := s.failsOver(); why != "" {
			return 0, 0, 0, fail("%s", why)
		}
		final++
	}
	return promotions, s.seen.switched, final, ""
}

// putRight makes everything well by hand: the writer that the record names, or the target that it promises, is the primary.
func (s *shell) putRight() string {
	s.operator(Abort{}) // an approved change goes on whatever its writer shows
	s.operator(Resume{})
	rec := s.file
	if n, ok := rec.Next.Get(); ok {
		rec.Writer = n
	}
	primary, standby := condsOf(rec.Writer)
	name := rec.Writer.Node
	if p, ok := rec.Promotion.Get(); ok {
		primary, standby, name = map[uint32]cond{1: condPrimary2, 2: condPrimary3}[rec.Writer.Timeline], condRefused, p.Node
	}
	if rec.Phase == PhaseNone {
		primary, standby, name = condPrimary1, condStandby1, "region-a"
	}
	for i := range s.conds {
		s.conds[i] = standby
	}
	s.conds[s.e.node(name)] = primary
	s.wait(8)
	if s.broken != "" || !s.taking || s.target != name {
		st := s.e.Status()
		return fmt.Sprintf("everything is well, and logins do not go to %s; %s/%s: %s; %s", name, st.State, st.Step, st.Message, s.broken)
	}
	return ""
}

// failsOver lets the writer die while every criterion passes.
func (s *shell) failsOver() string {
	w, epoch := s.e.node(s.file.Writer.Node), s.file.Epoch
	for i := range s.conds {
		s.conds[i] = condStandbyLost
	}
	s.conds[w] = condRefused
	s.wait(9)
	if s.broken != "" || !s.taking || s.target == s.e.cfg.Nodes[w].Name || s.file.Epoch != epoch+1 || s.noted[epoch+1] != 1 {
		d := s.e.Decide(Question{})
		return fmt.Sprintf("nobody took over: %s; blocked by %v; %s", d.NextAction, d.Blocking, s.broken)
	}
	return ""
}

func randomChangeInput(r *rand.Rand, s *shell, say func(string, ...any)) {
	switch k := r.IntN(38); {
	case k < 8:
		// Things that belong together happen together: the writer dies, and the standbys lose it.
		w := max(s.e.node(s.file.Writer.Node), 0)
		for i := range s.conds {
			if i == w {
				s.conds[i] = []cond{condRefused, condSilent, condRefused, condStarting}[r.IntN(4)]
			} else if s.conds[i] == condStandby1 || r.IntN(3) > 0 {
				s.conds[i] = condStandbyLost
			}
		}
		say("the writer dies (%v)", s.conds)
	case k < 11:
		n := 1 + r.IntN(3)
		say("everything is well for %d", n)
		primary, standby := condsOf(s.file.Writer)
		for i := range s.conds {
			s.conds[i] = standby
		}
		s.conds[max(s.e.node(s.file.Writer.Node), 0)] = primary
		s.wait(n)
	case k < 14:
		say("b is approved")
		override := slices.DeleteFunc(CriterionNames(), func(string) bool { return r.IntN(3) == 0 })
		override = slices.DeleteFunc(override, func(n string) bool { return slices.Contains(neverOverridden, n) })
		s.operator(Approve{Epoch: s.e.Status().Epoch.V, Target: s.e.cfg.Nodes[r.IntN(len(s.e.cfg.Nodes))].Name, Override: override})
	case k == 14:
		say("abort")
		s.operator(Abort{})
	case k == 15:
		say("hold")
		s.operator(Pause{})
	case k == 16:
		say("resume")
		s.operator(Resume{})
	case k == 17:
		name := s.e.cfg.Nodes[r.IntN(len(s.e.cfg.Nodes))].Name
		say("resolve %s", name)
		s.operator(Resolve{Epoch: s.e.Status().Epoch.V, Writer: name})
	case k == 18:
		say("a later outcome first")
		s.reportAt(r.IntN(len(s.waiting) + 1))
	case k == 19:
		s.deaf, s.lost, s.fails = r.IntN(3) == 0, r.IntN(3) == 0, r.IntN(4) == 0
		say("deaf %v, lost %v, fails %v", s.deaf, s.lost, s.fails)
	case k == 20:
		say("written, restart")
		for _, w := range s.waiting {
			if w.rec != nil {
				s.file = *w.rec
			}
		}
		s.restart()
	case k < 24:
		c := Switch{To: s.e.cfg.Nodes[r.IntN(len(s.e.cfg.Nodes))].Name, Force: r.IntN(3) == 0, Drain: time.Duration(r.IntN(3)) * time.Second}
		say("switchover %+v", c)
		s.operator(c)
		s.now = s.now.Add(100 * time.Millisecond)
		for i := range s.e.cfg.Nodes {
			s.observe(i)
		}
	case k < 28:
		n := 1 + r.IntN(6)
		say("wait %d", n)
		s.wait(n)
	default:
		randomInput(r, s, say)
	}
}
