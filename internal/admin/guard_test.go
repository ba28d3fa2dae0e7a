package admin

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func bearer(token string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

func host(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }

func both(edits ...func(*http.Request)) func(*http.Request) {
	return func(r *http.Request) {
		for _, edit := range edits {
			edit(r)
		}
	}
}

// TestWhoMayGiveACommand is the permission table of POST.
func TestWhoMayGiveACommand(t *testing.T) {
	const token = "s3cret-token"
	for _, c := range []struct {
		name     string
		token    string
		loopback bool
		edit     func(*http.Request)
		status   int
		code     string
	}{
		{"loopback, no token", "", true, nil, 200, ""},
		{"loopback, no token, by name", "", true, host("localhost:7432"), 200, ""},
		{"loopback, no token, IPv6", "", true, host("[::1]:7432"), 200, ""},
		{"loopback, no token, a token is shown all the same", "", true, bearer(token), 200, ""},
		{"loopback, no token, a rebound name", "", true, host("evil.example.org:7432"), 403, "forbidden"},
		{"loopback, no token, a rebound name that begins well", "", true, host("localhost.evil.example.org"), 403, "forbidden"},
		{"loopback, no token, another address", "", true, host("10.0.0.1:7432"), 403, "forbidden"},
		{"loopback, no token, a page of another site", "", true, header("Sec-Fetch-Site", "cross-site"), 403, "forbidden"},
		{"loopback, no token, a page of a sibling", "", true, header("Sec-Fetch-Site", "same-site"), 403, "forbidden"},
		{"loopback, no token, an old browser's page of another site", "", true, header("Origin", "https://evil.example.org"), 403, "forbidden"},
		{"loopback, no token, a page without an origin", "", true, header("Origin", "null"), 403, "forbidden"},
		{"loopback, token missing", token, true, nil, 401, "unauthorized"},
		{"loopback, token wrong", token, true, bearer("s3cret-tokem"), 401, "unauthorized"},
		{"loopback, token right", token, true, bearer(token), 200, ""},
		{"loopback, token right under another name", token, true, both(bearer(token), host("pgtether.example.org")), 200, ""},
		{"loopback, token right from a page of another site", token, true, both(bearer(token), header("Sec-Fetch-Site", "cross-site")), 403, "forbidden"},
		{"everywhere, no token", "", false, nil, 403, "forbidden"},
		{"everywhere, no token set, one is shown", "", false, bearer(token), 403, "forbidden"},
		{"everywhere, an empty token is shown where none is set", "", false, bearer(""), 403, "forbidden"},
		{"everywhere, token missing", token, false, nil, 401, "unauthorized"},
		{"everywhere, token empty", token, false, bearer(""), 401, "unauthorized"},
		{"everywhere, token cut short", token, false, bearer(token[:5]), 401, "unauthorized"},
		{"everywhere, token too long", token, false, bearer(token + "x"), 401, "unauthorized"},
		{"everywhere, another scheme", token, false, header("Authorization", "Basic "+token), 401, "unauthorized"},
		{"everywhere, no scheme", token, false, header("Authorization", token), 401, "unauthorized"},
		{"everywhere, scheme in small letters", token, false, header("Authorization", "bearer "+token), 200, ""},
		{"everywhere, token right", token, false, bearer(token), 200, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := fullWorld()
			w.token = c.token
			calls := 0
			w.reload = func(context.Context) (Reloaded, error) { calls++; return Reloaded{}, nil }
			address := "127.0.0.1:0"
			if !c.loopback {
				address = "0.0.0.0:0"
			}
			l, err := net.Listen("tcp4", address)
			if err != nil {
				t.Fatal(err)
			}
			r := startOn(t, w, l)
			a := r.do("POST", "/admin/reload", c.edit)
			if a.status != c.status {
				t.Fatalf("answers %d, want %d\n%s", a.status, c.status, a.body)
			}
			if (calls == 1) != (c.status == 200) {
				t.Errorf("the command was carried out %d times", calls)
			}
			if c.code != "" && r.refusal(a).Code != c.code {
				t.Errorf("refused with\n%s", a.body)
			}
			if (a.header.Get("WWW-Authenticate") != "") != (c.status == 401) {
				t.Errorf("WWW-Authenticate is %q", a.header.Get("WWW-Authenticate"))
			}
			if c.token != "" && (strings.Contains(a.body, c.token) || strings.Contains(w.log.String(), c.token)) {
				t.Error("the token is in the answer or in the log")
			}
			if a := r.do("GET", "/status", nil); a.status != 200 {
				t.Errorf("GET /status answers %d: reading needs no permission", a.status)
			}
		})
	}
}

func TestACommandTakesNoBody(t *testing.T) {
	w := fullWorld()
	calls := 0
	w.reload = func(context.Context) (Reloaded, error) { calls++; return Reloaded{}, nil }
	r := start(t, w)
	for name, c := range map[string]struct {
		body   string
		status int
	}{
		"none":          {"", 200},
		"blanks":        {" \r\n", 200},
		"an empty one":  {"{}", 200},
		"something":     {`{"now": true}`, 400},
		"just too much": {strings.Repeat(" ", maxBodyBytes+1), 413},
		"far too much":  {strings.Repeat("x", 4*maxBodyBytes), 413},
	} {
		calls = 0
		a := r.do("POST", "/admin/reload", func(req *http.Request) { req.Body = io.NopCloser(strings.NewReader(c.body)) })
		if a.status != c.status || (calls == 1) != (c.status == 200) {
			t.Errorf("%s: answers %d, want %d; carried out %d times", name, a.status, c.status, calls)
		}
		if c.status != 200 {
			r.refusal(a)
		}
	}
}

func TestATokenThatAReloadChangedCountsAtOnce(t *testing.T) {
	w := fullWorld()
	w.token = "first"
	w.reload = func(context.Context) (Reloaded, error) { w.token = "second"; return Reloaded{}, nil }
	r := start(t, w)
	for i, want := range []int{200, 401} {
		if a := r.do("POST", "/admin/reload", bearer("first")); a.status != want {
			t.Errorf("command %d answers %d, want %d", i+1, a.status, want)
		}
	}
	if a := r.do("POST", "/admin/reload", bearer("second")); a.status != 200 {
		t.Errorf("the new token answers %d", a.status)
	}
}

func TestRefusalsCannotFillTheLog(t *testing.T) {
	w := fullWorld()
	w.token = "token"
	s := New(w.deps())
	now := time.Unix(1000, 0)
	s.refused.now = func() time.Time { return now }
	req, err := http.NewRequest("POST", "/admin/reload", nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		s.refused.warn(req, "token")
	}
	now = now.Add(time.Second)
	s.refused.warn(req, "token")
	if lines := strings.Count(w.log.String(), "\n"); lines != 2 || !strings.Contains(w.log.String(), "suppressed=99") {
		t.Errorf("%d lines:\n%s", lines, w.log.String())
	}
}

func TestLocalNames(t *testing.T) {
	for name, want := range map[string]bool{
		"localhost": true, "LOCALHOST:80": true, "127.0.0.1": true, "127.9.9.9:1": true, "[::1]": true, "[::1]:80": true, "::1": true,
		"": false, "0.0.0.0:80": false, "10.0.0.1": false, "localhost.": false, "a.localhost": false, "127.0.0.1.nip.io": false, "[::ffff:127.0.0.1]:1": true,
	} {
		if got := isLocalName(name); got != want {
			t.Errorf("isLocalName(%q) = %v", name, got)
		}
	}
}
