package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgtether/pgtether/decision"
	"github.com/pgtether/pgtether/internal/lab"
)

// liveConfig is a configuration for the nodes of a lab.
func liveConfig(t *testing.T, l *lab.Lab, password string) string {
	t.Helper()
	dir := t.TempDir()
	secret := filepath.Join(dir, "password")
	if err := os.WriteFile(secret, []byte(password), 0o600); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	text.WriteString("[listen]\naddress = \"127.0.0.1:6432\"\n")
	for _, n := range l.Nodes() {
		fmt.Fprintf(&text, "[[node]]\nname = %q\naddress = %q\n", n.Name(), n.Addr())
	}
	fmt.Fprintf(&text, "[probe]\nuser = %q\npassword_file = \"password\"\ntimeout = \"20s\"\n[failover]\nmode = \"auto\"\nstable_for = \"30s\"\n", l.ProbeUser)
	path := filepath.Join(dir, "pgtether.toml")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// checkLive runs `check --live` twice: as text and as JSON.
func checkLive(t *testing.T, config string) (code int, text, stderr string, live *liveReport) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run([]string{"check", "--live", "--config", config}, &out, &errs)
	text, stderr = out.String(), errs.String()
	out.Reset()
	if again := run([]string{"check", "--live", "--json", "--config", config}, &out, &errs); again != code {
		t.Errorf("exit code %d, with --json %d", code, again)
	}
	var report checkReport
	if err := json.Unmarshal(out.Bytes(), &report); err != nil || report.Live == nil {
		t.Fatalf("%v in %s", err, &out)
	}
	return code, text, stderr, report.Live
}

func (r *liveReport) node(t *testing.T, name string) nodeReport {
	t.Helper()
	for _, n := range r.Nodes {
		if n.Name == name {
			return n
		}
	}
	t.Fatalf("no node %s in %+v", name, r)
	return nodeReport{}
}

func (n nodeReport) blockedBy() []string {
	var names []string
	for _, f := range n.Blocking {
		names = append(names, f.Criterion)
	}
	return names
}

func TestCheckLiveSaysPerNodeWhatWouldBlockAFailover(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	l, err := lab.Start(ctx, lab.Options{NodeSettings: map[string]map[string]string{lab.RegionB: {"wal_receiver_timeout": "60s"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	a, b := l.Node(lab.RegionA), l.Node(lab.RegionB)
	if err := b.AwaitStreaming(ctx); err != nil {
		t.Fatal(err)
	}
	config := liveConfig(t, l, l.ProbePassword)

	t.Run("a pair that is well", func(t *testing.T) {
		code, text, stderr, live := checkLive(t, config)
		if code != exitDone || stderr != "" {
			t.Fatalf("exit code %d, stderr %q\n%s", code, stderr, text)
		}
		if live.Writer == nil || *live.Writer != lab.RegionA || live.Candidate == nil || *live.Candidate != lab.RegionB {
			t.Errorf("writer %v, candidate %v", live.Writer, live.Candidate)
		}
		if n := live.node(t, lab.RegionB); !slices.ContainsFunc(n.Warnings, func(w string) bool { return strings.Contains(w, "wal_receiver_timeout is 1m0s") }) {
			t.Errorf("the slow witness is not named: %v", n.Warnings)
		}
		for _, want := range []string{"region-a at " + a.Addr() + ": primary, answers", "region-b at " + b.Addr() + ": standby, answers", "nothing here would block a failover"} {
			if !strings.Contains(text, want) {
				t.Errorf("%q is not in\n%s", want, text)
			}
		}
	})

	t.Run("replay is paused", func(t *testing.T) {
		if err := b.PauseReplay(ctx); err != nil {
			t.Fatal(err)
		}
		code, text, stderr, live := checkLive(t, config)
		if err := b.ResumeReplay(ctx); err != nil {
			t.Fatal(err)
		}
		if blocked := live.node(t, lab.RegionB).blockedBy(); code != exitFailed || !slices.Contains(blocked, "replay_not_paused") {
			t.Errorf("exit code %d, region-b blocked by %v\n%s", code, blocked, text)
		}
		if !strings.Contains(stderr, "a failover would be blocked by ") || !strings.Contains(text, "blocks: replay_not_paused (fail): ") {
			t.Errorf("stderr %q\n%s", stderr, text)
		}
	})

	t.Run("the role may do too little", func(t *testing.T) {
		major, err := a.QueryText(ctx, "postgres", "SELECT current_setting('server_version_num')::int / 10000")
		if err != nil {
			t.Fatal(err)
		}
		revoked := []string{"REVOKE EXECUTE ON FUNCTION pg_promote(boolean, integer) FROM " + l.ProbeUser, "ALTER ROLE " + l.ProbeUser + " NOREPLICATION"}
		granted := []string{"GRANT EXECUTE ON FUNCTION pg_promote(boolean, integer) TO " + l.ProbeUser, "ALTER ROLE " + l.ProbeUser + " REPLICATION"}
		if major != "13" && major != "14" {
			revoked = append(revoked, "REVOKE ALTER SYSTEM ON PARAMETER synchronous_standby_names FROM "+l.ProbeUser)
			granted = append(granted, "GRANT ALTER SYSTEM ON PARAMETER synchronous_standby_names TO "+l.ProbeUser)
		}
		change := func(on *lab.Node, statements ...string) {
			t.Helper()
			for _, sql := range statements {
				if err := on.Exec(ctx, "postgres", sql); err != nil {
					t.Fatal(err)
				}
			}
		}
		change(a, revoked...)
		change(b, "ALTER SYSTEM SET synchronous_standby_names = 'region_a'", "SELECT pg_reload_conf()")
		if err := b.AwaitCaughtUp(ctx, a); err != nil {
			t.Fatal(err)
		}
		code, text, _, live := checkLive(t, config)
		n := live.node(t, lab.RegionB)
		if blocked := n.blockedBy(); code != exitFailed || !slices.Contains(blocked, "promotable") || !slices.Contains(blocked, "target_can_commit") {
			t.Errorf("exit code %d, region-b blocked by %v\n%s", code, blocked, text)
		}
		for _, name := range []string{lab.RegionA, lab.RegionB} {
			if !slices.ContainsFunc(live.node(t, name).Warnings, func(w string) bool { return strings.Contains(w, "the replication connection") }) {
				t.Errorf("%s: the way that is shut is not named: %v", name, live.node(t, name).Warnings)
			}
		}
		change(a, granted...)
		change(b, "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
		if err := b.AwaitCaughtUp(ctx, a); err != nil {
			t.Fatal(err)
		}
		if code, text, _, _ := checkLive(t, config); code != exitDone {
			t.Errorf("exit code %d after the grants\n%s", code, text)
		}
	})

	t.Run("the probe cannot log in", func(t *testing.T) {
		code, text, stderr, live := checkLive(t, liveConfig(t, l, "wrong"))
		if n := live.node(t, lab.RegionA); code != exitFailed || n.Evidence != decision.Alive.String() || !strings.Contains(n.EvidenceDetail, "28P01") {
			t.Errorf("exit code %d, %+v\n%s", code, n, text)
		}
		if strings.Contains(text+stderr, "wrong") {
			t.Errorf("the password is shown:\n%s\n%s", text, stderr)
		}
	})

	t.Run("the standby is gone", func(t *testing.T) {
		if err := b.Kill9(); err != nil {
			t.Fatal(err)
		}
		code, text, _, live := checkLive(t, config)
		if n := live.node(t, lab.RegionB); code != exitFailed || n.Evidence != decision.Refused.String() || len(n.Blocking) == 0 {
			t.Errorf("exit code %d, %+v\n%s", code, n, text)
		}
	})

	t.Run("nobody is there", func(t *testing.T) {
		if err := a.Kill9(); err != nil {
			t.Fatal(err)
		}
		code, text, stderr, live := checkLive(t, config)
		if code != exitFailed || live.Writer != nil || !strings.Contains(stderr, "check the nodes: no writer: ") {
			t.Errorf("exit code %d, stderr %q\n%s", code, stderr, text)
		}
	})
}
