package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pgtether/pgtether/decision"
)

func TestEachPathTakesItsMethodAndNoOther(t *testing.T) {
	r := start(t, fullWorld())
	for _, route := range routes() {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"} {
			if route.path == "/events/stream" && method == "GET" {
				continue // does not end; TestAStream... read it
			}
			path := route.path
			if path == "/decision/what-if" {
				path += "?event=switchover"
			}
			if path == "/admin/switch" {
				path += "?region=region-b"
			}
			a := r.do(method, path, withBody(commandBodies[path]))
			want := accepted(path)
			if route.path == "/admin/switch" {
				want = http.StatusAccepted
			}
			allow := route.method
			if route.method == "GET" {
				allow = "GET, HEAD"
			}
			if !strings.Contains(", "+allow+",", ", "+method+",") {
				want = http.StatusMethodNotAllowed
				if a.header.Get("Allow") != allow {
					t.Errorf("%s %s: Allow is %q, want %q", method, path, a.header.Get("Allow"), allow)
				}
				if method != "HEAD" {
					r.refusal(a)
				}
			}
			if a.status != want {
				t.Errorf("%s %s answers %d, want %d", method, path, a.status, want)
			}
			if method == "HEAD" && a.body != "" {
				t.Errorf("HEAD %s has a body", path)
			}
		}
	}
}

func TestWhatDoesNotExistIsNotFound(t *testing.T) {
	r := start(t, fullWorld())
	for _, path := range []string{
		"/", "/nothing", "/status/", "//status", "/Status", "/sessions/", "/dashboard", "/admin/switchover", "/admin", "/admin/",
		"/debug/pprof/", "/%2e%2e/etc/passwd", "/status%00", "/\u2028", "/" + strings.Repeat("x", 4000),
	} {
		for _, method := range []string{"GET", "POST"} {
			a := r.do(method, path, nil)
			if a.status != 404 || r.refusal(a).Code != "not_found" {
				t.Errorf("%s %s answers %d", method, path, a.status)
			}
			if len(a.body) > 1000 {
				t.Errorf("%s %.20s...: the answer has %d bytes", method, path, len(a.body))
			}
		}
	}
}

func TestABadQueryIsRefusedAndSaysWhatIsRight(t *testing.T) {
	r := start(t, fullWorld())
	for path, want := range map[string]string{
		"/status?verbose=1":                              `/status has no parameter "verbose"`,
		"/decision?event=switchover":                     `/decision has no parameter "event"`,
		"/decision/what-if":                              `"" is not an event`,
		"/decision/what-if?event=":                       `"" is not an event`,
		"/decision/what-if?event=Switchover":             `"Switchover" is not an event`,
		"/decision/what-if?event=switchover&to=region-z": `there is no node "region-z"`,
		"/decision/what-if?event=switchover&two=x":       `/decision/what-if has no parameter "two"`,
		"/decision/what-if?event=switchover&event=x":     "the parameter event is there more than once",
		"/events?since=-1":                               `since = "-1" is not a number from 0 to 9223372036854775808`,
		"/events?since=1e3":                              `since = "1e3" is not a number`,
		"/events?since=":                                 `since = "" is not a number`,
		"/events?since=99999999999999999999":             `since = "99999999999999999999" is not a number`,
		"/events?limit=0":                                `limit = "0" is not a number from 1 to 10000`,
		"/events?last=0":                                 `last = "0" is not a number from 1 to 10000`,
		"/events?last=":                                  `last = "" is not a number`,
		"/events/stream?last=1":                          `/events/stream has no parameter "last"`,
		"/events?limit=10001":                            `limit = "10001" is not a number from 1 to 10000`,
		"/events?from=1":                                 `/events has no parameter "from"`,
		"/events/stream?since=x":                         `since = "x" is not a number`,
		"/events/stream?limit=1":                         `/events/stream has no parameter "limit"`,
		"/events?since=%zz":                              "the query is not well-formed",
		"/events?since=1;limit=2":                        "the query is not well-formed",
		"/openapi.json?x":                                `/openapi.json has no parameter "x"`,
	} {
		a := r.do("GET", path, nil)
		e := r.refusal(a)
		if a.status != 400 || e.Code != "bad_request" || !strings.HasPrefix(e.Message, want) {
			t.Errorf("%s answers %d %+v, want %q", path, a.status, e, want)
		}
	}
	for _, path := range []string{"/healthz?probe=1", "/readyz?probe=1", "/metrics?x=1"} {
		if a := r.do("GET", path, nil); a.status != 200 {
			t.Errorf("%s answers %d", path, a.status)
		}
	}
}

func TestEveryAnswerTellsBrowsersToKeepOut(t *testing.T) {
	r := start(t, fullWorld())
	for _, path := range []string{"/status", "/metrics", "/nothing", "/openapi.json"} {
		h := r.do("GET", path, nil).header
		for name, want := range map[string]string{
			"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
			"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'", "Cross-Origin-Resource-Policy": "same-origin",
			"Access-Control-Allow-Origin": "",
		} {
			if h.Get(name) != want {
				t.Errorf("%s: %s is %q, want %q", path, name, h.Get(name), want)
			}
		}
	}
}

func TestEventsAreGivenFromWhereTheReaderIs(t *testing.T) {
	w := newWorld()
	for i := range 1500 {
		w.happen(Event{Kind: "step", Message: fmt.Sprint(i)})
	}
	r := start(t, w)
	for path, want := range map[string][2]int{
		"/events":                        {1, 1000},
		"/events?since=0&limit=10":       {1, 10},
		"/events?since=1000":             {1001, 1500},
		"/events?since=1499&limit=10000": {1500, 1500},
		"/events?last=1":                 {1500, 1500},
		"/events?last=1200":              {301, 1500},
		"/events?last=10000":             {1, 1500},
		"/events?last=10&limit=3":        {1491, 1493},
		"/events?last=10&since=1495":     {1496, 1500},
		"/events?last=10&since=9000":     {0, 0},
		"/events?since=1500":             {0, 0},
		"/events?since=9000":             {0, 0},
	} {
		a := r.do("GET", path, nil)
		conforms(t, "Events", a.body)
		if got := seqs(t, a.body); got != want {
			t.Errorf("%s gives %v, want %v", path, got, want)
		}
	}
}

func TestWhatCannotAnswerAnyMoreSaysSo(t *testing.T) {
	w := fullWorld()
	w.whatIf = func(context.Context, decision.Question) (decision.Decision, error) {
		return decision.Decision{}, fmt.Errorf("ask the engine: %w", ErrUnavailable)
	}
	w.reload = func(context.Context) (Reloaded, error) { return Reloaded{}, ErrUnavailable }
	r := start(t, w)
	for _, a := range []answer{r.do("GET", "/decision/what-if?event=switchover", nil), r.do("POST", "/admin/reload", nil)} {
		if e := r.refusal(a); a.status != 503 || e.Code != "unavailable" || e.Message != "pgtether is ending" {
			t.Errorf("answers %d %+v", a.status, e)
		}
	}
}

func TestARefusedConfigurationIsShownWhole(t *testing.T) {
	w := fullWorld()
	w.reload = func(context.Context) (Reloaded, error) {
		return Reloaded{}, errors.New("pgtether.toml:3: listen.adress: unknown key\npgtether.toml:9: hold.login: \"15\" is not a duration")
	}
	r := start(t, w)
	a := r.do("POST", "/admin/reload", nil)
	e := r.refusal(a)
	if a.status != 400 || e.Code != "invalid_config" || strings.Count(e.Message, "\n") != 1 || !strings.Contains(e.Hint, "stays in force") {
		t.Errorf("answers %d %+v", a.status, e)
	}
	golden(t, "reload-refused", a.body)
}

func TestAnOperandThatIsNotJSONDoesNotBreakTheAnswer(t *testing.T) {
	w := newWorld()
	w.happen(Event{Kind: "step", Operands: map[string]jsonRaw{"bad": jsonRaw("{"), "none": nil, "good": jsonRaw("1")}})
	r := start(t, w)
	a := r.do("GET", "/events", nil)
	conforms(t, "Events", a.body)
	if !strings.Contains(a.body, `"operands":{"bad":null,"good":1,"none":null}`) {
		t.Errorf("answers %d\n%s", a.status, a.body)
	}
}

func TestASilentClientIsGivenUp(t *testing.T) {
	t.Parallel()
	r := start(t, fullWorld())
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte("GET /status HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	n := 0
	buffer := make([]byte, 4096)
	for err == nil {
		var k int
		k, err = conn.Read(buffer[n:])
		n += k
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		t.Errorf("the connection is still open after %s", patience)
	}
}

func TestAHeaderThatIsTooLongIsNotServed(t *testing.T) {
	r := start(t, fullWorld())
	req, err := http.NewRequest(http.MethodGet, r.url+"/status", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Long", strings.Repeat("x", 2*maxHeaderBytes))
	// The server may close before the client has written all: then there is no answer at all.
	if res, err := r.http.Do(req); err == nil {
		_ = res.Body.Close()
		if res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("answers %d", res.StatusCode)
		}
	}
	if a := r.do("GET", "/status", nil); a.status != 200 {
		t.Errorf("the next request answers %d", a.status)
	}
}
