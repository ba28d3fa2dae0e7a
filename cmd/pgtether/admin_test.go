package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pgtether/pgtether/decision"
	"github.com/pgtether/pgtether/internal/admin"
)

// pair is what the probes of a primary and its standby say.
func pair() []decision.Observation {
	answers := decision.Attempt{Evidence: decision.Answers}
	node := func(name string, role decision.Role) decision.Observation {
		return decision.Observation{
			Node: name, Persistent: answers, Fresh: answers, Replication: answers, Role: role, SystemID: decision.Some("7351234567890123456"),
			Timeline: decision.Some(uint32(1)), History: decision.Some([]decision.TimelineSwitch{}), ServerID: decision.Some(name),
			VersionNum: decision.Some(150012),
		}
	}
	a, b := node("region-a", decision.RolePrimary), node("region-b", decision.RoleStandby)
	a.CurrentLSN, a.FlushLSN = decision.Some(decision.LSN(0x5000148)), decision.Some(decision.LSN(0x5000148))
	a.Senders = decision.Some([]decision.Sender{})
	b.ReceivedLSN, b.ReplayedLSN = decision.Some(decision.LSN(0x5000148)), decision.Some(decision.LSN(0x5000110))
	return []decision.Observation{a, b}
}

// realAdmin is the admin listener of a running proxy, with an engine that has seen a pair.
func realAdmin(t *testing.T) (url string) {
	t.Helper()
	cfg := decision.Config{
		Nodes: []decision.Node{{Name: "region-a", Address: "10.0.0.11:5432"}, {Name: "region-b", Address: "10.0.0.12:5432"}},
		Mode:  decision.ModeObserve, TickInterval: 100 * time.Millisecond, ProbeInterval: time.Second, ProbeTimeout: time.Second,
		StableFor: 5 * time.Second, MaxLagBytes: 16 << 20, AntiFlap: time.Hour, PrimaryStartTimeout: time.Minute, PromoteTimeout: time.Minute, DrainTimeout: 10 * time.Second, HoldSession: 15 * time.Second,
	}
	engine := imagine(cfg, pair())
	epoch := uint64(1)
	events := []admin.Event{
		{Seq: 1, At: time.Unix(1772352000, 0), StateTo: "PRIMARY_FAILED", Step: "adopting", Kind: "step", Message: "started"},
		{Seq: 2, At: time.Unix(1772352002, 0), Epoch: &epoch, StateFrom: "PRIMARY_FAILED", StateTo: "STANDBY_READY", Kind: "transition", Cause: "adopt", Message: "a writer was seen"},
	}
	return serveAdmin(t, admin.Deps{
		Identity: admin.Identity{Cluster: "keycloak", Version: "v0.1.0", Instance: "proxy-1", StateID: "8f14e45f", StartedAt: time.Unix(1772352000, 0)},
		Token:    func() string { return "" }, Ready: func() (bool, string) { return true, "" }, Exiting: func() bool { return false },
		Status: engine.Status, Decision: func() decision.Decision { return engine.Decide(decision.Question{}) },
		WhatIf: func(_ context.Context, q decision.Question) (decision.Decision, error) { return engine.Decide(q), nil },
		Command: func(context.Context, decision.Command) (admin.CommandReply, error) {
			return admin.CommandReply{}, admin.ErrUnavailable
		},
		Sessions: func() admin.Sessions { return admin.Sessions{Open: 3, Active: 1, Idle: 2} },
		Events: func(since uint64, limit int) []admin.Event {
			return events[min(int(since), len(events)):min(int(since)+limit, len(events))]
		},
		EventsNewest:  func() uint64 { return uint64(len(events)) },
		EventsChanged: func() <-chan struct{} { return nil },
		Reload:        func(context.Context) (admin.Reloaded, error) { return admin.Reloaded{}, nil },
		Wall:          func(i decision.Instant) time.Time { return time.Unix(1772352000, 0).Add(time.Duration(i)) },
		Metrics:       http.NotFoundHandler(), Log: slog.New(slog.DiscardHandler),
	})
}

// serveAdmin serves an admin listener until the test ends.
func serveAdmin(t *testing.T, deps admin.Deps) (url string) {
	t.Helper()
	server := admin.New(deps)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		<-served
	})
	return "http://" + ln.Addr().String()
}

func TestCommandsUnderstandTheRealAdminListener(t *testing.T) {
	url := realAdmin(t)
	for _, c := range []struct {
		args []string
		path string
		want []string
	}{
		{[]string{"status"}, "/status", []string{"region-a (epoch 1, timeline 1)", "writes       open", "region-b  10.0.0.12:5432  standby  answers", "3 open (1 active, 2 idle"}},
		{[]string{"decision"}, "/decision", []string{"BLOCKED", "primary_unreachable  ", "region-a -> region-b", "if it dies"}},
		{[]string{"decision", "what-if", "--event", "switchover", "--to", "region-b"}, "/decision/what-if?event=switchover&to=region-b", []string{"(switchover)", "not_needed"}},
		{[]string{"decision", "what-if", "--event", "primary_dead"}, "/decision/what-if?event=primary_dead", []string{"(primary_dead)"}},
		{[]string{"events"}, "/events", []string{"PRIMARY_FAILED -> STANDBY_READY", "a writer was seen (adopt)"}},
		{[]string{"events", "--since", "1", "--limit", "5"}, "/events?limit=5&since=1", []string{"2    2026-03-01T08:00:02.000Z"}},
	} {
		var out, errs bytes.Buffer
		if code := run(append(c.args, "--admin", url), &out, &errs); code != exitDone || errs.Len() > 0 {
			t.Errorf("%v: exit code %d, stderr %s", c.args, code, &errs)
		}
		for _, want := range c.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%v: %q is not in\n%s", c.args, want, &out)
			}
		}
		out.Reset()
		if code := run(append(c.args, "--json", "--admin", url), &out, &errs); code != exitDone || !bytes.Equal(out.Bytes(), fetch(t, url+c.path)) {
			t.Errorf("%v --json: exit code %d, not the body of %s:\n%s", c.args, code, c.path, &out)
		}
	}
}

func TestCommandsSayWhatTheRealAdminListenerRefuses(t *testing.T) {
	url := realAdmin(t)
	var out, errs bytes.Buffer
	code := run([]string{"decision", "what-if", "--event", "switchover", "--to", "region-x", "--admin", url}, &out, &errs)
	if code != exitFailed || !strings.Contains(errs.String(), "region-x") || strings.Count(errs.String(), "\n") != 1 || out.Len() > 0 {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, &out, &errs)
	}
	errs.Reset()
	if code := run([]string{"status", "--admin", url + "/elsewhere"}, &out, &errs); code != exitFailed || !strings.Contains(errs.String(), "answers 404: ") {
		t.Errorf("exit code %d, stderr %q", code, &errs)
	}
}

func TestEventsAreFollowedOnTheRealAdminListener(t *testing.T) {
	var out, errs bytes.Buffer
	if code := run([]string{"events", "--follow", "--json", "--limit", "2", "--admin", realAdmin(t)}, &out, &errs); code != exitDone || errs.Len() > 0 {
		t.Fatalf("exit code %d, stderr %s", code, &errs)
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != 2 || !strings.HasPrefix(lines[0], `{"seq":1,`) || !strings.HasPrefix(lines[1], `{"seq":2,`) {
		t.Errorf("followed:\n%s", &out)
	}
}

func TestEveryFieldThatIsShownIsInTheRealBody(t *testing.T) {
	url := realAdmin(t)
	for path, shown := range map[string]any{"/status": statusBody{}, "/decision": decisionBody{}} {
		var body map[string]any
		if err := json.Unmarshal(fetch(t, url+path), &body); err != nil {
			t.Fatal(err)
		}
		assertFields(t, path, reflect.TypeOf(shown), body)
	}
	var events struct{ Events []map[string]any }
	if err := json.Unmarshal(fetch(t, url+"/events"), &events); err != nil || len(events.Events) == 0 {
		t.Fatalf("%v, %d events", err, len(events.Events))
	}
	assertFields(t, "/events", reflect.TypeOf(eventBody{}), events.Events[0])
}

// assertFields looks for the JSON name of every field of a struct, and goes into those that the body has.
func assertFields(t *testing.T, at string, shown reflect.Type, body map[string]any) {
	t.Helper()
	for i := range shown.NumField() {
		f := shown.Field(i)
		name := f.Tag.Get("json")
		value, ok := body[name]
		if !ok {
			t.Errorf("%s has no %q", at, name)
			continue
		}
		inner := f.Type
		for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice && inner.Elem().Kind() == reflect.Struct {
			inner = inner.Elem()
		}
		if list, ok := value.([]any); ok && len(list) > 0 {
			value = list[0]
		}
		if object, ok := value.(map[string]any); ok && inner.Kind() == reflect.Struct {
			assertFields(t, at+" "+name, inner, object)
		}
	}
}

func fetch(t *testing.T, url string) []byte {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", url, resp.Status, err)
	}
	return body
}
