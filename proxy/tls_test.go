package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgtether/pgtether/internal/pgwire"
)

// encrypted makes a script that expects an SSLRequest and plays the inner script inside TLS. glued is sent in clear in the same segment as 'S'.
func encrypted(t testing.TB, glued string, script func(*fakeConn)) func(*fakeConn) {
	cfg := testTLS(t)
	return func(c *fakeConn) {
		p, err := pgwire.ReadPacket(c)
		if err != nil || p.Kind == pgwire.KindCancel {
			return
		}
		if p.Kind != pgwire.KindSSLRequest {
			c.send(string(pgwire.AppendError(nil, pgwire.TLSRequired, "")))
			return
		}
		c.send("S" + glued)
		conn := tls.Server(c.Conn, cfg)
		_ = conn.SetDeadline(time.Now().Add(patience))
		if conn.Handshake() != nil {
			return
		}
		_ = conn.SetDeadline(time.Time{})
		script(&fakeConn{Conn: conn, pg: c.pg})
	}
}

func TestBackendsAreEncryptedAsConfigured(t *testing.T) {
	goodCA, cert, key := theCA().files(t)
	otherCA, _, _ := newTestCA("somebody else").files(t)
	clear, secret := startFakePG(t, aPrimary), startFakePG(t, encrypted(t, "", aPrimary))
	mitm := startFakePG(t, encrypted(t, "extra bytes in clear", aPrimary))
	named := func(pg *fakePG) string { return strings.Replace(pg.addr, "127.0.0.1", "localhost", 1) }
	cases := []struct {
		name    string
		backend BackendConfig
		address string
		fails   string // in the log; empty: the login succeeds
	}{
		{"disable", BackendConfig{TLS: BackendTLSDisable}, clear.addr, ""},
		{"disable, server insists", BackendConfig{TLS: BackendTLSDisable}, secret.addr, "server's"},
		{"prefer, server encrypts", BackendConfig{TLS: BackendTLSPrefer}, secret.addr, ""},
		{"prefer, server does not", BackendConfig{TLS: BackendTLSPrefer}, clear.addr, ""},
		{"require", BackendConfig{TLS: BackendTLSRequire}, secret.addr, ""},
		{"require with a certificate", BackendConfig{TLS: BackendTLSRequire, Cert: cert, Key: key}, secret.addr, ""},
		{"require, server does not", BackendConfig{TLS: BackendTLSRequire}, clear.addr, errTLSRefused.Error()},
		{"verify-ca", BackendConfig{TLS: BackendTLSVerifyCA, CA: goodCA}, secret.addr, ""},
		{"verify-ca, other authority", BackendConfig{TLS: BackendTLSVerifyCA, CA: otherCA}, secret.addr, "unknown authority"},
		{"verify-full by address", BackendConfig{TLS: BackendTLSVerifyFull, CA: goodCA}, secret.addr, ""},
		{"verify-full by name", BackendConfig{TLS: BackendTLSVerifyFull, CA: goodCA}, named(secret), ""},
		{"verify-full, the system's authorities", BackendConfig{TLS: BackendTLSVerifyFull}, secret.addr, "unknown authority"},
		{"bytes in clear after 'S'", BackendConfig{TLS: BackendTLSPrefer}, mitm.addr, "encrypt"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cfg := testConfig()
			cfg.Backend = c.backend
			cfg.Backend.ConnectTimeout = 5 * time.Second
			cfg.Hold.Login = 50 * time.Millisecond
			h := startServer(t, cfg, Deps{})
			h.open(Route{Epoch: 1, Node: "region-a", Address: c.address})
			client := h.start()
			got := client.messages()
			switch {
			case c.fails == "" && got[len(got)-1] != "Z I":
				t.Errorf("login: %q", got)
			case c.fails == "":
				same(t, "query", client.query("hello"), []string{"D hello", "C SELECT 1", "Z I"})
			case c.fails == "server's":
				same(t, "login", got, []string{fatal(pgwire.TLSRequired)}) // the server's own words
			default:
				same(t, "login", got, []string{fatal(pgwire.NoWriter)})
				if h.logs.lines("login attempt failed", c.fails) == 0 {
					t.Errorf("the log does not say %q", c.fails)
				}
			}
		})
	}
}

func TestVerifyFullComparesTheName(t *testing.T) {
	cfg := testConfig()
	cfg.Backend.TLS = BackendTLSVerifyFull
	cfg.Backend.CA, _, _ = theCA().files(t)
	s, err := load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	outer, inner := tcpPair(t)
	defer outer.Close()
	r := testRoute(1)
	r.Address = "elsewhere.example:5432"
	b := newBackend(newTable(), r, inner, nil)
	defer b.Close()
	go func() {
		c := &fakeConn{Conn: outer}
		encrypted(t, "", func(*fakeConn) {})(c)
	}()
	if err := b.encrypt(s, time.Now().Add(patience)); err == nil || !strings.Contains(err.Error(), "elsewhere.example") {
		t.Errorf("a certificate of another host gave %v", err)
	}
}

func passthroughConfig() Config {
	cfg := testConfig()
	cfg.Listen.TLS = TLSPassthrough
	return cfg
}

func alive(context.Context, uint64) bool { return true }

func TestPassthroughTLSIsTheNodesOwn(t *testing.T) {
	pg := startFakePG(t, encrypted(t, "", aPrimary))
	h := startServer(t, passthroughConfig(), Deps{WriterAlive: alive})
	waiting := h.dial()
	waiting.write([]byte(sslRequest))
	eventually(t, "it is held at the SSLRequest", func() bool { return h.Stats().Held == 1 })
	if pg.count() != 0 {
		t.Error("a backend was opened for a held client")
	}
	h.open(pg.route(1))
	answer := make([]byte, 1)
	if _, err := io.ReadFull(waiting, answer); err != nil || answer[0] != 'S' {
		t.Fatalf("answer %q, %v", answer, err)
	}
	conn := tls.Client(waiting.Conn, &tls.Config{RootCAs: theCA().pool, ServerName: "localhost"}) // the node's certificate, end to end
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	c := &testClient{Conn: conn, t: t}
	c.write([]byte(startup))
	if got := c.messages(); got[len(got)-1] != "Z I" || !strings.HasPrefix(got[3], "K 1001 secret of 4") {
		t.Errorf("login: %q", got)
	}
	same(t, "query", c.query("hello"), []string{"D hello", "C SELECT 1", "Z I"})
	if got := h.Stats(); got != (Stats{Open: 1, Opaque: 1}) {
		t.Errorf("stats: %+v", got)
	}
	h.Cut(1, pgwire.WriterLost)
	if got := c.end(); strings.Contains(got, "08006") {
		t.Error("the proxy spoke inside TLS that is not its own")
	}
	eventually(t, "the backend is closed", func() bool { return pg.count() == 0 })
}

func TestPassthroughIsProvenBeforeTheFirstByte(t *testing.T) {
	pg := startFakePG(t, encrypted(t, "", aPrimary))
	var verdict atomic.Bool
	var asked atomic.Int32
	cfg := passthroughConfig()
	cfg.Hold.Login = 2 * time.Second // of which each attempt takes its part, on a busy machine a large one
	h := startServer(t, cfg, Deps{WriterAlive: func(_ context.Context, epoch uint64) bool { asked.Add(1); return verdict.Load() && epoch == 1 }})
	h.open(pg.route(1))
	c := h.dial()
	c.write([]byte(sslRequest))
	same(t, "a refusal in place of 'S'", c.messages(), []string{fatal(pgwire.NoWriter)})
	if asked.Load() < 2 {
		t.Error("it was not tried again")
	}
	verdict.Store(true)
	h.startTLS(false, &tls.Config{InsecureSkipVerify: true})
}

func TestPassthroughOfANodeInClear(t *testing.T) {
	pg := startFakePG(t, aPrimary)
	h := startServer(t, passthroughConfig(), Deps{WriterAlive: alive})
	h.open(pg.route(1))
	c := h.dial()
	c.write([]byte(sslRequest))
	answer := make([]byte, 1)
	if _, err := io.ReadFull(c, answer); err != nil || answer[0] != 'N' {
		t.Fatalf("answer %q, %v", answer, err)
	}
	c.write([]byte(startup))
	if got := c.messages(); got[len(got)-1] != "Z I" {
		t.Errorf("login in clear: %q", got)
	}
	eventually(t, "it is a session like any other", func() bool { return h.Stats() == Stats{Open: 1, Idle: 1} })
	if n := h.clients(); n != 1 {
		t.Errorf("%d clients counted", n)
	}
	again := h.dial() // a client that asks twice is refused as anywhere else
	again.write([]byte(sslRequest))
	_, _ = io.ReadFull(again, answer)
	again.write([]byte(sslRequest))
	same(t, "a second SSLRequest", again.messages(), []string{fatal(pgwire.UnsupportedProtocol)})
}

func TestPassthroughOfDirectTLS(t *testing.T) {
	cfg := testTLS(t)
	pg := startFakePG(t, func(c *fakeConn) {
		conn := tls.Server(c.Conn, cfg)
		if conn.Handshake() == nil {
			aPrimary(&fakeConn{Conn: conn, pg: c.pg})
		}
	})
	h := startServer(t, passthroughConfig(), Deps{WriterAlive: alive})
	h.open(pg.route(1))
	c := h.startTLS(true, &tls.Config{RootCAs: theCA().pool, ServerName: "localhost", NextProtos: []string{alpnPostgreSQL}})
	c.write([]byte(startup))
	if got := c.messages(); got[len(got)-1] != "Z I" {
		t.Errorf("login: %q", got)
	}
	h.Cut(1, pgwire.WriterLost)
	hello := h.dial()
	hello.write([]byte{0x16, 3, 1, 0, 100})
	eventually(t, "it is held", func() bool { return h.Stats().Held == 1 })
	_ = h.shutdown(context.Background())
	if got := hello.end(); got != "" && !strings.Contains(got, "reset") {
		t.Errorf("a refusal in clear to a client that speaks TLS: %q", got)
	}
}

// Handshakes are bounded while they are computed, so those that wait for their client keep nobody out.
func TestSilentHandshakesKeepNobodyOut(t *testing.T) {
	pg := startFakePG(t, aPrimary)
	cfg := tlsConfig(t, TLSAllow)
	cfg.Limits.TLSHandshakes = 2
	h := startServer(t, cfg, Deps{})
	h.open(pg.route(1))
	for range 100 {
		c := h.dial()
		c.write([]byte(sslRequest))
		answer := make([]byte, 1)
		if _, err := io.ReadFull(c, answer); err != nil {
			t.Fatal(err)
		}
		c.write([]byte{0x16, 3, 1})
	}
	done := make(chan struct{})
	for range 10 {
		go func() {
			defer func() { done <- struct{}{} }()
			c := h.startTLS(false, &tls.Config{InsecureSkipVerify: true})
			c.write([]byte(startup))
			if got := c.messages(); got[len(got)-1] != "Z I" {
				t.Errorf("login: %q", got)
			}
		}()
	}
	for range 10 {
		<-done
	}
}

func TestAHandshakeThatFailsIsNoSession(t *testing.T) {
	h := startServer(t, tlsConfig(t, TLSAllow), Deps{})
	c := h.dial()
	c.write([]byte(sslRequest))
	answer := make([]byte, 1)
	_, _ = io.ReadFull(c, answer)
	err := tls.Client(c.Conn, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11, InsecureSkipVerify: true}).Handshake()
	if err == nil || errors.Is(err, io.EOF) {
		t.Errorf("TLS 1.1 gave %v, want an alert", err)
	}
	eventually(t, "it is forgotten", func() bool { return h.Server.pending.size() == 0 })
}
