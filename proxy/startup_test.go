package proxy

import (
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/pgtether/pgtether/internal/pgwire"
)

var (
	sslRequest    = string(pgwire.AppendSSLRequest(nil))
	gssencRequest = string(binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, 80877104))
	startup       = string(startupPacket(pgwire.Version30, "user", "app", "database", "db"))
)

// tlsConfig is testConfig with a certificate.
func tlsConfig(t testing.TB, mode TLSMode) Config {
	cfg := testConfig()
	cfg.Listen.TLS = mode
	_, cfg.Listen.Cert, cfg.Listen.Key = theCA().files(t)
	return cfg
}

func packet(length uint32, rest string) string {
	return string(binary.BigEndian.AppendUint32(nil, length)) + rest
}

// Each bad beginning gets what PostgreSQL gives, is counted under its reason, and leaves nothing behind.
func TestBadBeginnings(t *testing.T) {
	withTLS := func(c *Config) { c.Listen = tlsConfig(t, TLSAllow).Listen }
	v := func(major, minor uint16) pgwire.Version { return pgwire.Version(major)<<16 | pgwire.Version(minor) }
	cases := []struct {
		name   string
		change func(*Config)
		send   string
		want   string // rendered; "" means closed without a word
		reason pgwire.Reason
	}{
		{"length 0", nil, packet(0, "xxxx"), "", pgwire.BadStartupLength},
		{"length 7", nil, packet(7, "xxx"), "", pgwire.BadStartupLength},
		{"length above the maximum", nil, packet(10005, ""), "", pgwire.BadStartupLength},
		{"length 0xffffffff", nil, packet(0xffffffff, "\xff\xff\xff\xff"), "", pgwire.BadStartupLength},
		{"HTTP", nil, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "", pgwire.BadStartupLength},
		{"SSH", nil, "SSH-2.0-OpenSSH_9.2\r\n", "", pgwire.BadStartupLength},
		{"version 2", nil, string(startupPacket(v(2, 0), "user", "app")), "EFATAL:  unsupported frontend protocol\n\x00", pgwire.UnsupportedProtocol},
		{"version 4", nil, string(startupPacket(v(4, 0), "user", "app")), fatal(pgwire.UnsupportedProtocol), pgwire.UnsupportedProtocol},
		{"no user", nil, string(startupPacket(v(3, 0), "database", "db")), fatal(pgwire.MissingUser), pgwire.MissingUser},
		{"no terminator", nil, packet(17, "\x00\x03\x00\x00user\x00app\x00"), fatal(pgwire.MalformedStartup), pgwire.MalformedStartup},
		{"bytes after the terminator", nil, packet(20, "\x00\x03\x00\x00user\x00app\x00\x00xx"), fatal(pgwire.MalformedStartup), pgwire.MalformedStartup},
		{"replication", nil, string(startupPacket(v(3, 0), "user", "app", "replication", "true")), fatal(pgwire.ReplicationRefused), pgwire.ReplicationRefused},
		{"replication of a database", nil, string(startupPacket(v(3, 0), "user", "app", "replication", "database")), fatal(pgwire.ReplicationRefused), pgwire.ReplicationRefused},
		{"data glued to an SSLRequest, no TLS here", nil, sslRequest + startup, fatal(pgwire.PlaintextAfterSSLRequest), pgwire.PlaintextAfterSSLRequest},
		{"data glued to an SSLRequest", withTLS, sslRequest + startup, fatal(pgwire.PlaintextAfterSSLRequest), pgwire.PlaintextAfterSSLRequest},
		{"data glued to a GSSENCRequest", nil, gssencRequest + startup, fatal(pgwire.PlaintextAfterSSLRequest), pgwire.PlaintextAfterSSLRequest},
		{"direct TLS, no TLS here", nil, "\x16\x03\x01\x02\x00", "", pgwire.BadStartupLength},
		{"cancel key of 3 bytes", nil, packet(15, "\x04\xd2\x16\x2e\x00\x00\x00\x01abc"), "", pgwire.BadStartupLength},
		{"cancel key of 257 bytes", nil, packet(269, "\x04\xd2\x16\x2e\x00\x00\x00\x01"+strings.Repeat("k", 257)), "", pgwire.BadStartupLength},
		{"clear startup where TLS is required", func(c *Config) { c.Listen = tlsConfig(t, TLSRequire).Listen }, startup, fatal(pgwire.TLSRequired), pgwire.TLSRequired},
	}
	pg := startFakePG(t, aPrimary)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cfg := testConfig()
			if c.change != nil {
				c.change(&cfg)
			}
			h := startServer(t, cfg, Deps{})
			h.open(pg.route(1))
			client := h.dial()
			client.write([]byte(c.send))
			got := client.end()
			if strings.HasPrefix(c.want, "E ") && len(got) > 5 {
				got = render(got[0], []byte(got[5:]))
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			eventually(t, "the reason is counted", func() bool { return h.refusals(c.reason) == 1 })
			eventually(t, "the connection is forgotten", func() bool { return h.Server.pending.size() == 0 && h.clients() == 0 })
		})
	}
	if pg.pid.Load() != 1000 {
		t.Error("a backend was opened for a bad beginning")
	}
}

// The two encryption requests may come once each, in either order; a second one of a kind is a version that nobody speaks.
func TestEncryptionRequestsInAnyOrderOnce(t *testing.T) {
	pg := startFakePG(t, aPrimary)
	h := startServer(t, testConfig(), Deps{})
	h.open(pg.route(1))
	for _, c := range []struct {
		requests []string
		want     string
	}{
		{[]string{sslRequest}, "Z I"},
		{[]string{gssencRequest}, "Z I"},
		{[]string{sslRequest, gssencRequest}, "Z I"},
		{[]string{gssencRequest, sslRequest}, "Z I"},
		{[]string{sslRequest, sslRequest}, fatal(pgwire.UnsupportedProtocol)},
		{[]string{gssencRequest, sslRequest, gssencRequest}, fatal(pgwire.UnsupportedProtocol)},
	} {
		client := h.dial()
		for i, r := range c.requests {
			client.write([]byte(r))
			if i == len(c.requests)-1 && c.want != "Z I" {
				break
			}
			answer := make([]byte, 1)
			if _, err := io.ReadFull(client, answer); err != nil || answer[0] != 'N' {
				t.Fatalf("%q: answer %q, %v", c.requests[:i+1], answer, err)
			}
		}
		if c.want == "Z I" {
			client.write([]byte(startup))
		}
		got := client.messages()
		if got[len(got)-1] != c.want {
			t.Errorf("%q ended with %q, want %q", c.requests, got[len(got)-1], c.want)
		}
	}
}

func TestASlowBeginningIsEndedAtTheDeadline(t *testing.T) {
	for name, pace := range map[string]func(c *testClient, i int) bool{
		"says nothing":                   func(*testClient, int) bool { return false },
		"a byte at a time":               func(c *testClient, i int) bool { _, err := c.Write([]byte{startup[i%len(startup)]}); return err == nil },
		"SSLRequest and then nothing":    func(c *testClient, _ int) bool { c.write([]byte(sslRequest)); return false },
		"half a packet and then nothing": func(c *testClient, _ int) bool { c.write([]byte(startup[:20])); return false },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := tlsConfig(t, TLSAllow)
			cfg.Limits.StartupTimeout = 300 * time.Millisecond
			h := startServer(t, cfg, Deps{})
			c := h.dial()
			start := time.Now()
			for i := 0; i < len(startup)-1 && pace(c, i); i++ {
				time.Sleep(50 * time.Millisecond)
			}
			if got := c.end(); got != "" && got != "S" && !strings.Contains(got, "reset") {
				t.Errorf("got %q", got)
			}
			if took := time.Since(start); took < 250*time.Millisecond {
				t.Errorf("ended after %s, before the deadline", took)
			}
			eventually(t, "it is counted", func() bool { return h.refusals(pgwire.StartupTimeout) == 1 })
		})
	}
}

func TestTLSIsTerminated(t *testing.T) {
	pg := startFakePG(t, aPrimary)
	for _, mode := range []TLSMode{TLSAllow, TLSRequire} {
		h := startServer(t, tlsConfig(t, mode), Deps{})
		h.open(pg.route(1))
		for _, direct := range []bool{false, true} {
			c := h.startTLS(direct, &tls.Config{RootCAs: theCA().pool, ServerName: "localhost", NextProtos: []string{alpnPostgreSQL}})
			c.write([]byte(startup))
			got := c.messages()
			if got[len(got)-1] != "Z I" {
				t.Fatalf("mode %s, direct %v: login ended with %q", mode, direct, got)
			}
			same(t, "query", c.query("hello"), []string{"D hello", "C SELECT 1", "Z I"})
		}
	}
}

// startTLS connects a client and encrypts.
func (h *harness) startTLS(direct bool, cfg *tls.Config) *testClient {
	h.t.Helper()
	c := h.dial()
	if !direct {
		c.write([]byte(sslRequest))
		answer := make([]byte, 1)
		if _, err := io.ReadFull(c, answer); err != nil || answer[0] != 'S' {
			h.t.Fatalf("SSLRequest: %q, %v", answer, err)
		}
	}
	conn := tls.Client(c.Conn, cfg)
	_ = conn.SetDeadline(time.Now().Add(patience))
	if err := conn.Handshake(); err != nil {
		h.t.Fatal(err)
	}
	return &testClient{Conn: conn, t: h.t}
}

func TestDirectTLSWithoutALPNIsClosed(t *testing.T) {
	h := startServer(t, tlsConfig(t, TLSAllow), Deps{})
	c := h.startTLS(true, &tls.Config{InsecureSkipVerify: true})
	if got := c.end(); got != "" && !strings.Contains(got, "EOF") && !strings.Contains(got, "reset") {
		t.Errorf("got %q", got)
	}
	eventually(t, "it is counted", func() bool { return h.refusals(pgwire.BadStartupLength) == 1 })
}

func TestPlaintextAfterTheAnswerToAnSSLRequestIsRefused(t *testing.T) {
	h := startServer(t, tlsConfig(t, TLSAllow), Deps{})
	c := h.dial()
	c.write([]byte(sslRequest))
	answer := make([]byte, 1)
	if _, err := io.ReadFull(c, answer); err != nil || answer[0] != 'S' {
		t.Fatalf("SSLRequest: %q, %v", answer, err)
	}
	c.write([]byte(startup))
	same(t, "answer", c.messages(), []string{fatal(pgwire.PlaintextAfterSSLRequest)})
	if h.refusals(pgwire.PlaintextAfterSSLRequest) != 1 {
		t.Error("not counted")
	}
}

func TestClientCertificatesAreDemandedWhenAnAuthorityIsSet(t *testing.T) {
	pg := startFakePG(t, aPrimary)
	cfg := tlsConfig(t, TLSRequire)
	cfg.Listen.ClientCA, _, _ = theCA().files(t)
	h := startServer(t, cfg, Deps{})
	h.open(pg.route(1))
	c := h.startTLS(false, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{theCA().cert}})
	c.write([]byte(startup))
	if got := c.messages(); got[len(got)-1] != "Z I" {
		t.Errorf("with a certificate: %q", got)
	}
	c = h.startTLS(false, &tls.Config{InsecureSkipVerify: true}) // TLS 1.3: the refusal comes with the first read
	_, _ = c.Write([]byte(startup))
	if got := c.end(); !strings.Contains(got, "certificate required") {
		t.Errorf("without a certificate: %q", got)
	}
}

// Thousands of connections that say nothing must not keep an honest one waiting, nor leave anything behind.
func TestAnHonestLoginBehindAFloodOfSilentConnections(t *testing.T) {
	pg := startFakePG(t, aPrimary)
	cfg := testConfig()
	cfg.Limits.StartupTimeout = 2 * patience // none of the flood goes by itself
	h := startServer(t, cfg, Deps{})
	h.open(pg.route(1))
	var flood []*testClient
	for range 2000 {
		flood = append(flood, h.dial())
	}
	start := time.Now()
	h.login()
	t.Logf("logged in after %s behind %d silent connections", time.Since(start), len(flood))
	eventually(t, "the oldest are dropped", func() bool { return h.Server.pending.size() <= pendingMax })
	for _, c := range flood {
		_ = c.Close()
	}
	eventually(t, "all are forgotten", func() bool { return h.Server.pending.size() == 0 })
	if n := h.logs.lines("refused before login"); n > 1 {
		t.Errorf("%d log lines about one address", n)
	}
}

func TestGarbageIsLoggedOncePerAddress(t *testing.T) {
	h := startServer(t, testConfig(), Deps{})
	for range 20 {
		c := h.dial()
		c.write([]byte("GET / HTTP/1.1\r\n\r\n"))
		c.end()
	}
	if h.refusals(pgwire.BadStartupLength) != 20 {
		t.Errorf("counted %v of 20", h.refusals(pgwire.BadStartupLength))
	}
	if n := h.logs.lines("refused before login", fmt.Sprintf("reason=%s", pgwire.BadStartupLength)); n != 1 {
		t.Errorf("%d log lines", n)
	}
}

func TestReplicationConnectionsAreLetInWhenConfigured(t *testing.T) {
	pg := startFakePG(t, aPrimary)
	cfg := testConfig()
	cfg.Listen.Replication = true
	h := startServer(t, cfg, Deps{})
	h.open(pg.route(1))
	c := h.dial()
	c.write(startupPacket(pgwire.Version30, "user", "app", "replication", "database", "database", "db"))
	if got := c.messages(); got[len(got)-1] != "Z I" {
		t.Errorf("login: %q", got)
	}
}
