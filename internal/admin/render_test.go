package admin

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/pgtether/pgtether/decision"
)

// fullWorld has a value for everything that can be known.
func fullWorld() *world {
	w := newWorld()
	w.sessions = Sessions{Open: 10, Active: 2, Idle: 5, InTransaction: 2, Held: 4, Read: 0, Opaque: 1}
	w.status = decision.Status{
		At: instant(90 * time.Second), Mode: decision.ModeObserve, Automation: decision.AutomationOff, AutomationReason: "mode observe",
		State: decision.NewPrimary, Since: instant(80 * time.Second), Epoch: decision.Some(uint64(7)), Writer: decision.Some("region-b"),
		Writes: decision.WritesOpen, SystemID: decision.Some("7301234567890123456"), Timeline: decision.Some(uint32(2)),
		Nodes: []decision.NodeStatus{
			{
				Name: "region-a", Address: "10.0.0.11:5432", Role: decision.RolePrimary, Evidence: decision.Answers, EvidenceDetail: "answers",
				Quarantine: "timeline 1 was left at 0/3000060", SystemID: decision.Some("7301234567890123456"), Timeline: decision.Some(uint32(1)),
				CurrentLSN: decision.Some(decision.LSN(0x3000148)), DivergenceBytes: decision.Some(uint64(232)),
				ObservedAge: decision.Some(312 * time.Millisecond),
			},
			{
				Name: "region-b", Address: "10.0.0.12:5432", Role: decision.RoleStandby, Evidence: decision.Answers, EvidenceDetail: "answers",
				SystemID: decision.Some("7301234567890123456"), Timeline: decision.Some(uint32(2)),
				ReceivedLSN: decision.Some(decision.LSN(0x1_03000060)), ReplayedLSN: decision.Some(decision.LSN(0x1_03000000)),
				LagBytes: decision.Some(uint64(0)), ReplayLag: decision.Some(1500 * time.Millisecond), SyncState: decision.Some("sync"),
				Streaming: decision.Some(true), ObservedAge: decision.Some(10 * time.Millisecond),
			},
		},
		Degraded: []string{"the last probe of region-b is 1.2 s old"}, Message: "region-b is the writer; region-a is not back as its standby",
		CrashLossBytes: decision.Some(uint64(4096)),
		LastKnown: decision.Some(decision.LastKnown{
			Epoch: 7, Node: "region-b", LSN: 0x1_03000060, At: decision.Some(instant(89 * time.Second)), Rate: decision.Some(uint64(1 << 20)),
			Sync: decision.Some([]string{}),
		}),
		LastChange: decision.Some(decision.Change{
			At: instant(80 * time.Second), Kind: decision.ChangeAdopted, From: "region-a", To: "region-b", Epoch: 7, Lossless: decision.LosslessBounded,
			LossBytes: decision.Some(uint64(96)), LossCommits: decision.Some(uint64(1)), LossFrom: decision.Some(decision.LSN(0x3000060)),
			LossTo: decision.Some(decision.LSN(0x30000C0)), RelaxedCommits: decision.Some(uint64(0)),
			Sessions: decision.SessionCounts{Moved: 0, Ended: 12, Refused: 3},
			Steps:    []decision.StepTime{{Step: decision.Cutting, Took: 4 * time.Millisecond}, {Step: decision.Opening, Took: 1999 * time.Microsecond}},
		}),
	}
	w.decision = fullDecision()
	w.whatIf = func(context.Context, decision.Question) (decision.Decision, error) { return fullDecision(), nil }
	w.command = func(context.Context, decision.Command) (CommandReply, error) {
		return CommandReply{Message: "automatic failover is paused until it is resumed", Decision: fullDecision()}, nil
	}
	w.reload = func(context.Context) (Reloaded, error) {
		return Reloaded{Changes: []string{"limits.max_clients: 100 -> 200"}, Warnings: []string{"pgtether.toml: node: only one node is configured"}}, nil
	}
	epoch := uint64(7)
	w.events = []Event{
		{Seq: 1, At: startedAt, StateTo: "PRIMARY_FAILED", Step: "adopting", Kind: "transition", Cause: "tick", Message: "no writer was seen yet"},
		{
			Seq: 2, At: startedAt.Add(time.Second), Epoch: &epoch, StateFrom: "PRIMARY_FAILED", StateTo: "PRIMARY_ACTIVE", Kind: "opened", Cause: "observed",
			Message: "region-a <is> the writer", Operands: map[string]json.RawMessage{"lag_bytes": []byte("null"), "node": []byte(`"region-a"`)},
		},
	}
	return w
}

func instant(d time.Duration) decision.Instant { return decision.Instant(d) }

func fullDecision() decision.Decision {
	return decision.Decision{
		At: instant(90 * time.Second), Epoch: decision.Some(uint64(7)), State: decision.StandbyReady, Writer: decision.Some("region-a"),
		Candidate: decision.Some("region-b"), Event: decision.EventPrimaryDead, Safe: false, Risk: decision.RiskHigh,
		Lossless: decision.LosslessBounded, LossBytes: decision.Some(uint64(0)), RelaxedCommits: decision.Some(uint64(3)),
		Criteria: []decision.Criterion{
			{
				Name: "primary_unreachable", Verdict: decision.Fail, Value: "answers", Threshold: "silent or refused", Node: "region-a",
				Age: decision.Some(312 * time.Millisecond), Explanation: "region-a answers",
			},
			{Name: "quorum", Verdict: decision.NotNeeded, Explanation: "one proxy needs no quorum"},
		},
		Blocking: []string{"primary_unreachable"}, NextAction: "nothing: region-a is well",
		IfPrimaryDies: decision.Outlook{Safe: true, Risk: decision.RiskMedium, Lossless: decision.LosslessBounded, LossBytes: decision.Some(uint64(0))},
	}
}

func TestAnswersAreThoseOfTheGoldenFiles(t *testing.T) {
	full, empty := fullWorld(), newWorld()
	empty.stateID = ""
	empty.status = decision.Status{Mode: decision.ModeAuto, State: decision.PrimaryFailed, Step: decision.Adopting,
		Nodes: []decision.NodeStatus{{Name: "region-a", Address: "10.0.0.11:5432"}}}
	empty.decision = decision.Decision{State: decision.PrimaryFailed, Risk: decision.RiskHigh, Lossless: decision.LosslessUnknown,
		IfPrimaryDies: decision.Outlook{Risk: decision.RiskHigh, Lossless: decision.LosslessUnknown}}
	empty.ready, empty.why = false, "the state is not known yet"
	empty.reload = func(context.Context) (Reloaded, error) { return Reloaded{}, nil }
	for kind, w := range map[string]*world{"full": full, "empty": empty} {
		r := start(t, w)
		for _, c := range []struct{ name, method, path, schema string }{
			{"status", "GET", "/status", "Status"},
			{"decision", "GET", "/decision", "Decision"},
			{"events", "GET", "/events", "Events"},
			{"readyz", "GET", "/readyz", "Ready"},
			{"healthz", "GET", "/healthz", "Health"},
			{"reload", "POST", "/admin/reload", "Reload"},
		} {
			a := r.do(c.method, c.path, nil)
			golden(t, c.name+"-"+kind, a.body)
			conforms(t, c.schema, a.body)
			if a.header.Get("Content-Type") != "application/json" {
				t.Errorf("%s has the type %q", c.path, a.header.Get("Content-Type"))
			}
		}
	}
}

// TestAHaltedPromotionIsShownWithTheLastFailover has the status of a proxy that waits for its operator.
func TestAHaltedPromotionIsShownWithTheLastFailover(t *testing.T) {
	w := fullWorld()
	w.status.Mode, w.status.Automation, w.status.AutomationReason = decision.ModeAuto, decision.AutomationPaused, ""
	w.status.State, w.status.Step, w.status.Writes = decision.Promoting, decision.Halted, decision.WritesRefused
	w.status.Writer, w.status.Message = decision.Opt[string]{}, "region-a has not become the writer within 1m0s"
	c := w.status.LastChange.V
	c.Kind, c.Lossless, c.RelaxedCommits = decision.ChangeFailover, decision.LosslessRelaxed, decision.Some(uint64(3))
	c.Steps = nil
	for _, step := range []decision.Step{decision.Confirming, decision.Draining, decision.Cutting, decision.Reprobing, decision.Fencing,
		decision.Sampling, decision.StepPromoting, decision.Verifying, decision.Opening} {
		c.Steps = append(c.Steps, decision.StepTime{Step: step, Took: time.Second})
	}
	w.status.LastChange = decision.Some(c)
	a := start(t, w).do("GET", "/status", nil)
	golden(t, "status-halted", a.body)
	conforms(t, "Status", a.body)
}

func TestEveryStateAndWordOfTheEngineIsDescribed(t *testing.T) {
	w := fullWorld()
	s := New(w.deps())
	check := func(name string, body any) {
		t.Helper()
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		conforms(t, name, string(b))
	}
	for _, state := range decision.States() {
		for _, mode := range []decision.Mode{decision.ModeObserve, decision.ModeManual, decision.ModeAuto} {
			st := w.status
			st.State, st.Mode = state, mode
			for _, st.Automation = range []decision.Automation{decision.AutomationOn, decision.AutomationOff, decision.AutomationPaused} {
				check("Status", s.renderStatus(st, Sessions{}))
			}
		}
	}
	for _, step := range decision.Steps() {
		for _, writes := range []decision.Writes{decision.WritesHeld, decision.WritesOpen, decision.WritesRefused} {
			st := w.status
			st.Step, st.Writes = step, writes
			check("Status", s.renderStatus(st, Sessions{}))
		}
	}
	for _, kind := range []decision.ChangeKind{decision.ChangeFailover, decision.ChangeSwitchover, decision.ChangeAdopted} {
		for _, lossless := range []decision.Lossless{decision.LosslessProven, decision.LosslessRelaxed, decision.LosslessBounded, decision.LosslessUnknown} {
			check("Change", s.renderChange(decision.Change{Kind: kind, Lossless: lossless}))
			for _, risk := range []decision.Risk{decision.RiskLow, decision.RiskMedium, decision.RiskHigh} {
				check("Decision", s.renderDecision(decision.Decision{State: decision.Promoting, Lossless: lossless, Risk: risk, Safe: true,
					IfPrimaryDies: decision.Outlook{Lossless: lossless, Risk: risk}}))
			}
		}
	}
	for _, code := range everyRefusal {
		check("Error", errorBody{errorDetail{Code: string(code)}})
	}
	for _, verdict := range []decision.Verdict{decision.Unknown, decision.Pass, decision.Fail, decision.NotNeeded} {
		d := fullDecision()
		d.Criteria[0].Verdict = verdict
		check("Decision", s.renderDecision(d))
	}
	for _, evidence := range []decision.Evidence{decision.EvidenceUnknown, decision.Answers, decision.Alive, decision.Silent, decision.Refused} {
		for _, role := range []decision.Role{decision.RoleUnknown, decision.RolePrimary, decision.RoleStandby} {
			check("Node", renderNode(decision.NodeStatus{Evidence: evidence, Role: role}))
		}
	}
	for _, kind := range []decision.NoteKind{
		decision.NoteTransition, decision.NoteStep, decision.NoteQuarantined, decision.NoteReleased, decision.NoteCut, decision.NoteOpened,
		decision.NoteReload, decision.NoteStalled, decision.NoteCommand, decision.NoteRefused, decision.NotePromotionRequested,
		decision.NotePromoted, decision.NoteUndone, decision.NoteHalted,
	} {
		check("Event", renderEvent(Event{Seq: 1, Kind: string(kind)}))
	}
}

func TestWritesAreRefusedWhileTheProcessEnds(t *testing.T) {
	w := fullWorld()
	w.exiting, w.ready, w.why = true, false, "draining for exit"
	r := start(t, w)
	if body := r.do("GET", "/status", nil).body; !strings.Contains(body, `"writes": "refused"`) {
		t.Errorf("status says\n%s", body)
	}
	a := r.do("GET", "/readyz", nil)
	if a.status != 503 || !strings.Contains(a.body, "draining for exit") {
		t.Errorf("readyz answers %d\n%s", a.status, a.body)
	}
	if a := r.do("GET", "/healthz", nil); a.status != 200 {
		t.Errorf("healthz answers %d while draining", a.status)
	}
}

func TestAQuestionReachesTheEngineAsItWasAsked(t *testing.T) {
	w := fullWorld()
	var asked []decision.Question
	w.whatIf = func(_ context.Context, q decision.Question) (decision.Decision, error) {
		asked = append(asked, q)
		return fullDecision(), nil
	}
	r := start(t, w)
	for _, path := range []string{"/decision/what-if?event=switchover&to=region-b", "/decision/what-if?event=primary_dead"} {
		a := r.do("GET", path, nil)
		if a.status != 200 {
			t.Errorf("%s answers %d\n%s", path, a.status, a.body)
		}
		conforms(t, "Decision", a.body)
	}
	want := []decision.Question{{Event: decision.EventSwitchover, To: "region-b"}, {Event: decision.EventPrimaryDead}}
	if len(asked) != 2 || asked[0] != want[0] || asked[1] != want[1] {
		t.Errorf("asked %v, want %v", asked, want)
	}
}
