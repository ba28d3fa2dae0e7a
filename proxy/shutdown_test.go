package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pgtether/pgtether/internal/pgwire"
)

// shutdown runs Shutdown and returns its result.
func (h *harness) shutdown(ctx context.Context) <-chan error {
	result := make(chan error, 1)
	go func() { result <- h.Shutdown(ctx) }()
	return result
}

func TestAStopEndsEachSessionAtItsIdleBoundary(t *testing.T) {
	pg := startFakePG(t, aPrimary)
	h := startServer(t, testConfig(), Deps{})
	h.open(pg.route(1))
	idle, busy := h.login(), h.login()
	busy.query("begin")
	eventually(t, "both are sessions", func() bool { return h.Stats().Open == 2 }) // a client is told a moment before
	result := h.shutdown(context.Background())
	same(t, "idle", idle.messages(), []string{fatal(pgwire.Drained)})
	if _, err := net.Dial("tcp", h.addr); err == nil {
		t.Error("a stopping server accepts")
	}
	same(t, "inside its transaction", busy.query("update"), []string{"D update", "C SELECT 1", "Z T"})
	same(t, "its end", busy.query("commit"), []string{"D commit", "C SELECT 1", "Z I"})
	same(t, "after its end", busy.messages(), []string{fatal(pgwire.Drained)})
	_, _ = idle.Close(), busy.Close()
	if err := <-result; err != nil {
		t.Errorf("Shutdown returned %v", err)
	}
	if n := h.metric("pgtether_sessions_total", "drained"); n != 2 {
		t.Errorf("%v sessions are counted as drained", n)
	}
	eventually(t, "the server has seen both backends go", func() bool { return pg.count() == 0 })
}

func TestAStopRefusesThoseWhoWaitAndThoseWhoLogIn(t *testing.T) {
	pg := startFakePG(t, withPassword)
	h := startServer(t, testConfig(), Deps{})
	h.open(pg.route(1))
	asked := h.start()
	if m, err := asked.message(); m != "R 3" {
		t.Fatalf("got %q, %v", m, err)
	}
	h.Hold("promoting")
	held := h.start()
	silent := h.dial()
	eventually(t, "one is held", func() bool { return h.Stats().Held == 1 && h.Server.pending.size() == 1 })
	result := h.shutdown(context.Background())
	same(t, "held", held.messages(), []string{fatal(pgwire.ShuttingDown)})
	same(t, "asked for its password", asked.messages(), []string{fatal(pgwire.ShuttingDown)})
	if got := silent.end(); got != "" && !strings.Contains(got, "reset") {
		t.Errorf("a silent connection got %q", got)
	}
	_, _ = held.Close(), asked.Close()
	if err := <-result; err != nil {
		t.Errorf("Shutdown returned %v", err)
	}
	if h.refusals(pgwire.ShuttingDown) != 2 {
		t.Error("not counted")
	}
}

func TestAStopEndsWhatIsLeftAfterTheDrain(t *testing.T) {
	pg := startFakePG(t, aPrimary)
	cfg := testConfig()
	cfg.DrainTimeout = 100 * time.Millisecond
	h := startServer(t, cfg, Deps{})
	h.open(pg.route(1))
	block, commit, autocommit := h.login(), h.login(), h.login()
	block.query("begin")
	commit.query("begin")
	commit.write(appendQuery(nil, "commit -- silent"))
	autocommit.write(appendQuery(nil, "insert -- silent"))
	eventually(t, "the statements run", func() bool { return h.Stats().Active == 2 })
	result := h.shutdown(context.Background())
	same(t, "in a block", block.messages(), []string{fatal(pgwire.Killed)})
	same(t, "with a commit unanswered", commit.messages(), []string{fatal(pgwire.CommitInDoubt)})
	same(t, "with a statement unanswered", autocommit.messages(), []string{fatal(pgwire.CommitInDoubt)})
	_, _, _ = block.Close(), commit.Close(), autocommit.Close()
	if err := <-result; err != nil {
		t.Errorf("Shutdown returned %v", err)
	}
}

func TestAStopCanBeCutShort(t *testing.T) {
	pg := startFakePG(t, aPrimary)
	h := startServer(t, testConfig(), Deps{})
	h.open(pg.route(1))
	c := h.login()
	c.query("begin")
	ctx, cancel := context.WithCancelCause(context.Background())
	result := h.shutdown(ctx)
	why := errors.New("a second signal")
	cancel(why)
	same(t, "in a block", c.messages(), []string{fatal(pgwire.Killed)})
	_ = c.Close()
	if err := <-result; !errors.Is(err, why) {
		t.Errorf("Shutdown returned %v", err)
	}
	if err := h.Open(pg.route(2)); err == nil {
		t.Error("a route was opened on a server that has ended")
	}
}

// Logins that come in while the server stops end one way or the other, and none is forgotten.
func TestAStopInTheMiddleOfManyLogins(t *testing.T) {
	pg := startFakePG(t, aPrimary)
	for range 10 {
		h := startServer(t, testConfig(), Deps{})
		h.open(pg.route(1))
		ends := make(chan string, 50)
		for range cap(ends) {
			go func() {
				conn, err := net.Dial("tcp", h.addr)
				if err != nil {
					ends <- ""
					return
				}
				defer conn.Close()
				_, _ = io.WriteString(conn, startup)
				_ = conn.SetReadDeadline(time.Now().Add(patience))
				b, err := io.ReadAll(conn)
				if err != nil && !isReset(err) {
					t.Errorf("a client was left hanging: %v", err)
				}
				ends <- string(b)
			}()
		}
		time.Sleep(2 * time.Millisecond)
		if err := <-h.shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown returned %v", err)
		}
		for range cap(ends) {
			if end := <-ends; end != "" && !strings.Contains(end, "08006") && !strings.Contains(end, "57P03") {
				t.Errorf("a client got %q", end)
			}
		}
		if h.clients() != 0 {
			t.Errorf("%d clients left", h.clients())
		}
	}
	eventually(t, "no backend is left", func() bool { return pg.count() == 0 })
}

func TestAReloadAppliesToNewConnectionsOnly(t *testing.T) {
	pg := startFakePG(t, aPrimary)
	h := startServer(t, testConfig(), Deps{})
	h.open(pg.route(1))
	before := h.login()

	broken := tlsConfig(t, TLSRequire)
	broken.Listen.Key = broken.Listen.Cert
	if err := h.Reload(broken); err == nil || !strings.Contains(err.Error(), "listen.tls_key") {
		t.Errorf("a broken certificate gave %v", err)
	}
	if err := h.Reload(Config{}); err == nil {
		t.Error("an empty configuration was taken")
	}
	h.login() // the last good one is in force

	if err := h.Reload(tlsConfig(t, TLSRequire)); err != nil {
		t.Fatal(err)
	}
	same(t, "in clear after the reload", h.start().messages(), []string{fatal(pgwire.TLSRequired)})
	same(t, "the session from before", before.query("hello"), []string{"D hello", "C SELECT 1", "Z I"})

	limits := testConfig()
	limits.Limits.MaxClients = 1
	if err := h.Reload(limits); err != nil {
		t.Fatal(err)
	}
	same(t, "above the new limit", h.start().messages(), []string{fatal(pgwire.TooManyClients)})
}

func TestNewSaysWhatItCannotUse(t *testing.T) {
	h := newHarness(t, testConfig(), Deps{})
	passthrough := testConfig()
	passthrough.Listen.TLS = TLSPassthrough
	viaProxy := testConfig()
	viaProxy.SCRAM = SCRAMProxy
	missing := testConfig()
	missing.Backend.TLS, missing.Backend.CA = BackendTLSVerifyFull, "no-such-file.crt"
	for name, cfg := range map[string]Config{"listen.tls": passthrough, "auth.scram": viaProxy, "backend.tls_ca": missing} {
		if _, err := New(cfg, Deps{Metrics: h.metrics, Log: h.log}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: New returned %v", name, err)
		}
		if err := h.Reload(cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: Reload returned %v", name, err)
		}
	}
	if _, err := New(testConfig(), Deps{}); err == nil {
		t.Error("New without metrics and log succeeded")
	}
}
