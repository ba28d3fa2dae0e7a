package decision

import "slices"

// oracle says where logins must go after the nodes have shown the same conditions for long: the rules for mode observe, without their timing.
// It looks at the record only for the epoch that is named there, and at whether that epoch was opened.
func oracle(s *shell) (node string) {
	nodes := s.e.cfg.Nodes
	type fact struct {
		cond                   cond
		primary, standby, ours bool
		system                 bool // tells its system identifier
		timeline               uint32
		descends               bool
	}
	facts := make([]fact, len(nodes))
	for i := range nodes {
		c := s.conds[i]
		f := fact{cond: c, ours: c != condOtherSystem && c != condOtherStandby, timeline: 1}
		if s.file.Writer.SystemID == otherSystem {
			f.ours = !f.ours
		}
		f.primary = slices.Contains([]cond{condPrimary1, condPrimary2, condPrimaryOther, condOtherSystem, condPersistent, condNoTimeline}, c)
		f.standby = slices.Contains([]cond{condStandby1, condStandbyLost, condStandby2, condOtherStandby}, c)
		f.system = f.primary || f.standby || c == condBusyNamed
		switch c {
		case condPrimary2, condStandby2:
			f.timeline, f.descends = 2, true
		case condPrimaryOther:
			f.timeline = 4
		}
		facts[i] = f
	}
	rec := s.file
	at := func(name string) int { return slices.IndexFunc(nodes, func(n Node) bool { return n.Name == name }) }
	onlyPrimary := func() string {
		found := -1
		for i, f := range facts {
			if f.system && !f.ours && rec.Phase == PhaseNone && slices.ContainsFunc(facts, func(o fact) bool { return o.system && o.ours }) {
				return "" // two systems
			}
			if f.primary && (f.ours || rec.Phase == PhaseNone) {
				if found >= 0 {
					return ""
				}
				found = i
			}
		}
		if found < 0 || facts[found].cond == condNoTimeline {
			return ""
		}
		for i, f := range facts {
			// A standby ahead of the primary contradicts it.
			if i != found && f.standby && f.timeline > facts[found].timeline && (f.ours || rec.Phase == PhaseNone) {
				return ""
			}
		}
		return nodes[found].Name
	}
	if rec.Phase == PhaseNone {
		return onlyPrimary()
	}
	w := at(rec.Writer.Node)
	onEpoch := func(f fact) bool {
		return f.ours && f.primary && f.timeline == rec.Writer.Timeline && f.cond != condNoTimeline
	}
	var followed []int
	for i, f := range facts {
		if f.ours && f.primary && f.descends && rec.Writer.Timeline == 1 {
			followed = append(followed, i)
		}
	}
	next := rec.Next.Known
	if next {
		n := facts[at(rec.Next.V.Node)]
		next = !(n.ours && n.standby && n.timeline == rec.Writer.Timeline)
	}
	switch {
	case len(followed) > 1:
		return ""
	case len(followed) == 1:
		f := followed[0]
		if rec.Next.Known && rec.Next.V.Node != nodes[f].Name {
			return ""
		}
		old := facts[w]
		if f != w && old.primary && old.ours {
			return ""
		}
		return nodes[f].Name
	case rec.Phase == PhaseDrain && next:
		return ""
	}
	f := facts[w]
	switch {
	case rec.Phase == PhaseDrain:
		primaries := 0
		for _, o := range facts {
			if onEpoch(o) {
				primaries++
			}
		}
		if onEpoch(f) && primaries == 1 {
			return nodes[w].Name
		}
		return ""
	case onEpoch(f):
		return nodes[w].Name
	case f.cond == condBusy || f.cond == condBlind || f.cond == condNoTimeline:
		if s.taking {
			return nodes[w].Name // it was open and nothing speaks against it
		}
		return ""
	case f.cond == condBusyNamed && f.ours && rec.Writer.Timeline == 1:
		if s.e.opened == rec.Epoch {
			return nodes[w].Name
		}
	}
	return ""
}
