package rig

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgtether/pgtether/internal/lab"
)

func TestAWildcardAddressIsReachedThroughLoopback(t *testing.T) {
	for address, want := range map[string]string{
		"0.0.0.0:6432": "127.0.0.1:6432", "[::]:6432": "127.0.0.1:6432", ":6432": "127.0.0.1:6432",
		"10.0.0.1:6432": "10.0.0.1:6432", "nonsense": "nonsense",
	} {
		if got := reachable(address); got != want {
			t.Errorf("reachable(%q) = %q, want %q", address, got, want)
		}
	}
}

func TestPortZeroIsReplacedAndATakenPortIsAnError(t *testing.T) {
	got, err := withPort("127.0.0.1:0")
	if err != nil || !strings.HasPrefix(got, "127.0.0.1:") || got == "127.0.0.1:0" {
		t.Errorf("port 0 became %q (%v)", got, err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if got, err := withPort(ln.Addr().String()); err == nil {
		t.Errorf("a taken port became %q without an error", got)
	}
}

// script writes an executable that stands in for pgtether.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pgtether")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAProxyThatEndsAtOnceIsToldWithItsLastWords(t *testing.T) {
	p, err := Start(t.Context(), &lab.Lab{ProbeUser: "pgtether"}, Options{Dir: t.TempDir(), Binary: script(t, "echo no such key >&2; exit 2")})
	if err == nil {
		t.Fatal("no error", p.Stop())
	}
	for _, want := range []string{"it ended", "exit status 2", "no such key"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q lacks %q", err, want)
		}
	}
}

func TestAProxyThatIsNeverReadyIsEndedWithTheContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := Start(ctx, &lab.Lab{ProbeUser: "pgtether"}, Options{Dir: t.TempDir(), Binary: script(t, "trap 'exit 0' TERM; while :; do sleep 0.05; done")})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want the end of the context", err)
	}
}
