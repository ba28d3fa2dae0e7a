package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/pgtether/pgtether/internal/lab"
)

// programs are what the test binary is when it is started under one of these names.
var programs = map[string]func(){
	"pgtether": func() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) },
}

func TestMain(m *testing.M) { testscript.Main(m, programs) }

// TestScripts runs every script of testdata/script. What each command line does is told there.
func TestScripts(t *testing.T) {
	bodies, err := filepath.Abs("testdata/bodies")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			fake := newFakeAdmin(bodies)
			env.Defer(fake.server.Close)
			if err := prepareEvidence(env.WorkDir); err != nil {
				return err
			}
			env.Values["fake"] = fake
			closed, err := closedAddress()
			if err != nil {
				return err
			}
			env.Vars = append(env.Vars, "ADMIN="+fake.server.URL, "ADMIN_ADDRESS="+strings.TrimPrefix(fake.server.URL, "http://"),
				"CLOSED="+closed, "BODIES="+bodies)
			address := strings.TrimPrefix(fake.server.URL, "http://")
			if err := os.WriteFile(filepath.Join(env.WorkDir, "closed.toml"), fmt.Appendf(nil, closedConfig, closed), 0o600); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(env.WorkDir, "taken.toml"), fmt.Appendf(nil, takenConfig, closed, address), 0o600); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(env.WorkDir, "proxy.toml"), fmt.Appendf(nil, proxyConfig, address), 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": cmdExits, "requests": cmdRequests},
	})
}

// takenConfig is a configuration whose admin.address somebody else listens on.
const takenConfig = `[listen]
address = %q
[admin]
address = %q
[state]
dir = "state"
[[node]]
name = "region-a"
address = "127.0.0.1:1"
[probe]
user = "pgtether"
password_file = "password"
[failover]
mode = "observe"
`

// cmdExits runs pgtether and compares its exit code: "exits 2 status --nonsense". stdout and stderr are kept as after exec.
func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: exits CODE ARGUMENTS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := exitDone
	if err := ts.Exec("pgtether", args[1:]...); err != nil {
		var status *exec.ExitError
		if !errors.As(err, &status) {
			ts.Fatalf("run pgtether: %v", err)
		}
		got = status.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d; want %d", got, want)
	}
}

// cmdRequests compares what the fake admin listener was asked since the last time, one request per argument.
func cmdRequests(ts *testscript.TestScript, neg bool, want []string) {
	got := ts.Value("fake").(*fakeAdmin).taken()
	if (strings.Join(got, "\n") == strings.Join(want, "\n")) == neg {
		ts.Fatalf("requests:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func closedAddress() (string, error) {
	port, err := lab.FreePort()
	return fmt.Sprintf("127.0.0.1:%d", port), err
}

// fakeAdmin is an admin listener with canned bodies. The first part of the path chooses how it behaves: a folder of testdata/bodies, or
// one of the cases below.
type fakeAdmin struct {
	server *httptest.Server
	bodies string

	mu       sync.Mutex
	requests []string
	streams  int
}

func newFakeAdmin(bodies string) *fakeAdmin {
	f := &fakeAdmin{bodies: bodies}
	f.server = httptest.NewServer(f)
	return f
}

func (f *fakeAdmin) taken() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	taken := f.requests
	f.requests = nil
	return taken
}

func (f *fakeAdmin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request := r.Method + " " + r.URL.RequestURI()
	if a := r.Header.Get("Authorization"); a != "" {
		request += " " + a
	}
	if body, _ := io.ReadAll(r.Body); r.Method == http.MethodPost {
		request += " " + string(body)
	}
	f.mu.Lock()
	f.requests = append(f.requests, request)
	f.mu.Unlock()
	behaviour, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch behaviour {
	case "token":
		f.guarded(w, r, path)
	case "refusing":
		refuse(w, http.StatusBadRequest, "unknown_node", `no node is called "region-x"`, "the nodes are region-a and region-b")
	case "missing":
		refuse(w, http.StatusNotFound, "not_found", "no such endpoint in this version", "")
	case "starting":
		refuse(w, http.StatusServiceUnavailable, "unavailable", "the state is not known yet", "try again")
	case "conflict":
		w.WriteHeader(http.StatusConflict)
		fmt.Fprint(w, `{"error":{"code":"blocked","message":"the decision engine refuses","hint":""},"decision":{}}`)
	case "html":
		w.WriteHeader(http.StatusBadGateway)
		fmt.Fprint(w, "<html>Bad Gateway</html>")
	case "redirect":
		http.Redirect(w, r, "/ready/"+path, http.StatusFound)
	case "garbage":
		fmt.Fprint(w, "<html>It works!</html>")
	case "stream":
		f.stream(w, r)
	case "status", "decision", "events": // without a path before it, as in life
		f.body(w, "ready", path, behaviour)
	default:
		f.body(w, behaviour, path, "")
	}
}

func (f *fakeAdmin) guarded(w http.ResponseWriter, r *http.Request, path string) {
	switch r.Header.Get("Authorization") {
	case "":
		refuse(w, http.StatusUnauthorized, "token_missing", "a token is needed", "set PGTETHER_TOKEN")
	case "Bearer sesame":
		f.body(w, "ready", path, "")
	default:
		refuse(w, http.StatusForbidden, "token_wrong", "the token is not accepted", "")
	}
}

func refuse(w http.ResponseWriter, status int, code, message, hint string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]string{"code": code, "message": message, "hint": hint}})
}

func (f *fakeAdmin) body(w http.ResponseWriter, folder, path, name string) {
	if name == "" || path != "" {
		name = filepath.Base(path)
	}
	body, err := os.ReadFile(filepath.Join(f.bodies, folder, name+".json"))
	if err != nil {
		refuse(w, http.StatusNotFound, "not_found", "no such endpoint", "")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	switch {
	case folder == "refused" && strings.HasPrefix(path, "admin/"):
		w.WriteHeader(http.StatusConflict)
	case name == "approve" || name == "resolve":
		w.WriteHeader(http.StatusAccepted)
	}
	_, _ = w.Write(body)
}

// stream sends two events after "since" and ends, as a proxy does that is restarted: a follower must come back for the rest.
func (f *fakeAdmin) stream(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.streams++
	first := f.streams == 1
	f.mu.Unlock()
	since, _ := strconv.Atoi(r.URL.Query().Get("since"))
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprint(w, ": hello\n\n")
	for seq := since + 1; seq <= since+2; seq++ {
		fmt.Fprintf(w, "id: %d\nevent: step\ndata: {\"seq\":%d,\"at\":\"2026-03-01T08:00:00.%03dZ\",\"epoch\":4,\"state_from\":\"PRIMARY_FAILED\",\n"+
			"data: \"state_to\":\"PROMOTING\",\"step\":\"draining\",\"kind\":\"transition\",\"cause\":\"\",\"message\":\"event %d\"}\n\n", seq, seq, seq, seq)
	}
	if first {
		fmt.Fprint(w, "data: {\"seq\":99") // cut off
	}
}

// proxyConfig is the configuration of a proxy whose admin listener is the fake one.
const proxyConfig = `[admin]
address = %q
token_file = "token"
[listen]
tls = "require"
tls_cert = "no-such-certificate"
tls_key = "no-such-key"
[[node]]
name = "region-a"
address = "10.0.0.11:5432"
[[node]]
name = "region-b"
address = "10.0.0.12:5432"
[probe]
user = "pgtether"
password_file = "no-such-password"
[failover]
mode = "observe"
`

// closedConfig is valid, and nobody listens where its only node should be.
const closedConfig = `[listen]
address = "127.0.0.1:6432"
[[node]]
name = "region-a"
address = %q
[probe]
user = "pgtether"
password_file = "password"
[failover]
mode = "observe"
`
