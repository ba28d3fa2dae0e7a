package proxy

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgtether/pgtether/internal/pgwire"
)

// onEachForwarder runs a test of sessions on goroutines and on event loops.
func onEachForwarder(t *testing.T, test func(*testing.T)) {
	for _, kind := range []string{"goroutines", "loops"} {
		t.Run(kind, func(t *testing.T) {
			t.Setenv(forwarderVariable, kind)
			test(t)
		})
	}
}

// startDrain holds logins and drains the epoch; the returned function says how often the drain was said to be over.
func (h *harness) startDrain(epoch uint64) (over func() int64) {
	var n atomic.Int64
	h.Hold("promoting")
	h.Drain(epoch, func() { n.Add(1) })
	return n.Load
}

func (h *harness) waiting() int {
	n, _ := h.Draining()
	return n.Waiting
}

func TestAReloadChangesHowManySessionsTheNextDrainAsksAtOnce(t *testing.T) {
	cfg := testConfig()
	h := startServer(t, cfg, Deps{})
	cfg.Continuity.MovesAtOnce += 3
	if err := h.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	h.startDrain(1)
	if n := cap(h.rest.surveyed().slots); n != cfg.Continuity.MovesAtOnce {
		t.Errorf("%d are asked at once, want %d", n, cfg.Continuity.MovesAtOnce)
	}
}

func TestADrainStopsEachSessionAtTheEndOfItsTransactionAndNothingNewStarts(t *testing.T) {
	onEachForwarder(t, func(t *testing.T) {
		var heard atomic.Int64
		enough := make(chan struct{})
		pg := startFakePG(t, countingQueries(&heard, enough))
		h := startServer(t, testConfig(), Deps{})
		h.open(pg.route(1))
		idle, busy, running := h.login(), h.login(), h.login()
		busy.query("begin")
		running.write(appendQuery(nil, "slowly"))
		eventually(t, "the statement runs", func() bool { return h.Stats().Active == 1 })
		over := h.startDrain(1)
		close(enough)
		eventually(t, "the idle one and the one whose statement ends wait", func() bool { return h.waiting() == 2 })
		same(t, "its answer", running.messages(), []string{"D slowly", "C SELECT 1", "Z I"})
		if n, draining := h.Draining(); !draining || n != (SessionsLeft{Waiting: 2, InTransaction: 1}) || over() != 0 {
			t.Errorf("draining %v: %+v, over %d times", draining, n, over())
		}
		before := heard.Load()
		idle.write(appendQuery(nil, "later"))
		busy.write(appendQuery(appendQuery(appendQuery(nil, "update"), "commit"), "begin"))
		same(t, "inside its transaction", busy.messages(), []string{"D update", "C SELECT 1", "Z T"})
		same(t, "its end", busy.messages(), []string{"D commit", "C SELECT 1", "Z I"})
		eventually(t, "the drain is over", func() bool { return over() == 1 && h.waiting() == 3 })
		if s := h.Stats(); s.Open != 3 || s.Idle != 3 {
			t.Errorf("sessions that wait are counted as %+v", s)
		}
		time.Sleep(50 * time.Millisecond)
		if n := heard.Load() - before; n != 2 {
			t.Errorf("the server heard %d queries since, want the 2 of the open transaction", n)
		}
		if _, err := idle.readWithin(20 * time.Millisecond); !isTimeout(err) {
			t.Errorf("a session that waits heard something: %v", err)
		}
		h.Undrain(1)
		same(t, "what it asked while it waited", idle.messages(), []string{"D later", "C SELECT 1", "Z I"})
		same(t, "the next transaction", busy.messages(), []string{"D begin", "C SELECT 1", "Z T"})
		same(t, "the third", running.query("again"), []string{"D again", "C SELECT 1", "Z I"})
		if pg.pid.Load() != 1003 || h.metric("pgtether_sessions_total", "drained") != 0 || over() != 1 {
			t.Error("a session has another backend, or was ended, or the drain was over twice")
		}
		if _, draining := h.Draining(); draining {
			t.Error("the drain is not over")
		}
	})
}

// countingQueries is a writer that counts what it is asked, and answers "slowly" when it has been enough.
func countingQueries(n *atomic.Int64, enough <-chan struct{}) func(*fakeConn) {
	return func(c *fakeConn) {
		if c.accept() {
			c.loggedIn("off")
			c.asked = func(sql string) {
				n.Add(1)
				if sql == "slowly" {
					select {
					case <-enough:
					case <-time.After(patience):
					}
				}
			}
			c.serve()
		}
	}
}

// readWithin reads a byte, for so long.
func (c *testClient) readWithin(d time.Duration) (byte, error) {
	_ = c.SetReadDeadline(time.Now().Add(d))
	var b [1]byte
	_, err := c.Read(b[:])
	return b[0], err
}

func TestACutEndsTheSessionsThatWaitWithOneErrorEachAndTheirBackendsHearNothing(t *testing.T) {
	onEachForwarder(t, func(t *testing.T) {
		var heard atomic.Int64
		pg, next := startFakePG(t, countingQueries(&heard, nil)), startFakePG(t, aPrimary)
		h := startServer(t, testConfig(), Deps{})
		h.open(pg.route(1))
		var clients []*testClient
		for range 20 {
			clients = append(clients, h.login())
		}
		over := h.startDrain(1)
		eventually(t, "all wait", func() bool { return over() == 1 })
		for _, c := range clients[:10] {
			c.write(appendQuery(nil, "asked while it waits"))
		}
		if n := h.Cut(1, pgwire.Drained); n != 20 {
			t.Errorf("the cut found %d sessions", n)
		}
		if pg.count() != 0 {
			eventually(t, "the backends are gone", func() bool { return pg.count() == 0 })
		}
		h.open(Route{Epoch: 2, Node: "region-b", Address: next.addr})
		for _, c := range clients {
			same(t, "a session that waited", c.messages(), []string{fatal(pgwire.Drained)})
		}
		if heard.Load() != 0 || h.metric("pgtether_sessions_total", "drained") != 20 || over() != 1 {
			t.Errorf("the old writer heard %d queries", heard.Load())
		}
		same(t, "a new session", h.login().query("x"), []string{"D x", "C SELECT 1", "Z I"})
	})
}

func TestSessionsThatWaitedAreNotAllEndedAtOneInstant(t *testing.T) {
	pg := startFakePG(t, aPrimary)
	cfg := testConfig()
	cfg.Hold.ReleasePerSecond = 10
	h := startServer(t, cfg, Deps{})
	h.open(pg.route(1))
	clients := make([]*testClient, 20)
	for i := range clients {
		clients[i] = h.login()
	}
	over := h.startDrain(1)
	eventually(t, "all wait", func() bool { return over() == 1 })
	start := time.Now()
	h.Cut(1, pgwire.Drained)
	if told := h.metric("pgtether_sessions_total", "drained"); told == float64(len(clients)) {
		t.Errorf("the cut waited for its sessions: all %v were told by then, after %s", told, time.Since(start))
	}
	for _, c := range clients {
		same(t, "a session that waited", c.messages(), []string{fatal(pgwire.Drained)})
	}
	if took := time.Since(start); took < 800*time.Millisecond {
		t.Errorf("20 sessions were ended within %s, at 10 a second", took)
	}
}

func TestASessionThatEndsIsNotWaitedFor(t *testing.T) {
	onEachForwarder(t, func(t *testing.T) {
		pg := startFakePG(t, aPrimary)
		h := startServer(t, testConfig(), Deps{})
		h.open(pg.route(1))
		busy := h.login()
		busy.query("begin")
		over := h.startDrain(1)
		if over() != 0 {
			t.Error("the drain is over with a transaction open")
		}
		_ = busy.Close()
		eventually(t, "the drain is over", func() bool { return over() == 1 })
	})
}

func TestADrainWithNobodyToWaitForIsOverAtOnce(t *testing.T) {
	pg := startFakePG(t, aPrimary)
	h := startServer(t, testConfig(), Deps{})
	h.open(pg.route(1))
	if over := h.startDrain(1); over() != 1 {
		t.Error("it is not")
	}
}

func TestALoginThatWasUnderWayWhenTheDrainBeganWaitsToo(t *testing.T) {
	onEachForwarder(t, func(t *testing.T) {
		pg := startFakePG(t, withPassword)
		h := startServer(t, testConfig(), Deps{})
		h.open(pg.route(1))
		c := h.start()
		if m, err := c.message(); m != "R 3" {
			t.Fatalf("got %q, %v", m, err)
		}
		over := h.startDrain(1)
		eventually(t, "nobody is waited for", func() bool { return over() == 1 })
		c.write([]byte("p\x00\x00\x00\x06x\x00"))
		if got := c.messages(); got[len(got)-1] != "Z I" {
			t.Fatalf("login: %q", got)
		}
		eventually(t, "it waits", func() bool { return h.waiting() == 1 })
		h.Undrain(1)
		same(t, "query", c.query("x"), []string{"D x", "C SELECT 1", "Z I"})
	})
}

func TestAnUndrainReachesASessionThatHasNotStoppedYet(t *testing.T) {
	onEachForwarder(t, func(t *testing.T) {
		pg := startFakePG(t, aPrimary)
		h := startServer(t, testConfig(), Deps{})
		h.open(pg.route(1))
		c := h.login()
		c.query("begin")
		over := h.startDrain(1)
		h.Undrain(1)
		same(t, "commit", c.query("commit"), []string{"D commit", "C SELECT 1", "Z I"})
		same(t, "the next one", c.query("x"), []string{"D x", "C SELECT 1", "Z I"})
		if over() != 0 || h.waiting() != 0 {
			t.Error("the drain was over although it was undone")
		}
		h.Undrain(1) // once more changes nothing
	})
}

// A pair heeds one request to park. The drain that is undone must not take the stop's back with its own.
func TestAnUndrainLeavesItsSessionsToAStopThatHasAskedThemToo(t *testing.T) {
	onEachForwarder(t, func(t *testing.T) {
		pg := startFakePG(t, aPrimary)
		h := startServer(t, testConfig(), Deps{})
		h.open(pg.route(1))
		c := h.login()
		c.query("begin")
		h.startDrain(1)
		_, _, pinned := h.roster.stop() // as far as Shutdown has come when it is overtaken
		for session, p := range pinned {
			session.drain(p)
		}
		h.Undrain(1)
		same(t, "inside its transaction", c.query("commit"), []string{"D commit", "C SELECT 1", "Z I"})
		same(t, "after its end", c.messages(), []string{fatal(pgwire.Drained)})
		_ = c.Close()
		if err := <-h.shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown returned %v", err)
		}
	})
}

func TestAStopEndsTheSessionsThatWait(t *testing.T) {
	onEachForwarder(t, func(t *testing.T) {
		pg := startFakePG(t, aPrimary)
		h := startServer(t, testConfig(), Deps{})
		h.open(pg.route(1))
		idle, busy := h.login(), h.login()
		busy.query("begin")
		h.startDrain(1)
		eventually(t, "one waits", func() bool { return h.waiting() == 1 })
		result := h.shutdown(context.Background())
		same(t, "one that waits", idle.messages(), []string{fatal(pgwire.Drained)})
		same(t, "inside its transaction", busy.query("commit"), []string{"D commit", "C SELECT 1", "Z I"})
		same(t, "after its end", busy.messages(), []string{fatal(pgwire.Drained)})
		_, _ = idle.Close(), busy.Close()
		if err := <-result; err != nil {
			t.Errorf("Shutdown returned %v", err)
		}
	})
}

// Drains that are begun and undone under full load are noticed by nobody: every query is answered, in order, on the backend it began with.
func TestDrainsThatAreUndoneAreNoticedByNobody(t *testing.T) {
	onEachForwarder(t, func(t *testing.T) {
		pg := startFakePG(t, aPrimary)
		h := startServer(t, testConfig(), Deps{})
		h.open(pg.route(1))
		const clients = 30
		var wg sync.WaitGroup
		stop := make(chan struct{}) // closed when the clients are to end
		var served atomic.Int64
		for i := range clients {
			c := h.login()
			wg.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					sql := fmt.Sprintf("client %d query %d", i, n)
					if n%3 == 0 {
						c.query("begin")
					}
					same(t, "answer", c.query(sql)[:1], []string{"D " + sql})
					if n%3 == 2 {
						c.query("commit")
					}
					served.Add(1)
				}
			})
		}
		complete := 0
		for round := range 25 {
			over := h.startDrain(1)
			wait := 20 * time.Millisecond // most are undone on the way, or when they are over
			if round%5 == 0 {
				wait = patience // some when they are over, for certain
			}
			for deadline := time.Now().Add(wait); over() == 0 && time.Now().Before(deadline); {
				time.Sleep(time.Millisecond)
			}
			complete += int(over())
			h.Undrain(1)
			h.open(pg.route(1))
			before := served.Load()
			eventually(t, "the clients go on", func() bool { return served.Load() > before+clients })
		}
		close(stop)
		wg.Wait()
		if pg.pid.Load() != 1000+clients || h.Stats().Open != clients || complete < 5 {
			t.Errorf("%d backends for %d sessions, %d drains came to their end", pg.pid.Load()-1000, h.Stats().Open, complete)
		}
	})
}

// A session that has ended says its last words for a while when its client does not close: a drain that begins then must not wait for it.
func TestADrainDoesNotWaitForASessionThatSaysItsLastWords(t *testing.T) {
	onEachForwarder(t, func(t *testing.T) {
		pg := startFakePG(t, func(c *fakeConn) {
			if c.accept() {
				c.loggedIn("off")
				_, _, _ = c.read()
				c.sendMessages(&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "57P05", Message: "idle for too long"})
			}
		})
		h := startServer(t, testConfig(), Deps{})
		h.open(pg.route(1))
		c := h.login()
		c.write(appendQuery(nil, "x"))
		eventually(t, "the server has ended the session", func() bool { return h.metric("pgtether_sessions_total", endedByServer) == 1 })
		over := h.startDrain(1)
		if h.clients() == 0 && len(h.roster.sessions()) == 0 {
			t.Error("the session is gone already: this test proves nothing")
		}
		eventually(t, "the drain is over", func() bool { return over() == 1 })
		_ = c.Close()
	})
}

// Nobody is kept at rest for longer than hold.session, whoever forgets to end a drain.
func TestADrainEndsByItself(t *testing.T) {
	pg := startFakePG(t, aPrimary)
	cfg := testConfig()
	cfg.DrainTimeout, cfg.Hold.Session = 50*time.Millisecond, 3100*time.Millisecond
	h := startServer(t, cfg, Deps{})
	h.open(pg.route(1))
	c := h.login()
	over := h.startDrain(1)
	eventually(t, "it waits", func() bool { return over() == 1 })
	same(t, "after hold.session", c.query("x"), []string{"D x", "C SELECT 1", "Z I"})
	if _, draining := h.Draining(); draining {
		t.Error("the drain goes on")
	}
}
