package main

import (
	"testing"
	"time"

	"github.com/pgtether/pgtether/decision"
)

// scene is a real engine with a pair of nodes that a test lets live and die, on a clock of its own. Nodes do what they are asked for.
type scene struct {
	t      *testing.T
	engine *decision.Engine
	now    decision.Instant
	a, b   decision.Observation
	// promotes is what pg_promote does on region-b; without it nothing.
	promotes func()
	// watch is called after each step.
	watch func(decision.Status)
	// heard is when a client last heard anything of a writer; known while one is open.
	heard decision.Opt[decision.Instant]
	// busy: a session stays in its transaction whatever a drain asks.
	busy bool

	notes    []decision.Note
	commands uint64
	answer   decision.Answer
}

// sceneConfig is a pair with the timings of the default configuration.
func sceneConfig(mode decision.Mode) decision.Config {
	return decision.Config{
		Nodes: []decision.Node{{Name: "region-a", Address: "10.0.0.11:5432"}, {Name: "region-b", Address: "10.0.0.12:5432"}},
		Mode:  mode, TickInterval: 100 * time.Millisecond, ProbeInterval: time.Second, ProbeTimeout: time.Second,
		StableFor: 5 * time.Second, MaxLagBytes: 16 << 20, AntiFlap: time.Hour, PrimaryStartTimeout: time.Minute, PromoteTimeout: time.Minute, DrainTimeout: 10 * time.Second, HoldSession: 15 * time.Second,
	}
}

// newScene is a pair that is well: region-a is the writer, region-b streams from it and could take over.
func newScene(t *testing.T, mode decision.Mode) *scene {
	nodes := pair()
	s := &scene{t: t, engine: decision.New(sceneConfig(mode), decision.NewRecord(), decision.Opt[decision.LastKnown]{}), a: nodes[0], b: nodes[1]}
	settings := decision.Settings{
		MaxConnections: decision.Some(100), MaxWorkerProcesses: decision.Some(8), MaxWalSenders: decision.Some(10),
		MaxPreparedTransactions: decision.Some(0), MaxLocksPerTransaction: decision.Some(64), SynchronousStandbyNames: decision.Some(""),
		SynchronousCommit: decision.Some("on"), WalReceiverTimeout: decision.Some(5 * time.Second),
		RecoveryMinApplyDelay: decision.Some(time.Duration(0)), RelaxedRoles: decision.Some(0), CanPromote: decision.Some(true),
		CanSetSyncNames: decision.Some(true),
	}
	s.a.Settings, s.b.Settings = settings, settings
	s.b.ReplayedLSN, s.b.ReplayPaused = s.b.ReceivedLSN, decision.Some("not paused")
	s.b.Receiver = decision.Some(decision.Receiver{Running: true, Status: "streaming", MessageAge: decision.Some(time.Duration(0)), Timeline: s.b.Timeline})
	s.promotes = func() {
		s.b.Role, s.b.Timeline = decision.RolePrimary, decision.Some(uint32(2))
		s.b.History = decision.Some([]decision.TimelineSwitch{{Timeline: 1, At: s.b.ReceivedLSN.V}})
		s.b.CurrentLSN, s.b.Senders, s.b.Receiver = s.b.ReceivedLSN, decision.Some([]decision.Sender{}), decision.Opt[decision.Receiver]{}
	}
	s.pass(3 * time.Second)
	if st := s.engine.Status(); st.State != decision.StandbyReady {
		t.Fatalf("the pair is %s/%s: %v", st.State, st.Step, s.engine.Decide(decision.Question{}).IfPrimaryDies.Blocking)
	}
	return s
}

// dies ends region-a; region-b notices.
func (s *scene) dies() {
	refused := decision.Attempt{Evidence: decision.Refused}
	s.a = decision.Observation{Node: "region-a", Persistent: refused, Fresh: refused, Replication: refused}
	s.b.Receiver = decision.Some(decision.Receiver{})
}

// pass lets time go by, with a probe round of each node every 200 ms.
func (s *scene) pass(d time.Duration) {
	for end := s.now.Add(d); s.now < end; {
		s.now = s.now.Add(100 * time.Millisecond)
		if s.a.Fresh.Evidence == decision.Answers {
			s.heard = decision.Some(s.now)
		}
		s.feed(decision.Tick{At: s.now, DataPlane: decision.DataPlane{Heard: s.heard}})
		if time.Duration(s.now)%(200*time.Millisecond) == 0 {
			for _, o := range []decision.Observation{s.a, s.b} {
				o.Began = s.now
				s.feed(decision.Observed{At: s.now, Observation: o})
			}
		}
	}
}

// tell gives the engine a command.
func (s *scene) tell(c decision.Command) decision.Answer {
	s.commands++
	s.feed(decision.Commanded{At: s.now, CommandID: s.commands, Command: c})
	return s.answer
}

// feed steps the engine and does what it asks for.
func (s *scene) feed(event decision.Event) {
	queue := s.engine.Step(event)
	for len(queue) > 0 {
		if s.watch != nil {
			s.watch(s.engine.Status())
		}
		action := queue[0]
		queue = queue[1:]
		var outcome decision.Outcome
		switch a := action.(type) {
		case decision.Answer:
			s.answer = a
			continue
		case decision.Note:
			s.notes = append(s.notes, a)
			continue
		case decision.Drain:
			if s.busy {
				continue
			}
		case decision.Promote:
			if s.promotes != nil {
				s.promotes()
			}
		case decision.Cut:
			outcome.LastByte = s.heard
		case decision.Fence:
			outcome.End = s.a.CurrentLSN
		case decision.Persist, decision.Unfence, decision.Verify, decision.RestoreSync:
		default:
			continue
		}
		queue = append(queue, s.engine.Step(decision.Completed{At: s.now, ActionID: action.Head().ID, Outcome: outcome})...)
	}
}
