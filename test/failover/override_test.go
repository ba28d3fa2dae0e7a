package failover

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/test/rig"
)

func TestAStandbyThatLagsTooFarIsPromotedOnlyWhenAnOperatorNamesTheLag(t *testing.T) {
	t.Parallel()
	w := newAuto(t, lab.Options{RelayReplication: true})
	w.extra += "max_lag = \"64KiB\"\n"
	w.startOpen()
	w.must(w.a.Exec(w.ctx, "keycloak", "CREATE TABLE t (k int)"))
	w.runs(2 * time.Second)
	w.a.ReplicationRelay().Blackhole()
	w.must(w.a.Exec(w.ctx, "keycloak", "CREATE TABLE much AS SELECT repeat('x', 1000) FROM generate_series(1, 1000)"))
	time.Sleep(2 * time.Second) // the lag is seen, and the write rate known
	w.must(w.a.Kill9())
	w.await("a criterion blocks", func(s rig.Status) bool { return s.Step == "blocked" })
	w.explained("lag_within_limit", "KiB")
	w.notPromoted()
	w.says(1, "approve --to region-b", "answers 409: region-b is blocked by lag_within_limit", "lag_within_limit  fail")
	w.says(1, "approve --to region-b --override loss_allowed", "answers 409")
	w.notPromoted()
	w.says(0, "approve --to region-b --override lag_within_limit", "overriding: lag_within_limit (fail)")
	s := w.awaitOpen(lab.RegionB)
	if ops := w.promotedOnce(lab.RegionB); string(ops["overridden"]) != `"lag_within_limit"` {
		t.Errorf("the event says that %s was overridden", ops["overridden"])
	}
	// What is lost is said: the table that the standby never received.
	if c := s.LastChange; c == nil || c.DataLossBytes == nil || *c.DataLossBytes < 1000*1000 {
		t.Errorf("last change: %+v", c)
	}
	if told := w.evidence("opened"); !strings.Contains(told, "lag_within_limit") || !strings.Contains(told, "byte for byte") {
		t.Errorf("the evidence says nothing of the override:\n%s", told)
	}
}

// TestAReloadInTheMiddleOfAFailoverChangesNeitherItsTargetNorItsNumber sends SIGHUP with another file at two moments of one failover: F41.
func TestAReloadInTheMiddleOfAFailoverChangesNeitherItsTargetNorItsNumber(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(string) string{
		"another stable_for": func(text string) string { return strings.Replace(text, `stable_for = "2s"`, `stable_for = "3s"`, 1) },
		"an invalid file":    func(text string) string { return text + "no_such_key = 1\n" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newAuto(t, lab.Options{})
			frozen := make(chan error, 1)
			w.atPromotion(func(*lab.Relay) { frozen <- w.b.FreezePostmaster() })
			w.startOpen()
			w.exec(w.mustLogin(), "CREATE TABLE t (k int)")
			w.runs(3 * time.Second)
			w.must(w.a.Kill9())
			w.await("the failure is being confirmed", func(s rig.Status) bool { return s.State == "PRIMARY_FAILED" && s.Step == "confirming" })
			w.reload(edit)
			w.must(<-frozen)
			w.await("the promotion is asked for", func(s rig.Status) bool { return s.Step == "promoting" })
			w.reload(edit)
			w.stays("it is waited for", 500*time.Millisecond, func(s rig.Status) bool { return s.Step == "promoting" && s.Writer == nil })
			w.must(w.b.Thaw())
			if s := w.awaitOpen(lab.RegionB); *s.Epoch != 2 {
				t.Errorf("epoch %d", *s.Epoch)
			}
			w.promotedOnce(lab.RegionB)
			c, err := pgx.Connect(w.ctx, w.b.AppDSN())
			w.must(err)
			defer c.Close(w.ctx)
			w.exec(c, "INSERT INTO t VALUES (1)")
		})
	}
}

// reload writes the configuration of the first start anew, edited, sends SIGHUP, and waits until the log tells what became of it.
func (w *world) reload(edit func(string) string) {
	w.Helper()
	if w.config == "" {
		text, err := os.ReadFile(w.proxy.Config)
		w.must(err)
		w.config = string(text)
	}
	edited := edit(w.config)
	if edited == w.config {
		w.Fatal("the edit changed nothing")
	}
	told := func() int {
		log, err := os.ReadFile(w.proxy.Log)
		w.must(err)
		return strings.Count(string(log), "configuration reloaded") + strings.Count(string(log), "configuration not reloaded")
	}
	before := told()
	w.must(os.WriteFile(w.proxy.Config, []byte(edited), 0o600))
	w.must(w.proxy.Signal(syscall.SIGHUP))
	for told() == before {
		if w.ctx.Err() != nil {
			w.Fatal("the log says nothing of the reload")
		}
		time.Sleep(10 * time.Millisecond)
	}
}
