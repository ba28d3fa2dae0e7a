package main

import (
	"testing"

	"github.com/pgtether/pgtether/decision"
	"github.com/pgtether/pgtether/internal/control"
)

// A cancel request makes a server report a commit as done that only one node has, when it hits a commit that waits for a standby.
func TestCancelsAreLetThroughOnlyWhereNoCommitCanBeWaitingForAMissingStandby(t *testing.T) {
	open := func(names decision.Opt[string], sync decision.Opt[[]string]) decision.Status {
		last := decision.LastKnown{Epoch: 3, Node: "region-a", Sync: sync}
		last.Settings.SynchronousStandbyNames = names
		return decision.Status{Epoch: decision.Some(uint64(3)), Writes: decision.WritesOpen, LastKnown: decision.Some(last)}
	}
	unknownNames, unknownSync := decision.Opt[string]{}, decision.Opt[[]string]{}
	none := decision.Some([]string{})
	one := decision.Some([]string{"region-b"})
	held := open(decision.Some(""), none)
	held.Writes = decision.WritesHeld
	neverSeen := open(decision.Some(""), none)
	neverSeen.LastKnown = decision.Opt[decision.LastKnown]{}
	for _, c := range []struct {
		name   string
		status decision.Status
		epoch  uint64
		want   bool
	}{
		{"asynchronous", open(decision.Some(""), none), 3, true},
		{"asynchronous, standbys unknown", open(decision.Some(""), unknownSync), 3, true},
		{"synchronous with its standby", open(decision.Some("*"), one), 3, true},
		{"synchronous without its standby", open(decision.Some("*"), none), 3, false},
		{"synchronous, standbys unknown", open(decision.Some("*"), unknownSync), 3, false},
		{"nobody knows whether it is synchronous", open(unknownNames, one), 3, false},
		{"the writer was never seen", neverSeen, 3, false},
		{"logins are held", held, 3, false},
		{"another epoch", open(decision.Some(""), none), 2, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &router{view: func() control.View { return control.View{Status: c.status} }}
			if got := r.cancelAllowed(c.epoch); got != c.want {
				t.Errorf("allowed %v, want %v", got, c.want)
			}
		})
	}
}

func TestAWriterThatWasNotOpenedHereIsNotCalledAlive(t *testing.T) {
	status := decision.Status{Epoch: decision.Some(uint64(1)), SystemID: decision.Some("7"), Timeline: decision.Some(uint32(1))}
	r := &router{view: func() control.View { return control.View{Status: status} }, probes: &probes{}}
	if r.writerAlive(t.Context(), 1) {
		t.Error("no route was ever opened")
	}
}
