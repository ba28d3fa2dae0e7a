package main

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite golden files; commit the changes only if you understand what caused them")

// fixed is a report with an odd and an even number of rounds, a peer without TLS, one that missed a round, and a failure.
func fixed() *Report {
	r := &Report{Head: [][2]string{{"date", "2026-01-02 03:04 UTC"}, {"machine", "2 × a processor"}}}
	put := func(workload string, clients int, peer string, key string, values ...float64) {
		for i, v := range values {
			if v != 0 {
				r.add(Sample{Workload: workload, Clients: clients, Round: i + 1, Peer: peer, Result: Result{key: v}}, nil)
			}
		}
	}
	for _, clients := range []int{1, 32} {
		put("select", clients, "direct", rate, 40_000, 41_000, 42_000)
		put("select", clients, "pgbouncer", cpuPerTx, 14, 18, 16)
		put("select", clients, "haproxy", cpuPerTx, 17, 15, 20)
		put("select", clients, "pgtether-loops", cpuPerTx, 14, 15, 16)
		put("select", clients, "pgtether", cpuPerTx, 15, 16, 17)
		put("select", clients, "iocopy", cpuPerTx, 20, 0, 21)
	}
	put("tls", 32, "haproxy", cpuPerTx, 20, 22, 21, 23)
	put("tls", 32, "pgtether", cpuPerTx, 22, 22, 22, 22)
	put("copyout", 1, "haproxy", throughput, 1000, 1100)
	put("copyout", 1, "pgtether", throughput, 900, 900)
	put("idle", 1, "pgtether", kibEach, 5.5)
	r.add(Sample{Workload: "idle", Clients: 1, Round: 1, Peer: "iocopy"}, errors.New("no more\ndescriptors"))
	return r
}

func TestTheReportOfAFixedRun(t *testing.T) {
	r := fixed()
	numbers, err := r.csv()
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]string{"report.md": r.page("2026-01-02-peers"), "report.csv": numbers, "report.svg": r.picture()} {
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s differs; go test -update rewrites it:\n%s", name, got)
		}
	}
}

func TestAReportNeverReplacesAnother(t *testing.T) {
	dir := t.TempDir()
	for range 3 {
		if err := fixed().write(dir, "peers"); err != nil {
			t.Fatal(err)
		}
	}
	if found, _ := filepath.Glob(filepath.Join(dir, "*")); len(found) != 9 {
		t.Errorf("three reports left %v, want three files of each", found)
	}
}

func TestMediansAndPercentiles(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{[]float64{3}, 3}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 2, 9}, 3}} {
		if got := middle(c.values); got != c.want {
			t.Errorf("median of %v is %g, want %g", c.values, got, c.want)
		}
	}
	if !math.IsNaN(middle(nil)) {
		t.Error("there is a median of nothing")
	}
	var thousand []time.Duration
	for i := 1000; i > 0; i-- {
		thousand = append(thousand, time.Duration(i))
	}
	for p, want := range map[int]time.Duration{0: 1, 50: 500, 99: 990, 100: 1000} {
		if got := percentile(thousand, p); got != want {
			t.Errorf("percentile %d is %d, want %d", p, got, want)
		}
	}
}

func TestRatiosAreTakenWithinRounds(t *testing.T) {
	ours, theirs := map[int]float64{1: 10, 2: 40, 3: 12}, map[int]float64{1: 10, 2: 20, 4: 1}
	if got := perRound(ours, theirs); !slices.Equal(got, []float64{1, 2}) {
		t.Errorf("ratios %v, want those of the rounds that both have", got)
	}
	if got := best(ours, theirs, false); len(got) != 2 || got[1] != 10 || got[2] != 20 {
		t.Errorf("the least of both is %v", got)
	}
	if got := best(ours, theirs, true); got[2] != 40 {
		t.Errorf("the most of both is %v", got)
	}
	if got := ratioOf(ours, nil); got != "–" {
		t.Errorf("a ratio to nothing is %q", got)
	}
}

func TestWhatIsMissedSaysSo(t *testing.T) {
	page := fixed().page("x")
	for _, want := range []string{"≤ 1 of best: **missed**", "≤ 1.1 of best: reached", "≥ 0.95 of haproxy: **missed**", "≤ 6: reached", "no more | descriptors"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

func TestALogIsReadWithinItsWindow(t *testing.T) {
	const log = "0 1 100 0 50 900000\n1 1 250 0 51 0\n0 2 300 0 51 500000\n1 2 400 0 52 0\n"
	got, err := readLog(strings.NewReader(log), time.Unix(51, 0), time.Unix(52, 0))
	if err != nil || !slices.Equal(got, []time.Duration{250 * time.Microsecond, 300 * time.Microsecond}) {
		t.Errorf("read %v (%v), want those that ended within the second 51", got, err)
	}
	for _, bad := range []string{"0 1 100\n", "0 1 skipped 0 51 0\n"} {
		if got, err := readLog(strings.NewReader(bad), time.Unix(51, 0), time.Unix(52, 0)); err == nil {
			t.Errorf("line %q gave %v", bad, got)
		}
	}
}

func TestSettingsThatMakeNoSenseAreRefused(t *testing.T) {
	for _, args := range [][]string{
		{"-workloads", "selects"}, {"-peers", "pgpool"}, {"-peers", "direct,direct"}, {"-clients", "0"}, {"-clients", "x"}, {"-rounds", "0"},
		{"-seconds", "0"}, {"-copy-mib", "0"}, {"-rows", "-1"}, {"-rows", "100001", "-scale", "1"}, {"more"}, {"-nonsense"},
		{"-before", "bin/old"}, {"-peers", "pgtether,pgtether-before"},
	} {
		if _, err := parseSettings("peers", append([]string{"-peers", "direct"}, args...)); err == nil {
			t.Errorf("%v was accepted", args)
		}
	}
	s, err := parseSettings("peers", []string{"-peers", "pgtether-loops,direct", "-rounds", "2", "-seconds", "0.5", "-rows", "0", "-scale", "2"})
	if err != nil || s.rows != 200_000 || s.idleRounds != 2 || s.copyRounds != 2 || s.each != 500*time.Millisecond || len(s.workloads) != len(workloads()) {
		t.Errorf("settings %+v (%v)", s, err)
	}
	s, err = parseSettings("peers", []string{"-peers", "pgtether-before,pgtether-loops,pgtether", "-pgtether", "new", "-before", "old"})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"pgtether": "new []", "pgtether-before": "old []", "pgtether-loops": "new [PGTETHER_FORWARDER=loops]"} {
		binary, env := s.pgtetherOf(name)
		if got := fmt.Sprint(binary, " ", env); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}
