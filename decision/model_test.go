package decision

import (
	"fmt"
	"slices"
	"time"
)

// model is a fresh, simple oracle for when a promotion may begin. It knows what the nodes have shown, when, and what operators have said; it
// knows nothing of the engine. Its nil value forbids nothing.
type model struct {
	shown [3]cond
	at    [3]Opt[Instant]
	// failing is since when every round of the writer failed, starting since when it says that it starts up.
	failing, starting Opt[Instant]
	writer            string
	// cutAt is when the paths were closed in this run; after counts the rounds of each node since, first is the first of them.
	cutAt Opt[Instant]
	first [3]Opt[Instant]
	last  Instant

	paused, approved bool
	ordered          string // the node that a switchover was ordered to, in this run
	fenced           bool   // the old writer was fenced since the cut
	automatic        bool   // there was an automatic promotion that nobody has acknowledged
	promotions       int
	switched         int
}

func newModel(s *shell) *model { return &model{writer: s.file.Writer.Node, paused: s.file.Paused} }

// dead are the conditions in which nobody answers.
var dead = []cond{condRefused, condSilent}

// passes notices that the process stood still: what was shown before is worth nothing.
func (m *model) passes(s *shell, at Instant) {
	if m == nil {
		return
	}
	if at.Sub(m.last) > s.e.cfg.StallAfter() {
		m.failing, m.starting, m.at = Opt[Instant]{}, Opt[Instant]{}, [3]Opt[Instant]{}
	}
	m.last = at
}

// forget is the end of the process; what operators said counts as far as it came to the disk.
func (m *model) forget(s *shell) {
	if m != nil {
		*m = model{writer: m.writer, paused: s.file.Paused, automatic: m.automatic, promotions: m.promotions, switched: m.switched}
	}
}

func (m *model) cut(at Instant) {
	if m != nil {
		m.cutAt, m.first, m.fenced = Some(at), [3]Opt[Instant]{}, false
	}
}

// shows takes a round.
func (m *model) shows(s *shell, i int) {
	if m == nil {
		return
	}
	m.passes(s, s.now)
	c := s.conds[i]
	if m.writer != s.file.Writer.Node {
		m.writer, m.failing, m.starting = s.file.Writer.Node, Opt[Instant]{}, Opt[Instant]{}
	}
	if s.e.cfg.Nodes[i].Name == m.writer {
		begin := func(since *Opt[Instant], holds bool) {
			switch {
			case !holds:
				*since = Opt[Instant]{}
			case !since.Known:
				*since = Some(s.now)
			}
		}
		if c != condInconclusive {
			begin(&m.failing, slices.Contains(dead, c))
			begin(&m.starting, c == condStarting)
		}
	}
	m.shown[i], m.at[i] = c, Some(s.now)
	if m.cutAt.Known && s.now > m.cutAt.V && !m.first[i].Known {
		m.first[i] = Some(s.now)
	}
}

// told takes an operator's command and whether it was refused.
func (m *model) told(s *shell, c Command, refusals uint64) {
	if m == nil || s.refusals > refusals {
		return
	}
	switch c := c.(type) {
	case Approve:
		m.approved = true
	case Switch:
		m.ordered = c.To
	case Pause:
		m.paused = true
	case Resume:
		m.paused, m.automatic = false, false
	case Abort:
		m.paused = m.paused || s.e.rec.Paused // an automatic change pauses with it
	}
}

// forbids says why the point of no return may not be passed now; empty when it may.
func (m *model) forbids(s *shell, p Promotion) string {
	if m == nil {
		return ""
	}
	w, t := s.e.node(s.file.Writer.Node), s.e.node(p.Node)
	standbys := map[uint32][]cond{1: {condStandby1, condStandbyLost}, 2: {condStandby2}}[s.file.Writer.Timeline]
	switch {
	case w < 0 || t < 0 || w == t:
		return "one of the nodes is not configured"
	case !slices.Contains(standbys, m.shown[t]) || !m.at[t].Known:
		return fmt.Sprintf("it shows %s", m.shown[t])
	case p.Kind == ChangeSwitchover:
		return m.forbidsSwitchover(s, p, w, t)
	case !p.Automatic && !m.approved:
		return "nobody has approved"
	case s.path != 0:
		return "paths are open"
	}
	for i := range s.e.cfg.Nodes {
		if i != w && i != t && slices.Contains([]cond{condPrimary1, condPrimary2, condPersistent, condNoTimeline, condPrimaryOther, condBehind}, m.shown[i]) {
			return fmt.Sprintf("%s shows %s", s.e.cfg.Nodes[i].Name, m.shown[i])
		}
	}
	if why := m.forbidsAutomatic(s, w, t); p.Automatic && why != "" {
		return why
	}
	return ""
}

// forbidsSwitchover says why a planned change may not pass its point of no return.
func (m *model) forbidsSwitchover(s *shell, p Promotion, w, t int) string {
	switch {
	case m.ordered != p.Node:
		return fmt.Sprintf("a switchover was ordered to %q", m.ordered)
	case s.path != 0:
		return "paths are open"
	case !m.fenced:
		return "the old writer is not fenced"
	case p.Lossless != LosslessProven || !p.Replayed.Known || p.Replayed.V < forkLSN:
		return fmt.Sprintf("it is %s at %v", p.Lossless, p.Replayed)
	case !m.first[w].Known || !m.first[t].Known:
		return "the writer and the target were not both asked since the cut"
	}
	for i := range s.e.cfg.Nodes {
		if m.shown[i] == condBlind {
			return "the probe cannot log in at " + s.e.cfg.Nodes[i].Name
		}
	}
	return ""
}

// requested counts a promotion whose record is on disk.
func (m *model) requested(p Promotion) {
	if m != nil {
		m.promotions++
		m.approved, m.ordered, m.automatic = false, "", m.automatic || p.Automatic
		if p.Kind == ChangeSwitchover {
			m.switched++
		}
	}
}

// forbidsAutomatic says why pgtether may not do it on its own.
func (m *model) forbidsAutomatic(s *shell, w, t int) string {
	gone := m.failing.Known && s.now.Sub(m.failing.V) >= s.e.cfg.StableFor || m.starting.Known && s.now.Sub(m.starting.V) > s.e.cfg.PrimaryStartTimeout
	switch {
	case s.e.cfg.Mode != ModeAuto:
		return "the mode is " + s.e.cfg.Mode.String()
	case m.paused:
		return "it is paused"
	case m.automatic:
		return "there was another one"
	case !gone:
		return fmt.Sprintf("the writer shows %s, failing since %v, starting since %v", m.shown[w], m.failing, m.starting)
	case m.shown[t] == condStandby1 || m.shown[t] == condStandby2:
		return "it receives from the writer"
	case m.cutAt.Known && (!m.first[w].Known || !m.first[t].Known || m.at[t].V.Sub(m.first[t].V) < 500*time.Millisecond):
		return "the writer was not asked once more, or the target not twice, since the cut"
	}
	for i := range s.e.cfg.Nodes {
		switch {
		case !m.at[i].Known || s.now.Sub(m.at[i].V) > s.e.cfg.FreshFor():
			return fmt.Sprintf("nothing fresh is known of %s", s.e.cfg.Nodes[i].Name)
		case i != w && (m.shown[i] == condStandby1 || m.shown[i] == condStandby2):
			return s.e.cfg.Nodes[i].Name + " receives from the writer"
		case m.shown[i] == condBlind:
			return "the probe cannot log in at " + s.e.cfg.Nodes[i].Name
		}
	}
	return ""
}

// destinations says where logins may go after a long quiet time, and where they must go; empty when nowhere in particular.
func destinations(s *shell) (may, must string) {
	if s.file.Phase == PhasePromoting || s.file.Phase == PhaseNone {
		return "", ""
	}
	w := s.file.Writer
	i := s.e.node(w.Node)
	primary, _ := condsOf(w)
	same := slices.Contains([]cond{primary}, s.conds[i]) || primary == condPrimary1 && s.conds[i] == condPersistent
	lives := slices.Contains([]cond{condBusy, condBusyNamed, condBlind, condNoTimeline}, s.conds[i])
	if same || lives {
		may = w.Node
	}
	rivals := 0
	for k := range s.e.cfg.Nodes {
		if k != i && !slices.Contains([]cond{condStandby1, condStandbyLost, condRefused, condSilent, condStandby2}, s.conds[k]) {
			rivals++
		}
	}
	if same && rivals == 0 && !s.file.Next.Known {
		must = w.Node
	}
	return may, must
}
