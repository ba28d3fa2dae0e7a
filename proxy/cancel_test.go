package proxy

import (
	"crypto/tls"
	"encoding/binary"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgtether/pgtether/internal/pgwire"
)

// loginKey logs a client in and returns the cancel key that it got.
func (h *harness) loginKey(version pgwire.Version) (*testClient, pgwire.CancelKey) {
	h.t.Helper()
	c := h.dial()
	c.write(startupPacket(version, "user", "app", "database", "db"))
	for {
		head, body := c.rawMessage()
		switch head {
		case 'K':
			key, err := pgwire.ParseBackendKeyData(body)
			if err != nil {
				h.t.Fatal(err)
			}
			defer c.messages()
			return c, key
		case 'Z':
			h.t.Fatal("no cancel key")
		}
	}
}

// rawMessage reads one message.
func (c *testClient) rawMessage() (byte, []byte) {
	c.t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	f := &fakeConn{Conn: c.Conn}
	typ, body, err := f.read()
	if err != nil {
		c.t.Fatal(err)
	}
	return typ, body
}

// sendCancel sends a CancelRequest and waits until the proxy has closed the connection, as drivers do. Nothing may come back.
func (h *harness) sendCancel(key pgwire.CancelKey) {
	h.t.Helper()
	c := h.dial()
	c.write(pgwire.AppendCancel(nil, key))
	if got := c.end(); got != "" {
		h.t.Errorf("a cancel request was answered with %q", got)
	}
}

func TestACancelReachesTheBackendOfItsSession(t *testing.T) {
	for _, version := range []pgwire.Version{pgwire.Version30, pgwire.Version32} {
		pg := startFakePG(t, aPrimary)
		h := startServer(t, tlsConfig(t, TLSAllow), Deps{})
		h.open(pg.route(1))
		_, key1 := h.loginKey(version)
		_, key2 := h.loginKey(version)
		if want := map[pgwire.Version]int{pgwire.Version30: 4, pgwire.Version32: 32}[version]; len(key1.Secret) != want {
			t.Errorf("protocol %s: a secret of %d bytes, want %d", version, len(key1.Secret), want)
		}
		if string(key1.Secret) == string(key2.Secret) || strings.HasPrefix(string(key1.Secret), "kkkk") {
			t.Error("the secret is not the client's own")
		}
		for _, key := range []pgwire.CancelKey{key2, key1} {
			h.sendCancel(key)
			if got := <-pg.cancels; got.PID != key.PID || strings.Trim(string(got.Secret), "k") != "" {
				t.Errorf("the server got %d %q for the key of %d", got.PID, got.Secret, key.PID)
			}
		}
		// The same inside TLS.
		c := h.startTLS(false, &tls.Config{InsecureSkipVerify: true})
		c.write(pgwire.AppendCancel(nil, key1))
		c.end()
		<-pg.cancels
		if h.metric("pgtether_cancels_total", cancelForwarded) != 3 {
			t.Error("not counted")
		}
	}
}

func TestACancelInClearIsTakenOnATLSOnlyListener(t *testing.T) {
	pg := startFakePG(t, aPrimary)
	h := startServer(t, tlsConfig(t, TLSRequire), Deps{})
	h.open(pg.route(1))
	c := h.startTLS(false, &tls.Config{InsecureSkipVerify: true})
	c.write([]byte(startup))
	var key pgwire.CancelKey
	for {
		typ, body := c.rawMessage()
		if typ == 'K' {
			key, _ = pgwire.ParseBackendKeyData(body)
		}
		if typ == 'Z' {
			break
		}
	}
	h.sendCancel(key)
	<-pg.cancels
}

func TestACancelOfAnOpaqueSessionIsLeftToTheServer(t *testing.T) {
	pg := startFakePG(t, aPrimary)
	var allowed atomic.Bool
	h := startServer(t, passthroughConfig(), Deps{WriterAlive: alive, CancelAllowed: func(epoch uint64) bool { return allowed.Load() && epoch == 1 }})
	secret := []byte("the server's own secret, 32 byte")
	h.sendCancel(pgwire.CancelKey{PID: 4711, Secret: secret}) // there is no writer to judge it
	if h.metric("pgtether_cancels_total", cancelUnknownKey) != 1 {
		t.Error("a key without a writer is not counted as unknown")
	}
	h.open(pg.route(1))
	h.sendCancel(pgwire.CancelKey{PID: 4711, Secret: secret})
	if h.metric("pgtether_cancels_total", cancelNotAllowed) != 1 || pg.count() != 0 {
		t.Error("a cancel that could do harm was forwarded")
	}
	allowed.Store(true)
	h.sendCancel(pgwire.CancelKey{PID: 4711, Secret: secret})
	if got := <-pg.cancels; got.PID != 4711 || string(got.Secret) != string(secret) {
		t.Errorf("the server got %d %q", got.PID, got.Secret)
	}
}

func TestCancelsThatMustNotReachAServer(t *testing.T) {
	pg := startFakePG(t, aPrimary)
	var forbidden atomic.Bool
	h := startServer(t, testConfig(), Deps{CancelAllowed: func(epoch uint64) bool { return !forbidden.Load() && epoch == 1 }})
	h.open(pg.route(1))
	c, key := h.loginKey(pgwire.Version30)
	dials := func() int { return pg.count() }
	counted := func(result string) {
		t.Helper()
		eventually(t, result, func() bool { return h.metric("pgtether_cancels_total", result) == 1 })
		if dials() != 1 {
			t.Errorf("%s: the server was dialled", result)
		}
	}

	forged := pgwire.CancelKey{PID: key.PID, Secret: append([]byte(nil), key.Secret...)}
	forged.Secret[3] ^= 1
	h.sendCancel(forged)
	counted(cancelUnknownKey)

	forbidden.Store(true)
	h.sendCancel(key)
	counted(cancelNotAllowed)
	forbidden.Store(false)

	// The route is closed for good, but the session has not noticed yet: only its epoch counts.
	h.table.cut(1, pgwire.WriterLost)
	h.sendCancel(key)
	counted(cancelEpochClosed)

	h.Cut(1, pgwire.WriterLost)
	c.end()
	eventually(t, "the key is forgotten with its session", func() bool {
		h.sendCancel(key)
		return h.metric("pgtether_cancels_total", cancelUnknownKey) > 1
	})
	if len(pg.cancels) != 0 {
		t.Error("a cancel reached the server")
	}
}

func TestCancelsOfOneAddressAreLimited(t *testing.T) {
	pg := startFakePG(t, aPrimary)
	h := newHarness(t, testConfig(), Deps{})
	h.cancelLimiter = newLimiter[netip.Addr](0.001, 3)
	h.listen()
	h.open(pg.route(1))
	_, key := h.loginKey(pgwire.Version30)
	for range 6 {
		h.sendCancel(key)
	}
	if n := h.metric("pgtether_cancels_total", cancelRateLimited); n != 3 {
		t.Errorf("%v of 6 were limited, want 3", n)
	}
	if len(pg.cancels) != 3 {
		t.Errorf("%d reached the server, want 3", len(pg.cancels))
	}
}

func TestACancelThatAServerDoesNotCloseEnds(t *testing.T) {
	pg := startFakePG(t, aPrimary)
	h := startServer(t, testConfig(), Deps{})
	h.open(pg.route(1))
	_, key := h.loginKey(pgwire.Version30)
	pg.close() // refuses connections
	h.sendCancel(key)
	eventually(t, "it is counted", func() bool {
		return h.metric("pgtether_cancels_total", cancelFailed)+h.metric("pgtether_cancels_total", cancelUnknownKey) == 1
	})
}

func TestKeysAreFoundByPIDAndSecret(t *testing.T) {
	k := newKeyring()
	target := func(pid uint32, secret string) cancelTarget {
		return cancelTarget{key: pgwire.CancelKey{PID: pid, Secret: []byte(secret)}}
	}
	// Two backends of two nodes may have one pid.
	a, forgetA, err := k.issue(4, target(7, "aaaa"))
	if err != nil {
		t.Fatal(err)
	}
	b, _, err := k.issue(32, target(7, "bbbb"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		key  pgwire.CancelKey
		want string
	}{{a, "aaaa"}, {b, "bbbb"}, {pgwire.CancelKey{PID: 8, Secret: a.Secret}, ""}, {pgwire.CancelKey{PID: 7, Secret: b.Secret[:4]}, ""},
		{pgwire.CancelKey{PID: 7, Secret: binary.BigEndian.AppendUint32(nil, 0)}, ""}} {
		got, ok := k.find(c.key)
		if string(got.key.Secret) != c.want || ok != (c.want != "") {
			t.Errorf("%d %x: found %q", c.key.PID, c.key.Secret, got.key.Secret)
		}
	}
	forgetA()
	forgetA()
	if _, ok := k.find(a); ok {
		t.Error("found a key that was forgotten")
	}
	if _, ok := k.find(b); !ok {
		t.Error("lost a key that was not")
	}
}
