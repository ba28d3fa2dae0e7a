package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pgtether/pgtether/decision"
)

var rewrite = flag.Bool("rewrite", false, "write what the code answers into testdata; read the diff before it is committed")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of a test; it is never reached unless something is broken.
const patience = 30 * time.Second

// world is what a server under test is told. Its fields may be changed before the server is started; events at any time.
type world struct {
	token       string
	ready       bool
	why         string
	exiting     bool
	status      decision.Status
	decision    decision.Decision
	whatIf      func(context.Context, decision.Question) (decision.Decision, error)
	command     func(context.Context, decision.Command) (CommandReply, error)
	sessions    Sessions
	plan        func(context.Context, decision.Switch) ([]decision.PlanStep, decision.Opt[decision.Refusal], error)
	found       []Finding
	unfenceable string
	listed      []Session
	reload      func(context.Context) (Reloaded, error)
	stateID     string
	log         bytes.Buffer

	mu     sync.Mutex // guards the following fields
	events []Event
	wake   chan struct{}
}

// startedAt is when the engine's clock began.
var startedAt = time.Date(2026, 1, 2, 3, 4, 5, 678_900_000, time.FixedZone("CET", 3600))

func newWorld() *world {
	return &world{ready: true, why: "serving", wake: make(chan struct{}), stateID: "6f1c",
		plan: func(context.Context, decision.Switch) (steps []decision.PlanStep, refusal decision.Opt[decision.Refusal], err error) {
			return
		}}
}

func (w *world) deps() Deps {
	return Deps{
		Identity:      Identity{Cluster: "keycloak", Version: "1.2.3", Instance: "proxy-1", StateID: w.stateID, StartedAt: startedAt},
		Token:         func() string { return w.token },
		Ready:         func() (bool, string) { return w.ready, w.why },
		Exiting:       func() bool { return w.exiting },
		Status:        func() decision.Status { return w.status },
		Decision:      func() decision.Decision { return w.decision },
		WhatIf:        w.whatIf,
		Command:       w.command,
		Plan:          w.plan,
		Preflight:     func(context.Context, string) []Finding { return w.found },
		Unfenceable:   func(context.Context) string { return w.unfenceable },
		ListSessions:  func(context.Context) []Session { return w.listed },
		Sessions:      func() Sessions { return w.sessions },
		Events:        w.since,
		EventsNewest:  w.newest,
		EventsChanged: w.changed,
		Reload:        w.reload,
		Wall:          func(i decision.Instant) time.Time { return startedAt.Add(time.Duration(i)) },
		Metrics: http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(rw, "pgtether_epoch 7\n")
		}),
		Log: slog.New(slog.NewTextHandler(&w.log, nil)),
	}
}

func (w *world) since(since uint64, limit int) []Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []Event
	for _, e := range w.events {
		if e.Seq > since && len(out) < limit {
			out = append(out, e)
		}
	}
	return out
}

func (w *world) newest() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.events) == 0 {
		return 0
	}
	return w.events[len(w.events)-1].Seq
}

func (w *world) changed() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wake
}

// happen appends an event.
func (w *world) happen(e Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e.Seq = uint64(len(w.events) + 1)
	w.events = append(w.events, e)
	close(w.wake)
	w.wake = make(chan struct{})
}

// running is a server that answers on loopback.
type running struct {
	*Server
	world *world
	url   string
	http  *http.Client
	t     *testing.T
}

// start serves the world until the test ends.
func start(t *testing.T, w *world) *running {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return startOn(t, w, l)
}

func startOn(t *testing.T, w *world, l net.Listener) *running {
	t.Helper()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	r := &running{Server: New(w.deps()), world: w, url: "http://127.0.0.1:" + port, t: t}
	r.http = &http.Client{Transport: &http.Transport{}, Timeout: patience}
	served := make(chan error, 1)
	go func() { served <- r.Serve(l) }()
	t.Cleanup(func() {
		r.http.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := r.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return r
}

// answer is a whole response.
type answer struct {
	status int
	header http.Header
	body   string
}

// do sends a request and reads the whole answer; edit may change the request.
func (r *running) do(method, path string, edit func(*http.Request)) answer {
	r.t.Helper()
	req, err := http.NewRequest(method, r.url+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	if edit != nil {
		edit(req)
	}
	res, err := r.http.Do(req)
	if err != nil {
		r.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer{res.StatusCode, res.Header, string(body)}
}

// refusal reads the error of an answer; it fails the test when the answer has not that shape.
func (r *running) refusal(a answer) errorDetail {
	r.t.Helper()
	var body errorBody
	decoder := json.NewDecoder(strings.NewReader(a.body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&body); err != nil || body.Error.Code == "" || body.Error.Message == "" {
		r.t.Errorf("answer %d is not an error in its shape: %v\n%s", a.status, err, a.body)
	}
	if got := a.header.Get("Content-Type"); got != "application/json" {
		r.t.Errorf("an error has the type %q", got)
	}
	conforms(r.t, "Error", a.body)
	return body.Error
}

// golden compares a body with testdata/NAME.json.
func golden(t *testing.T, name, body string) {
	t.Helper()
	file := filepath.Join("testdata", name+".json")
	if *rewrite {
		if err := os.WriteFile(file, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if body != string(want) {
		t.Errorf("the answer is\n%s\n%s has\n%s", body, file, want)
	}
}
