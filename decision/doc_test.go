package decision

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

const failoverDoc = "../docs/FAILOVER.md"

// TestFailoverDoc keeps docs/FAILOVER.md equal to the tables of this package.
func TestFailoverDoc(t *testing.T) {
	got := renderFailoverDoc()
	if *update {
		if err := os.MkdirAll("../docs", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(failoverDoc, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(failoverDoc)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs from the tables (go test ./decision -run TestFailoverDoc -update rewrites it):\n%s", failoverDoc, firstDifference(string(want), got))
	}
}

func renderFailoverDoc() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("# Failover: states, transitions, criteria")
	p("")
	p("Generated from the tables of package `decision` by `go test ./decision -run TestFailoverDoc -update`; do not edit. The text of a")
	p("transition is also its log line and its message in `/events`.")
	p("")
	p("## States")
	p("")
	p("| state | meaning | `writes` |")
	p("|---|---|---|")
	for _, s := range States() {
		writes := "held"
		switch {
		case s.open():
			writes = "open"
		case s == Promoting:
			writes = "held; `refused` when halted"
		}
		p("| `%s` | %s | %s |", s, s.Meaning(), writes)
	}
	p("")
	p("### Steps of `PRIMARY_FAILED`")
	p("")
	p("| step | meaning |")
	p("|---|---|")
	for _, s := range []Step{Confirming, Blocked, Adopting} {
		p("| `%s` | %s |", s, s.Meaning())
	}
	p("")
	p("### Steps of `PROMOTING`")
	p("")
	p("| step | meaning |")
	p("|---|---|")
	for _, place := range slices.Concat(whileUndoable, whilePromoting) {
		p("| `%s` | %s |", place.Step, place.Step.Meaning())
	}
	p("")
	p("### Situations")
	p("")
	p("What the facts add up to selects the step. The word is the `cause` of events and log lines.")
	p("")
	p("| situation | step | when |")
	p("|---|---|---|")
	for s := sitNoWriter; s.Meaning() != ""; s++ {
		step := "`" + s.place().String() + "`"
		switch s {
		case sitWell:
			step = "the writer is open"
		case sitPromotable, sitOrdered:
			step = "`" + checking.String() + "`"
		}
		p("| `%s` | %s | %s |", s, step, s.Meaning())
	}
	p("")
	p("## Transitions")
	p("")
	p("Tried from the top; the first row that applies is taken, until none does. Leaving an open state holds new logins and cuts nothing. The end")
	p("of an epoch is on disk before its paths are cut, its cut is complete before the next epoch is written, and that is on disk before it opens.")
	p("")
	p("| # | from | to | why |")
	p("|---|---|---|---|")
	for i, t := range Transitions() {
		p("| %d | %s | `%s` | %s |", i+1, fromText(t.From), t.To, t.Why)
	}
	p("")
	p("```mermaid")
	p("flowchart TB")
	p("  subgraph open [the writer is open]")
	for _, place := range whileOpen {
		p("    %s[%s]", id(place), place)
	}
	p("  end")
	p("  subgraph closed [a writer is awaited]")
	for _, place := range whileClosed {
		p("    %s[%s]", id(place), place)
	}
	p("  end")
	p("  subgraph changing [pgtether changes the writer]")
	for _, place := range slices.Concat(whileUndoable, whilePromoting) {
		p("    %s[%s]", id(place), place)
	}
	p("  end")
	p("  start([start]) --> %s", id(adopting))
	for _, t := range Transitions() {
		p("  %s -->|\"%s\"| %s", strings.Join(fromIDs(t.From), " & "), t.Why, id(t.To))
	}
	p("```")
	p("")
	p("## Criteria")
	p("")
	p("Each is judged pass, fail, unknown or not needed, with its value, threshold, node and age in `/decision`. Unknown never passes.")
	p("`STANDBY_READY` means that every criterion about the standby passes.")
	p("")
	p("| criterion | about | passes when |")
	p("|---|---|---|")
	for _, c := range CriterionDocs() {
		p("| `%s` | %s | %s |", c.Name, c.About, c.Means)
	}
	return b.String()
}

func id(p Place) string {
	return strings.ToLower(strings.ReplaceAll(strings.ReplaceAll(p.String(), "/", "_"), "PRIMARY_FAILED_", ""))
}

func fromText(from []Place) string {
	switch {
	case slices.Equal(from, whileOpen):
		return "any state with an open writer"
	case slices.Equal(from, whileClosed):
		return "any step of `PRIMARY_FAILED`"
	case slices.Equal(from, whileUndoable):
		return "any step of `PROMOTING` before `promoting`"
	}
	var names []string
	for _, p := range from {
		names = append(names, "`"+p.String()+"`")
	}
	return strings.Join(names, ", ")
}

func fromIDs(from []Place) []string {
	switch {
	case slices.Equal(from, whileOpen):
		return []string{"open"}
	case slices.Equal(from, whileClosed):
		return []string{"closed"}
	}
	var ids []string
	for _, p := range from {
		ids = append(ids, id(p))
	}
	return ids
}

// allPlaces are all places where the engine may be.
func allPlaces() []Place { return slices.Concat(whileOpen, whileClosed, whileUndoable, whilePromoting) }

func TestTheTableIsWellFormed(t *testing.T) {
	places := allPlaces()
	seen := map[string]bool{}
	for i, row := range Transitions() {
		if row.when == nil || len(row.From) == 0 {
			t.Errorf("row %d says not when or from where", i+1)
		}
		for _, p := range append(slices.Clone(row.From), row.To) {
			if !slices.Contains(places, p) {
				t.Errorf("row %d names the unknown place %s", i+1, p)
			}
		}
		if slices.Contains(row.From, row.To) {
			t.Errorf("row %d leads from %s to itself", i+1, row.To)
		}
		if strings.HasSuffix(row.Why, ".") || row.Why != strings.TrimSpace(row.Why) || strings.ContainsAny(row.Why, "\"|\n") || row.Why == "" ||
			row.Why[:1] != strings.ToLower(row.Why[:1]) {
			t.Errorf("row %d: %q is no good as a log line, a table cell and a label", i+1, row.Why)
		}
		key := row.To.String() + row.Why
		if seen[key] {
			t.Errorf("row %d says the same as another one", i+1)
		}
		seen[key] = true
	}
}

func TestEveryPlaceCanBeEnteredAndLeft(t *testing.T) {
	for _, p := range allPlaces() {
		in, out := p == adopting, false // the engine starts in PRIMARY_FAILED/adopting
		for _, row := range Transitions() {
			in = in || row.To == p
			out = out || slices.Contains(row.From, p)
		}
		if !in || !out {
			t.Errorf("%s: entered %v, left %v", p, in, out)
		}
	}
}

func TestEverySituationHasAPlace(t *testing.T) {
	for s := sitPromotable; s <= sitHalted; s++ {
		if s.String() == "invalid" || s.Meaning() == "" || s.place() != (Place{}) != (s != sitPromotable && s != sitOrdered) {
			t.Errorf("situation %d has no words or no place: %s %s", s, s, s.place())
		}
	}
	for s := sitNoWriter; s <= sitClosed; s++ {
		if s.String() == "invalid" || s.Meaning() == "" {
			t.Errorf("situation %d has no words", s)
		}
		// From every other place the table leads to where the situation belongs, directly or by way of another row.
		for _, from := range append(slices.Clone(whileOpen), whileClosed...) {
			e := &Engine{cfg: testConfig("region-a"), state: from.State, step: from.Step}
			for range 5 {
				row := e.row(&sight{situation: s, state: e.state, opened: true})
				if row == nil {
					break
				}
				e.state, e.step = row.To.State, row.To.Step
			}
			if from.State.open() && !opensCanMeet(s) {
				continue
			}
			if !placeFits(Place{e.state, e.step}, s) {
				t.Errorf("%s in %s ends at %s", s, from, Place{e.state, e.step})
			}
		}
	}
}

// opensCanMeet says whether a situation can arise while the writer is open: the others need an epoch that has ended or was never opened.
func opensCanMeet(s situation) bool {
	return !slices.Contains([]situation{sitNoWriter, sitAdopt, sitProving, sitUnproven, sitSuperseded, sitClosed}, s)
}
