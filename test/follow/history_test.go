package follow

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/pgtether/pgtether/test/rig"
)

// events is the proxy's whole history.
func (w *world) events() []rig.Event {
	w.Helper()
	events, err := w.proxy.Events(w.ctx)
	w.must(err)
	return events
}

// lastSeq is the number of the newest event.
func (w *world) lastSeq() uint64 {
	w.Helper()
	events := w.events()
	return events[len(events)-1].Seq
}

// passedThrough fails unless the given states were entered in this order after the event of that number, whatever came between.
func (w *world) passedThrough(since uint64, states ...string) {
	w.Helper()
	var entered []string
	next := 0
	for _, ev := range w.events() {
		if ev.Seq <= since || ev.Kind != "transition" || ev.StateFrom == ev.StateTo {
			continue
		}
		entered = append(entered, ev.StateTo)
		if next < len(states) && ev.StateTo == states[next] {
			next++
		}
	}
	if next < len(states) {
		w.Errorf("entered were %v, want %v in this order", entered, states)
	}
}

// cutBeforeOpened fails unless each epoch after the event of that number was opened only after the one before it was cut.
func (w *world) cutBeforeOpened(since uint64) {
	w.Helper()
	var kinds []string
	for _, ev := range w.events() {
		if ev.Seq > since && (ev.Kind == "cut" || ev.Kind == "opened") {
			kinds = append(kinds, ev.Kind)
		}
	}
	if !slices.Equal(kinds, []string{"cut", "opened"}) {
		w.Errorf("cut and opened: %v, want one of each, in this order", kinds)
	}
}

// record is the beginning of a record of a server's log.
var record = regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ UTC \[`)

// promoteCall is a call of pg_promote, as opposed to the question whether it may be called, which names it in quotes.
var promoteCall = regexp.MustCompile(`(?i)[^']\bpg_promote\s*\(`)

// neverPromoted fails if pgtether asked for a promotion: in its own history, or in what its role said to either server.
func (w *world) neverPromoted() {
	w.Helper()
	for _, ev := range w.events() {
		if ev.Kind == "promotion_requested" || ev.Kind == "promoted" {
			w.Errorf("event %d is %s: %s", ev.Seq, ev.Kind, ev.Message)
		}
	}
	for _, n := range []node{w.a, w.b} {
		said := 0
		for _, text := range record.Split(w.serverLog(n), -1) {
			if !strings.Contains(text, "] "+w.lab.ProbeUser+"@") {
				continue
			}
			if strings.Contains(text, "pg_is_in_recovery") {
				said++
			}
			if promoteCall.MatchString(text) {
				w.Errorf("pgtether's role said to %s: %s", n.name, text)
			}
		}
		if said == 0 {
			w.Errorf("the log of %s holds nothing that pgtether's role said: it proves nothing", n.name)
		}
	}
}

// serverLog is all that a node's servers have said.
func (w *world) serverLog(n node) string {
	w.Helper()
	var all strings.Builder
	files, err := filepath.Glob(filepath.Join(w.lab.Dir(), n.name+"*.log"))
	w.must(err)
	for _, file := range files {
		content, err := os.ReadFile(file)
		w.must(err)
		all.Write(content)
	}
	return all.String()
}
