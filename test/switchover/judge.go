package main

import (
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/pgtether/pgtether/test/tellers"
)

// The kinds of client. A kind's clients are numbered from its place in this list times kindSize.
const (
	ours, jdbc, prepared = "TPC-B", "JDBC", "pgbench"
	kindSize             = 1000
)

// kind is one kind of client.
type kind struct {
	name string
	// sessions is how its sessions are called in the crowd's notes.
	sessions    string
	first, size int
	// late: what its clients were told is known in the end only.
	late bool

	// What all switchovers came to.
	stalls []time.Duration
	errors map[string]int
	kept   tellers.Kept
}

// is says whether a client is one of the kind.
func (k *kind) is(client int) bool { return client >= k.first && client < k.first+kindSize }

// firstOf is the number of the first client of a kind.
func firstOf(name string) int { return slices.Index([]string{ours, jdbc, prepared}, name) * kindSize }

// change is one switchover.
type change struct {
	number          int
	from, to        string
	ordered, opened time.Time
	took            time.Duration
}

// judge holds each switchover, and in the end the tables, to what is promised.
type judge struct {
	crowd   *tellers.Crowd
	moving  bool
	began   time.Time
	kinds   []*kind
	changes []change
	loads   []string
	gaveUp  int
	broken  int
}

func newJudge(crowd *tellers.Crowd, set settings) *judge {
	j := &judge{crowd: crowd, moving: set.moving, began: time.Now()}
	add := func(name, sessions string, size int, late bool) {
		j.kinds = append(j.kinds, &kind{name: name, sessions: sessions, first: firstOf(name), size: size, late: late, errors: map[string]int{}})
	}
	add(ours, "", goClients, false)
	add(jdbc, jdbc, set.pool, false)
	if set.pgbench > 0 {
		add(prepared, prepared, set.pgbench, true)
	}
	return j
}

// breaks says which promise was broken.
func (j *judge) breaks(format string, args ...any) {
	j.broken++
	fmt.Printf("     BROKEN %s\n", fmt.Sprintf(format, args...))
}

// now judges a switchover as far as the clients have told.
func (j *judge) now(c change) {
	j.changes, j.loads = append(j.changes, c), append(j.loads, load())
	fmt.Printf("%3d  %s to %s in %d ms (load %s):", c.number, c.from, c.to, c.took.Milliseconds(), j.loads[len(j.loads)-1])
	j.told(c, time.Now(), false)
}

// mostUndone is how many switchovers may be undone for every one that is done: a machine that starves the servers makes probes late, and what is
// undone must be noticed by nobody either.
const mostUndone = 0.2

// undone notes a switchover that was undone.
func (j *judge) undone(c change, why string) {
	j.gaveUp++
	fmt.Printf("%3d  %s to %s undone after %s (load %s): %s\n", c.number, c.from, c.to, c.opened.Sub(c.ordered).Round(time.Millisecond), load(), why)
}

// late judges all switchovers by those who could not tell before.
func (j *judge) late() {
	for i, c := range j.changes {
		until := time.Now()
		if i+1 < len(j.changes) {
			until = j.changes[i+1].ordered
		}
		fmt.Printf("%3d  %s to %s:", c.number, c.from, c.to)
		j.told(c, until, true)
	}
}

// told judges a switchover by those kinds of client that are late, or by the others.
func (j *judge) told(c change, until time.Time, late bool) {
	var kinds []*kind
	for _, k := range j.kinds {
		if k.late == late {
			kinds = append(kinds, k)
		}
	}
	var verdicts []verdict
	for _, k := range kinds {
		v := j.of(k, c, until)
		fmt.Printf(" %s stall %s, %d errors", k.name, v.stall.Round(time.Millisecond), len(v.ends))
		if j.moving {
			fmt.Printf(", %d of %d kept", v.kept.Kept, v.kept.Before)
		}
		fmt.Print(";")
		verdicts = append(verdicts, v)
	}
	fmt.Println()
	for i, k := range kinds {
		j.hold(k, verdicts[i])
	}
}

// verdict is what one switchover was to one kind of client.
type verdict struct {
	stall         time.Duration
	ends          []tellers.End
	kept          tellers.Kept
	before, after int
}

func (j *judge) of(k *kind, c change, until time.Time) (v verdict) {
	v.stall = j.crowd.LongestAcross(c.ordered, until, k.is).Length()
	for _, e := range j.crowd.Ends(c.ordered) {
		if k.is(e.Client) && e.At.Before(until) {
			v.ends = append(v.ends, e)
		}
	}
	v.kept = j.crowd.Kept(k.sessions, c.ordered, c.opened, until)
	v.before = j.crowd.CommittedWithin(c.ordered.Add(-freshFor), c.ordered, k.is)
	v.after = j.crowd.CommittedWithin(c.opened, c.opened.Add(freshFor), k.is)
	return v
}

// allThere says whether every session of those who tell at once has been met.
func (j *judge) allThere() bool {
	now := time.Now()
	return !slices.ContainsFunc(j.kinds, func(k *kind) bool {
		return !k.late && j.crowd.Kept(k.sessions, now, now, now).Before < k.size
	})
}

// allKept says whether every session of those who tell at once has met another server process since the switchover.
func (j *judge) allKept(c change) bool {
	return !slices.ContainsFunc(j.kinds, func(k *kind) bool {
		return !k.late && !j.crowd.Kept(k.sessions, c.ordered, c.opened, time.Now()).Whole(k.size)
	})
}

// hold holds a verdict to what is promised.
func (j *judge) hold(k *kind, v verdict) {
	k.stalls = append(k.stalls, v.stall)
	if v.before != k.size || v.after != k.size {
		j.breaks("not counted: of %d clients of %s %d committed within %s before it, %d within the same time after it", k.size, k.name, v.before, freshFor, v.after)
	}
	if j.moving {
		j.holdMoved(k, v)
	} else {
		j.holdEnded(k, v)
	}
}

// holdMoved: every session lives on, and nobody has seen an error. What the clients were told between the switchovers is counted in the end.
func (j *judge) holdMoved(k *kind, v verdict) {
	k.kept.Before, k.kept.Kept = k.kept.Before+v.kept.Before, k.kept.Kept+v.kept.Kept
	if !v.kept.Whole(k.size) {
		j.breaks("of %d sessions of %s %d were there before; afterwards %d of them were answered by another server process, %d by the same, %d by none; %d are new",
			k.size, k.name, v.kept.Before, v.kept.Kept, v.kept.Stayed, v.kept.Silent, v.kept.New)
	}
}

// holdEnded: each session has ended with one 08006 at its boundary.
func (j *judge) holdEnded(k *kind, v verdict) {
	errs := map[int]int{}
	for _, e := range v.ends {
		k.errors[e.Code]++
		// A thread of a pool takes whichever connection is free: how many errors it meets is the pool's doing.
		if errs[e.Client]++; e.Code != "08006" || e.Place != tellers.AtBoundary || errs[e.Client] > 1 && k.name == ours {
			j.breaks("client %d was told %s at %s (error %d of it)", e.Client, e.Code, e.Place, errs[e.Client])
		}
	}
	if len(v.ends) > k.size || k.name == ours && len(v.ends) != k.size {
		j.breaks("%d errors for %d sessions of %s", len(v.ends), k.size, k.name)
	}
}

// sum judges and prints what it all came to.
func (j *judge) sum(found tellers.Found) {
	if !found.Sound() {
		j.breaks("the tables do not hold what was told")
	}
	if float64(j.gaveUp) > mostUndone*float64(len(j.changes)) {
		j.breaks("%d switchovers were undone", j.gaveUp)
	}
	if j.moving {
		for _, e := range j.crowd.Ends(j.began) {
			i := slices.IndexFunc(j.kinds, func(k *kind) bool { return k.is(e.Client) })
			j.kinds[i].errors[e.Code]++
			j.breaks("client %d of %s was told %s at %s, at %s", e.Client, j.kinds[i].name, e.Code, e.Place, e.At.Format("15:04:05.000"))
		}
	}
	fmt.Printf("\n%d switchovers, %d undone, %d promises broken; %s\n", len(j.changes), j.gaveUp, j.broken, found)
	for _, k := range j.kinds {
		d := slices.Sorted(slices.Values(k.stalls))
		if len(d) == 0 {
			continue
		}
		fmt.Printf("  %-8s %3d clients: longest stall, median %s, max %s; errors: %s", k.name, k.size, d[len(d)/2].Round(time.Millisecond),
			d[len(d)-1].Round(time.Millisecond), byCode(k.errors))
		if j.moving {
			fmt.Printf("; sessions kept %d of %d", k.kept.Kept, len(d)*k.size)
		}
		fmt.Println()
	}
	if len(j.loads) > 0 {
		fmt.Printf("  load average %s to %s on %d cores\n", slices.MinFunc(j.loads, byNumber), slices.MaxFunc(j.loads, byNumber), runtime.NumCPU())
	}
}

// byCode lists how many errors there were of each code.
func byCode(errs map[string]int) string {
	var text []string
	for _, code := range slices.Sorted(maps.Keys(errs)) {
		text = append(text, fmt.Sprintf("%d of %s", errs[code], code))
	}
	if text == nil {
		return "none"
	}
	return strings.Join(text, ", ")
}

// load is the machine's load average of the last minute: on one that is busy elsewhere stalls are longer than they are.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}

// byNumber orders two load averages.
func byNumber(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}
