package main

import (
	"context"
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgtether/pgtether/decision"
	"github.com/pgtether/pgtether/internal/config"
	"github.com/pgtether/pgtether/internal/control"
	"github.com/pgtether/pgtether/internal/metrics"
	"github.com/pgtether/pgtether/internal/pgwire"
	"github.com/pgtether/pgtether/proxy"
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

func TestRelaxedCommitsAreKnownOfTheEpochThatWasOpenedLast(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	file := config.Default()
	server, err := proxy.New(file.Proxy(), proxy.Deps{Metrics: metrics.New(prometheus.NewRegistry(), metrics.Labels{}).Proxy, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Shutdown(context.Background()) })
	r := &router{server: server, log: log}
	if got := r.DataPlane().Relaxed; got != -1 {
		t.Errorf("before the first epoch: %d", got)
	}
	r.Open(1, "region-a", "127.0.0.1:1", decision.LosslessUnknown, func(decision.SessionCounts) {})
	if got := r.DataPlane().Relaxed; got != 0 {
		t.Errorf("of an epoch without commits: %d", got)
	}
	r.Cut(1, decision.CutWriterLost)
	if got := r.DataPlane().Relaxed; got != 0 {
		t.Errorf("after the cut: %d", got)
	}
	server.Cut(2, pgwire.WriterLost)
	r.Open(2, "region-b", "127.0.0.1:2", decision.LosslessUnknown, func(decision.SessionCounts) {}) // refused
	if got := r.DataPlane().Relaxed; got != -1 {
		t.Errorf("of an epoch that could not be opened: %d", got)
	}
}
