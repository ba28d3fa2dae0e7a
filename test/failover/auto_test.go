package failover

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/test/rig"
)

// newAuto is a pair whose proxy promotes by itself.
func newAuto(t *testing.T, opts lab.Options) *world {
	w := newPair(t, opts)
	w.mode = "auto"
	return w
}

// newPlanned is a pair whose writer is changed by order. A switchover is undone when a node does not answer in time, and not tried again: what is in
// time leaves room for a busy machine.
func newPlanned(t *testing.T, opts lab.Options) *world {
	w := newAuto(t, opts)
	w.probe, w.extra = "timeout = \"3s\"\n", "stable_for = \"4s\"\n"
	return w
}

// writer is a client that inserts one row after the other, each on its own, and logs in again whenever its session ends.
type writer struct {
	mu    sync.Mutex
	acked []int
	last  time.Time // of the newest acknowledgement
	stop  context.CancelFunc
	ended chan struct{} // closed when it has stopped
}

// load makes the table and starts a writer; the writer's rate is known to the proxy a few probe rounds later.
func (w *world) load() *writer {
	w.Helper()
	w.exec(w.mustLogin(), "CREATE TABLE IF NOT EXISTS acked (n int primary key, pad text)")
	ctx, stop := context.WithCancel(w.ctx)
	l := &writer{stop: stop, ended: make(chan struct{})}
	go l.run(ctx, w.lab.AppDSNAt(w.listen))
	w.Cleanup(func() { l.halt() })
	l.awaitAck(w, time.Time{})
	return l
}

func (l *writer) run(ctx context.Context, dsn string) {
	defer close(l.ended)
	var c *pgx.Conn
	for n := 0; ctx.Err() == nil; n++ {
		if c == nil {
			var err error
			if c, err = pgx.Connect(ctx, dsn); err != nil {
				c = nil
				time.Sleep(20 * time.Millisecond)
				continue
			}
		}
		if _, err := c.Exec(ctx, "INSERT INTO acked VALUES ($1, repeat('x', 500))", n); err != nil {
			_ = c.Close(ctx)
			c = nil
			continue
		}
		l.mu.Lock()
		l.acked, l.last = append(l.acked, n), time.Now()
		l.mu.Unlock()
		time.Sleep(5 * time.Millisecond)
	}
	if c != nil {
		_ = c.Close(context.Background())
	}
}

// halt stops the writer and returns what was acknowledged to it.
func (l *writer) halt() []int {
	l.stop()
	<-l.ended
	return l.acked
}

// awaitAck waits for an acknowledgement after the given time and returns when it came.
func (l *writer) awaitAck(w *world, after time.Time) time.Time {
	w.Helper()
	for {
		l.mu.Lock()
		last := l.last
		l.mu.Unlock()
		if last.After(after) {
			return last
		}
		if w.ctx.Err() != nil {
			w.Fatalf("nothing was acknowledged after %s", after)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// missing are the acknowledged rows that a node does not have.
func (w *world) missing(acked []int, n *lab.Node) []int {
	w.Helper()
	c, err := pgx.Connect(w.ctx, n.AppDSN())
	w.must(err)
	defer c.Close(w.ctx)
	rows, err := c.Query(w.ctx, "SELECT n FROM acked")
	w.must(err)
	there, err := pgx.CollectRows(rows, pgx.RowTo[int])
	w.must(err)
	slices.Sort(there)
	return slices.DeleteFunc(slices.Clone(acked), func(n int) bool {
		_, found := slices.BinarySearch(there, n)
		return found
	})
}

// kinds counts the events of a kind.
func (w *world) kinds(kind string) (found []rig.Event) {
	w.Helper()
	all, err := w.proxy.Events(w.ctx)
	w.must(err)
	for _, e := range all {
		if e.Kind == kind {
			found = append(found, e)
		}
	}
	return found
}

// promotedOnce fails unless exactly one promotion was requested, to the node, with every operand that is promised.
func (w *world) promotedOnce(to string) map[string]json.RawMessage {
	w.Helper()
	asked := w.kinds("promotion_requested")
	if len(asked) != 1 {
		w.Fatalf("%d promotions were requested, want 1", len(asked))
	}
	ops := asked[0].Operands
	for _, name := range []string{"target", "from", "received_lsn", "replayed_lsn", "last_known_primary_lsn", "last_known_age_ms", "data_loss_bytes",
		"lossless", "relaxed_commits", "fence"} {
		if _, ok := ops[name]; !ok {
			w.Errorf("promotion_requested lacks %s", name)
		}
	}
	if got := string(ops["target"]); got != fmt.Sprintf("%q", to) {
		w.Errorf("the target is %s, want %s", got, to)
	}
	if done := w.kinds("promoted"); len(done) != 1 {
		w.Errorf("%d nodes were promoted, want 1", len(done))
	}
	return ops
}

func TestAKilledPrimaryIsReplacedAndTheStatedLossIsTrue(t *testing.T) {
	t.Parallel()
	w := newAuto(t, lab.Options{})
	w.startOpen()
	load := w.load()
	w.runs(4 * time.Second)
	killed := time.Now()
	w.must(w.a.Kill9())
	first := load.awaitAck(w, killed.Add(500*time.Millisecond))
	w.Logf("first acknowledgement on the new writer %s after the kill", first.Sub(killed).Round(time.Millisecond))
	s := w.await("the new writer is open", func(s rig.Status) bool { return s.State == "NEW_PRIMARY" })
	acked := load.halt()
	if s.Writer == nil || *s.Writer != lab.RegionB || s.Epoch == nil || *s.Epoch != 2 {
		t.Errorf("afterwards: %+v", s)
	}
	ops := w.promotedOnce(lab.RegionB)
	c := s.LastChange
	if c == nil || c.Kind != "failover" || c.From == nil || *c.From != lab.RegionA || c.To != lab.RegionB || c.Lossless != "bounded" || c.DataLossBytes == nil {
		t.Fatalf("last change: %+v", c)
	}
	if got := string(ops["data_loss_bytes"]); got != fmt.Sprint(*c.DataLossBytes) {
		t.Errorf("the loss is %s at the request and %d afterwards", got, *c.DataLossBytes)
	}
	lost := w.missing(acked, w.b)
	w.Logf("%d rows acknowledged, %d lost, stated: at most %d bytes; steps %+v", len(acked), len(lost), *c.DataLossBytes, c.Steps)
	if uint64(len(lost))*500 > *c.DataLossBytes {
		t.Errorf("%d acknowledged rows of 500 bytes are lost, and at most %d bytes were said to be", len(lost), *c.DataLossBytes)
	}
	if wait := first.Sub(killed); wait > 20*time.Second {
		t.Errorf("the first acknowledgement came %s after the kill", wait)
	}
}

func TestWithASynchronousStandbyNothingIsLostAndItsNamesAreEmptiedAndPutBack(t *testing.T) {
	t.Parallel()
	w := newAuto(t, lab.Options{Synchronous: true})
	w.startOpen()
	load := w.load()
	w.runs(4 * time.Second)
	if d := w.decision(); d.Verdict != "BLOCKED" {
		t.Errorf("on a quiet day: %+v", d)
	}
	killed := time.Now()
	w.must(w.a.Kill9())
	load.awaitAck(w, killed.Add(500*time.Millisecond)) // commits do not wait for the node that is gone
	s := w.await("the new writer is open", func(s rig.Status) bool { return s.State == "NEW_PRIMARY" })
	if c := s.LastChange; c == nil || c.Lossless != "proven" || c.DataLossBytes == nil || *c.DataLossBytes != 0 {
		t.Errorf("last change: %+v", c)
	}
	w.promotedOnce(lab.RegionB)
	names := func() string {
		text, err := w.b.QueryText(w.ctx, "postgres", "SHOW synchronous_standby_names")
		w.must(err)
		return text
	}
	if got := names(); got != "" {
		t.Errorf("synchronous_standby_names is %q on the new writer while nobody streams from it", got)
	}
	w.must(w.a.Rewind(w.ctx, w.b))
	w.await("the old node is its standby", func(s rig.Status) bool { return s.State == "STANDBY_READY" })
	for got := names(); got == ""; got = names() {
		if w.ctx.Err() != nil {
			t.Fatal("synchronous_standby_names was not put back")
		}
		time.Sleep(50 * time.Millisecond)
	}
	load.awaitAck(w, time.Now()) // and commits go on
	acked := load.halt()
	if lost := w.missing(acked, w.b); len(lost) > 0 {
		t.Errorf("of %d acknowledged rows %d are lost: %v", len(acked), len(lost), lost[:min(len(lost), 5)])
	}
}

func TestAnOldPrimaryThatComesBackWritableIsQuarantinedAndItsDivergenceShown(t *testing.T) {
	t.Parallel()
	w := newAuto(t, lab.Options{})
	w.startOpen()
	load := w.load()
	w.runs(4 * time.Second)
	w.must(w.a.FreezeAll())
	w.await("the new writer is open", func(s rig.Status) bool { return s.State == "NEW_PRIMARY" })
	w.promotedOnce(lab.RegionB)
	w.must(w.a.Thaw())
	w.await("the old one is quarantined", func(s rig.Status) bool { return s.Quarantine(lab.RegionA) != "" })
	w.must(w.a.Exec(w.ctx, "keycloak", "INSERT INTO acked VALUES (-1, 'a direct client')"))
	w.explained("no_split_brain", lab.RegionA)
	w.stays("nobody is sent to the old writer", time.Second, func(s rig.Status) bool { return s.Writer != nil && *s.Writer == lab.RegionB && *s.Epoch == 2 })
	w.must(w.a.Rebuild(w.ctx, w.b))
	w.await("it has rejoined", func(s rig.Status) bool { return s.State == "STANDBY_READY" && s.Quarantine(lab.RegionA) == "" })
	load.halt()
}

func TestAPrimaryThatVanishesFromTheNetworkIsReplaced(t *testing.T) {
	t.Parallel()
	w := newAuto(t, lab.Options{RelayReplication: true})
	relay, err := w.a.Relay()
	w.must(err)
	w.nodes = []rig.Node{{Name: lab.RegionA, Addr: relay.Addr()}, {Name: lab.RegionB, Addr: w.b.Addr()}}
	w.startOpen()
	load := w.load()
	w.runs(4 * time.Second)
	w.must(relay.Partition())
	w.must(w.a.ReplicationRelay().Partition())
	cut := time.Now()
	w.await("the new writer is open", func(s rig.Status) bool { return s.State == "NEW_PRIMARY" && *s.Writer == lab.RegionB })
	w.promotedOnce(lab.RegionB)
	load.awaitAck(w, cut.Add(time.Second))
	load.halt()
	w.must(relay.Heal())
	w.await("the old writer is back, and quarantined", func(s rig.Status) bool { return s.Quarantine(lab.RegionA) != "" })
	w.stays("nobody is sent to it", time.Second, func(s rig.Status) bool { return s.Writer != nil && *s.Writer == lab.RegionB })
}
