package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

func TestProxyThatNeverAnswersCannotBeReached(t *testing.T) {
	release := make(chan struct{}) // closed when the test is over
	for name, handler := range map[string]http.HandlerFunc{
		"no answer": func(_ http.ResponseWriter, r *http.Request) { waitFor(r, release) },
		"half an answer": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, `{"cluster":`)
			_ = http.NewResponseController(w).Flush()
			waitFor(r, release)
		},
		"cut off": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, `{"cluster":`)
			panic(http.ErrAbortHandler)
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(handler)
			defer server.Close()
			flags := clientFlags{admin: server.URL}
			c, err := flags.client()
			if err != nil {
				t.Fatal(err)
			}
			defer c.http.CloseIdleConnections()
			c.patience = 100 * time.Millisecond
			_, err = c.get(t.Context(), "/status", nil)
			var exit *exitError
			if !errors.As(err, &exit) || exit.code != exitUnreachable {
				t.Errorf("error %v; want exit code %d", err, exitUnreachable)
			}
		})
	}
	close(release)
}

func waitFor(r *http.Request, release <-chan struct{}) {
	select {
	case <-r.Context().Done():
	case <-release:
	}
}

func TestAnswerWithoutEndIsNotKept(t *testing.T) {
	if body, err := readAnswer(endless{}); err == nil || len(body) > 0 {
		t.Errorf("%d bytes, error %v", len(body), err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestAddressToListenOnBecomesOneToConnectTo(t *testing.T) {
	for listen, want := range map[string]string{
		"127.0.0.1:7432":   "127.0.0.1:7432",
		"0.0.0.0:7432":     "127.0.0.1:7432",
		":7432":            "127.0.0.1:7432",
		"[::]:7432":        "[::1]:7432",
		"[::1]:7432":       "[::1]:7432",
		"10.0.0.5:7432":    "10.0.0.5:7432",
		"admin.local:7432": "admin.local:7432",
		"nonsense":         "nonsense",
	} {
		if got := reachable(listen); got != want {
			t.Errorf("%q: %q; want %q", listen, got, want)
		}
		if _, _, err := net.SplitHostPort(listen); err == nil {
			if _, err := parseAdmin(reachable(listen)); err != nil {
				t.Errorf("%q cannot be asked: %v", listen, err)
			}
		}
	}
}

func TestAdminAddressIsAPlainURL(t *testing.T) {
	for text, want := range map[string]string{
		"127.0.0.1:7432":            "http://127.0.0.1:7432",
		"localhost:7432":            "http://localhost:7432",
		"http://[::1]:7432":         "http://[::1]:7432",
		"https://pg.example/tether": "https://pg.example/tether",
	} {
		u, err := parseAdmin(text)
		if err != nil || u.String() != want {
			t.Errorf("%q: %v, %v; want %s", text, u, err, want)
		}
	}
	for _, text := range []string{"", "http://", "http://:7432", "ftp://x", "http://u:p@x", "http://x?y", "http://x#y", "http://x:port", "ht tp://x", "http://x\x00y", "://x"} {
		u, err := parseAdmin(text)
		if err == nil {
			t.Errorf("%q is taken as %s", text, u)
			continue
		}
		if strings.Contains(err.Error(), "u:p") {
			t.Errorf("%q: the password is in the error: %v", text, err)
		}
	}
}

func TestErrorOfACommandEndsWithOneUnlessItSaysOtherwise(t *testing.T) {
	for want, err := range map[int]error{
		exitFailed:      errors.New("plain"),
		exitUsage:       usageError(errors.New("usage")),
		exitUnreachable: unreachableError(errors.New("unreachable")),
	} {
		root := &cobra.Command{Use: "root", SilenceErrors: true, SilenceUsage: true}
		root.AddCommand(&cobra.Command{Use: "child", RunE: func(*cobra.Command, []string) error { return err }})
		failByDefault(root)
		root.SetArgs([]string{"child"})
		var exit *exitError
		if got := root.Execute(); !errors.As(got, &exit) || exit.code != want || !errors.Is(got, err) {
			t.Errorf("%v: exit %+v; want code %d", err, got, want)
		}
	}
}

// broken is a stdout that is gone, as a closed pipe is.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestOutputThatCannotBeWrittenIsAFailure(t *testing.T) {
	bodies := newFakeAdmin("testdata/bodies")
	defer bodies.server.Close()
	for _, args := range [][]string{
		{"version"}, {"version", "--json"},
		{"status", "--admin", bodies.server.URL}, {"status", "--json", "--admin", bodies.server.URL},
		{"events", "--follow", "--limit", "1", "--admin", bodies.server.URL + "/stream"},
	} {
		var stderr bytes.Buffer
		if code := run(args, broken{}, &stderr); code != exitFailed || !strings.Contains(stderr.String(), "closed pipe") {
			t.Errorf("%v: exit code %d, stderr %q", args, code, &stderr)
		}
	}
}
