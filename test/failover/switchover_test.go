package failover

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/test/rig"
	"github.com/pgtether/pgtether/test/tellers"
)

// crowdSize is how many clients write through a switchover.
const crowdSize = 32

// crowd makes the tables, has everybody write for a moment, and returns those who do.
func (w *world) crowd() *tellers.Crowd { return w.crowdOf(crowdSize) }

func (w *world) crowdOf(n int) *tellers.Crowd {
	w.Helper()
	w.must(tellers.Prepare(w.ctx, w.lab.AppDSNAt(w.listen)))
	c := tellers.Start(w.ctx, w.lab.AppDSNAt(w.listen), n)
	w.Cleanup(c.Halt)
	w.must(c.Await(w.ctx, n, time.Now()))
	return c
}

// sound halts the crowd and fails unless a node has what was acknowledged, once, and nothing else.
func (w *world) sound(c *tellers.Crowd, n *lab.Node) tellers.Found {
	w.Helper()
	c.Halt()
	found, err := c.Verify(w.ctx, n.AppDSN())
	w.must(err)
	w.Logf("on %s: %s", n.Name(), found)
	if !found.Sound() || found.Acknowledged == 0 {
		w.Errorf("on %s: %s", n.Name(), found)
	}
	return found
}

// endedAtRest fails unless, since an instant, every client's session ended once, with 08006, and not inside a transaction.
func (w *world) endedAtRest(c *tellers.Crowd, since time.Time) {
	w.Helper()
	ends := map[int]int{}
	for _, e := range c.Ends(since) {
		if ends[e.Client]++; ends[e.Client] > 1 || e.Code != "08006" || e.Place != tellers.AtBoundary {
			w.Errorf("end %d of client %d: %s at %s, want 08006 at the boundary, once", ends[e.Client], e.Client, e.Code, e.Place)
		}
	}
	if len(ends) != crowdSize {
		w.Errorf("the sessions of %d clients ended, want %d", len(ends), crowdSize)
	}
}

// unnoticed fails if a session has ended, or been answered by another backend, or a login was refused.
func (w *world) unnoticed(c *tellers.Crowd) {
	w.Helper()
	if ends := c.Ends(time.Time{}); len(ends) > 0 {
		w.Errorf("%d sessions ended, the first: %+v", len(ends), ends[0])
	}
	if moved, sessions := c.Moved(); moved > 0 || sessions != crowdSize {
		w.Errorf("%d of %d sessions met another backend, want %d that stay", moved, sessions, crowdSize)
	}
}

// switched orders a switchover, waits for its end, and fails unless the node is the writer of the next epoch with nothing lost.
func (w *world) switched(from, to *lab.Node, epoch uint64) {
	w.Helper()
	w.must(w.proxy.Switch(w.ctx, to.Name(), ""))
	s := w.await("the switchover is done", func(s rig.Status) bool { return s.Writes == "open" && *s.Epoch == epoch })
	w.proven(s, from, to)
}

// proven fails unless the last change is a switchover between two nodes that lost nothing, and the old one is kept out.
func (w *world) proven(s rig.Status, from, to *lab.Node) {
	w.Helper()
	c := s.LastChange
	if s.Writer == nil || *s.Writer != to.Name() || c == nil || c.Kind != "switchover" || c.From == nil || *c.From != from.Name() || c.To != to.Name() ||
		c.Lossless != "proven" || c.DataLossBytes == nil || *c.DataLossBytes != 0 || c.RelaxedCommits == nil || *c.RelaxedCommits != 0 {
		w.Fatalf("afterwards: writer %v, last change %+v", s.Writer, c)
	}
	w.await("the old writer is kept out", func(s rig.Status) bool { return s.State == "NEW_PRIMARY" && s.Quarantine(from.Name()) != "" })
}

// readOnly is the setting that the fence leaves on a node.
func (w *world) readOnly(n *lab.Node) string {
	w.Helper()
	text, err := n.QueryText(w.ctx, "postgres", "SHOW default_transaction_read_only")
	w.must(err)
	return text
}

// rejoined waits until a node that was made a standby is taken back, its fence undone.
func (w *world) rejoined(n *lab.Node) {
	w.Helper()
	w.await("the pair is whole again", func(s rig.Status) bool { return s.State == "STANDBY_READY" && s.Quarantine(n.Name()) == "" })
	w.must(n.Await(w.ctx, "current_setting('default_transaction_read_only') = 'off'"))
	states := map[string]bool{}
	for _, e := range w.kinds("transition") {
		states[e.StateTo] = true
	}
	if !states["REJOINING"] {
		w.Errorf("no event says that it rejoins")
	}
}

func TestASwitchoverThereAndBackLosesNothing(t *testing.T) {
	// A checkpoint after the divergence would remove the log that pg_rewind reads.
	bothWays(t, "there and back", lab.Options{Settings: map[string]string{"wal_keep_size": "256MB"}}, func(t *testing.T, opts lab.Options) {
		w := newPlanned(t, opts)
		w.startOpen()
		load := w.crowd()
		writer, other := w.a, w.b
		for epoch := uint64(2); epoch <= 3; epoch++ {
			ordered := time.Now()
			w.switched(writer, other, epoch)
			w.must(load.Await(w.ctx, crowdSize, time.Now()))
			w.endedAtRest(load, ordered)
			w.Logf("to %s: longest stall %s", other.Name(), load.Longest(ordered, tellers.Everyone).Length().Round(time.Millisecond))
			if got := w.readOnly(writer); got != "on" {
				t.Errorf("the old writer's default_transaction_read_only is %s while it is no standby", got)
			}
			w.must(writer.Rewind(w.ctx, other))
			w.rejoined(writer)
			w.must(load.Await(w.ctx, crowdSize, time.Now()))
			writer, other = other, writer
		}
		w.sound(load, writer)
		if n := len(w.kinds("promoted")); n != 2 {
			t.Errorf("%d nodes were promoted, want 2", n)
		}
	})
}

// holds opens a transaction that leaves a row, on a session of its own.
func (w *world) holds() *pgx.Conn {
	w.Helper()
	c := w.mustLogin()
	w.exec(c, "CREATE TABLE IF NOT EXISTS held (k int)")
	w.exec(c, "BEGIN")
	w.exec(c, "INSERT INTO held VALUES (1)")
	return c
}

// heldRows counts what such transactions have committed on a node.
func (w *world) heldRows(n *lab.Node) string {
	w.Helper()
	text, err := n.QueryText(w.ctx, w.lab.AppDatabase, "SELECT count(*) FROM held")
	w.must(err)
	return text
}

// undone waits for the event that says why a change was undone.
func (w *world) undone() string {
	w.Helper()
	w.await("the switchover is undone", func(s rig.Status) bool { return s.Writes == "open" && len(w.kinds("undone")) == 1 })
	return w.kinds("undone")[0].Message
}

const drainTimeout = 1500 * time.Millisecond

// drained sets drain.timeout.
func (w *world) drained() { w.extra += fmt.Sprintf("[drain]\ntimeout = %q\n", drainTimeout) }

func TestATransactionThatOutlastsTheDrainUndoesTheSwitchoverAndNobodyNotices(t *testing.T) {
	t.Parallel()
	w := newPlanned(t, lab.Options{})
	w.drained()
	w.startOpen()
	load := w.crowd()
	open := w.holds()
	ordered := time.Now()
	w.must(w.proxy.Switch(w.ctx, lab.RegionB, ""))
	why := w.undone()
	w.Log(why)
	w.must(load.Await(w.ctx, crowdSize, time.Now()))
	w.unnoticed(load)
	stall := load.Longest(ordered, tellers.Everyone).Length()
	w.Logf("longest stall %s", stall.Round(time.Millisecond))
	const busy = 3 * time.Second // what the machine may add; nothing else would end the wait before hold.session, 15 s
	if stall > drainTimeout+busy {
		t.Errorf("a client waited %s, more than drain.timeout (%s) and %s", stall, drainTimeout, busy)
	}
	if s := w.awaitOpen(lab.RegionA); *s.Epoch != 1 || s.LastChange != nil {
		t.Errorf("the old writer serves on under %+v", s)
	}
	w.exec(open, "COMMIT")
	if got := w.heldRows(w.a); got != "1" {
		t.Errorf("%s rows of the transaction that was waited for", got)
	}
	w.notPromoted()
	w.sound(load, w.a)
}

func TestByForceOpenTransactionsEndAndACommitUnderWayIsInDoubt(t *testing.T) {
	t.Parallel()
	w := newPlanned(t, lab.Options{})
	w.drained()
	w.startOpen()
	load := w.crowd()
	open := w.holds()
	// A COMMIT that takes longer than the drain: what is checked at its end sleeps.
	slow := w.mustLogin()
	w.exec(slow, "CREATE TABLE slow (k int)")
	w.exec(slow, "CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(20); RETURN NULL; END'")
	w.exec(slow, "CREATE CONSTRAINT TRIGGER s AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION sleep()")
	w.exec(slow, "BEGIN")
	w.exec(slow, "INSERT INTO slow VALUES (1)")
	commit := w.answer(slow, "COMMIT")
	ordered := time.Now()
	w.must(w.proxy.Switch(w.ctx, lab.RegionB, "force=true"))
	if got := sqlState(<-commit); got != "08007" {
		t.Errorf("the COMMIT under way got %s, want 08007", got)
	}
	s := w.await("the switchover is done", func(s rig.Status) bool { return s.Writes == "open" && *s.Epoch == 2 })
	w.proven(s, w.a, w.b)
	if _, err := open.Exec(w.ctx, "INSERT INTO held VALUES (2)"); sqlState(err) != "08006" {
		t.Errorf("the open transaction got %s, want 08006", sqlState(err))
	}
	if got := w.heldRows(w.b); got != "0" {
		t.Errorf("%s rows of the transaction that was cut off", got)
	}
	w.must(load.Await(w.ctx, crowdSize, time.Now()))
	w.endedAtRest(load, ordered)
	w.sound(load, w.b)
}

func TestASwitchoverThatIsAbortedWhileItDrainsIsNoticedByNobody(t *testing.T) {
	t.Parallel()
	w := newPlanned(t, lab.Options{})
	w.startOpen()
	load := w.crowd()
	open := w.holds()
	w.must(w.proxy.Switch(w.ctx, lab.RegionB, ""))
	w.await("it drains", func(s rig.Status) bool { return s.Step == "draining" })
	late := w.answerOfLogin()
	time.Sleep(500 * time.Millisecond) // most sessions wait by now
	w.must(w.proxy.Abort(w.ctx))
	w.Log(w.undone())
	if err := <-late; err != nil {
		t.Errorf("a login that came meanwhile got %s", sqlState(err))
	}
	w.must(load.Await(w.ctx, crowdSize, time.Now()))
	w.unnoticed(load)
	w.exec(open, "COMMIT")
	if s := w.awaitOpen(lab.RegionA); *s.Epoch != 1 {
		t.Errorf("it is epoch %d, want 1", *s.Epoch)
	}
	w.notPromoted()
	w.sound(load, w.a)
}

// answerOfLogin logs in in the background.
func (w *world) answerOfLogin() <-chan error {
	done := make(chan error, 1)
	go func() {
		c, err := pgx.Connect(w.ctx, w.lab.AppDSNAt(w.listen))
		if err == nil {
			err = c.Close(w.ctx)
		}
		done <- err
	}()
	return done
}

// back fails unless the old writer serves again under a fresh epoch, unfenced, and nobody was ever told that it is read-only.
func (w *world) back(load *tellers.Crowd) {
	w.Helper()
	s := w.await("the old writer serves again", func(s rig.Status) bool { return s.Writes == "open" && *s.Writer == lab.RegionA })
	if *s.Epoch != 2 {
		w.Errorf("it is epoch %d, want a fresh one: 2", *s.Epoch)
	}
	w.must(load.Await(w.ctx, crowdSize, time.Now()))
	if got := w.readOnly(w.a); got != "off" {
		w.Errorf("default_transaction_read_only is %s on the writer", got)
	}
	for _, e := range load.Ends(time.Time{}) {
		if e.Code != "08006" || e.Place != tellers.AtBoundary {
			w.Errorf("client %d was told %s at %s", e.Client, e.Code, e.Place)
		}
	}
	w.notPromoted()
	w.sound(load, w.a)
}

func TestASwitchoverThatIsAbortedAfterTheCutReturnsUnderAFreshEpoch(t *testing.T) {
	t.Parallel()
	w := newPlanned(t, lab.Options{})
	w.extra += "[hooks]\nfence = \"sleep 2\"\n"
	w.startOpen()
	load := w.crowd()
	w.must(w.proxy.Switch(w.ctx, lab.RegionB, ""))
	w.await("the old writer is being fenced", func(s rig.Status) bool { return s.Step == "fencing" })
	w.must(w.proxy.Abort(w.ctx))
	w.Log(w.undone())
	w.back(load)
}

func TestAStandbyWhoseReplayIsHeldUpAfterTheFenceUndoesTheSwitchover(t *testing.T) {
	t.Parallel()
	w := newPlanned(t, lab.Options{Settings: map[string]string{"max_standby_streaming_delay": "-1"}})
	w.startOpen()
	load := w.crowd()
	open := w.holds()
	w.must(w.b.AwaitCaughtUp(w.ctx, w.a))
	reader, err := pgx.Connect(w.ctx, w.b.SuperDSN(w.lab.AppDatabase))
	w.must(err)
	defer reader.Close(w.ctx)
	w.exec(reader, "BEGIN")
	w.exec(reader, "SELECT count(*) FROM held")
	w.must(w.proxy.Switch(w.ctx, lab.RegionB, ""))
	w.await("it drains", func(s rig.Status) bool { return s.Step == "draining" })
	w.exec(open, "TRUNCATE held") // the standby's reader is in the way of it
	w.exec(open, "COMMIT")
	w.await("the standby must replay the end", func(s rig.Status) bool { return s.Step == "sampling" || len(w.kinds("undone")) > 0 })
	w.Log(w.undone())
	w.back(load)
	w.exec(reader, "COMMIT")
}
