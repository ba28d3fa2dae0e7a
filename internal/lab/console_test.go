//go:build linux

package lab

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
)

// emptyConsole has two nodes that are down, and no relays.
func emptyConsole(t testing.TB) *console {
	t.Helper()
	l := &Lab{dir: t.TempDir()}
	for _, name := range []string{RegionA, RegionB} {
		l.nodes = append(l.nodes, &Node{lab: l, name: name, ip: "127.0.0.1", port: 1, dataDir: filepath.Join(l.dir, name)})
	}
	return &console{lab: l, relays: map[string]*Relay{}, quit: func() {}}
}

func TestEveryFaultIsListedAndSaysHowItIsUsed(t *testing.T) {
	c, help := emptyConsole(t), helpText()
	seen := map[string]bool{}
	for _, v := range verbs() {
		if seen[v.name] || v.help == "" || v.run == nil {
			t.Errorf("fault %q is there twice, or lacks its help", v.name)
		}
		seen[v.name] = true
		if !strings.Contains(help, strings.TrimSpace(v.name+" "+v.args)) {
			t.Errorf("help does not list %q", v.name)
		}
		if v.args == "" {
			continue
		}
		for _, line := range []string{v.name, v.name + " a b c d e f"} {
			if _, err := c.obey(t.Context(), line); err == nil || !strings.HasPrefix(err.Error(), "usage: "+v.name) {
				t.Errorf("%q gives %v, want its usage", line, err)
			}
		}
		if _, err := c.obey(t.Context(), v.name+" region-x"); err == nil || !strings.Contains(err.Error(), "region-a or region-b") {
			t.Errorf("%s of an unknown node gives %v, want the nodes there are", v.name, err)
		}
	}
}

func TestStatusOfServersThatAreDown(t *testing.T) {
	text, err := emptyConsole(t).obey(t.Context(), " status ")
	if err != nil || strings.Count(text, "down") != 2 {
		t.Errorf("status is %q, %v", text, err)
	}
}

// No line does anything to servers that are down but say so.
func FuzzObey(f *testing.F) {
	for _, v := range verbs() {
		if v.name != "start" && v.name != "rebuild" && v.name != "rewind" && v.name != "demote" {
			f.Add(v.name + " region-a")
			f.Add(v.name + " region-a all 5ms")
		}
	}
	f.Add("\x00 \xff")
	c := emptyConsole(f)
	f.Fuzz(func(t *testing.T, line string) {
		if fields := strings.Fields(line); len(fields) > 0 && (fields[0] == "start" || fields[0] == "promote" || fields[0] == "pause" || fields[0] == "resume") {
			return // these reach for PostgreSQL, which is not there
		}
		answer, err := c.obey(context.Background(), line)
		if err != nil && answer != "" {
			t.Errorf("%q gives both %q and %v", line, answer, err)
		}
	})
}

// oneAnswer is a socket on which one connection gets the given answer.
func oneAnswer(t *testing.T, answer string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{}) // closed when the connection has been answered
	go func() {
		defer close(served)
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = conn.Read(make([]byte, maxLine))
		_, _ = io.WriteString(conn, answer)
	}()
	t.Cleanup(func() { ln.Close(); <-served })
	return path
}

func TestSendTellsDoneFromFailedFromCutOff(t *testing.T) {
	for name, c := range map[string]struct{ answer, text, fails string }{
		"done":                 {"ok\n", "", ""},
		"done with an answer":  {"a\nb\nok\n", "a\nb\n", ""},
		"failed":               {"error: no such node\n", "", "no such node"},
		"failed half way":      {"a\nerror: broke\n", "a\n", "broke"},
		"cut off":              {"a\nb\n", "a\n", "ended before it answered"},
		"cut off from nothing": {"", "", "ended before it answered"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			err := Send(t.Context(), oneAnswer(t, c.answer), "status", &out)
			if out.String() != c.text {
				t.Errorf("printed %q, want %q", out.String(), c.text)
			}
			if (err != nil) != (c.fails != "") || err != nil && !strings.Contains(err.Error(), c.fails) {
				t.Errorf("error is %v, want %q", err, c.fails)
			}
		})
	}
	if err := Send(t.Context(), filepath.Join(t.TempDir(), "none"), "status", io.Discard); err == nil {
		t.Error("a lab that is not there answers")
	}
	if err := Send(t.Context(), oneAnswer(t, ""), "status\nkill region-a", io.Discard); err == nil || !strings.Contains(err.Error(), "want one line") {
		t.Errorf("two lines give %v", err)
	}
}

func TestFindSocketWantsExactlyOneLab(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	t.Setenv("PGTETHER_LAB_DIR", "")
	if _, err := FindSocket(); err == nil || !strings.Contains(err.Error(), "no lab runs here") {
		t.Errorf("without a lab: %v", err)
	}
	first := filepath.Join(dirPrefix+"1", socketName)
	writeTree(t, dir, map[string]string{first: ""})
	if found, err := FindSocket(); err != nil || found != filepath.Join(dir, first) {
		t.Errorf("with one lab: %q, %v", found, err)
	}
	t.Setenv("PGTETHER_LAB_DIR", dir) // the same place twice is still one lab
	if found, err := FindSocket(); err != nil || found != filepath.Join(dir, first) {
		t.Errorf("with one lab seen twice: %q, %v", found, err)
	}
	writeTree(t, dir, map[string]string{filepath.Join(dirPrefix+"2", socketName): ""})
	if _, err := FindSocket(); err == nil || !strings.Contains(err.Error(), "choose one") {
		t.Errorf("with two labs: %v", err)
	}
}

func TestAwaitSaysWhatWasMissing(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("asked to stop")
	missing := errors.New("nobody is there")
	tries := 0
	err := await(ctx, func(context.Context) error {
		if tries++; tries == 3 {
			cancel(reason)
		}
		return missing
	})
	if !errors.Is(err, reason) || !errors.Is(err, missing) {
		t.Errorf("error is %v, want both the end and what was missing", err)
	}
	tries = 0
	err = await(t.Context(), func(context.Context) error { tries++; return final(missing) })
	if !errors.Is(err, missing) || tries != 1 {
		t.Errorf("a final error took %d tries and gave %v", tries, err)
	}
}
