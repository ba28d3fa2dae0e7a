package failover

import (
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/test/rig"
)

func TestLoginsAreHeldWhileThePrimaryIsDownAndServedAsSoonAsTheStandbyIsPromotedByHand(t *testing.T) {
	t.Parallel()
	w := newPair(t, lab.Options{})
	w.startOpen()
	w.must(w.a.Stop(w.ctx, lab.Fast))
	w.await("logins are held", func(s rig.Status) bool { return s.Writes == "held" })

	const clients = 8
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		served []time.Time
	)
	for range clients {
		wg.Go(func() {
			c, err := w.login()
			if err != nil {
				t.Errorf("a held login got %s", sqlState(err))
				return
			}
			at := time.Now()
			if node := w.serverOf(c); node != lab.RegionB {
				t.Errorf("a login was sent to %s", node)
			}
			mu.Lock()
			served = append(served, at)
			mu.Unlock()
		})
	}
	w.await("all of them wait", func(s rig.Status) bool { return s.Sessions.Held == clients })
	w.must(w.b.Promote(w.ctx))
	promoted := time.Now()
	wg.Wait()
	for _, at := range served {
		// The promise is one second; the rest is for a machine that does many other things meanwhile.
		if took := at.Sub(promoted); took > 3*time.Second {
			t.Errorf("a login was served %s after the promotion", took)
		}
	}
	t.Logf("the last of %d held logins was served %s after the promotion", len(served), served[len(served)-1].Sub(promoted).Round(time.Millisecond))
	s := w.awaitOpen(lab.RegionB)
	if s.State != "NEW_PRIMARY" || s.Epoch == nil || *s.Epoch != 2 {
		t.Errorf("afterwards: %+v", s)
	}
}

func TestWithoutAPromotionALoginIsRefusedAtTheEndOfItsBudget(t *testing.T) {
	t.Parallel()
	w := newPair(t, lab.Options{})
	w.extra = quick + "[hold]\nlogin = \"2s\"\n"
	w.startOpen()
	w.must(w.a.Kill9())
	w.await("logins are held", func(s rig.Status) bool { return s.Writes == "held" })
	began := time.Now()
	_, err := w.login()
	if took := time.Since(began); sqlState(err) != "57P03" || took < 1900*time.Millisecond || took > 8*time.Second {
		t.Errorf("after %s: %s, want 57P03 after 2s", took, sqlState(err))
	}
}

func TestEstablishedSessionsEndWithTheErrorThatTheirWorkDeserves(t *testing.T) {
	t.Parallel()
	w := newPair(t, lab.Options{})
	w.startOpen()
	idle, open, committing, autocommit := w.mustLogin(), w.mustLogin(), w.mustLogin(), w.mustLogin()
	w.exec(idle, "CREATE TABLE t (k int primary key)")
	w.exec(open, "BEGIN; INSERT INTO t VALUES (1)")
	w.exec(committing, "BEGIN; INSERT INTO t VALUES (2)")
	w.must(w.b.AwaitCaughtUp(w.ctx, w.a))

	// The server stops in the middle of everything, as a machine that loses power does, and the standby takes over.
	w.must(w.a.FreezeAll())
	statement := w.answer(open, "INSERT INTO t VALUES (3)")
	commit := w.answer(committing, "COMMIT")
	insert := w.answer(autocommit, "INSERT INTO t VALUES (4)")
	w.await("logins are held", func(s rig.Status) bool { return s.Writes == "held" })
	w.must(w.b.Promote(w.ctx))
	w.awaitOpen(lab.RegionB)
	for _, c := range []struct {
		what string
		err  error
		want string
	}{
		{"an open transaction", <-statement, "08006"},
		{"an unanswered COMMIT", <-commit, "08007"},
		{"an unanswered statement outside a transaction", <-insert, "08007"},
		{"an idle session", pgx.BeginFunc(w.ctx, idle, func(pgx.Tx) error { return nil }), "08006"},
	} {
		if got := sqlState(c.err); got != c.want {
			t.Errorf("%s ended with %s, want %s", c.what, got, c.want)
		}
	}

	// The frozen server wakes up. What was on its way to it when it was cut must not become a second history that a client was told of.
	w.must(w.a.Thaw())
	w.await("the old primary is kept out", func(s rig.Status) bool { return s.Quarantine(lab.RegionA) != "" })
	w.stays("the new primary is the writer", time.Second, func(s rig.Status) bool { return s.Writer != nil && *s.Writer == lab.RegionB })
	again := w.mustLogin()
	if node := w.serverOf(again); node != lab.RegionB {
		t.Errorf("a new session is on %s", node)
	}
	w.exec(again, "INSERT INTO t VALUES (5)")
}

func TestARestartBesideADeadWriterKeepsTheEpochAndFollowsTheNextOne(t *testing.T) {
	t.Parallel()
	w := newPair(t, lab.Options{})
	w.startOpen()
	before, err := w.proxy.Status(w.ctx)
	w.must(err)
	w.must(w.a.Kill9())
	w.proxy.Kill()
	w.start()
	s := w.await("the state of the earlier run is there", func(s rig.Status) bool { return s.Epoch != nil })
	if *s.Epoch != 1 || s.StateID != before.StateID || s.Writes != "held" {
		t.Fatalf("after the restart: %+v", s)
	}
	w.stays("nothing is opened beside a standby", 2*time.Second, func(s rig.Status) bool { return s.Writes == "held" })
	w.must(w.b.Promote(w.ctx))
	if s = w.awaitOpen(lab.RegionB); *s.Epoch != 2 || s.StateID != before.StateID {
		t.Errorf("after the promotion: %+v", s)
	}
	events, err := w.proxy.Events(w.ctx)
	w.must(err)
	for i, ev := range events {
		if ev.Seq != uint64(i+1) {
			t.Fatalf("event %d has number %d: the history of two runs has a gap", i, ev.Seq)
		}
	}
}

func TestAStandbyThatComesBackIsFollowedUntilItIsReady(t *testing.T) {
	t.Parallel()
	w := newPair(t, lab.Options{})
	w.startOpen()
	w.must(w.a.Stop(w.ctx, lab.Fast))
	w.must(w.b.Promote(w.ctx))
	w.awaitOpen(lab.RegionB)
	w.stays("the old node is awaited", 500*time.Millisecond, func(s rig.Status) bool { return s.State == "NEW_PRIMARY" })
	w.must(w.a.Rewind(w.ctx, w.b))
	s := w.await("the old node is a standby that could take over", func(s rig.Status) bool { return s.State == "STANDBY_READY" })
	if *s.Epoch != 2 || *s.Writer != lab.RegionB {
		t.Errorf("%+v", s)
	}
}
