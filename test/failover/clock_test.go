package failover

import (
	"strconv"
	"testing"
	"time"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/test/rig"
)

// TestASteppedClockOfAServerPromotesNobodyAndHindersNoFailover steps the wall clock of one server or the other by an hour, both ways: F38.
func TestASteppedClockOfAServerPromotesNobodyAndHindersNoFailover(t *testing.T) {
	t.Parallel()
	bothWays(t, "F38", lab.Options{SteppedClocks: true}, func(t *testing.T, opts lab.Options) {
		w := newAuto(t, opts)
		w.startOpen()
		load := w.load()
		w.runs(3 * time.Second)
		for _, n := range []*lab.Node{w.a, w.b} {
			for _, step := range []time.Duration{time.Hour, -time.Hour} {
				served := func(s rig.Status) bool { return onEpochOne(s) && s.Writes == "open" }
				ready := func(s rig.Status) bool { return served(s) && s.State == "STANDBY_READY" }
				stepped := make(chan error, 1)
				go func() { stepped <- n.StepClock(step) }()
				w.stays("the writer is served", 3*time.Second, served)
				w.must(<-stepped)
				if is := w.clockOf(n); is < step-time.Minute || is > step+time.Minute {
					t.Fatalf("the clock of %s is off by %s, want %s", n.Name(), is, step)
				}
				// A round that asks between the step and the receiver's next message finds that message an hour old.
				w.await("the standby is ready", func(s rig.Status) bool {
					if !served(s) {
						t.Errorf("the writer is not served while the standby is not ready: %+v", s)
					}
					return ready(s)
				})
				w.stays("the writer is served and the standby ready", time.Second, ready)
			}
		}
		w.notPromoted()
		load.awaitAck(w, time.Now())
		killed := time.Now()
		w.must(w.a.Kill9()) // both clocks are an hour behind
		w.await("the new writer is open", func(s rig.Status) bool { return s.State == "NEW_PRIMARY" && *s.Writer == lab.RegionB })
		w.promotedOnce(lab.RegionB)
		load.awaitAck(w, killed.Add(500*time.Millisecond))
		load.halt()
	})
}

// clockOf is how far a server's wall clock is ahead of the machine's.
func (w *world) clockOf(n *lab.Node) time.Duration {
	w.Helper()
	text, err := n.QueryText(w.ctx, "postgres", "SELECT extract(epoch FROM clock_timestamp())::bigint")
	w.must(err)
	seconds, err := strconv.ParseInt(text, 10, 64)
	w.must(err)
	return time.Until(time.Unix(seconds, 0))
}
