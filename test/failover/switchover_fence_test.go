package failover

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/test/rig"
)

// touch makes a file.
func touch(path string) error { return os.WriteFile(path, nil, 0o600) }

// exists says whether a file is there.
func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// stopping is a fence that stops a node's server cleanly, and says so when it is gone.
func stopping(n *lab.Node) string {
	return "pid=$(head -n 1 " + filepath.Join(n.DataDir(), "postmaster.pid") + ") || exit 1; kill -INT $pid || exit 1; while kill -0 $pid; do sleep 0.05; done; exit 0"
}

func TestAfterAFenceThatStopsTheOldServerItComesBackWithoutARewind(t *testing.T) {
	bothWays(t, "a fence that stops", lab.Options{}, func(t *testing.T, opts lab.Options) {
		w := newPlanned(t, opts)
		w.extra += "[hooks]\nfence = " + strconv.Quote(stopping(w.a)) + "\n"
		w.startOpen()
		load := w.crowd()
		ordered := time.Now()
		w.must(w.proxy.Switch(w.ctx, lab.RegionB, ""))
		s := w.await("the switchover is done", func(s rig.Status) bool { return s.Writes == "open" && *s.Epoch == 2 })
		if c := s.LastChange; *s.Writer != lab.RegionB || c.Kind != "switchover" || c.Lossless != "proven" || *c.DataLossBytes != 0 {
			t.Fatalf("afterwards: writer %s, last change %+v", *s.Writer, c)
		}
		if w.a.Running() {
			t.Error("the old server runs")
		}
		w.must(load.Await(w.ctx, crowdSize, time.Now()))
		w.endedAtRest(load, ordered)
		w.must(w.a.Demote(w.ctx, w.b)) // no pg_rewind: standby.signal and primary_conninfo
		w.must(w.a.AwaitStreaming(w.ctx))
		w.rejoined(w.a)
		w.must(load.Await(w.ctx, crowdSize, time.Now()))
		w.sound(load, w.b)
		w.must(w.a.AwaitCaughtUp(w.ctx, w.b))
		w.sound(load, w.a)
	})
}

func TestASwitchoverThatIsRefusedSaysWhyAndChangesNothing(t *testing.T) {
	t.Parallel()
	w := newPlanned(t, lab.Options{})
	w.startOpen()
	load := w.crowd()
	w.says(1, "switchover --to nowhere", "no node", "nowhere")
	w.says(1, "switchover --to region-a", "region-a is the writer already")
	w.says(1, "switchover --to region-a --json", "region-a is the writer already")
	w.says(2, "switchover", "--to must name the node")
	w.says(0, "switchover --to region-b --dry-run", "SAFE", "promoting")
	w.says(1, "switchover --to region-b --timeout 1h", "open transactions may take at most")
	w.says(1, "abort", "409")
	w.must(w.b.PauseReplay(w.ctx))
	w.await("that is seen", func(s rig.Status) bool { return s.State == "PRIMARY_ACTIVE" })
	w.says(1, "switchover --to region-b", "replay_not_paused", "nothing was changed")
	w.says(1, "switchover --to region-b --json", "a switchover to region-b is blocked by", "replay_not_paused")
	w.must(w.b.ResumeReplay(w.ctx))
	w.await("the pair is ready", func(s rig.Status) bool { return s.State == "STANDBY_READY" })
	if refused := w.kinds("refused"); len(refused) == 0 {
		t.Error("no event says that anything was refused")
	}
	for _, kind := range []string{"cut", "undone", "halted"} {
		if found := w.kinds(kind); len(found) > 0 {
			t.Errorf("refused orders led to %+v", found)
		}
	}
	if s := w.awaitOpen(lab.RegionA); *s.Epoch != 1 || s.LastChange != nil {
		t.Errorf("afterwards: %+v", s)
	}
	w.notPromoted()
	w.must(load.Await(w.ctx, crowdSize, time.Now()))
	w.unnoticed(load)
	w.sound(load, w.a)
}

func TestASwitchoverNeedsTheToken(t *testing.T) {
	t.Parallel()
	w := newPlanned(t, lab.Options{})
	token := filepath.Join(t.TempDir(), "token")
	w.must(os.WriteFile(token, []byte("open sesame\n"), 0o600))
	w.admin = "token_file = " + strconv.Quote(token)
	w.startOpen()
	w.says(1, "switchover --to region-b", "needs the token")
	w.says(1, "switchover --to region-b --dry-run", "needs the token")
	if err := w.proxy.Switch(w.ctx, lab.RegionB, ""); err == nil {
		t.Error("an order without the token was taken")
	}
	if s := w.awaitOpen(lab.RegionA); *s.Epoch != 1 || s.State != "STANDBY_READY" {
		t.Errorf("afterwards: %+v", s)
	}
	w.notPromoted()
}
