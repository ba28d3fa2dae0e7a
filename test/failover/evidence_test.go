package failover

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/test/rig"
)

// evidence waits for the one bundle that a change leaves once it has ended, and returns what `pgtether decision --replay` says about it.
func (w *world) evidence(outcome string) string {
	w.Helper()
	for {
		files, err := filepath.Glob(filepath.Join(w.dir, "state", "evidence", "*.json"))
		w.must(err)
		for _, file := range files {
			b, err := os.ReadFile(file)
			w.must(err)
			if !bytes.Contains(b, []byte(`"outcome":"`+outcome+`"`)) {
				continue
			}
			for _, secret := range []string{w.lab.ProbePassword, w.lab.AppPassword} {
				if secret == "" || bytes.Contains(b, []byte(secret)) {
					w.Errorf("%s holds a password", file)
				}
			}
			told, err := exec.CommandContext(w.ctx, binary, "decision", "--replay", file).CombinedOutput()
			w.Logf("%d files, the last of %d bytes", len(files), len(b))
			if err != nil {
				w.Fatalf("replay %s: %v\n%s", file, err, told)
			}
			return string(told)
		}
		if w.ctx.Err() != nil {
			w.Fatalf("no evidence of a change that was %s among %q", outcome, files)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestAFailoverOfARealPairIsReproducedFromItsEvidence(t *testing.T) {
	t.Parallel()
	w := newAuto(t, lab.Options{})
	w.startOpen()
	load := w.load()
	w.runs(4 * time.Second)
	killed := time.Now()
	w.must(w.a.Kill9())
	load.awaitAck(w, killed.Add(500*time.Millisecond))
	w.await("the new writer is open", func(s rig.Status) bool { return s.State == "NEW_PRIMARY" })
	told := w.evidence("opened")
	for _, want := range []string{"PRIMARY_FAILED -> PROMOTING/checking", "before the point of no return: SAFE", "PROMOTING -> NEW_PRIMARY",
		"What it cost: region-b will be promoted for epoch 2", "byte for byte"} {
		if !strings.Contains(told, want) {
			t.Errorf("nothing is said of %q:\n%s", want, told)
		}
	}
	t.Log(told)
}

func TestAPromotionByHandIsReproducedFromItsEvidence(t *testing.T) {
	t.Parallel()
	w := newPair(t, lab.Options{})
	w.startOpen()
	w.must(w.a.Stop(w.ctx, lab.Fast))
	w.await("logins are held", func(s rig.Status) bool { return s.Writes == "held" })
	w.must(w.b.Promote(w.ctx))
	w.awaitOpen(lab.RegionB)
	if told := w.evidence("opened"); !strings.Contains(told, "-> NEW_PRIMARY") || !strings.Contains(told, "byte for byte") {
		t.Error(told)
	}
}
