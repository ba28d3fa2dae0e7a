//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgtether/pgtether/test/rig"
)

// TestMain lets the test binary be the processes that the program starts itself once more as.
func TestMain(m *testing.M) {
	playRole()
	os.Exit(m.Run())
}

// tiny are the settings of a run that only has to work.
func tiny(t *testing.T, args ...string) settings {
	t.Helper()
	binary, err := rig.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s, err := parseSettings("peers", append([]string{
		"-pgtether", binary, "-out", t.TempDir(), "-rounds", "1", "-seconds", "0.2", "-clients", "2", "-scale", "1", "-copy-mib", "8", "-idle", "20",
	}, args...))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEveryPeerIsMeasured(t *testing.T) {
	t.Parallel()
	s := tiny(t, "-workloads", "select,tls,copyout,copyin,login,idle")
	if err := run(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	found, _ := filepath.Glob(filepath.Join(s.out, "*.csv"))
	if len(found) != 1 {
		t.Fatalf("the run left %v, want one file of numbers", found)
	}
	content, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	numbers := map[string]float64{} // by workload, peer and metric
	for line := range strings.Lines(string(content)) {
		if f := strings.Split(strings.TrimSpace(line), ","); f[0] != "workload" {
			numbers[f[0]+" "+f[3]+" "+f[4]], _ = strconv.ParseFloat(f[5], 64)
		}
	}
	for _, peer := range s.peers {
		for workload, keys := range map[string][]string{
			"select": {cpuPerTx, rate, median, slowest}, "tls": {cpuPerTx, rate}, "login": {cpuPerTx, median}, "copyout": {cpuPerGB, throughput},
			"copyin": {cpuPerGB, throughput}, "idle": {kibEach},
		} {
			for _, key := range keys {
				_, got := numbers[workload+" "+peer+" "+key]
				if want := expected(workload, peer, key); got != want {
					t.Errorf("%s, %s: %s measured %t, want %t", workload, peer, key, got, want)
				}
				if v := numbers[workload+" "+peer+" "+key]; got && v <= 0 && key != kibEach {
					t.Errorf("%s, %s: %s is %g", workload, peer, key, v)
				}
			}
		}
	}
}

// expected: a proxy without TLS and a server without a proxy cannot be measured in everything.
func expected(workload, peer, key string) bool {
	switch {
	case workload == "tls":
		return peer != kindIOCopy && peer != kindDirect
	case peer == kindDirect:
		return workload != "idle" && key != cpuPerTx && key != cpuPerGB
	default:
		return true
	}
}

// A session that PgBouncer has kept from its turn before is warm, those that the others are given are not.
func TestNoSessionOfTheServerOutlivesItsMeasurement(t *testing.T) {
	t.Parallel()
	st, err := setStage(t.Context(), tiny(t, "-peers", "pgbouncer"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := st.close(); err != nil {
			t.Error(err)
		}
	}()
	oldest := ""
	seen := workload{measure: func(ctx context.Context, st *stage, p *peer, clients int) (Result, error) {
		found, err := measureSelect(ctx, st, p, clients)
		if err == nil {
			oldest, err = st.node.QueryText(ctx, "postgres", "SELECT min(backend_start) FROM pg_stat_activity WHERE usename = '"+st.lab.AppUser+"'")
		}
		return found, err
	}}
	before := ""
	for range 2 {
		if _, err := st.measure(t.Context(), seen, st.peers[0], 2); err != nil {
			t.Fatal(err)
		}
		if oldest == "" || oldest == before {
			t.Errorf("the oldest session is of %q, in the measurement before it was of %q", oldest, before)
		}
		before = oldest
	}
}

// Each page of the tables that a new session reads for the first time is a page fault of the server's, and the slowest transactions would tell of
// those instead of the proxy.
func TestTheSelectsReadNoMoreRowsThanTheyAreTold(t *testing.T) {
	t.Parallel()
	st, err := setStage(t.Context(), tiny(t, "-peers", "pgtether", "-rows", "70"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := st.close(); err != nil {
			t.Error(err)
		}
	}()
	// Told at once what it has read for the plan, and not when its session ends, which may be after the statistics are begun anew.
	if err := st.node.Exec(t.Context(), st.lab.AppDatabase, `DELETE FROM pgbench_accounts WHERE aid > 70; SELECT pg_stat_force_next_flush()`); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"select", "tls", "connect"} {
		if err := st.node.Exec(t.Context(), st.lab.AppDatabase, `SELECT pg_stat_reset()`); err != nil {
			t.Fatal(err)
		}
		w, _ := workloadNamed(name)
		if _, err := st.measure(t.Context(), w, st.peers[0], 2); err != nil {
			t.Fatal(name, err)
		}
		if err := st.endSessions(t.Context()); err != nil { // they tell what they have read when they end
			t.Fatal(err)
		}
		var asked, found int
		row, err := st.node.QueryText(t.Context(), st.lab.AppDatabase, `SELECT idx_scan || ' ' || idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'pgbench_accounts'`)
		if err == nil {
			_, err = fmt.Sscan(row, &asked, &found)
		}
		if err != nil || asked == 0 || found != asked {
			t.Errorf("%s asked for %d rows, %d of them within those it was told (%v)", name, asked, found, err)
		}
	}
}

func TestAnInterruptedRunLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	s := tiny(t, "-workloads", "select", "-seconds", "60")
	st, err := setStage(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, p := range st.peers {
		if p.pid != 0 {
			pids = append(pids, p.pid)
		}
	}
	if len(pids) != 4 {
		t.Errorf("%d peers have processes, want 4", len(pids))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	r := &Report{}
	if err := st.play(ctx, s.workloads[0], r); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the run ended with %v", err)
	}
	if len(r.Samples)+len(r.Failures) > 0 {
		t.Errorf("what was broken off is in the report: %v %v", r.Samples, r.Failures)
	}
	if err := st.close(); err != nil {
		t.Error(err)
	}
	for _, pid := range append(pids, st.node.Processes()...) {
		if _, err := os.Stat("/proc/" + strconv.Itoa(pid)); err == nil {
			t.Errorf("process %d is still there", pid)
		}
	}
}

func TestProcessorTimeGoesWithWork(t *testing.T) {
	before, err := processorTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for x := 0; time.Since(began) < 50*time.Millisecond; x++ {
		_ = x
	}
	after, err := processorTime(os.Getpid())
	if err != nil || after <= before || after-before > time.Minute {
		t.Errorf("after 50 ms of work the clock went from %s to %s (%v)", before, after, err)
	}
	if _, err := processorTime(1 << 22); err == nil {
		t.Error("a process that is not there has a clock")
	}
}
