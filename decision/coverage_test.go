package decision

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func scripts(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		texts[f] = string(b)
	}
	return texts
}

func TestEveryRowOfTheTableIsTakenByAScript(t *testing.T) {
	clear(rowsHit)
	for _, text := range scripts(t) {
		runScript(t, text)
	}
	for i, row := range Transitions() {
		if rowsHit[row.To.String()+" "+row.Why] == 0 {
			t.Errorf("row %d (to %s: %s) is taken by no script", i+1, row.To, row.Why)
		}
	}
}

func TestEqualHistoriesGiveEqualActions(t *testing.T) {
	for file, text := range scripts(t) {
		want, _ := runScript(t, text)
		for range 12 {
			if got, _ := runScript(t, text); got != want {
				t.Fatalf("%s gives other actions the second time:\n%s", file, firstDifference(want, got))
			}
		}
	}
}

// TestDecideChangesNothing asks every question after every event of every script: what the engine does next is the same as without.
func TestDecideChangesNothing(t *testing.T) {
	w := newWorld(testConfig("region-a", "region-b"), NewRecord(), Opt[LastKnown]{})
	w.server("region-a").rate = 1 << 20
	w.run(3 * w.cfg.ProbeInterval)
	before := fmt.Sprintf("%+v", *w.e)
	first := ""
	for range 3 {
		text := ""
		for _, q := range []Question{{}, {Event: EventPrimaryDead}, {Event: EventSwitchover}, {Event: EventSwitchover, To: "region-a"}, {To: "nobody"}} {
			text += decisionText(w.e.Decide(q))
		}
		text += statusText(w.e.Status())
		if first == "" {
			first = text
		}
		if text != first {
			t.Fatalf("the same questions have other answers:\n%s", firstDifference(first, text))
		}
	}
	if after := fmt.Sprintf("%+v", *w.e); after != before {
		t.Errorf("asking changed the engine:\n%s", firstDifference(before, after))
	}
}
