package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pgtether/pgtether/decision"
)

// recorded is a bundle of a whole failover, made without a clock, a disk or a loop.
func recorded(t testing.TB) []byte {
	t.Helper()
	r, e, at := stoppedRecorder(t)
	step := func(ev decision.Event) {
		for queue := []decision.Event{ev}; len(queue) > 0; queue = queue[1:] {
			actions := e.Step(queue[0])
			r.stepped(e, queue[0], actions)
			for _, a := range actions {
				switch a := a.(type) {
				case decision.Persist, decision.Cut:
					queue = append(queue, decision.Completed{At: *at, ActionID: a.Head().ID})
				}
			}
			r.performed()
		}
	}
	look(at, step, false, 2)
	if r.on {
		t.Fatal("the recorder is on while the writer is open")
	}
	look(at, step, true, 4)
	step(decision.Commanded{At: *at, CommandID: 1, Command: decision.Pause{}})
	step(decision.Commanded{At: *at, CommandID: 2, Command: decision.Approve{Epoch: 9, Target: "region-b", Override: []string{"lag_within_limit"}}})
	cfg := pairConfig(decision.ModeManual)
	cfg.MaxLagBytes = 1
	step(decision.Reconfigured{At: *at, Config: cfg})
	if !r.on || len(r.draft.steps) < 12 {
		t.Fatalf("recording %v, %d steps", r.on, len(r.draft.steps))
	}
	r.decide(e, MomentHalted)
	file, err := layOut(bundleHead{Version: "v0.0.0-test", StateID: "id", Epoch: 1, Outcome: OutcomeHalted, ClockBegan: r.clock.Wall(0).UTC()}, r.draft.snapshot,
		r.draft.steps, r.draft.decisions, []Event{{Seq: 1, Kind: "cut"}})
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func stoppedRecorder(t testing.TB) (*recorder, *decision.Engine, *decision.Instant) {
	t.Helper()
	e := decision.New(pairConfig(decision.ModeObserve), decision.NewRecord(), decision.Opt[decision.LastKnown]{})
	events, err := OpenEventLog(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = events.Close() })
	r := &recorder{evidence: Evidence{Render: renderPlainly}, clock: NewClock(), events: events, maxSteps: maxRecordedSteps, maxBytes: maxRecordedBytes,
		files: newEvidenceFiles(t.TempDir(), nil)}
	r.start(e)
	return r, e, new(decision.Instant)
}

// look hands in rounds of a pair, of which the primary may be dead.
func look(at *decision.Instant, step func(decision.Event), dead bool, seconds int) {
	b := &bench{clock: NewClock()}
	for range seconds {
		*at = at.Add(300 * time.Millisecond)
		for _, n := range []string{"region-a", "region-b"} {
			o := b.observation(n, map[string]decision.Role{"region-a": decision.RolePrimary, "region-b": decision.RoleStandby}[n], 1)
			if o.Began = *at; dead && n == "region-a" {
				no := decision.Attempt{Evidence: decision.Silent, Detail: "timeout <&>\u2028"}
				o = decision.Observation{Node: n, Began: *at, Persistent: no, Fresh: no, Replication: no}
			}
			step(decision.Observed{At: *at, Observation: o})
		}
		step(decision.Tick{At: *at, DataPlane: decision.DataPlane{Relaxed: decision.Some(uint64(1<<63 + 1))}})
	}
}

func TestEveryKindOfEventSurvivesItsRendering(t *testing.T) {
	for _, ev := range []decision.Event{
		decision.Tick{At: 1, DataPlane: decision.DataPlane{Heard: decision.Some(decision.Instant(3)), Relaxed: decision.Some(uint64(1<<64 - 1))}},
		decision.Observed{At: 2, Observation: (&bench{clock: NewClock()}).observation("region-b", decision.RoleStandby, 2)},
		decision.Completed{At: 3, ActionID: 4, Outcome: decision.Outcome{Err: "no <&>", Detail: "d", LastByte: decision.Some(decision.Instant(1)),
			Sessions: decision.SessionCounts{Ended: 5}}},
		decision.Reconfigured{At: 4, Config: engineConfig()},
		decision.Commanded{At: 5, CommandID: 6, Command: decision.Approve{Epoch: 7, Target: "region-b", Override: []string{"a", "b"}}},
		decision.Commanded{At: 5, CommandID: 6, Command: decision.Resolve{Epoch: 7, Writer: "region-b"}},
		decision.Commanded{Command: decision.Abort{}}, decision.Commanded{Command: decision.Pause{}}, decision.Commanded{Command: decision.Resume{}},
	} {
		encoded, err := encodeEvent(ev)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeEvent(encoded)
		if err != nil || !reflect.DeepEqual(got, ev) {
			t.Errorf("%s\ngot  %+v, %v\nwant %+v", encoded.Value, got, err, ev)
		}
	}
	for _, foreign := range []tagged{{Type: "Rumour"}, {Type: "Tick", Value: json.RawMessage(`[]`)}, {Type: "Reconfigured", Value: json.RawMessage(`{}`)},
		{Type: "Commanded", Value: json.RawMessage(`{"Command":{"type":"Wish","value":{}}}`)}} {
		if ev, err := decodeEvent(foreign); !errors.Is(err, ErrBundle) {
			t.Errorf("%+v was read as %+v, %v", foreign, ev, err)
		}
	}
}

func TestAnyActionThatChangesChangesTheDigest(t *testing.T) {
	seen := map[string]int{}
	for i, actions := range [][]decision.Action{
		nil, {decision.Hold{}}, {decision.Hold{Refuse: true}}, {decision.Hold{}, decision.Hold{}}, {decision.Open{Epoch: 1}}, {decision.Open{Epoch: 2}},
		{decision.Persist{}}, {decision.Persist{Record: decision.NewRecord()}}, {decision.Note{Message: "a"}},
		{decision.Note{Message: "a", Operands: []decision.Operand{{Key: "k", Value: true}}}},
	} {
		sum, names, err := digest(actions)
		if err != nil || len(names) != len(actions) {
			t.Fatal(err, names)
		}
		if other, ok := seen[sum]; ok {
			t.Errorf("lists %d and %d have the same digest", i, other)
		}
		seen[sum] = i
	}
}

func TestABundleThatWasTamperedWithIsDetected(t *testing.T) {
	file := recorded(t)
	b, err := ReadBundle(file)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := b.Replay(renderPlainly); err != nil || r.Steps != len(b.Steps) || r.Decisions != 1 {
		t.Fatalf("untouched: %+v, %v", r, err)
	}
	change := func(old, new string) func([]byte) []byte {
		return func(b []byte) []byte {
			if !bytes.Contains(b, []byte(old)) {
				t.Fatalf("%q is not in the bundle", old)
			}
			return bytes.Replace(b, []byte(old), []byte(new), 1)
		}
	}
	inSteps := func(spoil func([]byte) []byte) func([]byte) []byte {
		return func(b []byte) []byte {
			i := bytes.Index(b, []byte(`"steps":`))
			return append(bytes.Clone(b[:i]), spoil(b[i:])...)
		}
	}
	for name, c := range map[string]struct {
		spoil func([]byte) []byte
		want  error
	}{
		"cut short":              {func(b []byte) []byte { return b[:len(b)-20] }, ErrBundle},
		"empty":                  {func([]byte) []byte { return nil }, ErrBundle},
		"a state file":           {func([]byte) []byte { return []byte(`{"version":1,"state_id":"x","sha256":"y","body":{}}`) }, ErrBundle},
		"of a later format":      {change(`"pgtether_evidence": 1`, `"pgtether_evidence": 2`), ErrBundleVersion},
		"with another fact":      {change(`"timeout `, `"resets `), ErrBundle},
		"with another time":      {change(`"clock_began":"2`, `"clock_began":"1`), ErrBundle},
		"with another decision":  {change(`"moment":"halted"`, `"moment":"opened"`), ErrBundle},
		"with another checksum":  {change(`"sha256": "`, `"sha256": "0`), ErrBundle},
		"with a space elsewhere": {change(`"Detail":""`, `"Detail":" "`), ErrBundle},
	} {
		if _, err := ReadBundle(c.spoil(bytes.Clone(file))); !errors.Is(err, c.want) {
			t.Errorf("a bundle %s: %v, want %v", name, err, c.want)
		}
	}
	// Whoever makes the checksum fit is found out by the engine.
	for name, c := range map[string]struct {
		spoil func([]byte) []byte
		want  error
	}{
		"with another fact":              {inSteps(change(`"evidence":3,"detail"`, `"evidence":2,"detail"`)), ErrDiffers},
		"with another digest":            {change(`"sha256":"`, `"sha256":"0`), ErrDiffers},
		"with time that goes back":       {change(`"type":"Tick","value":{"At":`, `"type":"Tick","value":{"At":-`), ErrDiffers},
		"with another decision":          {change(`"Safe":false`, `"Safe":true`), ErrDiffers},
		"with a space in the decision":   {change(`"Explanation":"`, `"Explanation":" `), ErrDiffers},
		"with another mode":              {change(`"Mode":1`, `"Mode":3`), ErrDiffers},
		"with an engine of another time": {change(`"snapshot": {"Version":2`, `"snapshot": {"Version":7`), ErrBundleVersion},
		"with an engine that cannot be":  {change(`"Step":"confirming"`, `"Step":"dancing"`), ErrBundle},
		"with a decision out of place":   {change(`"after_steps":`, `"after_steps":9`), ErrBundle},
		"with an event nobody knows":     {change(`"type":"Tick"`, `"type":"Tock"`), ErrBundle},
	} {
		body := c.spoil(bytes.Clone(bodyOf(t, file)))
		b, err := ReadBundle(seal(body))
		if err == nil {
			_, err = b.Replay(renderPlainly)
		}
		if !errors.Is(err, c.want) {
			t.Errorf("a bundle %s, sealed again: %v, want %v", name, err, c.want)
		}
		if errors.Is(err, ErrDiffers) && !strings.Contains(err.Error(), "step ") {
			t.Errorf("a bundle %s: %v does not say where", name, err)
		}
	}
}

func bodyOf(t testing.TB, file []byte) []byte {
	t.Helper()
	var f bundleFile
	if err := json.Unmarshal(file, &f); err != nil {
		t.Fatal(err)
	}
	return f.Body
}

// smallBundle is one of an engine that has just been made: the fuzzer is slow on long inputs.
func smallBundle(t testing.TB) []byte {
	t.Helper()
	r, e, at := stoppedRecorder(t)
	for _, ev := range []decision.Event{decision.Tick{At: *at}, decision.Completed{At: *at, ActionID: 1}, decision.Commanded{At: *at, Command: decision.Pause{}}} {
		r.stepped(e, ev, e.Step(ev))
	}
	r.decide(e, MomentHalted)
	file, err := layOut(bundleHead{Epoch: 1}, r.draft.snapshot, r.draft.steps, r.draft.decisions, nil)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// FuzzBundle: whatever a file holds, reading and replaying it ends with an answer, and one that replays whole is told whole.
func FuzzBundle(f *testing.F) {
	f.Add(bodyOf(f, smallBundle(f)))
	f.Add([]byte(`{"snapshot":{"Version":2}}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, body []byte) {
		_, _ = ReadBundle(body)
		b, err := ReadBundle(seal(body))
		if err != nil {
			return
		}
		r, err := b.Replay(renderPlainly)
		if err == nil && (r.Steps != len(b.Steps) || r.Decisions != len(b.Decisions)) {
			t.Fatalf("%d of %d steps, %d of %d decisions, and no error", r.Steps, len(b.Steps), r.Decisions, len(b.Decisions))
		}
		if err != nil && !errors.Is(err, ErrDiffers) && !errors.Is(err, ErrBundle) && !errors.Is(err, decision.ErrSnapshot) {
			t.Fatalf("an error of no kind: %v", err)
		}
	})
}

func BenchmarkRecordWhileOpen(b *testing.B)   { benchmarkRecord(b, false) }
func BenchmarkRecordWhileClosed(b *testing.B) { benchmarkRecord(b, true) }

// benchmarkRecord is what one observation, and what it leads to, costs the recorder.
func benchmarkRecord(b *testing.B, closed bool) {
	r, e, at := stoppedRecorder(b)
	var ev decision.Event
	var actions []decision.Action
	step := func(in decision.Event) {
		for queue := []decision.Event{in}; len(queue) > 0; queue = queue[1:] {
			got := e.Step(queue[0])
			r.stepped(e, queue[0], got)
			for _, a := range got {
				if _, ok := a.(decision.Persist); ok {
					queue = append(queue, decision.Completed{At: *at, ActionID: a.Head().ID})
				}
			}
			if _, ok := queue[0].(decision.Observed); ok {
				ev, actions = queue[0], got
			}
			r.performed()
		}
	}
	look(at, step, false, 3)
	if closed {
		look(at, step, true, 1)
	}
	if r.on != closed {
		b.Fatal(fmt.Sprint("recording: ", r.on))
	}
	r.maxSteps, r.maxBytes = 1<<30, 1<<40
	b.ReportAllocs()
	for b.Loop() {
		r.stepped(e, ev, actions)
		r.draft.steps = r.draft.steps[:0]
	}
}

// BenchmarkPointOfNoReturn is what the recorder adds to the way of a promotion: the decision is kept, and the bundle handed over for writing.
func BenchmarkPointOfNoReturn(b *testing.B) {
	r, e, at := stoppedRecorder(b)
	step := func(ev decision.Event) { r.stepped(e, ev, e.Step(ev)) }
	look(at, step, true, 30)
	ev := decision.Tick{At: *at}
	actions := []decision.Action{decision.Persist{Record: decision.Record{Promotion: decision.Some(decision.Promotion{Epoch: 2})}},
		decision.Note{Kind: decision.NotePromotionRequested, From: decision.PrimaryFailed, To: decision.PrimaryFailed}}
	r.maxBytes = 1 << 40
	b.ReportAllocs()
	for b.Loop() {
		r.turned = 0
		r.stepped(e, ev, actions)
		r.performed()
		r.draft.decisions, r.draft.steps, r.files.waiting = nil, r.draft.steps[:60], nil
	}
}
