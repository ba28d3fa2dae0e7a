package decision

import "time"

// operator hands an operator's command in; exactly one answer comes back in the same Step.
func (s *shell) operator(c Command) {
	_, s.resolving = c.(Resolve)
	s.commands++
	before := s.refusals
	s.step(Commanded{At: s.now, CommandID: s.commands, Command: c})
	s.seen.told(s, c, before)
	if s.answers != s.commands {
		s.fail("%d answers to %d commands", s.answers, s.commands)
	}
}

// errand is what becomes of a call of a node or of the operator's program.
func (s *shell) errand(a Action) Outcome {
	failed := Outcome{Err: "it failed"}
	p, isPromote := a.(Promote)
	switch {
	case s.fails:
		return failed
	case !isPromote || s.deaf:
		if _, is := a.(Fence); is && s.seen != nil {
			s.seen.fenced = true
		}
		if _, is := a.(Fence); is {
			return Outcome{Detail: "done", End: Some(forkLSN)}
		}
		return Outcome{Detail: "done"}
	}
	i := s.e.node(p.Node)
	if i < 0 {
		return failed
	}
	switch s.conds[i] {
	case condStandby1, condStandbyLost:
		s.conds[i] = condPrimary2
	case condStandby2:
		s.conds[i] = condPrimary3
	default:
		return failed
	}
	if s.lost {
		return failed
	}
	return Outcome{}
}

// checkPersist holds the record that is to be written against what must never be decided.
func (s *shell) checkPersist(rec Record) {
	p, ok := rec.Promotion.Get()
	if !ok || s.file.Phase == PhasePromoting {
		if ok && (s.file.Promotion.V.Node != p.Node || s.file.Promotion.V.Epoch != p.Epoch) {
			s.fail("the target of epoch %d changes from %s to %s", p.Epoch, s.file.Promotion.V.Node, p.Node)
		}
		return
	}
	switch old, before := s.promised[p.Epoch]; {
	case s.file.Phase != PhaseDrain || s.file.Epoch != rec.Epoch:
		s.fail("a promotion begins while the disk says %d %s", s.file.Epoch, s.file.Phase)
	case s.path != 0:
		s.fail("a promotion begins while paths of epoch %d may be there", s.path)
	case s.e.cfg.Mode == ModeObserve:
		s.fail("a promotion begins in mode observe")
	case before && old != p.Node && s.noted[p.Epoch] > 0:
		s.fail("epoch %d was promised to %s, and is promised to %s", p.Epoch, old, p.Node)
	}
	if why := s.seen.forbids(s, p); why != "" {
		s.fail("%s is to be promoted (automatic %v): %s", p.Node, p.Automatic, why)
	}
}

// checkPromote holds a request to promote against what must never be asked.
func (s *shell) checkPromote(a Promote) {
	p := s.file.Promotion
	switch {
	case s.file.Phase != PhasePromoting || p.V.Node != a.Node || p.V.Address != a.Address || p.V.Epoch != a.Epoch:
		s.fail("%s is asked to promote for %d, the disk says %s of %s for %d", a.Node, a.Epoch, s.file.Phase, p.V.Node, p.V.Epoch)
	case s.e.cfg.Mode == ModeObserve && !s.obliged:
		s.fail("%s is asked to promote in mode observe", a.Node)
	case s.path != 0:
		s.fail("%s is asked to promote while paths of epoch %d are there", a.Node, s.path)
	case s.noted[a.Epoch] != 1:
		s.fail("%s is asked to promote after %d events", a.Node, s.noted[a.Epoch])
	}
	for _, w := range s.waiting {
		if w.rec != nil && w.rec.Phase == PhaseOpen {
			s.fail("%s is asked to promote while epoch %d of %s is being written", a.Node, w.rec.Epoch, w.rec.Writer.Node)
		}
	}
	s.resolved = false
}

// checkOpened holds an Open against the promises: an epoch belongs to one node, and one that was promised belongs to the target.
func (s *shell) checkOpened(a Open) {
	if on, ok := s.openedOn[a.Epoch]; ok && on != a.Node {
		s.fail("epoch %d was open on %s, and is opened on %s", a.Epoch, on, a.Node)
	}
	s.openedOn[a.Epoch] = a.Node
	if target, ok := s.promised[a.Epoch]; ok && s.noted[a.Epoch] > 0 && target != a.Node {
		s.fail("epoch %d was promised to %s, and is opened on %s", a.Epoch, target, a.Node)
	}
	for epoch, n := range s.noted {
		target := s.promised[epoch]
		_, kept := s.openedOn[epoch]
		switch broken := epoch < a.Epoch && !kept && target != a.Node && !s.released[epoch]; {
		case n > 1:
			s.fail("promotion_requested %d times for epoch %d", n, epoch)
		case broken && s.resolved:
			s.released[epoch] = true
		case broken:
			s.fail("epoch %d was promised to %s, never opened, and epoch %d is opened on %s without an operator's word", epoch, target, a.Epoch, a.Node)
		}
	}
}

// drive lets time pass until the engine is at a place, at most so many seconds.
func (s *shell) drive(p Place, seconds int) bool {
	for range seconds * 5 {
		if (Place{s.e.state, s.e.step}) == p {
			return true
		}
		s.now = s.now.Add(200 * time.Millisecond)
		for i := range s.e.cfg.Nodes {
			s.observe(i)
			if (Place{s.e.state, s.e.step}) == p {
				return true
			}
		}
		s.step(Tick{At: s.now})
	}
	return (Place{s.e.state, s.e.step}) == p
}
