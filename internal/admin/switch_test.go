package admin

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pgtether/pgtether/decision"
)

func TestASwitchoverReachesTheEngineAsItWasOrdered(t *testing.T) {
	w, told := taking(CommandReply{Message: "the writer is changed to region-b: open transactions have 10s to end", Decision: fullDecision()})
	r := start(t, w)
	for query, want := range map[string]decision.Switch{
		"region=region-b":                              {To: "region-b"},
		"region=region-b&force=true":                   {To: "region-b", Force: true},
		"region=region-b&force=false&dry_run=false":    {To: "region-b"},
		"region=region-b&timeout=2.5s&force=true":      {To: "region-b", Force: true, Drain: 2500 * time.Millisecond},
		"timeout=1h&region=" + strings.Repeat("x", 63): {To: strings.Repeat("x", 63), Drain: time.Hour},
	} {
		*told = nil
		a := r.do("POST", "/admin/switch?"+query, nil)
		if a.status != http.StatusAccepted || !reflect.DeepEqual(*told, []decision.Command{want}) {
			t.Errorf("%s answers %d; the engine was told %#v, want %#v\n%s", query, a.status, *told, want, a.body)
		}
		conforms(t, "SwitchAccepted", a.body)
		if want := fmt.Sprintf(`"id": %d,`, w.newest()); !strings.Contains(a.body, want) {
			t.Errorf("the answer does not say after which event to look: %s", a.body)
		}
	}
}

func TestAnOrderThatIsNotExactlyASwitchoverChangesNothing(t *testing.T) {
	w, told := taking(CommandReply{})
	r := start(t, w)
	for query, want := range map[string]string{
		"":                                "the region is missing",
		"region=":                         "the region is missing",
		"region=region-b&force=yes":       "force is neither true nor false",
		"region=region-b&force=":          "force is neither true nor false",
		"region=region-b&dry_run=1":       "dry_run is neither true nor false",
		"region=region-b&timeout=5":       "is not a duration above 0",
		"region=region-b&timeout=0s":      "is not a duration above 0",
		"region=region-b&timeout=-1s":     "is not a duration above 0",
		"region=region-b&timeout=":        "is not a duration above 0",
		"region=region-b&to=region-a":     "has no parameter",
		"region=region-a&region=region-b": "is there more than once",
		"region=region-c&dry_run=true":    "there is no node",
		"region=region-b&region=%zz":      "not well-formed",
	} {
		a := r.do("POST", "/admin/switch?"+query, nil)
		if a.status != http.StatusBadRequest || !strings.Contains(a.body, want) {
			t.Errorf("%s answers %d, want 400 with %q\n%s", query, a.status, want, a.body)
		}
	}
	if a := r.do("POST", "/admin/switch?region=region-b", withBody(`{"region": "region-b"}`)); a.status != http.StatusBadRequest {
		t.Errorf("a body is taken: %d", a.status)
	}
	if len(*told) != 0 {
		t.Errorf("the engine was told %v", *told)
	}
}

func TestASwitchoverThatIsRefusedCarriesTheDecisionAgainstIt(t *testing.T) {
	w, _ := taking(CommandReply{Refusal: decision.Some(decision.Refusal{Code: decision.RefusedBlocked, Message: "a switchover to region-b is blocked by replay_not_paused",
		Hint: "see /decision"}), Decision: fullDecision()})
	w.whatIf = func(_ context.Context, q decision.Question) (decision.Decision, error) {
		d := fullDecision()
		d.Event = q.Event
		return d, nil
	}
	a := start(t, w).do("POST", "/admin/switch?region=region-b", nil)
	if a.status != http.StatusConflict || !strings.Contains(a.body, "replay_not_paused") || !strings.Contains(a.body, `"switchover"`) {
		t.Errorf("answers %d\n%s", a.status, a.body)
	}
	conforms(t, "Refusal", a.body)
}

func TestADryRunSaysWhatWouldHappenAndChangesNothing(t *testing.T) {
	w, told := taking(CommandReply{})
	node, hint := "region-a", "end it"
	w.found = []Finding{{Node: &node, Severity: "warning", What: "a transaction has been open for 1m0s", Hint: &hint}, {Severity: "info", What: "nothing else"}}
	w.plan = func(_ context.Context, c decision.Switch) ([]decision.PlanStep, decision.Opt[decision.Refusal], error) {
		return []decision.PlanStep{{Step: decision.Draining, Does: fmt.Sprintf("waits %s, force %v", c.Drain, c.Force)}},
			decision.Some(decision.Refusal{Code: decision.RefusedBlocked, Message: "open transactions may take at most 12s"}), nil
	}
	r := start(t, w)
	a := r.do("POST", "/admin/switch?region=region-a&dry_run=true&timeout=7s&force=true", nil)
	for _, want := range []string{"waits 7s, force true", "open transactions may take at most 12s", `"draining"`, "open for 1m0s", `"criteria"`} {
		if a.status != http.StatusOK || !strings.Contains(a.body, want) {
			t.Errorf("answers %d without %q\n%s", a.status, want, a.body)
		}
	}
	conforms(t, "DryRun", a.body)
	if len(*told) != 0 {
		t.Errorf("the engine was told %v", *told)
	}
	writer := w.status.Writer.V
	if a := r.do("POST", "/admin/switch?dry_run=true&region="+writer, nil); a.status != http.StatusConflict {
		t.Errorf("a dry run to the writer itself answers %d", a.status)
	}
}

func TestEverySessionIsListed(t *testing.T) {
	w := fullWorld()
	w.listed = []Session{
		{ID: 7, Client: "10.0.0.9:40112", User: "keycloak", Database: "keycloak", State: "in_transaction", Since: startedAt, InTransaction: decision.Some(startedAt.Add(time.Minute)),
			Node: "region-a", Epoch: 3, PID: 4711, Immovable: "not moved"},
		{ID: 8, Client: "10.0.0.9:40113", State: "opaque", Since: startedAt, Node: "region-a", Epoch: 3},
	}
	a := start(t, w).do("GET", "/sessions", nil)
	conforms(t, "SessionList", a.body)
	golden(t, "sessions", a.body)
}

func TestStatusShowsHowFarASwitchoverHasCome(t *testing.T) {
	w := fullWorld()
	w.status.Planned = decision.Some(decision.PlannedStatus{To: "region-b", Since: decision.Instant(time.Second), Undoable: true, DrainLeft: decision.Some(1500 * time.Millisecond),
		Sessions: decision.Some(decision.SessionsLeft{Waiting: 17, InTransaction: 2, Active: 1})})
	a := start(t, w).do("GET", "/status", nil)
	conforms(t, "Status", a.body)
	for _, want := range []string{`"to":"region-b"`, `"drain_left_ms":1500`, `"waiting":17`, `"undoable":true`, `"bytes_to_replay":null`} {
		if !strings.Contains(strings.NewReplacer(" ", "", "\n", "").Replace(a.body), want) {
			t.Errorf("%s is not in %s", want, a.body)
		}
	}
}

func TestAnOrderWhoseFenceWouldBeIncompleteIsRefusedBeforeASessionIsEnded(t *testing.T) {
	w, told := taking(CommandReply{})
	w.unfenceable = "2 sessions of superusers are there"
	a := start(t, w).do("POST", "/admin/switch?region=region-b", nil)
	if a.status != http.StatusConflict || !strings.Contains(a.body, "2 sessions of superusers are there") || len(*told) != 0 {
		t.Errorf("answers %d, the engine was told %v\n%s", a.status, *told, a.body)
	}
	conforms(t, "Refusal", a.body)
}
