package decision

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"time"
)

func fullRecord() Record {
	return Record{Version: RecordVersion, Epoch: 7, Phase: PhaseDrain, Previous: "region-c",
		Writer: Writer{Node: "region-a", Address: "10.0.0.11:5432", SystemID: ourSystem, Timeline: 2, History: Some([]TimelineSwitch{{1, 0x3000000}})},
		Next: Some(Writer{Node: "region-b", Address: "10.0.0.12:5432", SystemID: ourSystem, Timeline: 3,
			History: Some([]TimelineSwitch{{1, 0x3000000}, {2, 0x4000000}})}),
		LastChange: Some(Change{At: Instant(time.Minute), Kind: ChangeAdopted, From: "region-c", To: "region-a", Epoch: 7, Lossless: LosslessBounded,
			LossBytes: Some(uint64(17)), LossFrom: Some(LSN(0x10)), LossTo: Some(LSN(0x21)), Sessions: SessionCounts{Ended: 3},
			Steps: []StepTime{{Confirming, time.Second}, {Opening, time.Millisecond}}}),
		LastAutomatic: Some(Instant(time.Second)),
	}
}

func TestARecordSurvivesTheStateFile(t *testing.T) {
	want := fullRecord()
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Record
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("came back as\n%+v\nwant\n%+v", got, want)
	}
	if err := json.Unmarshal([]byte(`{"phase":"rewinding"}`), &got); !errors.Is(err, ErrWord) {
		t.Errorf("an unknown phase is read without a word: %v", err)
	}
	k := LastKnown{Epoch: 7, Node: "region-a", LSN: 0x3000000, At: Some(Instant(time.Second)), Rate: Some(uint64(5)), Sync: Some([]string{"region-b"}),
		Settings: healthySettings()}
	if b, err = json.Marshal(k); err != nil {
		t.Fatal(err)
	}
	var back LastKnown
	if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(back, k) {
		t.Errorf("the last known position came back as %+v, %v", back, err)
	}
}

func TestARecordThatContradictsItselfIsRefused(t *testing.T) {
	if err := fullRecord().Validate(); err != nil {
		t.Fatal(err)
	}
	if err := NewRecord().Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Record){
		"another version":        func(r *Record) { r.Version = 2 },
		"an unknown phase":       func(r *Record) { r.Phase = 9 },
		"an epoch but no phase":  func(r *Record) { r.Phase = PhaseNone },
		"a phase but no epoch":   func(r *Record) { r.Epoch = 0 },
		"no node":                func(r *Record) { r.Writer.Node = "" },
		"no address":             func(r *Record) { r.Writer.Address = "" },
		"no system identifier":   func(r *Record) { r.Writer.SystemID = "" },
		"no timeline":            func(r *Record) { r.Writer.Timeline = 0 },
		"nothing of what it was": func(r *Record) { *r = Record{} },
	} {
		r := fullRecord()
		change(&r)
		if err := r.Validate(); !errors.Is(err, ErrRecord) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestANewRunMovesTheInstantsOfTheOldOne(t *testing.T) {
	r := fullRecord()
	moved := r.Shift(-90 * time.Second)
	if moved.LastChange.V.At != Instant(-30*time.Second) || moved.LastAutomatic.V != Instant(-89*time.Second) {
		t.Errorf("moved to %v and %v", moved.LastChange.V.At, moved.LastAutomatic.V)
	}
	if r.LastChange.V.At != Instant(time.Minute) {
		t.Error("the original moved too")
	}
	moved.Writer.History.V[0].At, moved.LastChange.V.Steps[0].Took = 1, 0
	if !reflect.DeepEqual(r, fullRecord()) {
		t.Error("the copy shares memory with the original")
	}
	k := LastKnown{LSN: 5}.Shift(-time.Second)
	if k.At.Known {
		t.Error("an unknown instant became known")
	}
}

func TestWordsAreReadAsTheyAreWritten(t *testing.T) {
	for _, s := range append(Steps(), StepNone) {
		b, _ := s.MarshalText()
		var back Step
		if err := back.UnmarshalText(b); err != nil || back != s {
			t.Errorf("step %q is read as %q, %v", s, back, err)
		}
	}
	var s Step
	if err := s.UnmarshalText([]byte("rewinding")); !errors.Is(err, ErrWord) {
		t.Errorf("an unknown step: %v", err)
	}
	for _, w := range []string{State(0).String(), Mode(0).String(), Phase(9).String(), Step(99).String(), situation(0).String()} {
		if w != "INVALID" && w != "invalid" {
			t.Errorf("a value that is none prints as %q", w)
		}
	}
}

func TestTheForkOfATimelineIsItsLastSwitch(t *testing.T) {
	if f := fullRecord().Writer.Fork(); f != Some(LSN(0x3000000)) {
		t.Errorf("forked at %v", f)
	}
	if f := (Writer{Timeline: 1, History: Some([]TimelineSwitch(nil))}).Fork(); f.Known {
		t.Errorf("timeline 1 forked at %v", f)
	}
	if f := (Writer{Timeline: 2}).Fork(); f.Known {
		t.Errorf("an unread history forked at %v", f)
	}
}
