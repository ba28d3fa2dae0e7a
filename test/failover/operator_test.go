package failover

import (
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/test/rig"
)

// says runs the built command against the proxy and wants its exit code, and texts on stdout and stderr together.
func (w *world) says(code int, args string, want ...string) {
	w.Helper()
	admin := w.proxy.Admin
	cmd := exec.CommandContext(w.ctx, binary, append(strings.Fields(args), "--admin", admin)...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != code {
		w.Fatalf("pgtether %s: %v, want exit code %d\n%s", args, err, code, out)
	}
	for _, text := range want {
		if !strings.Contains(string(out), text) {
			w.Errorf("pgtether %s: %q is not in\n%s", args, text, out)
		}
	}
}

// readyz is the status of GET /readyz.
func (w *world) readyz() int {
	w.Helper()
	url := w.proxy.Admin
	if !strings.Contains(url, "://") {
		url = "http://" + url
	}
	req, err := http.NewRequestWithContext(w.ctx, http.MethodGet, url+"/readyz", nil)
	w.must(err)
	res, err := http.DefaultClient.Do(req)
	w.must(err)
	w.must(res.Body.Close())
	return res.StatusCode
}

func TestAnOperatorApprovesTheFailoverOfAKilledPrimary(t *testing.T) {
	t.Parallel()
	w := newPair(t, lab.Options{})
	w.mode = "manual"
	w.startOpen()
	load := w.load()
	w.runs(4 * time.Second)
	w.says(0, "decision --what-if primary_dead", "region-a -> region-b (primary_dead)", "blocked by  approved")
	w.says(1, "approve --to region-b", "answers 409: there is nothing to approve")
	w.must(w.a.Kill9())
	w.await("an operator is waited for", func(s rig.Status) bool { return s.Step == "blocked" })
	w.explained("approved")
	w.notPromoted()
	w.says(1, "approve --to region-b --epoch 2", "answers 409: the epoch is 1, not 2")
	w.says(0, "approve --to region-b", "overriding: nothing", "done: region-b is promoted as soon as the old paths are closed")
	w.awaitOpen(lab.RegionB)
	ops := w.promotedOnce(lab.RegionB)
	if string(ops["automatic"]) != "false" {
		t.Errorf("the promotion is called automatic: %s", ops["automatic"])
	}
	load.awaitAck(w, time.Now())
	if lost := w.missing(load.halt(), w.b); len(lost) > 0 && string(ops["data_loss_bytes"]) == "0" {
		t.Errorf("%d acknowledged rows are missing, and nothing was said to be lost", len(lost))
	}
	w.says(0, "status", "failover region-a -> region-b", "its loss     ", "mode         manual, automation on")
}

func TestAnOperatorResolvesAPromotionWhoseTargetIsLost(t *testing.T) {
	t.Parallel()
	w := newAuto(t, lab.Options{})
	w.extra += "promote_timeout = \"3s\"\n"
	w.atPromotion(func(*lab.Relay) { _ = w.b.Kill9() })
	w.startOpen()
	load := w.load()
	w.runs(4 * time.Second)
	w.must(w.a.Kill9())
	w.await("it halts", func(s rig.Status) bool { return s.Step == "halted" })
	if got := w.readyz(); got != http.StatusServiceUnavailable {
		t.Errorf("readyz answers %d while every login is refused", got)
	}
	w.says(0, "status", "PROMOTING/halted", "writes       refused", "to do        the promotion cannot be completed")
	w.says(1, "abort", "cannot be undone")
	w.says(1, "resolve --writer region-a", "answers 409: region-a does not answer as the primary of this system")
	w.must(w.a.Start(w.ctx))
	w.await("the old writer answers", func(s rig.Status) bool { return s.Step == "halted" && s.Quarantine(lab.RegionA) != "" })
	w.says(0, "resolve --writer region-a", "done: region-a alone answers as primary")
	s := w.awaitOpen(lab.RegionA)
	if s.Epoch == nil || *s.Epoch != 3 {
		t.Errorf("the old writer is open under epoch %v, want a fresh one: 3", s.Epoch)
	}
	if got := w.readyz(); got != http.StatusOK {
		t.Errorf("readyz answers %d", got)
	}
	load.awaitAck(w, time.Now())
	if lost := w.missing(load.halt(), w.a); len(lost) > 0 {
		t.Errorf("%d acknowledged rows are missing", len(lost))
	}
}

func TestNothingIsPromotedWhileAnOperatorHolds(t *testing.T) {
	t.Parallel()
	w := newAuto(t, lab.Options{})
	w.startOpen()
	w.exec(w.mustLogin(), "CREATE TABLE t (k int)")
	w.runs(3 * time.Second)
	w.says(0, "hold", "done: automatic failover is paused until it is resumed")
	w.exec(w.mustLogin(), "INSERT INTO t VALUES (1)") // clients are not held by it
	w.must(w.proxy.Stop())
	w.start() // and it survives a restart
	w.awaitOpen(lab.RegionA)
	w.says(0, "status", "automation paused")
	w.must(w.a.Kill9())
	w.stays("nothing is promoted", watchedFor, onEpochOne)
	w.explained("automation_on")
	w.notPromoted()
	w.must(w.a.Start(w.ctx))
	w.awaitOpen(lab.RegionA)
	w.says(0, "resume", "done: automatic failover is on again")
	w.await("the pair is ready", func(s rig.Status) bool { return s.State == "STANDBY_READY" })
	w.exec(w.mustLogin(), "INSERT INTO t VALUES (2)")
	w.runs(3 * time.Second)
	w.must(w.a.Kill9())
	w.awaitOpen(lab.RegionB)
	w.promotedOnce(lab.RegionB)
}

func TestAnOverrideIsNeededForWhatBlocksAndIsRecorded(t *testing.T) {
	t.Parallel()
	w := newAuto(t, lab.Options{})
	w.extra += "require_lossless = true\n"
	w.startOpen()
	w.exec(w.mustLogin(), "CREATE TABLE t (k int)")
	w.runs(3 * time.Second)
	w.must(w.a.Kill9())
	w.await("a criterion blocks", func(s rig.Status) bool { return s.Step == "blocked" })
	w.explained("loss_allowed")
	w.says(1, "approve --to region-b", "answers 409: region-b is blocked by loss_allowed", "loss_allowed  fail")
	w.says(1, "approve --to region-b --override same_system", "answers 409: same_system can never be overridden")
	w.says(0, "approve --to region-b --override loss_allowed", "overriding: loss_allowed (fail): require_lossless is on")
	w.awaitOpen(lab.RegionB)
	if ops := w.promotedOnce(lab.RegionB); string(ops["overridden"]) != `"loss_allowed"` {
		t.Errorf("the event says that %s was overridden", ops["overridden"])
	}
}
