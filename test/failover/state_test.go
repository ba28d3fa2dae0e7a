package failover

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/test/rig"
)

// TestAnOlderStateBesideTheOldWriterOpensItNever fails over, and starts pgtether again beside both servers, the old writer writable, on a
// state that knows nothing of the failover. Which of the two has the newer history is then known to the servers alone.
func TestAnOlderStateBesideTheOldWriterOpensItNever(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(before []byte) []byte{
		"the state of before the failover is put back": func(before []byte) []byte { return before },
		"the state is torn":                            func(before []byte) []byte { return before[:len(before)/2] },
		"the state is empty":                           func([]byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newAuto(t, lab.Options{})
			w.startOpen()
			w.exec(w.mustLogin(), "CREATE TABLE t (k int)")
			w.runs(3 * time.Second)
			file := filepath.Join(w.dir, "state", "state.json")
			before, err := os.ReadFile(file)
			w.must(err)
			w.must(w.a.Kill9())
			w.await("the new writer is open", func(s rig.Status) bool { return s.State == "NEW_PRIMARY" && *s.Epoch == 2 })
			w.exec(w.mustLogin(), "INSERT INTO t VALUES (2)")
			w.must(w.proxy.Stop())
			w.must(os.WriteFile(file, spoil(before), 0o600))
			w.must(w.a.Start(w.ctx))

			w.start()
			w.stays("neither is opened", 4*time.Second, func(s rig.Status) bool { return s.Writes == "held" && s.Writer == nil })
			w.explained("no_split_brain", lab.RegionB)
			if d := w.decision(); !strings.Contains(d.NextAction, "an operator must settle it") {
				t.Errorf("nothing is said to an operator: %q", d.NextAction)
			}
			if n, err := w.a.QueryText(w.ctx, w.lab.AppDatabase, "SELECT count(*) FROM t"); err != nil || n != "0" {
				t.Errorf("the old writer has %s rows (%v)", n, err)
			}
			w.must(w.a.Stop(w.ctx, lab.Fast))
			if s, err := w.proxy.Status(w.ctx); err != nil || s.Epoch != nil {
				// On the old epoch the old writer has written on since the fork, if only its shutdown: that is for a person to give up.
				w.await("an operator is waited for", func(s rig.Status) bool { return s.Step == "blocked" && s.Nodes[0].Role != "primary" })
				w.stays("neither is opened", time.Second, func(s rig.Status) bool { return s.Writes == "held" })
				w.says(0, "approve --to region-b")
			}
			w.awaitOpen(lab.RegionB)
			w.exec(w.mustLogin(), "INSERT INTO t VALUES (3)")
		})
	}
}
