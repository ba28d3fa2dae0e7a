package abuse

import (
	"bufio"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgtether/pgtether/test/rig"
)

// series are values of /metrics by name and labels, as they stand there.
type series map[string]float64

func scrape(t testing.TB, p *rig.Proxy) series {
	t.Helper()
	res, err := client.Get("http://" + p.Admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("GET /metrics: %s", res.Status)
	}
	all := series{}
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), " ")
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		if all[name], err = strconv.ParseFloat(value, 64); err != nil {
			t.Fatalf("line %q: %v", lines.Text(), err)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

var client = &http.Client{Timeout: patience}

// counts are the counters that say what became of a client, and by how much each has grown; those that have not are left out.
type counts map[string]int

// counted are the families that counts is made of.
var counted = []string{"pgtether_refusals_total{reason=", "pgtether_cancels_total{result=", "pgtether_sessions_total{end=", "pgtether_logins_total{result="}

// since says by how much the counters have grown.
func (s series) since(before series) counts {
	grown := counts{}
	for name, value := range s {
		for _, family := range counted {
			label, ok := strings.CutPrefix(name, family)
			if !ok || value == before[name] {
				continue
			}
			word, _, _ := strings.Cut(strings.TrimPrefix(family, "pgtether_"), "_")
			grown[word+" "+strings.Trim(label, `"}`)] = int(value - before[name])
		}
	}
	return grown
}

func (c counts) String() string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(c)) {
		words = append(words, fmt.Sprintf("%s +%d", name, c[name]))
	}
	return "[" + strings.Join(words, ", ") + "]"
}

// sum adds counts up.
func sum(all ...counts) counts {
	total := counts{}
	for _, c := range all {
		for name, n := range c {
			total[name] += n
		}
	}
	return total
}

// awaitCounts fails unless the counters grow by exactly as much as wanted: what a server does after its client has gone takes a moment.
func (f *front) awaitCounts(t testing.TB, before series, want counts) series {
	t.Helper()
	want = f.fold(want)
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		now := scrape(t, f.Proxy)
		got := f.fold(now.since(before))
		if maps.Equal(got, want) {
			return now
		}
		if time.Now().After(end) || exceeds(got, want) {
			t.Errorf("counted %s, want %s", got, want)
			return now
		}
	}
}

// fold adds up what is alike. Where TLS passes through, that is who has ended a session: both sides close what the proxy does not see.
func (f *front) fold(c counts) counts {
	folded := counts{}
	for name, n := range c {
		if as, ok := f.alike[name]; ok {
			name = as
		}
		folded[name] += n
	}
	return folded
}

// sessionsOver are the ends of sessions that are alike where TLS passes through.
var sessionsOver = map[string]string{"sessions client": "sessions over", "sessions server": "sessions over", "sessions client_lost": "sessions over"}

// exceeds reports whether something was counted that waiting cannot make right.
func exceeds(got, want counts) bool {
	for name, n := range got {
		if n > want[name] {
			return true
		}
	}
	return false
}

// footprint is what a process holds.
type footprint struct {
	rss         int64 // bytes
	descriptors int
	goroutines  int
}

func (f footprint) String() string {
	return fmt.Sprintf("%.1f MiB resident, %d descriptors, %d goroutines", float64(f.rss)/(1<<20), f.descriptors, f.goroutines)
}

func footprintOf(t testing.TB, p *rig.Proxy) footprint {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	var f footprint
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			if _, err := fmt.Sscanf(rest, "%d kB", &f.rss); err != nil {
				t.Fatalf("line %q: %v", line, err)
			}
			f.rss *= 1024
		}
	}
	own := scrape(t, p) // its descriptors are nobody else's to list: the process is not dumpable
	f.descriptors = int(own["process_open_fds"])
	f.goroutines = int(own["go_goroutines"])
	return f
}

// slack is what a footprint may differ from one moment to the next: probes come and go.
const (
	slackDescriptors = 12
	slackGoroutines  = 24
)

// awaitFootprint fails unless the process comes back to what it held before. It may keep grown bytes of memory: the runtime gives memory back to
// the system over minutes.
func awaitFootprint(t testing.TB, p *rig.Proxy, before footprint, grown int64) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		now := footprintOf(t, p)
		if now.rss <= before.rss+grown && now.descriptors <= before.descriptors+slackDescriptors && now.goroutines <= before.goroutines+slackGoroutines {
			t.Logf("before: %s; after: %s", before, now)
			return
		}
		if time.Now().After(end) {
			t.Errorf("before: %s; after: %s; memory may grow by %d MiB", before, now, grown>>20)
			return
		}
	}
}
