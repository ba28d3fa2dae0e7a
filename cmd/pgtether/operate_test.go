package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgtether/pgtether/decision"
	"github.com/pgtether/pgtether/internal/admin"
)

// stage is a scene with a real admin listener in front of it.
type stage struct {
	*scene
	url string
	mu  sync.Mutex // guards the scene
}

func (s *scene) stage() *stage {
	st := &stage{scene: s}
	st.url = serveAdmin(s.t, admin.Deps{
		Token: func() string { return "" }, Ready: func() (bool, string) { return true, "" }, Exiting: func() bool { return false },
		Status:   func() (v decision.Status) { st.locked(func() { v = s.engine.Status() }); return v },
		Decision: func() (d decision.Decision) { st.locked(func() { d = s.engine.Decide(decision.Question{}) }); return d },
		WhatIf: func(_ context.Context, q decision.Question) (d decision.Decision, err error) {
			st.locked(func() { d = s.engine.Decide(q) })
			return d, nil
		},
		Command: func(_ context.Context, c decision.Command) (r admin.CommandReply, err error) {
			st.locked(func() {
				a := s.tell(c)
				r = admin.CommandReply{Refusal: a.Refusal, Message: a.Message, Decision: s.engine.Decide(decision.Question{})}
			})
			return r, nil
		},
		Plan: func(_ context.Context, c decision.Switch) (steps []decision.PlanStep, refusal decision.Opt[decision.Refusal], err error) {
			st.locked(func() { steps, refusal = s.engine.Plan(c) })
			return steps, refusal, nil
		},
		Preflight: func(context.Context, string) []admin.Finding {
			return []admin.Finding{{Severity: "warning", What: "neither wal_log_hints nor data checksums are on"}}
		},
		Unfenceable:  func(context.Context) string { return "" },
		ListSessions: func(context.Context) []admin.Session { return nil },
		Sessions:     func() admin.Sessions { return admin.Sessions{} },
		Events:       st.eventsSince, EventsNewest: st.eventsNewest, EventsChanged: func() <-chan struct{} { return nil },
		Reload:  func(context.Context) (admin.Reloaded, error) { return admin.Reloaded{}, nil },
		Wall:    func(i decision.Instant) time.Time { return time.Unix(1772352000, 0).Add(time.Duration(i)) },
		Metrics: http.NotFoundHandler(), Log: slog.New(slog.DiscardHandler),
	})
	return st
}

// eventsSince are the notes that the engine has made since.
func (s *stage) eventsSince(since uint64, limit int) (out []admin.Event) {
	s.locked(func() {
		for i, n := range s.notes {
			if seq := uint64(i + 1); seq > since && len(out) < limit {
				out = append(out, admin.Event{Seq: seq, Kind: string(n.Kind), StateFrom: n.From.String(), StateTo: n.To.String(), Step: n.Step.String(), Message: n.Message})
			}
		}
	})
	return out
}

func (s *stage) eventsNewest() (n uint64) {
	s.locked(func() { n = uint64(len(s.notes)) })
	return n
}

func (s *stage) locked(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
}

// runs executes a command line against the admin listener and wants its exit code, and texts on stdout and stderr together.
func (s *stage) runs(code int, args string, want ...string) {
	s.t.Helper()
	var out bytes.Buffer
	if got := run(append(strings.Fields(args), "--admin", s.url), &out, &out); got != code {
		s.t.Fatalf("%s: exit code %d, want %d\n%s", args, got, code, &out)
	}
	for _, w := range want {
		if !strings.Contains(out.String(), w) {
			s.t.Errorf("%s: %q is not in\n%s", args, w, &out)
		}
	}
}

func (s *stage) later(d time.Duration) { s.locked(func() { s.pass(d) }) }

func TestAnOperatorApprovesAFailover(t *testing.T) {
	s := newScene(t, decision.ModeManual).stage()
	s.runs(exitFailed, "approve --to region-b", "answers 409: there is nothing to approve: the state is STANDBY_READY")
	s.locked(s.dies)
	s.later(20 * time.Second)
	s.runs(exitDone, "status", "PRIMARY_FAILED/blocked", "mode         manual, automation on", "to do        pgtether decision says what blocks")
	s.runs(exitDone, "decision", "blocked by  approved", "mode is manual: an operator has not approved")
	s.runs(exitFailed, "approve --to region-x", "answers 400: no node is called \"region-x\"")
	s.runs(exitFailed, "approve --to region-b --epoch 9", "answers 409: the epoch is 1, not 9")
	s.runs(exitFailed, "approve --to region-b --override astrology", `answers 400: no criterion is called "astrology"`)
	s.runs(exitFailed, "approve --to region-b --override no_split_brain", "answers 409: no_split_brain can never be overridden")
	s.runs(exitFailed, "resolve --writer region-b", "answers 409: nothing is halted")
	s.runs(exitDone, "approve --to region-b", "overriding: nothing", "done: region-b is promoted as soon as the old paths are closed", "state  PROMOTING")
	s.runs(exitFailed, "approve --to region-b", "answers 409: the writer is being changed already")
	s.later(20 * time.Second)
	s.runs(exitDone, "status", "NEW_PRIMARY", "region-b (epoch 2, timeline 2)", "failover region-a -> region-b", "its loss     ")
}

func TestAnOperatorOverridesWhatBlocksAFailover(t *testing.T) {
	s := newScene(t, decision.ModeAuto).stage()
	s.locked(func() {
		s.b.Settings.SynchronousStandbyNames, s.b.Settings.CanSetSyncNames = decision.Some("region_a"), decision.Some(false)
		s.pass(2 * time.Second)
		s.dies()
	})
	s.later(20 * time.Second)
	s.runs(exitFailed, "approve --to region-b", "answers 409: region-b is blocked by target_can_commit", "target_can_commit  fail  ")
	s.runs(exitDone, "approve --to region-b --override target_can_commit",
		"overriding: target_can_commit (fail): synchronous_standby_names is set on region-b", "overridden  target_can_commit")
	s.runs(exitDone, "decision", "overridden  target_can_commit (an operator took that upon himself)", "risk        HIGH", "fail, overridden")
}

func TestAnOperatorResolvesAHaltedPromotion(t *testing.T) {
	s := halt(t).stage()
	s.runs(exitDone, "status", "PROMOTING/halted", "writes       refused", "to do        the promotion cannot be completed")
	s.runs(exitDone, "decision", "an operator must decide (pgtether resolve")
	s.runs(exitFailed, "abort", "answers 409: the promotion of region-b has been asked for and cannot be undone")
	s.runs(exitFailed, "resolve --writer region-b", "answers 409: region-b does not answer as the primary of this system")
	s.locked(func() { // the old writer comes back
		nodes := pair()
		s.a = nodes[0]
		s.a.Settings = s.b.Settings
	})
	s.later(5 * time.Second)
	s.runs(exitFailed, "resolve --writer region-a --epoch 1", "answers 409: the epoch is 2, not 1")
	s.runs(exitDone, "resolve --writer region-a", "done: region-a alone answers as primary: it is opened under a fresh epoch")
	s.later(5 * time.Second)
	s.runs(exitDone, "status", "region-a (epoch 3, timeline 1)", "writes       open")
}

func TestAnOperatorAbortsPausesAndResumes(t *testing.T) {
	s := newScene(t, decision.ModeAuto).stage()
	s.runs(exitFailed, "abort", "answers 409: the writer is not being changed")
	s.runs(exitDone, "hold", "done: automatic failover is paused until it is resumed")
	s.runs(exitDone, "status", "automation paused", "to do        automatic failover is paused: pgtether resume turns it on again")
	s.locked(s.dies)
	s.later(20 * time.Second)
	s.runs(exitDone, "status", "PRIMARY_FAILED/blocked")
	s.runs(exitDone, "resume", "done: automatic failover is on again", "state  PROMOTING")
	s.runs(exitDone, "abort", "done: the change is undone, and automatic failover is paused until it is resumed")
	s.later(20 * time.Second)
	s.runs(exitDone, "status", "PRIMARY_FAILED/blocked", "automation paused")
	s.runs(exitDone, "resume")
	s.later(20 * time.Second)
	s.runs(exitDone, "status", "NEW_PRIMARY", "region-b (epoch ")
}

func TestAWhatIfNamesItsCandidate(t *testing.T) {
	s := newScene(t, decision.ModeAuto).stage()
	s.runs(exitDone, "decision --what-if primary_dead", "verdict     SAFE", "region-a -> region-b (primary_dead)", "region-b is promoted")
	s.runs(exitDone, "decision --what-if primary_dead --to region-a", "BLOCKED")
	s.runs(exitFailed, "decision --what-if switchover --to region-x", `there is no node "region-x"`)
}

func TestEveryFieldOfACommandsAnswerIsInTheRealBody(t *testing.T) {
	s := newScene(t, decision.ModeAuto).stage()
	var out, errs bytes.Buffer
	if code := run([]string{"hold", "--json", "--admin", s.url}, &out, &errs); code != exitDone {
		t.Fatalf("exit code %d: %s", code, &errs)
	}
	var body map[string]any
	if err := json.Unmarshal(out.Bytes(), &body); err != nil {
		t.Fatal(err)
	}
	assertFields(t, "/admin/hold", reflect.TypeOf(commandBody{}), body)
}
