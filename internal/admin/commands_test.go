package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pgtether/pgtether/decision"
)

// commandBodies are bodies that each command takes.
var commandBodies = map[string]string{
	"/admin/approve": `{"epoch": 7, "target": "region-b", "override": ["lag_within_limit"]}`,
	"/admin/resolve": `{"epoch": 7, "writer": "region-b"}`,
}

// accepted is the status of a command that the engine takes.
func accepted(path string) int {
	if commandBodies[path] != "" {
		return http.StatusAccepted
	}
	return http.StatusOK
}

func withBody(body string) func(*http.Request) {
	return func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(body)) }
}

// commandPaths are the commands that the engine takes.
var commandPaths = []string{"/admin/approve", "/admin/resolve", "/admin/abort", "/admin/hold", "/admin/resume"}

// taking is a world whose engine records what it is told and answers with the reply.
func taking(reply CommandReply) (w *world, told *[]decision.Command) {
	w, told = fullWorld(), new([]decision.Command)
	w.command = func(_ context.Context, c decision.Command) (CommandReply, error) {
		*told = append(*told, c)
		return reply, nil
	}
	return w, told
}

func TestACommandReachesTheEngineAsItWasGiven(t *testing.T) {
	w, told := taking(CommandReply{Message: "region-b is promoted as soon as the old paths are closed", Decision: fullDecision()})
	r := start(t, w)
	for _, c := range []struct {
		path, body string
		want       decision.Command
	}{
		{"/admin/approve", `{"epoch": 7, "target": "region-b", "override": ["lag_within_limit", "loss_allowed"]}`,
			decision.Approve{Epoch: 7, Target: "region-b", Override: []string{"lag_within_limit", "loss_allowed"}}},
		{"/admin/approve", ` {"target":"region-b","epoch":18446744073709551615} ` + "\r\n", decision.Approve{Epoch: 1<<64 - 1, Target: "region-b"}},
		{"/admin/approve", `{"epoch": 0, "target": "", "override": []}`, decision.Approve{Override: []string{}}},
		{"/admin/resolve", `{"epoch": 7, "writer": "region-a"}`, decision.Resolve{Epoch: 7, Writer: "region-a"}},
		{"/admin/abort", "", decision.Abort{}},
		{"/admin/hold", "{}", decision.Pause{}},
		{"/admin/resume", " { }\n", decision.Resume{}},
	} {
		*told = nil
		a := r.do("POST", c.path, withBody(c.body))
		if a.status != accepted(c.path) || !reflect.DeepEqual(*told, []decision.Command{c.want}) {
			t.Errorf("%s %s answers %d; the engine was told %#v, want %#v\n%s", c.path, c.body, a.status, *told, c.want, a.body)
		}
		conforms(t, "Accepted", a.body)
	}
	golden(t, "approve", r.do("POST", "/admin/approve", withBody(commandBodies["/admin/approve"])).body)
}

func TestABodyThatIsNotExactlyTheCommandChangesNothing(t *testing.T) {
	w, told := taking(CommandReply{})
	r := start(t, w)
	long := strings.Repeat("x", 101)
	for _, c := range []struct{ path, body, want string }{
		{"/admin/approve", "", "the body is not a JSON object"},
		{"/admin/approve", "null", "the body is not a JSON object"},
		{"/admin/approve", `[{"epoch": 7, "target": "region-b"}]`, "the body is not a JSON object"},
		{"/admin/approve", "epoch=7&target=region-b", "the body is not a JSON object"},
		{"/admin/approve", `{"epoch": 7, "target": "region-b"`, "the body is not well-formed JSON"},
		{"/admin/approve", `{"epoch": 7 "target": "region-b"}`, "the body is not well-formed JSON"},
		{"/admin/approve", `{"epoch": 7, "target": "region-b",}`, "the body is not well-formed JSON"},
		{"/admin/approve", `{"epoch": 7, "target": "region-b"} {}`, "there is something behind the JSON object"},
		{"/admin/approve", `{"epoch": 7, "target": "region-b"}x`, "there is something behind the JSON object"},
		{"/admin/approve", `{}`, "the field epoch is missing"},
		{"/admin/approve", `{"epoch": 7}`, "the field target is missing"},
		{"/admin/approve", `{"epoch": "7", "target": "region-b"}`, "the field epoch is not a whole number"},
		{"/admin/approve", `{"epoch": 7.5, "target": "region-b"}`, "the field epoch is not a whole number"},
		{"/admin/approve", `{"epoch": -1, "target": "region-b"}`, "the field epoch is not a whole number"},
		{"/admin/approve", `{"epoch": null, "target": "region-b"}`, "the field epoch is not a whole number"},
		{"/admin/approve", `{"epoch": 18446744073709551616, "target": "region-b"}`, "the field epoch is not a whole number"},
		{"/admin/approve", `{"epoch": 7, "target": null}`, "the field target is not the name of a node"},
		{"/admin/approve", `{"epoch": 7, "target": ["region-b"]}`, "the field target is not the name of a node"},
		{"/admin/approve", `{"epoch": 7, "target": "` + long + `"}`, "the field target is not the name of a node"},
		{"/admin/approve", `{"epoch": 7, "target": "region-b", "override": "lag_within_limit"}`, "the field override is not a list of names of criteria"},
		{"/admin/approve", `{"epoch": 7, "target": "region-b", "override": [1]}`, "the field override is not a list of names of criteria"},
		{"/admin/approve", `{"epoch": 7, "target": "region-b", "override": [null]}`, "the field override is not a list of names of criteria"},
		{"/admin/approve", `{"epoch": 7, "target": "region-b", "override": null}`, "the field override is not a list of names of criteria"},
		{"/admin/approve", `{"epoch": 7, "target": "region-b", "overide": []}`, `there is no field "overide"`},
		{"/admin/approve", `{"Epoch": 7, "target": "region-b"}`, `there is no field "Epoch"`},
		{"/admin/approve", `{"epoch": 7, "target": "region-b", "target": "region-a"}`, "the field target is there more than once"},
		{"/admin/resolve", `{"epoch": 7, "target": "region-b"}`, `there is no field "target"`},
		{"/admin/resolve", `{"writer": "region-b"}`, "the field epoch is missing"},
		{"/admin/abort", `{"epoch": 7}`, "this command takes no body"},
		{"/admin/hold", `[]`, "this command takes no body"},
		{"/admin/resume", `now`, "this command takes no body"},
		{"/admin/resume", `{}{}`, "this command takes no body"},
	} {
		a := r.do("POST", c.path, withBody(c.body))
		if e := r.refusal(a); a.status != 400 || e.Code != "bad_request" || e.Message != c.want || e.Hint == "" {
			t.Errorf("%s %.60s answers %d %+v, want %q", c.path, c.body, a.status, e, c.want)
		}
	}
	for _, path := range commandPaths {
		a := r.do("POST", path, withBody(strings.Repeat(" ", maxBodyBytes)+commandBodies[path]+" "))
		if e := r.refusal(a); a.status != 413 || e.Code != "too_large" || e.Hint == "" {
			t.Errorf("%s with a large body answers %d %+v", path, a.status, e)
		}
	}
	if len(*told) > 0 {
		t.Errorf("the engine was told %v", *told)
	}
}

// everyRefusal are the engine's reasons for refusing a command.
var everyRefusal = []decision.RefusalCode{
	decision.RefusedUnknownNode, decision.RefusedUnknownCriterion, decision.RefusedNotOverridable, decision.RefusedWrongEpoch,
	decision.RefusedNothingPending, decision.RefusedUnderWay, decision.RefusedIrreversible, decision.RefusedModeObserve, decision.RefusedBlocked,
	decision.RefusedNotProven,
}

func TestARefusalOfTheEngineCarriesTheDecision(t *testing.T) {
	for _, code := range everyRefusal {
		refusal := decision.Refusal{Code: code, Message: "region-b is blocked by lag_within_limit", Hint: "name what blocks"}
		w, _ := taking(CommandReply{Refusal: decision.Some(refusal), Decision: fullDecision()})
		r := start(t, w)
		for _, path := range commandPaths {
			a := r.do("POST", path, withBody(commandBodies[path]))
			if code.Malformed() {
				if e := r.refusal(a); a.status != 400 || e.Code != string(code) {
					t.Errorf("%s, %s: answers %d %+v", path, code, a.status, e)
				}
				continue
			}
			var body struct {
				Error    errorDetail
				Decision json.RawMessage
			}
			if err := json.Unmarshal([]byte(a.body), &body); err != nil || a.status != 409 {
				t.Fatalf("%s, %s: answers %d, %v", path, code, a.status, err)
			}
			conforms(t, "Refusal", a.body)
			conforms(t, "Decision", string(body.Decision))
			if body.Error != (errorDetail{string(code), refusal.Message, refusal.Hint}) {
				t.Errorf("%s, %s: refused with %+v", path, code, body.Error)
			}
			if body := r.do("GET", "/decision", nil).body; !strings.Contains(strings.ReplaceAll(a.body, "\n  ", "\n"), strings.TrimSpace(body)) {
				t.Errorf("%s, %s: the decision is not as GET /decision has it:\n%s", path, code, a.body)
			}
		}
	}
}

func TestNobodyGivesTheEngineACommandWithoutBeingAllowed(t *testing.T) {
	for name, c := range map[string]struct {
		token, address string
		edit           func(*http.Request)
		status         int
	}{
		"no token is shown":               {"s3cret", "127.0.0.1:0", nil, 401},
		"a wrong token":                   {"s3cret", "127.0.0.1:0", bearer("secret"), 401},
		"not on loopback, no token set":   {"", "0.0.0.0:0", nil, 403},
		"a rebound name":                  {"", "127.0.0.1:0", host("evil.example.org"), 403},
		"another site's page":             {"", "127.0.0.1:0", header("Sec-Fetch-Site", "cross-site"), 403},
		"another site's page, with token": {"s3cret", "127.0.0.1:0", both(bearer("s3cret"), header("Origin", "https://evil.example.org")), 403},
	} {
		w, told := taking(CommandReply{Decision: fullDecision()})
		w.token = c.token
		l, err := net.Listen("tcp4", c.address)
		if err != nil {
			t.Fatal(err)
		}
		r := startOn(t, w, l)
		for _, path := range commandPaths {
			edit := withBody(commandBodies[path])
			if c.edit != nil {
				edit = both(edit, c.edit)
			}
			a := r.do("POST", path, edit)
			if r.refusal(a); a.status != c.status || len(*told) > 0 {
				t.Errorf("%s: %s answers %d, want %d; the engine was told %v", name, path, a.status, c.status, *told)
			}
		}
	}
}

func TestACommandThatIsNotAnsweredSaysWhereToLook(t *testing.T) {
	w := fullWorld()
	for err, message := range map[error]string{
		fmt.Errorf("ask: %w", ErrUnavailable): "pgtether is ending", errors.New("canceled"): "no answer in time",
	} {
		w.command = func(context.Context, decision.Command) (CommandReply, error) { return CommandReply{}, err }
		r := start(t, w)
		for _, path := range commandPaths {
			a := r.do("POST", path, withBody(commandBodies[path]))
			if e := r.refusal(a); a.status != 503 || e.Code != "unavailable" || e.Message != message || !strings.Contains(e.Hint, "/events") {
				t.Errorf("%s answers %d %+v", path, a.status, e)
			}
		}
	}
}

func TestOverridesAreShownCriterionByCriterion(t *testing.T) {
	w := fullWorld()
	w.decision.Criteria[0].Overridden, w.decision.Overridden = true, []string{"primary_unreachable"}
	w.decision.Blocking, w.decision.Safe = []string{}, true
	r := start(t, w)
	a := r.do("GET", "/decision", nil)
	conforms(t, "Decision", a.body)
	var d decisionBody
	if err := json.Unmarshal([]byte(a.body), &d); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(d.Overridden, []string{"primary_unreachable"}) || !d.Criteria[0].Overridden || d.Criteria[1].Overridden || d.Criteria[0].Verdict != "fail" {
		t.Errorf("the decision is\n%s", a.body)
	}
}
