package follow

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtether/pgtether/test/rig"
)

// adopted fails unless the status tells of a change that others made, from one node to the other, and of its cost in one of the given words.
func (w *world) adopted(s rig.Status, from, to node, epoch uint64, lossless ...string) {
	w.Helper()
	c := s.LastChange
	if c == nil || c.Kind != "adopted" || c.From == nil || *c.From != from.name || c.To != to.name || c.Epoch != epoch {
		w.Errorf("the last change is %+v, want one of kind adopted from %s to %s with epoch %d", c, from.name, to.name, epoch)
		return
	}
	if !slices.Contains(lossless, c.Lossless) {
		w.Errorf("lossless is %s, want one of %v", c.Lossless, lossless)
	}
}

func TestASwitchoverByPatroniIsFollowedAndTheOldLeaderComesBackAsAStandby(t *testing.T) {
	t.Parallel()
	p := newPatroniPair(t, false, "")
	before := p.lastSeq()
	began := time.Now()
	p.ctl("switchover", "--leader", p.a.name, "--candidate", p.b.name, "--force", scope)
	s := p.awaitWriter(p.b.node)
	t.Logf("writes are open on %s %s after the order", p.b.name, time.Since(began).Round(time.Millisecond))
	p.adopted(s, p.a.node, p.b.node, 2, "bounded") // without a synchronous standby nothing is ever proven
	p.awaitWrites(time.Now())
	p.awaitState("STANDBY_READY", p.b.node)
	p.passedThrough(before, "PRIMARY_FAILED", "NEW_PRIMARY", "REJOINING", "STANDBY_READY")
	p.cutBeforeOpened(before)
	p.eventually("Patroni calls the old leader a replica, as pgtether does", func() error { return p.a.is("replica") }) // it looks once in its loop_wait
	p.balance(p.b.node, nil)
	p.neverPromoted()
}

func TestAFailoverByPatroniIsFollowedAndTheOldLeaderComesBackAsAStandby(t *testing.T) {
	t.Parallel()
	// Patroni waits for its ttl of 20 s before it promotes, and a login is to outlast that.
	p := newPatroniPair(t, true, "[hold]\nlogin = \"60s\"\n")
	before := p.lastSeq()
	began := time.Now()
	p.crash(p.a)
	p.await("logins are held", func(s rig.Status) bool { return s.Writes == "held" })
	p.await("the clients wait", func(s rig.Status) bool { return s.Sessions.Held == workers })
	s := p.awaitWriter(p.b.node)
	t.Logf("writes are open on %s %s after the crash", p.b.name, time.Since(began).Round(time.Millisecond))
	p.adopted(s, p.a.node, p.b.node, 2, "proven", "bounded") // proven needs a synchronous standby, and relaxed commits counted
	p.awaitWrites(time.Now())
	p.awaitState("NEW_PRIMARY", p.b.node)
	p.cutBeforeOpened(before)

	p.start(p.a)
	p.awaitState("STANDBY_READY", p.b.node)
	p.passedThrough(before, "PRIMARY_FAILED", "NEW_PRIMARY", "REJOINING", "STANDBY_READY")
	p.balance(p.b.node, nil)
	p.neverPromoted()
}

func TestARestartInPlaceByPatroniIsWaitedForUnderTheSameEpoch(t *testing.T) {
	t.Parallel()
	p := newPatroniPair(t, false, "")
	restart := func() { p.ctl("restart", "--force", scope, p.a.name) }
	sameEpoch := func(what string) {
		s := p.awaitState("STANDBY_READY", p.a.node)
		if s.Epoch == nil || *s.Epoch != 1 || s.LastChange != nil {
			t.Errorf("after %s: epoch %d, last change %+v; want epoch 1 and no change", what, *s.Epoch, s.LastChange)
		}
	}
	p.restarts("a restart", restart)
	sameEpoch("a restart")
	p.ctl("pause", "--wait", scope)
	p.restarts("a restart in Patroni's pause", restart)
	sameEpoch("a restart in Patroni's pause")
	p.ctl("resume", "--wait", scope)

	// Patroni brings a leader that crashed back as a standby and promotes it in place: the same node, and another timeline.
	before := p.lastSeq()
	p.restarts("a crash of the server alone", func() {
		p.kill9Postmaster(p.a)
		p.await("logins are held", func(s rig.Status) bool { return s.Writes == "held" })
	})
	p.adopted(p.awaitState("STANDBY_READY", p.a.node), p.a.node, p.a.node, 2, "bounded")
	p.cutBeforeOpened(before)
	p.eventually("Patroni calls it a replica, as pgtether does", func() error { return p.b.is("replica") })
	p.balance(p.a.node, nil)
	p.neverPromoted()
}

func TestALeaderThatPatroniDemotesForWantOfItsStoreIsCutAndTheNextLeaderIsFollowed(t *testing.T) {
	t.Parallel()
	p := newPatroniPair(t, false, "[hold]\nlogin = \"60s\"\n")
	before := p.lastSeq()
	p.must(p.etcd.Signal(syscall.SIGSTOP))
	p.await("the leader is demoted, and nobody is the writer", func(s rig.Status) bool {
		return s.Writes == "held" && s.Nodes[0].Role == "standby" && s.Nodes[1].Role == "standby" && s.Sessions.Held == workers
	})
	p.must(p.etcd.Signal(syscall.SIGCONT))
	s := p.await("there is a writer again", func(s rig.Status) bool { return s.Writes == "open" })
	next := p.a.node
	if *s.Writer == p.b.name {
		next = p.b.node
	}
	t.Logf("the next leader is %s", next.name)
	p.adopted(s, p.a.node, next, 2, "bounded")
	p.awaitState("STANDBY_READY", next)
	p.awaitWrites(time.Now())
	p.cutBeforeOpened(before)
	p.balance(next, nil)
	p.neverPromoted()
}

// restarts does what is to restart the leader in place, and waits until it has, and the load goes on.
func (p *patroniPair) restarts(what string, restart func()) {
	p.Helper()
	before, err := p.started(p.a.node)
	p.must(err)
	restart()
	p.eventually("the leader runs again after "+what, func() error {
		now, err := p.started(p.a.node)
		if err == nil && !now.After(before) {
			err = fmt.Errorf("it runs since %s", now)
		}
		return err
	})
	p.awaitWriter(p.a.node)
	p.awaitWrites(time.Now())
}

// started is when a server was started.
func (w *world) started(n node) (at time.Time, err error) {
	err = w.withConn(n, "postgres", func(c *pgx.Conn) error {
		return c.QueryRow(w.ctx, "SELECT pg_postmaster_start_time()").Scan(&at)
	})
	return at, err
}
