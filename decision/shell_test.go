package decision

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// cond is what a node shows to a probe, for tests that need many combinations rather than a server's life.
type cond uint8

const (
	condPrimary1     cond = iota // primary of the epoch's first timeline
	condStandby1                 // streaming standby on it
	condStandbyLost              // the same with its WAL receiver gone
	condPrimary2                 // primary of timeline 2, which left timeline 1
	condStandby2                 // standby on that
	condPrimaryOther             // primary of a timeline that does not descend from timeline 1
	condOtherSystem              // primary of another system
	condOtherStandby             // standby of another system
	condRefused                  // nobody listens
	condSilent                   // nothing is answered
	condStarting                 // 57P03
	condBlind                    // the probe cannot log in
	condBusy                     // 53300
	condBusyNamed                // 53300, and the replication connection names system and timeline
	condInconclusive             // the probe proved nothing
	condProberLate               // silence of the prober's own making
	condPersistent               // primary of timeline 1 on the open connection only
	condNoTimeline               // primary that does not tell its timeline
	conds

	// Those below are shown by nodes in modes auto and manual only.
	condPrimary3 = conds + iota - 18 // primary of timeline 3, which left timeline 2
	condBehind                       // primary of timeline 2, which left timeline 1 before what was replayed
)

// forkLSN is where timelines 2 and 3 begin; every standby has it all.
const forkLSN = LSN(0x3000100)

func (c cond) String() string {
	return [...]string{"primary1", "standby1", "standby-lost", "primary2", "standby2", "primary-other", "other-system", "other-standby", "refused", "silent",
		"starting", "blind", "busy", "busy-named", "inconclusive", "prober-late", "persistent", "no-timeline", "", "primary3", "behind"}[c]
}

const ourSystem, otherSystem = "7000000000000000001", "7999"

// observation is what a probe of a node under a condition yields.
func (c cond) observation(node string, began Instant) Observation {
	o := Observation{Node: node, Began: began, Fresh: good, Persistent: good, Replication: good}
	all := func(a Attempt) Observation {
		return Observation{Node: node, Began: began, Fresh: a, Persistent: a, Replication: a}
	}
	o.SystemID, o.ServerID, o.StartedAgo, o.Timeline, o.History = Some(ourSystem), Some("server-"+node), Some(time.Hour), Some(uint32(1)), Some([]TimelineSwitch(nil))
	o.Settings = healthySettings()
	fork := Some([]TimelineSwitch{{1, forkLSN}})
	primary := func() { o.Role, o.CurrentLSN, o.Senders = RolePrimary, Some(LSN(0x3000100)), Some([]Sender(nil)) }
	standby := func(streams bool) {
		o.Role, o.ReceivedLSN, o.ReplayedLSN, o.ReplayPaused = RoleStandby, Some(LSN(0x3000100)), Some(LSN(0x3000100)), Some("not paused")
		o.Receiver = Some(Receiver{})
		if streams {
			o.Receiver = Some(Receiver{Running: true, Status: receiverStreaming, MessageAge: Some(time.Duration(0)), Timeline: o.Timeline})
		}
	}
	switch c {
	case condPrimary1:
		primary()
	case condPersistent:
		primary()
		o.Fresh, o.Replication = Attempt{Evidence: Silent}, Attempt{Evidence: Silent}
	case condNoTimeline:
		primary()
		o.Timeline, o.History = Opt[uint32]{}, Opt[[]TimelineSwitch]{}
	case condStandby1:
		standby(true)
	case condStandbyLost:
		standby(false)
	case condPrimary2:
		o.Timeline, o.History = Some(uint32(2)), fork
		primary()
	case condStandby2:
		o.Timeline, o.History = Some(uint32(2)), fork
		standby(true)
	case condPrimary3:
		o.Timeline, o.History = Some(uint32(3)), Some([]TimelineSwitch{{1, forkLSN}, {2, forkLSN}})
		primary()
	case condBehind:
		o.Timeline, o.History = Some(uint32(2)), Some([]TimelineSwitch{{1, 0x2000000}})
		primary()
	case condPrimaryOther:
		o.Timeline, o.History = Some(uint32(4)), Some([]TimelineSwitch{{3, 0x2000000}})
		primary()
	case condOtherSystem:
		o.SystemID = Some(otherSystem)
		primary()
	case condOtherStandby:
		o.SystemID = Some(otherSystem)
		standby(true)
	case condRefused:
		return all(Attempt{Evidence: Refused})
	case condSilent:
		return all(Attempt{Evidence: Silent})
	case condProberLate:
		o = all(Attempt{Evidence: Silent})
		o.ProberStalled = true
	case condStarting:
		return all(Attempt{Evidence: Alive, SQLState: "57P03"})
	case condBlind:
		return all(Attempt{Evidence: Alive, SQLState: "28P01"})
	case condBusy:
		return all(Attempt{Evidence: Alive, SQLState: "53300"})
	case condBusyNamed:
		o.Fresh, o.Persistent = Attempt{Evidence: Alive, SQLState: "53300"}, Attempt{Evidence: Alive, SQLState: "53300"}
		o.Settings, o.ServerID = Settings{}, Opt[string]{}
	case condInconclusive:
		return all(Attempt{Detail: "another protocol answers"})
	}
	return o
}

func healthySettings() Settings {
	return Settings{MaxConnections: Some(100), MaxWorkerProcesses: Some(8), MaxWalSenders: Some(10), MaxPreparedTransactions: Some(0),
		MaxLocksPerTransaction: Some(64), SynchronousStandbyNames: Some(""), SynchronousCommit: Some("on"), WalReceiverTimeout: Some(5 * time.Second),
		RecoveryMinApplyDelay: Some(time.Duration(0)), RelaxedRoles: Some(0), CanPromote: Some(true), CanSetSyncNames: Some(true)}
}

// shell is a shell without substance: disk, data plane and probes as plain values, so that it can be copied together with the engine.
type shell struct {
	e     *Engine
	now   Instant
	conds [3]cond

	file    Record
	waiting []waiting // outcomes that are not reported yet

	// What the data plane has: the epoch under which paths may exist, where they lead, whether logins are taken, and what is cut.
	path, cutThrough uint64
	target           string
	taking           bool
	highest          uint32 // the highest timeline that was ever routed to

	diskFull, cutStuck, late bool
	broken                   string

	// kept is what Remember has kept.
	kept Opt[LastKnown]
	// obliged: the record that this run began with says that a promotion must be completed.
	obliged bool
	// noted counts the events promotion_requested of each epoch, promised says which node each epoch was promised to.
	noted    map[uint64]int
	promised map[uint64]string
	// opened says which node each epoch was opened on, resolved that an operator named a writer since the last promise.
	openedOn            map[uint64]string
	released            map[uint64]bool // epochs that were promised, and that an operator's word has passed over
	resolving, resolved bool
	// What becomes of errands: deaf: pg_promote answers and does nothing; lost: it works, and its answer does not arrive; fails: nothing works.
	deaf, lost, fails bool
	// commands that were handed in, and answers that came back.
	commands, answers, refusals uint64
	// seen is what a reference model knows of the past; nil when there is none.
	seen *model
}

type waiting struct {
	id     uint64
	rec    *Record
	cut    uint64
	errand Action
}

func newShell(cfg Config, rec Record) *shell {
	s := &shell{e: New(cfg, rec, Opt[LastKnown]{}), file: rec, conds: [3]cond{condPrimary1, condStandby1, condStandby1}, noted: map[uint64]int{},
		promised: map[uint64]string{}, openedOn: map[uint64]string{}, released: map[uint64]bool{}, obliged: rec.Phase == PhasePromoting}
	if p, ok := rec.Promotion.Get(); ok {
		s.promised[p.Epoch] = p.Node
	}
	return s
}

// fork returns a copy that shares nothing that changes.
func (s *shell) fork() *shell {
	c := *s
	e := *s.e
	e.views = slices.Clone(s.e.views)
	e.rec, e.out = s.e.rec.clone(), nil
	if e.pending.Known {
		e.pending.V.rec = e.pending.V.rec.clone()
	}
	e.change.V.steps = slices.Clone(s.e.change.V.steps)
	c.e, c.waiting = &e, slices.Clone(s.waiting)
	c.noted, c.promised, c.openedOn, c.released = maps.Clone(s.noted), maps.Clone(s.promised), maps.Clone(s.openedOn), maps.Clone(s.released)
	return &c
}

func (s *shell) fail(format string, args ...any) {
	if s.broken == "" {
		s.broken = fmt.Sprintf(format, args...)
	}
}

// step hands an event in and performs the actions; outcomes are reported at once unless the shell is late.
func (s *shell) step(ev Event) {
	s.seen.passes(s, ev.instant())
	s.perform(s.e.Step(ev))
	for n := 0; !s.late && len(s.waiting) > 0; n++ {
		if n > 1000 {
			panic("engine and shell answer each other without end")
		}
		s.report()
	}
}

// report reports the oldest outcome.
func (s *shell) report() { s.reportAt(0) }

// reportAt reports one of the outcomes that wait.
func (s *shell) reportAt(i int) {
	if i >= len(s.waiting) {
		return
	}
	a := s.waiting[i]
	s.waiting = slices.Delete(slices.Clone(s.waiting), i, i+1)
	var o Outcome
	switch {
	case a.errand != nil:
		o = s.errand(a.errand)
	case a.rec != nil && s.diskFull:
		o.Err = "disk full"
	case a.rec != nil:
		s.file = *a.rec
	case s.cutStuck:
		o.Err = "stuck"
	default:
		s.cutThrough = max(s.cutThrough, a.cut)
		s.seen.cut(s.now)
		if s.path <= s.cutThrough {
			s.path, s.target = 0, ""
		}
	}
	s.perform(s.e.Step(Completed{At: s.now, ActionID: a.id, Outcome: o}))
}

// perform does what the engine asks for and holds it against the promises.
func (s *shell) perform(actions []Action) {
	for _, a := range actions {
		switch a := a.(type) {
		case Persist:
			if a.Record.Epoch < s.file.Epoch {
				s.fail("epoch went back from %d to %d", s.file.Epoch, a.Record.Epoch)
			}
			rec := a.Record
			s.checkPersist(rec)
			s.waiting = append(s.waiting, waiting{id: a.ID, rec: &rec})
		case Cut:
			if s.file.Phase != PhaseDrain || s.file.Epoch != a.Epoch {
				s.fail("cut of %d before its end was on disk (%d %s)", a.Epoch, s.file.Epoch, s.file.Phase)
			}
			if s.taking {
				s.fail("cut of %d while logins are taken", a.Epoch)
			}
			s.waiting = slices.DeleteFunc(slices.Clone(s.waiting), func(w waiting) bool { _, is := w.errand.(Drain); return is })
			s.waiting = append(s.waiting, waiting{id: a.ID, cut: a.Epoch})
		case Remember:
			s.kept = Some(a.LastKnown.clone())
		case Note:
			if a.Kind == NotePromotionRequested {
				s.noted[a.Epoch.V]++
				s.promised[a.Epoch.V] = s.file.Promotion.V.Node
				s.seen.requested(s.file.Promotion.V)
			}
		case Drain:
			if s.taking || s.path != a.Epoch || s.file.Planned.V.Node == "" {
				s.fail("drain of %d while logins are taken, or nothing was ordered", a.Epoch)
			}
			s.waiting = append(s.waiting, waiting{id: a.ID, errand: a})
		case Undrain:
			if a.Epoch <= s.cutThrough || a.Epoch != s.path {
				s.fail("sessions of %d are to go on, cut is %d", a.Epoch, s.cutThrough)
			}
			s.waiting = slices.DeleteFunc(slices.Clone(s.waiting), func(w waiting) bool { _, is := w.errand.(Drain); return is })
		case Fence, Verify, Unfence, RestoreSync:
			s.waiting = append(s.waiting, waiting{id: a.Head().ID, errand: a})
		case Promote:
			s.checkPromote(a)
			s.waiting = append(s.waiting, waiting{id: a.ID, errand: a})
		case Answer:
			s.answers++
			if a.Refusal.Known {
				s.refusals++
			}
			s.resolved = s.resolved || s.resolving && !a.Refusal.Known
		case Hold:
			s.taking = false
		case Open:
			s.checkOpen(a)
			s.path, s.target, s.taking = a.Epoch, a.Node, true
		}
	}
}

func (s *shell) checkOpen(a Open) {
	w := s.file.Writer
	switch {
	case s.file.Phase != PhaseOpen || s.file.Epoch != a.Epoch || w.Node != a.Node || w.Address != a.Address:
		s.fail("open of %d on %s, the disk says %d %s %s", a.Epoch, a.Node, s.file.Epoch, s.file.Phase, w.Node)
	case a.Epoch <= s.cutThrough:
		s.fail("open of %d after the cut of %d", a.Epoch, s.cutThrough)
	case s.path != 0 && (s.path != a.Epoch || s.target != a.Node):
		s.fail("open of %d on %s while %d on %s is not cut", a.Epoch, a.Node, s.path, s.target)
	case w.Timeline < s.highest && !s.resolved:
		s.fail("timeline %d is routed to after %d", w.Timeline, s.highest)
	}
	s.checkOpened(a)
	s.highest = max(s.highest, w.Timeline)
}

// observe delivers a probe round of a node under its present condition.
func (s *shell) observe(i int) {
	if i >= len(s.e.cfg.Nodes) {
		return // it has been left out
	}
	n := s.e.cfg.Nodes[i]
	s.seen.shows(s, i)
	s.step(Observed{At: s.now, Observation: s.conds[i].observation(n.Name, s.now)})
}

// wait lets seconds pass with a round of every node and a tick in each.
func (s *shell) wait(seconds int) {
	for range seconds {
		s.now = s.now.Add(time.Second)
		for i := range s.e.cfg.Nodes {
			s.observe(i)
		}
		s.step(Tick{At: s.now})
	}
}

// restart ends the process: paths are gone, outcomes that were not reported never are.
func (s *shell) restart() {
	cfg, file := s.e.cfg, s.file.Shift(-time.Duration(s.now))
	if p := &file.Promotion; p.Known {
		p.V.Noted = s.noted[p.V.Epoch] > 0
	}
	if s.kept.Known {
		s.kept.V = s.kept.V.Shift(-time.Duration(s.now))
	}
	s.file, s.obliged = file, file.Phase == PhasePromoting
	s.e = New(cfg, file, s.kept)
	s.seen.forget(s)
	s.now, s.waiting, s.path, s.target, s.taking, s.cutThrough = 0, nil, 0, "", false, 0
}

// calm makes disk and data plane work again and reports what is left.
func (s *shell) calm() {
	s.diskFull, s.cutStuck, s.late, s.deaf, s.lost, s.fails = false, false, false, false, false, false
	for len(s.waiting) > 0 {
		s.report()
	}
}
