package proxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgtether/pgtether/internal/pgwire"
)

func TestALoginWaitsForAWriterAndIsServed(t *testing.T) {
	pg := startFakePG(t, aPrimary)
	h := startServer(t, testConfig(), Deps{})
	c := h.start()
	eventually(t, "the login is held", func() bool { return h.Stats().Held == 1 && h.metric("pgtether_held") == 1 })
	if pg.pid.Load() != 1000 {
		t.Error("a backend was opened for a held login")
	}
	h.open(pg.route(1))
	if got := c.messages(); got[len(got)-1] != "Z I" {
		t.Errorf("login: %q", got)
	}
	eventually(t, "the wait is recorded", func() bool { return h.metric("pgtether_hold_seconds") == 1 })
}

func TestALoginIsRefusedAtTheEndOfItsBudget(t *testing.T) {
	cfg := testConfig()
	cfg.Hold.Login = 100 * time.Millisecond
	h := startServer(t, cfg, Deps{})
	same(t, "no writer", h.start().messages(), []string{fatal(pgwire.NoWriter)})
	h.Hold("promoting")
	same(t, "promoting", h.start().messages(), []string{fatal(pgwire.Promoting)})
	pg := startFakePG(t, aPrimary)
	h.open(pg.route(1))
	h.Hold("promoting")
	same(t, "held with a route", h.start().messages(), []string{fatal(pgwire.Promoting)})
	if h.refusals(pgwire.NoWriter) != 1 || h.refusals(pgwire.Promoting) != 2 {
		t.Error("not counted")
	}
	eventually(t, "all have left", func() bool { return h.clients() == 0 })
}

func TestSessionsGoOnWhileLoginsAreHeld(t *testing.T) {
	pg := startFakePG(t, aPrimary)
	h := startServer(t, testConfig(), Deps{})
	h.open(pg.route(1))
	c := h.login()
	h.Hold("promoting")
	waiting := h.start()
	eventually(t, "the login is held", func() bool { return h.Stats().Held == 1 })
	same(t, "query", c.query("hello"), []string{"D hello", "C SELECT 1", "Z I"})
	h.open(pg.route(1)) // the change was called off
	if got := waiting.messages(); got[len(got)-1] != "Z I" {
		t.Errorf("login: %q", got)
	}
	same(t, "query", c.query("hello"), []string{"D hello", "C SELECT 1", "Z I"})
}

func TestAFullHoldQueueRefuses(t *testing.T) {
	cfg := testConfig()
	cfg.Hold.Max = 2
	h := startServer(t, cfg, Deps{})
	h.start()
	h.start()
	eventually(t, "two are held", func() bool { return h.Stats().Held == 2 })
	same(t, "the third", h.start().messages(), []string{fatal(pgwire.HoldQueueFull)})
}

func TestAClientThatGoesAwayLeavesTheQueue(t *testing.T) {
	h := startServer(t, tlsConfig(t, TLSAllow), Deps{})
	encrypted := h.startTLS(false, &tls.Config{InsecureSkipVerify: true})
	encrypted.write([]byte(startup))
	for i, c := range []*testClient{h.start(), encrypted} {
		eventually(t, "it is held", func() bool { return h.Stats().Held == 2-i })
		_ = c.Close()
		eventually(t, "it has left", func() bool { return h.Stats().Held == 1-i && h.clients() == 1-i })
		eventually(t, "it is counted", func() bool { return h.metric("pgtether_logins_total", loginClientGone) == float64(1+i) })
	}
}

// While a login is held the proxy watches its client. What an impatient client sends meanwhile is served afterwards, byte for byte.
func TestWhatAClientSendsWhileItIsHeldIsServedLater(t *testing.T) {
	pg := startFakePG(t, aPrimary)
	h := startServer(t, tlsConfig(t, TLSAllow), Deps{})
	encrypted := h.startTLS(false, &tls.Config{InsecureSkipVerify: true})
	encrypted.write([]byte(startup))
	clients := []*testClient{h.start(), encrypted}
	eventually(t, "both are held", func() bool { return h.Stats().Held == 2 })
	for _, c := range clients {
		c.write([]byte(simple("one") + simple("two")))
	}
	time.Sleep(20 * time.Millisecond) // so that the first byte has been read ahead
	h.open(pg.route(1))
	for _, c := range clients {
		if got := c.messages(); got[len(got)-1] != "Z I" {
			t.Fatalf("login: %q", got)
		}
		same(t, "first query", c.messages(), []string{"D one", "C SELECT 1", "Z I"})
		same(t, "second query", c.messages(), []string{"D two", "C SELECT 1", "Z I"})
	}
}

// A writer that refuses connections, or takes them and stays silent, sends logins back to the queue; it is found again when it serves again.
func TestALoginThatCannotReachTheWriterWaits(t *testing.T) {
	t.Run("refused", func(t *testing.T) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := ln.Addr().String()
		_ = ln.Close()
		cfg := testConfig()
		cfg.Hold.Login = 500 * time.Millisecond
		h := startServer(t, cfg, Deps{})
		h.open(Route{Epoch: 1, Node: "region-a", Address: address})
		c := h.start()
		if node := <-h.suspects; node != "region-a" {
			t.Errorf("suspected %q", node)
		}
		same(t, "at the end of the budget", c.messages(), []string{fatal(pgwire.NoWriter)})
	})
	t.Run("silent", func(t *testing.T) {
		var answering atomic.Bool
		pg := startFakePG(t, func(c *fakeConn) {
			if !answering.Load() {
				_, _ = c.Read(make([]byte, 1000))
				_, _ = c.Read(make([]byte, 1)) // as a frozen server: until the other side gives up
				return
			}
			aPrimary(c)
		})
		cfg := testConfig()
		cfg.Backend.ConnectTimeout = 200 * time.Millisecond
		h := startServer(t, cfg, Deps{})
		h.open(pg.route(1))
		c := h.start()
		<-h.suspects
		answering.Store(true)
		if got := c.messages(); got[len(got)-1] != "Z I" {
			t.Errorf("login: %q", got)
		}
	})
}

// startup_timeout counts the client's own bytes only: a login that waited for a writer for longer still has all of it for its password.
func TestWaitingForAWriterIsNotChargedToTheClient(t *testing.T) {
	pg := startFakePG(t, withPassword)
	cfg := testConfig()
	cfg.Limits.StartupTimeout = time.Second
	h := startServer(t, cfg, Deps{})
	c := h.start()
	time.Sleep(2 * cfg.Limits.StartupTimeout)
	h.open(pg.route(1))
	if m, err := c.message(); m != "R 3" {
		t.Fatalf("got %q, %v", m, err)
	}
	c.write(authFrame('p', []byte("secret\x00")))
	if got := c.messages(); got[len(got)-1] != "Z I" {
		t.Errorf("login: %q", got)
	}
	slow := h.start()
	if m, err := slow.message(); m != "R 3" {
		t.Fatalf("got %q, %v", m, err)
	}
	if got := slow.end(); got != "" {
		t.Errorf("a client without a password got %q", got)
	}
	eventually(t, "it is counted", func() bool { return h.refusals(pgwire.StartupTimeout) == 1 })
	eventually(t, "its backend is closed", func() bool { return pg.count() == 1 })
}

// A cut ends what is under way: a login that has shown its client nothing waits for the next writer, any other is refused.
func TestACutDuringALogin(t *testing.T) {
	reached := make(chan struct{}, 10)
	silent := startFakePG(t, func(c *fakeConn) {
		if c.accept() {
			reached <- struct{}{}
			_, _ = c.Read(make([]byte, 1))
		}
	})
	asking := startFakePG(t, withPassword)
	next := startFakePG(t, aPrimary)
	h := startServer(t, testConfig(), Deps{})

	h.open(silent.route(1))
	waits := h.start()
	<-reached
	h.Cut(1, pgwire.WriterLost)
	h.open(asking.route(2))
	if m, err := waits.message(); m != "R 3" {
		t.Fatalf("got %q, %v: want the next writer's question", m, err)
	}
	h.Hold("promoting")
	h.Cut(2, pgwire.WriterLost)
	same(t, "after the question", waits.messages(), []string{fatal(pgwire.Promoting)})
	h.open(next.route(3))
	h.login()
	eventually(t, "the server of the cut epoch has seen its backend go", func() bool { return silent.count() == 0 })
}

func TestLimitsHaveTheirOwnErrors(t *testing.T) {
	pg := startFakePG(t, aPrimary)
	cases := []struct {
		change func(*LimitsConfig)
		second []string
		reason pgwire.Reason
	}{
		{func(l *LimitsConfig) { l.MaxClients = 1 }, []string{"user", "other"}, pgwire.TooManyClients},
		{func(l *LimitsConfig) { l.PerUser = 1 }, []string{"user", "other", "database", "x", "user", "app"}, pgwire.TooManyForUser}, // the last one counts
		{func(l *LimitsConfig) { l.PerDatabase = 1 }, []string{"user", "db"}, pgwire.TooManyForDatabase},                            // it defaults to the user
		{func(l *LimitsConfig) { l.PerAddress = 1 }, []string{"user", "other"}, pgwire.TooManyForAddress},
	}
	for _, c := range cases {
		t.Run(c.reason.String(), func(t *testing.T) {
			cfg := testConfig()
			c.change(&cfg.Limits)
			h := startServer(t, cfg, Deps{})
			h.open(pg.route(1))
			first := h.login()
			second := h.dial()
			second.write(startupPacket(pgwire.Version30, c.second...))
			same(t, "the second client", second.messages(), []string{fatal(c.reason)})
			if h.refusals(c.reason) != 1 {
				t.Error("not counted")
			}
			first.write(sayTerminate)
			first.end()
			eventually(t, "there is room again", func() bool { return h.clients() == 0 })
			third := h.dial()
			third.write(startupPacket(pgwire.Version30, c.second...))
			if got := third.messages(); got[len(got)-1] != "Z I" {
				t.Errorf("the third client: %q", got)
			}
		})
	}
}

// Logins that stay silent after the password request take no place from an honest one: the one that has been silent for longest makes room.
func TestAnHonestLoginBehindAFloodOfLoginsWithoutAPassword(t *testing.T) {
	pg := startFakePG(t, withPassword)
	cfg := testConfig()
	cfg.Limits.LoginsUnderWay = 50
	cfg.Limits.MaxClients = 100
	cfg.Limits.StartupTimeout = 2 * patience // none of the flood goes by itself
	h := startServer(t, cfg, Deps{})
	h.open(pg.route(1))
	var flood []*testClient
	for range 2000 {
		flood = append(flood, h.start())
	}
	// The proxy reads startup packets in the order in which its goroutines get to run. One of the flood that is read after the honest login has
	// come later, and whoever has waited longest in the line makes room for it.
	eventually(t, "the whole flood has come in", func() bool { return h.cameIn() >= len(flood) })
	start := time.Now()
	honest := h.start()
	if m, err := honest.message(); m != "R 3" {
		t.Fatalf("got %q, %v", m, err)
	}
	honest.write(authFrame('p', []byte("secret\x00")))
	if got := honest.messages(); got[len(got)-1] != "Z I" {
		t.Errorf("login: %q", got)
	}
	t.Logf("logged in after %s behind %d logins without a password", time.Since(start), len(flood))
	for _, c := range flood {
		_ = c.Close()
	}
	eventually(t, "only the honest one is left", func() bool { return pg.count() == 1 && h.clients() == 1 && h.underWay() == 0 })
}

func TestABackendIsOpenedOnlyForAWholeStartupPacket(t *testing.T) {
	pg := startFakePG(t, aPrimary)
	h := startServer(t, testConfig(), Deps{})
	h.open(pg.route(1))
	c := h.dial()
	c.write([]byte(startup[:len(startup)-1]))
	time.Sleep(50 * time.Millisecond)
	if pg.count() != 0 || h.clients() != 0 {
		t.Errorf("%d backends, %d clients counted before the packet was complete", pg.count(), h.clients())
	}
	c.write([]byte(startup[len(startup)-1:]))
	if got := c.messages(); got[len(got)-1] != "Z I" {
		t.Errorf("login: %q", got)
	}
}

// A node that stopped for a moment must not be stormed: while it fails one login at a time tries it, and then all come in.
func TestManyHeldLoginsComeThroughAfterARestart(t *testing.T) {
	var up atomic.Bool
	var dials atomic.Int32
	pg := startFakePG(t, func(c *fakeConn) {
		dials.Add(1)
		if !c.accept() {
			return
		}
		if !up.Load() {
			c.sendMessages(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "57P03", Message: "the database system is in recovery mode"})
			return
		}
		c.loggedIn("off")
		c.serve()
	})
	cfg := testConfig()
	cfg.Hold.ReleasePerSecond = 1000
	h := startServer(t, cfg, Deps{})
	h.open(pg.route(1))
	const n = 100
	var clients []*testClient
	for range n {
		clients = append(clients, h.start())
	}
	eventually(t, "all but a scout are held", func() bool { return h.Stats().Held >= n-1 })
	before := dials.Load()
	time.Sleep(time.Second)
	if tried := dials.Load() - before; tried > 15 {
		t.Errorf("%d attempts in a second on a node that takes no logins", tried)
	}
	up.Store(true)
	for i, c := range clients {
		if got := c.messages(); got[len(got)-1] != "Z I" {
			t.Fatalf("login %d: %q", i, got)
		}
	}
}

func TestOpenRefusesEpochsThatDoNotGrow(t *testing.T) {
	pg := startFakePG(t, aPrimary)
	h := startServer(t, testConfig(), Deps{})
	h.open(pg.route(5))
	c := h.login()
	if err := h.Open(pg.route(4)); err == nil {
		t.Error("an older epoch was opened")
	}
	if err := h.Open(Route{Epoch: 5, Node: "region-b", Address: pg.addr}); err == nil {
		t.Error("an epoch was opened for another node")
	}
	same(t, "the session goes on", c.query("hello"), []string{"D hello", "C SELECT 1", "Z I"})
	h.open(pg.route(6)) // what was not cut is cut first
	if got := c.end(); !strings.Contains(got, pgwire.WriterLost.SQLState()) {
		t.Errorf("a session of the older epoch got %q", got)
	}
	h.Cut(6, pgwire.WriterLost)
	if err := h.Open(pg.route(6)); err == nil {
		t.Error("an epoch that was cut was opened again")
	}
	if err := h.Open(pg.route(0)); err == nil {
		t.Error("epoch 0 was opened")
	}
}

func TestServeEndsWithItsContext(t *testing.T) {
	h := newHarness(t, testConfig(), Deps{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	served := make(chan error, 1)
	go func() { served <- h.Serve(ctx, ln) }()
	why := fmt.Errorf("told to stop")
	cancel(why)
	if err := <-served; err != why {
		t.Errorf("Serve returned %v, want %v", err, why)
	}
	if _, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		t.Error("the listener is still open")
	}
}

// More logins may be under way than the server has connections. Then silent ones must not fill it either.
func TestSilentLoginsDoNotFillTheServer(t *testing.T) {
	const capacity = 20
	var open atomic.Int32
	pg := startFakePG(t, func(c *fakeConn) {
		if !c.accept() {
			return
		}
		if open.Add(1) > capacity {
			open.Add(-1)
			c.sendMessages(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "53300", SeverityUnlocalized: "FATAL", Message: "sorry, too many clients already"})
			return
		}
		defer open.Add(-1)
		c.sendMessages(&pgproto3.AuthenticationCleartextPassword{})
		if typ, _, err := c.read(); err == nil && typ == 'p' {
			c.loggedIn("off")
			c.serve()
		}
	})
	h := startServer(t, testConfig(), Deps{})
	h.open(pg.route(1))
	login := func() (*testClient, []string) {
		c := h.start()
		c.write(authFrame('p', []byte("secret\x00")))
		return c, c.messages()
	}
	for range 3 * capacity {
		h.start()
	}
	eventually(t, "the server is full", func() bool {
		h.admission.mu.Lock()
		defer h.admission.mu.Unlock()
		return h.admission.squeezed > 0
	})
	if _, got := login(); got[len(got)-1] != "Z I" {
		t.Errorf("an honest login: %q", got)
	}
}

func TestAServerFullOfSessionsSaysSoItself(t *testing.T) {
	full := &pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "53300", Message: "sorry, too many clients already"}
	pg := startFakePG(t, func(c *fakeConn) {
		if c.accept() {
			c.sendMessages(full)
		}
	})
	h := startServer(t, testConfig(), Deps{})
	h.open(pg.route(1))
	if got := h.start().end(); got != encode(full) {
		t.Errorf("got %q", got)
	}
}
