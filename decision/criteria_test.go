package decision

import (
	"testing"
	"time"
)

// pair is a healthy pair with an open writer, made to differ in one thing at a time.
func pair(t *testing.T, change func(*Config)) *world {
	t.Helper()
	cfg := testConfig("region-a", "region-b")
	if change != nil {
		change(&cfg)
	}
	w := newWorld(cfg, NewRecord(), Opt[LastKnown]{})
	w.server("region-a").rate = 64 << 10
	w.run(3 * time.Second)
	if s := w.e.Status(); s.State != StandbyReady {
		t.Fatalf("the pair is in %s: %s", s.State, s.Message)
	}
	return w
}

// judged returns one criterion of a decision.
func judged(t *testing.T, d Decision, name string) Criterion {
	t.Helper()
	for _, c := range d.Criteria {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no criterion %q", name)
	return Criterion{}
}

// TestEveryCriterionPassesFailsAndDoesNotKnow shows each verdict of each criterion, with the fact that brings it about.
func TestEveryCriterionPassesFailsAndDoesNotKnow(t *testing.T) {
	a, b := func(w *world) *server { return w.server("region-a") }, func(w *world) *server { return w.server("region-b") }
	dies := func(s *server) {
		s.fresh, s.persistent, s.replication = attemptOf("refused"), attemptOf("refused"), attemptOf("refused")
	}
	says := func(s *server, state string) {
		s.fresh, s.persistent, s.replication = attemptOf(state), attemptOf(state), attemptOf(state)
	}
	quorumOf := func(names string) func(*world) {
		return func(w *world) {
			a(w).set.SynchronousStandbyNames, b(w).syncState, w.relaxed = Some(names), "quorum", Some(uint64(0))
		}
	}
	for _, c := range []struct {
		name string
		want Verdict
		cfg  func(*Config)
		do   func(*world)
		wait time.Duration
		ask  ChangeEvent
	}{
		{"primary_unreachable", Fail, nil, nil, 0, EventNone},
		{"primary_unreachable", Pass, nil, func(w *world) { dies(a(w)) }, 2 * time.Second, EventNone},
		{"primary_unreachable", Fail, nil, func(w *world) { says(a(w), "53300") }, 9 * time.Second, EventNone},
		{"primary_unreachable", Unknown, nil, func(w *world) {
			a(w).fresh = attemptOf("unknown")
			a(w).persistent = a(w).fresh
			a(w).replication = a(w).fresh
		}, 2 * time.Second, EventNone},
		{"primary_unreachable", Fail, nil, func(w *world) {
			dies(a(w))
			w.run(2 * time.Second)
			w.heard = Some(w.now)
			w.step(Tick{At: w.now, DataPlane: DataPlane{Heard: w.heard}})
		}, 0, EventNone},
		{"primary_unreachable", Pass, nil, nil, 0, EventPrimaryDead},
		{"primary_unreachable", NotNeeded, nil, nil, 0, EventSwitchover},
		{"failure_stable", Fail, nil, nil, 0, EventNone},
		{"failure_stable", Fail, nil, func(w *world) { dies(a(w)) }, 3 * time.Second, EventNone},
		{"failure_stable", Pass, nil, func(w *world) { dies(a(w)) }, 7 * time.Second, EventNone},
		{"failure_stable", Unknown, nil, func(w *world) { w.jump(time.Minute); w.step(Tick{At: w.now}) }, 0, EventNone},
		{"failure_stable", NotNeeded, nil, nil, 0, EventSwitchover},
		{"primary_start_grace", Pass, nil, nil, 0, EventNone},
		{"primary_start_grace", Fail, nil, func(w *world) { says(a(w), "57P03") }, 9 * time.Second, EventNone},
		{"primary_start_grace", Pass, func(c *Config) { c.PrimaryStartTimeout = 5 * time.Second }, func(w *world) { says(a(w), "57P03") }, 9 * time.Second, EventNone},
		{"primary_start_grace", Unknown, nil, func(w *world) { w.jump(time.Minute); w.step(Tick{At: w.now}) }, 0, EventNone},
		{"primary_start_grace", NotNeeded, nil, nil, 0, EventSwitchover},
		{"standby_sees_primary_gone", Fail, nil, nil, 0, EventNone},
		{"standby_sees_primary_gone", Pass, nil, func(w *world) { b(w).noReceiver = true }, 2 * time.Second, EventNone},
		{"standby_sees_primary_gone", Unknown, nil, func(w *world) { b(w).blindMonitor = true }, 2 * time.Second, EventNone},
		{"standby_sees_primary_gone", Unknown, nil, func(w *world) { dies(b(w)) }, 2 * time.Second, EventNone},
		{"standby_healthy", Pass, nil, nil, 0, EventPrimaryDead},
		{"standby_healthy", Fail, nil, func(w *world) { dies(b(w)) }, 2 * time.Second, EventPrimaryDead},
		{"standby_healthy", Fail, nil, func(w *world) { b(w).fresh = attemptOf("silent") }, 2 * time.Second, EventPrimaryDead},
		{"standby_healthy", Fail, nil, func(w *world) { b(w).noReceiver = true }, 2 * time.Second, EventPrimaryDead},
		{"standby_healthy", Unknown, nil, func(w *world) { b(w).blindMonitor = true }, 2 * time.Second, EventPrimaryDead},
		{"standby_healthy", Unknown, nil, func(w *world) { w.jump(time.Minute); w.step(Tick{At: w.now}) }, 0, EventPrimaryDead},
		{"same_system", Pass, nil, nil, 0, EventPrimaryDead},
		{"same_system", Fail, nil, func(w *world) { b(w).sys = otherSystem }, 2 * time.Second, EventPrimaryDead},
		{"same_system", Fail, nil, func(w *world) { b(w).id = a(w).id }, 2 * time.Second, EventPrimaryDead},
		{"same_system", Unknown, nil, func(w *world) { dies(b(w)) }, 2 * time.Second, EventPrimaryDead},
		{"timeline_descends", Pass, nil, nil, 0, EventPrimaryDead},
		{"timeline_descends", Fail, nil, func(w *world) { b(w).tl, b(w).hist = 2, []TimelineSwitch{{1, 0x3000000}} }, 2 * time.Second, EventPrimaryDead},
		{"timeline_descends", Unknown, nil, func(w *world) { dies(b(w)) }, 2 * time.Second, EventPrimaryDead},
		{"no_split_brain", Pass, nil, nil, 0, EventPrimaryDead},
		{"no_split_brain", Fail, nil, func(w *world) { b(w).role = RolePrimary }, 2 * time.Second, EventPrimaryDead},
		{"no_split_brain", Unknown, nil, func(w *world) { b(w).role = RolePrimary; w.run(2 * time.Second); dies(b(w)) }, 2 * time.Second, EventPrimaryDead},
		{"no_split_brain", Pass, nil, func(w *world) { b(w).sys, b(w).role = otherSystem, RolePrimary }, 2 * time.Second, EventPrimaryDead},
		{"replay_caught_up", Pass, nil, func(w *world) { b(w).gap = 64 << 10 }, 2 * time.Second, EventPrimaryDead},
		{"replay_caught_up", Fail, nil, func(w *world) { b(w).gap = 32 << 20 }, 2 * time.Second, EventPrimaryDead},
		{"replay_caught_up", Fail, nil, func(w *world) { a(w).rate, b(w).gap = 0, 1000 }, 8 * time.Second, EventPrimaryDead},
		{"replay_caught_up", Unknown, nil, func(w *world) { dies(b(w)) }, 2 * time.Second, EventPrimaryDead},
		{"lag_within_limit", Pass, nil, nil, 0, EventPrimaryDead},
		{"lag_within_limit", Fail, func(c *Config) { c.MaxLagBytes = 1 << 20 }, func(w *world) { a(w).rate, b(w).lag = 1<<20, 4<<20 }, 9 * time.Second, EventPrimaryDead},
		{"lag_within_limit", Fail, func(c *Config) { c.MaxLagBytes = 1 << 20 }, func(w *world) { a(w).rate, b(w).lag = 1<<20, 4<<20 }, 9 * time.Second, EventNone},
		{"lag_within_limit", Unknown, nil, func(w *world) { dies(a(w)) }, 12 * time.Second, EventNone},
		{"lag_within_limit", Unknown, nil, func(w *world) { dies(b(w)) }, 2 * time.Second, EventPrimaryDead},
		{"replay_not_paused", Pass, nil, nil, 0, EventPrimaryDead},
		{"replay_not_paused", Fail, nil, func(w *world) { b(w).paused = "pause requested" }, 2 * time.Second, EventPrimaryDead},
		{"replay_not_paused", Unknown, nil, func(w *world) { dies(b(w)) }, 2 * time.Second, EventPrimaryDead},
		{"promotable", Pass, nil, nil, 0, EventPrimaryDead},
		{"promotable", Fail, nil, func(w *world) { b(w).set.MaxWorkerProcesses = Some(7) }, 2 * time.Second, EventPrimaryDead},
		{"promotable", Fail, nil, func(w *world) { b(w).set.MaxWalSenders = Some(9) }, 2 * time.Second, EventPrimaryDead},
		{"promotable", Fail, nil, func(w *world) { a(w).set.MaxPreparedTransactions = Some(1) }, 2 * time.Second, EventPrimaryDead},
		{"promotable", Fail, nil, func(w *world) { b(w).set.MaxLocksPerTransaction = Some(63) }, 2 * time.Second, EventPrimaryDead},
		{"promotable", Unknown, nil, func(w *world) { b(w).set.MaxConnections = Opt[int]{} }, 2 * time.Second, EventPrimaryDead},
		{"promotable", Unknown, nil, func(w *world) { b(w).set.CanPromote = Opt[bool]{} }, 2 * time.Second, EventPrimaryDead},
		{"promotable", Unknown, nil, func(w *world) { b(w).set.RecoveryMinApplyDelay = Opt[time.Duration]{} }, 2 * time.Second, EventPrimaryDead},
		{"target_can_commit", Pass, nil, nil, 0, EventPrimaryDead},
		{"target_can_commit", Pass, nil, func(w *world) { b(w).set.SynchronousStandbyNames = Some("*") }, 2 * time.Second, EventPrimaryDead},
		{"target_can_commit", Fail, nil, func(w *world) { b(w).set.SynchronousStandbyNames, b(w).set.CanSetSyncNames = Some("*"), Some(false) }, 2 * time.Second, EventPrimaryDead},
		{"target_can_commit", Unknown, nil, func(w *world) { b(w).set.SynchronousStandbyNames, b(w).set.CanSetSyncNames = Some("*"), Opt[bool]{} }, 2 * time.Second, EventPrimaryDead},
		{"target_can_commit", Unknown, nil, func(w *world) { b(w).set.SynchronousStandbyNames = Opt[string]{} }, 2 * time.Second, EventPrimaryDead},
		{"prober_trustworthy", Pass, nil, nil, 0, EventPrimaryDead},
		{"prober_trustworthy", Fail, nil, func(w *world) { w.jump(time.Minute); w.step(Tick{At: w.now}) }, 0, EventPrimaryDead},
		{"prober_trustworthy", Fail, nil, func(w *world) { b(w).stalled = true }, 2 * time.Second, EventPrimaryDead},
		{"state_durable", Pass, nil, nil, 0, EventPrimaryDead},
		{"state_durable", Fail, nil, func(w *world) { w.disk = "no space left on device"; a(w).role = RoleStandby }, 2 * time.Second, EventPrimaryDead},
		{"automation_on", Pass, nil, nil, 0, EventPrimaryDead},
		{"automation_on", Fail, nil, func(w *world) { a(w).fresh = attemptOf("28P01") }, 2 * time.Second, EventPrimaryDead},
		{"automation_on", Fail, nil, func(w *world) { b(w).fresh = attemptOf("3D000") }, 2 * time.Second, EventPrimaryDead},
		{"approved", Fail, nil, nil, 0, EventPrimaryDead},
		{"approved", Fail, func(c *Config) { c.Mode = ModeManual }, nil, 0, EventPrimaryDead},
		{"approved", Pass, func(c *Config) { c.Mode = ModeAuto }, nil, 0, EventPrimaryDead},
		{"loss_allowed", Pass, nil, nil, 0, EventPrimaryDead},
		{"loss_allowed", Fail, func(c *Config) { c.RequireLossless = true }, nil, 0, EventPrimaryDead},
		{"loss_allowed", Pass, func(c *Config) { c.RequireLossless = true }, quorumOf("ANY 1 (region-b)"), 2 * time.Second, EventPrimaryDead},
		{"loss_allowed", Fail, func(c *Config) { c.RequireLossless = true }, quorumOf("ANY 1 (region-b, archive)"), 2 * time.Second, EventPrimaryDead},
		{"loss_allowed", Pass, func(c *Config) { c.RequireLossless = true }, nil, 0, EventSwitchover},
		{"not_flapping", Pass, nil, nil, 0, EventPrimaryDead},
		{"not_flapping", Fail, nil, func(w *world) { w.e.rec.LastAutomatic = Some(w.now) }, 0, EventPrimaryDead},
		{"not_flapping", Pass, func(c *Config) { c.AntiFlap = time.Second }, func(w *world) { w.e.rec.LastAutomatic = Some(w.now) }, 2 * time.Second, EventPrimaryDead},
		{"not_flapping", Pass, func(c *Config) { c.AntiFlap = 0 }, func(w *world) { w.e.rec.LastAutomatic = Some(w.now) }, 0, EventPrimaryDead},
		{"quorum", NotNeeded, nil, nil, 0, EventPrimaryDead},
		{"old_writer_fenced", NotNeeded, nil, nil, 0, EventPrimaryDead},
		{"old_writer_fenced", Fail, func(c *Config) { c.RequireFence = true }, nil, 0, EventPrimaryDead},
		{"old_writer_fenced", Pass, func(c *Config) { c.RequireFence, c.FenceHook = true, true }, nil, 0, EventPrimaryDead},
	} {
		w := pair(t, c.cfg)
		if c.do != nil {
			c.do(w)
		}
		if c.wait > 0 {
			w.run(c.wait)
		}
		d := w.e.Decide(Question{Event: c.ask})
		got := judged(t, d, c.name)
		if got.Verdict != c.want || got.Explanation == "" {
			t.Errorf("%s: %s (%s), want %s", c.name, got.Verdict, got.Explanation, c.want)
		}
		covered[c.name+" "+c.want.String()] = true
	}
	for _, doc := range CriterionDocs() {
		for _, v := range []Verdict{Pass, Fail, Unknown} {
			if !covered[doc.Name+" "+v.String()] && !cannotHappen[doc.Name+" "+v.String()] {
				t.Errorf("no case shows %s: %s", doc.Name, v)
			}
		}
	}
}

var covered = map[string]bool{}

// cannotHappen are verdicts that a criterion never has, with the reason.
var cannotHappen = map[string]bool{
	"prober_trustworthy unknown": true, // shown in testdata/probes_stop_coming.txt
	"state_durable unknown":      true, // it is written or it is not
	"automation_on unknown":      true, // a probe was refused or it was not
	"approved unknown":           true, // the mode is known
	"loss_allowed unknown":       true, // not proven is not allowed
	"not_flapping unknown":       true, // the record is known
	"quorum pass":                true, // there is one proxy
	"quorum fail":                true,
	"quorum unknown":             true,
	"old_writer_fenced unknown":  true, // it is known whether there is a way to fence
}

func TestUnknownNeverPasses(t *testing.T) {
	w := pair(t, func(c *Config) { c.Mode = ModeAuto })
	if d := w.e.Decide(Question{Event: EventPrimaryDead}); !d.Safe || d.Risk != RiskMedium || d.Lossless != LosslessBounded {
		t.Fatalf("a healthy pair is %s", decisionText(d))
	}
	for name, change := range map[string]func(*Observation){
		"timeline":                  func(o *Observation) { o.Timeline = Opt[uint32]{} },
		"system identifier":         func(o *Observation) { o.SystemID = Opt[string]{} },
		"received position":         func(o *Observation) { o.ReceivedLSN = Opt[LSN]{} },
		"replayed position":         func(o *Observation) { o.ReplayedLSN = Opt[LSN]{} },
		"pause":                     func(o *Observation) { o.ReplayPaused = Opt[string]{} },
		"receiver":                  func(o *Observation) { o.Receiver = Opt[Receiver]{} },
		"role":                      func(o *Observation) { o.Role = RoleUnknown },
		"max_connections":           func(o *Observation) { o.Settings.MaxConnections = Opt[int]{} },
		"max_worker_processes":      func(o *Observation) { o.Settings.MaxWorkerProcesses = Opt[int]{} },
		"max_wal_senders":           func(o *Observation) { o.Settings.MaxWalSenders = Opt[int]{} },
		"max_prepared_transactions": func(o *Observation) { o.Settings.MaxPreparedTransactions = Opt[int]{} },
		"max_locks_per_transaction": func(o *Observation) { o.Settings.MaxLocksPerTransaction = Opt[int]{} },
		"pg_promote":                func(o *Observation) { o.Settings.CanPromote = Opt[bool]{} },
		"apply delay":               func(o *Observation) { o.Settings.RecoveryMinApplyDelay = Opt[time.Duration]{} },
		"synchronous names":         func(o *Observation) { o.Settings.SynchronousStandbyNames = Opt[string]{} },
	} {
		w := pair(t, func(c *Config) { c.Mode = ModeAuto })
		o := w.probe(w.server("region-b"))
		change(&o)
		w.step(Observed{At: w.now, Observation: o})
		d := w.e.Decide(Question{Event: EventPrimaryDead})
		if d.Safe {
			t.Errorf("without the standby's %s a promotion is SAFE", name)
		}
		if s := w.e.Status(); s.State == StandbyReady {
			t.Errorf("without the standby's %s the state is %s", name, s.State)
		}
	}
}

func TestWitness(t *testing.T) {
	known := func(timeout, age time.Duration, status string) Observation {
		o := condStandby1.observation("region-b", 0)
		o.Settings.WalReceiverTimeout = Some(timeout)
		o.Receiver = Some(Receiver{Running: true, Status: status, MessageAge: Some(age)})
		return o
	}
	ageless := known(5*time.Second, 0, receiverStreaming)
	ageless.Receiver.V.MessageAge = Opt[time.Duration]{}
	defaults := known(0, 31*time.Second, receiverStreaming)
	defaults.Settings.WalReceiverTimeout = Opt[time.Duration]{}
	gone := condStandbyLost.observation("region-b", 0)
	young := gone
	young.StartedAgo = Some(6 * time.Second)
	ancient := gone
	ancient.StartedAgo = Opt[time.Duration]{}
	old := gone
	old.StartedAgo = Some(8 * time.Second)
	for name, c := range map[string]struct {
		o        Observation
		streamed bool
		want     Verdict
	}{
		"streams": {known(5*time.Second, time.Second, receiverStreaming), false, Fail},
		"heard within half the timeout and a little": {known(5*time.Second, 4500*time.Millisecond, receiverStreaming), false, Fail},
		"heard longer ago":                           {known(5*time.Second, 4600*time.Millisecond, receiverStreaming), false, Pass},
		"the default timeout where it is not known":  {defaults, false, Fail},
		"no timeout, heard lately":                   {known(0, 20*time.Second, receiverStreaming), false, Fail},
		"no timeout, heard long ago":                 {known(0, 33*time.Second, receiverStreaming), false, Unknown},
		"no age":                                     {ageless, false, Unknown},
		"waiting":                                    {known(5*time.Second, time.Second, "waiting"), false, Unknown},
		"gone after having streamed":                 {young, true, Pass},
		"gone right after its own start":             {young, false, Unknown},
		"gone, long after its own start":             {old, false, Pass},
		"gone, its start is not known":               {ancient, false, Unknown},
		"a primary is no witness":                    {condPrimary1.observation("region-b", 0), false, Unknown},
		"silence is no witness":                      {condSilent.observation("region-b", 0), false, Unknown},
	} {
		e := New(testConfig("region-a", "region-b"), NewRecord(), Opt[LastKnown]{})
		v := &e.views[1]
		v.take(0, c.o, false)
		v.streamed = v.streamed || c.streamed
		if c.o.Receiver.Known && !c.o.Receiver.V.Running {
			v.streamed = c.streamed
		}
		if got := e.witness(v); got.verdict != c.want || got.statements == "" {
			t.Errorf("%s: %s (%s), want %s", name, got.verdict, got.statements, c.want)
		}
	}
}
