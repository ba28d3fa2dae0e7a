package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgtether/pgtether/internal/pgwire"
	"github.com/pgtether/pgtether/internal/scram"
)

// againConfig keeps what logins show, with the verifiers at hand.
func againConfig(scramMode string) Config {
	cfg := movingConfig()
	cfg.Verifiers, cfg.SCRAM = VerifiersAtHand, scramMode
	return cfg
}

// onEachWay runs a test with SCRAM relayed and answered by the proxy, on each forwarder.
func onEachWay(t *testing.T, test func(t *testing.T, scramMode string)) {
	for _, way := range []string{SCRAMRelay, SCRAMProxy} {
		t.Run(way, func(t *testing.T) {
			onEachForwarder(t, func(t *testing.T) { test(t, way) })
		})
	}
}

// connect logs in with a password, as connecting does.
func (h *harness) connect(t *testing.T) <-chan connected {
	return connecting(t, fmt.Sprintf("postgres://app:secret@%s/db?sslmode=disable", h.addr))
}

// connecting logs in with a real driver while the test goes on. The error of the login comes with the connection.
func connecting(t *testing.T, dsn string) <-chan connected {
	result := make(chan connected, 1)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	go func() {
		conn, err := pgconn.Connect(ctx, dsn)
		result <- connected{conn, err}
	}()
	t.Cleanup(cancel)
	return result
}

type connected struct {
	conn *pgconn.PgConn
	err  error
}

// asks runs a query on the connection and closes it.
func (c connected) asks(t *testing.T, query string) {
	t.Helper()
	if c.err != nil {
		t.Fatal(c.err)
	}
	taken, err := c.conn.Hijack()
	if err != nil {
		t.Fatal(err)
	}
	client := &testClient{Conn: taken.Conn, t: t}
	same(t, "its first query", client.query(query), []string{"D " + query, "C SELECT 1", "Z I"})
	_ = client.Close()
}

// Where a server that has let a client in turns out not to be the writer, the client has nothing left to say: the proxy logs in in its place.
func TestALoginThatWasLetInByTheWrongServerIsHeldWhenItsKeyIsKnown(t *testing.T) {
	v := verifierOf(t, "secret", "0123456789abcdef")
	lets := map[string]func(h *harness, c *fakeConn){
		"the server is a standby":               func(_ *harness, c *fakeConn) { c.serveAs("on") },
		"the server was demoted, PostgreSQL 13": func(_ *harness, c *fakeConn) { answerRecovery(c, "t") },
		"the server is gone": func(_ *harness, c *fakeConn) {
			c.sendMessages(&pgproto3.AuthenticationOk{}, &pgproto3.ParameterStatus{Name: "server_version", Value: "15.0"})
		},
		"the epoch is cut": func(h *harness, c *fakeConn) {
			c.sendMessages(&pgproto3.AuthenticationOk{})
			time.Sleep(300 * time.Millisecond) // the proxy has it; one that has not would have to ask its client again
			h.Cut(1, pgwire.WriterLost)
			_, _, _ = c.read()
		},
	}
	for name, admit := range lets {
		t.Run(name, func(t *testing.T) {
			onEachWay(t, func(t *testing.T, kind string) {
				h := startServer(t, againConfig(kind), Deps{Verifier: known(v)})
				wrong := startFakePG(t, afterSCRAM(v, nil, func(c *fakeConn) { admit(h, c) }))
				writer := startFakePG(t, withSCRAM(v, nil))
				h.open(wrong.route(1))
				client := h.connect(t)
				eventually(t, "the login is held", func() bool { return h.Stats().Held == 1 })
				h.Cut(1, pgwire.WriterLost)
				h.open(Route{Epoch: 2, Node: "region-b", Address: writer.addr})
				(<-client).asks(t, "hello")
				if n := h.refusals(pgwire.WriterUnproven); n != 0 || h.metric("pgtether_logins_total", loginPinned) != 1 {
					t.Errorf("%v refusals, %v sessions", n, h.metric("pgtether_logins_total", loginPinned))
				}
			})
		})
	}
}

// converse logs in by SCRAM message by message, so that one which is said twice shows, and tells what it was told.
func converse(t *testing.T, c *testClient, v scram.Verifier, key scram.ClientKey) <-chan []string {
	t.Helper()
	client, err := scram.NewClient(key, v, nil)
	if err != nil {
		t.Fatal(err)
	}
	result := make(chan []string, 1)
	go func() {
		var told []string
		defer func() { result <- told }()
		for {
			typ, body, err := c.frame()
			if err != nil {
				told = append(told, err.Error())
				return
			}
			told = append(told, render(typ, body))
			if typ != 'R' || told[len(told)-1] == "R 0" {
				told = append(told, c.messages()...)
				return
			}
			reply, _, err := client.Step(body)
			if err != nil {
				told = append(told, err.Error())
				return
			}
			if reply != nil {
				c.write(authFrame('p', reply))
			}
		}
	}()
	return result
}

func TestALoginThatBeginsAgainHearsNothingTwice(t *testing.T) {
	v, key := keyOf(t, "secret", "0123456789abcdef")
	onEachWay(t, func(t *testing.T, kind string) {
		h := startServer(t, againConfig(kind), Deps{Verifier: known(v)})
		var tried atomic.Int32
		standby := startFakePG(t, afterSCRAM(v, nil, func(c *fakeConn) {
			tried.Add(1)
			c.serveAs("on")
		}))
		starting := startFakePG(t, func(c *fakeConn) {
			if c.accept() {
				tried.Add(1)
				c.sendMessages(&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "57P03", Message: "the database system is starting up"})
			}
		})
		writer := startFakePG(t, withSCRAM(v, nil))
		h.open(standby.route(1))
		c := h.start()
		got := converse(t, c, v, key)
		for epoch, next := range []*fakePG{standby, starting, writer} { // it may have to begin more than once
			eventually(t, "the login was tried and is held", func() bool { return tried.Load() > 0 && h.Stats().Held == 1 })
			h.Cut(uint64(epoch+1), pgwire.WriterLost)
			eventually(t, "nothing is under way", func() bool { return h.Stats().Held == 1 && standby.count()+starting.count() == 0 })
			tried.Store(0)
			h.open(next.route(uint64(epoch + 2)))
		}
		same(t, "the client", <-got, []string{"R 10", "R 11", "R 12", "R 0", "S in_hot_standby off", "S server_version 15.0", "K 1001 secret of 4", "Z I"})
		same(t, "its first query", c.query("hello"), []string{"D hello", "C SELECT 1", "Z I"})
	})
}

// The epoch is cut when the server has said everything and its client nothing of it yet.
func TestALoginThatIsSeveredBeforeItsClientHearsOfItBeginsAgain(t *testing.T) {
	v, key := keyOf(t, "secret", "0123456789abcdef")
	onEachWay(t, func(t *testing.T, kind string) {
		h := startServer(t, againConfig(kind), Deps{Verifier: known(v)})
		pg := startFakePG(t, afterSCRAM(v, nil, func(c *fakeConn) {
			c.sendMessages(&pgproto3.AuthenticationOk{}, &pgproto3.ParameterStatus{Name: "in_hot_standby", Value: "off"})
			time.Sleep(300 * time.Millisecond) // the proxy has all this
			for _, b := range h.table.upTo(1) {
				b.detach()
			}
			c.sendMessages(&pgproto3.ReadyForQuery{TxStatus: 'I'})
			c.serve()
		}))
		h.open(pg.route(1))
		c := h.start()
		got := converse(t, c, v, key)
		eventually(t, "the login is held", func() bool { return h.Stats().Held == 1 || len(got) == 1 })
		h.Cut(1, pgwire.WriterLost)
		h.open(startFakePG(t, withSCRAM(v, nil)).route(2))
		same(t, "the client", <-got, []string{"R 10", "R 11", "R 12", "R 0", "S in_hot_standby off", "S server_version 15.0", "K 1001 secret of 4", "Z I"})
	})
}

// Words after a part of a message would be taken for the rest of it.
func TestAClientThatWasToldAPartHearsNothingElse(t *testing.T) {
	v, key := keyOf(t, "secret", "0123456789abcdef")
	onEachForwarder(t, func(t *testing.T) {
		h := newHarness(t, againConfig(SCRAMRelay), Deps{Verifier: known(v)})
		listening := make(chan struct{})
		h.serve(func(ln net.Listener) net.Listener {
			defer close(listening)
			raw, err := ln.(*net.TCPListener).SyscallConn()
			if err == nil {
				err = raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF, 4096) }) // its connections inherit it
			}
			if err != nil {
				t.Error(err)
			}
			return ln
		})
		pg := startFakePG(t, afterSCRAM(v, nil, func(c *fakeConn) {
			c.sendMessages(&pgproto3.AuthenticationOk{}, &pgproto3.ParameterStatus{Name: "in_hot_standby", Value: "off"})
			for range 240 {
				c.sendMessages(&pgproto3.NoticeResponse{Severity: "NOTICE", Code: "00000", Message: strings.Repeat("n", 1000)})
			}
			c.sendMessages(&pgproto3.ReadyForQuery{TxStatus: 'I'})
			c.serve()
		}))
		h.open(pg.route(1))
		<-listening
		small := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
			return raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 8192) })
		}}
		conn, err := small.DialContext(t.Context(), "tcp", h.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		c := &testClient{Conn: conn, t: t}
		c.write(startupPacket(pgwire.Version30, "user", "app", "database", "db"))
		client, err := scram.NewClient(key, v, nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			_, body, err := c.frame()
			if err != nil {
				t.Fatal(err)
			}
			reply, _, err := client.Step(body)
			if err != nil {
				t.Fatal(err)
			}
			c.write(authFrame('p', reply))
		}
		eventually(t, "the client is told something", func() bool { return hasUnread(conn.(*net.TCPConn)) })
		time.Sleep(300 * time.Millisecond) // it does not read, and not all has room on the way to it
		h.Cut(1, pgwire.WriterLost)
		h.open(startFakePG(t, withSCRAM(v, nil)).route(2))
		_ = c.SetReadDeadline(time.Now().Add(patience))
		words, err := io.ReadAll(c)
		if len(words) < 2000 || len(words) > 240_000 {
			t.Fatalf("the client was told %d bytes, %v: no part", len(words), err)
		}
		if strings.Contains(string(words), "57P03") || strings.Count(string(words), "in_hot_standby") != 1 {
			t.Errorf("after a part the client was told more: %q", words[max(0, len(words)-300):])
		}
	})
}

// What cannot be begun again is refused as before, and no key outlives it.
func TestALoginThatCannotBeginAgainIsRefused(t *testing.T) {
	v := verifierOf(t, "secret", "0123456789abcdef")
	changed := verifierOf(t, "other", "fedcba9876543210")
	off, withoutVerifiers := againConfig(SCRAMRelay), againConfig(SCRAMRelay)
	off.Continuity.Mode = MoveOff
	withoutVerifiers.Verifiers = VerifiersNone
	short := againConfig(SCRAMRelay)
	short.Hold.Login = 200 * time.Millisecond
	cases := []struct {
		name   string
		cfg    Config
		stored scram.Verifier
		next   func(*fakeConn) // the writer after the standby; nil: there is none
		code   string
		words  string
	}{
		{"no key is kept", off, v, withSCRAM(v, nil), "57P03", pgwire.WriterUnproven.Message()},
		{"there are no verifiers", withoutVerifiers, v, withSCRAM(v, nil), "57P03", pgwire.WriterUnproven.Message()},
		{"the verifier is another one", againConfig(SCRAMRelay), changed, withSCRAM(v, nil), "57P03", pgwire.WriterUnproven.Message()},
		{"the writer knows another password", againConfig(SCRAMRelay), v, withSCRAM(changed, nil), "57P03", pgwire.WriterUnproven.Message()},
		{"the writer knows no password", againConfig(SCRAMRelay), v, withPassword, "57P03", pgwire.WriterUnproven.Message()},
		{"the writer refuses", againConfig(SCRAMRelay), v, afterSCRAM(v, nil, func(c *fakeConn) {
			c.sendMessages(&pgproto3.AuthenticationOk{}, &pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "3D000", Message: "database is gone"})
		}), "3D000", "database is gone"},
		{"no writer comes", short, v, nil, "57P03", pgwire.NoWriter.Message()},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			onEachForwarder(t, func(t *testing.T) {
				h := startServer(t, c.cfg, Deps{Verifier: known(c.stored)})
				h.open(startFakePG(t, afterSCRAM(v, nil, func(c *fakeConn) { c.serveAs("on") })).route(1))
				client := h.connect(t)
				<-h.suspects
				h.Cut(1, pgwire.WriterLost)
				if c.next != nil {
					h.open(startFakePG(t, c.next).route(2))
				}
				got := <-client
				if codeOf(got.err) != c.code || got.err == nil || !strings.Contains(got.err.Error(), c.words) {
					t.Errorf("got %v, want %q %s", got.err, c.code, c.words)
				}
				eventually(t, "no key is left", func() bool {
					h.credentials.mu.Lock()
					defer h.credentials.mu.Unlock()
					r := h.credentials.roles["app"]
					return r == nil || len(r.entries) == 0
				})
			})
		})
	}
}

// Whenever the cut comes, a client hears a whole login, or why there is none.
func TestLoginsThatMeetCutsComeInOrAreRefused(t *testing.T) {
	v := verifierOf(t, "secret", "0123456789abcdef")
	onEachWay(t, func(t *testing.T, kind string) {
		cfg := againConfig(kind)
		cfg.Hold.ReleasePerSecond = 10_000
		h := startServer(t, cfg, Deps{Verifier: known(v)})
		pg := startFakePG(t, afterSCRAM(v, nil, func(c *fakeConn) {
			time.Sleep(rand.N(2 * time.Millisecond)) // the proxy has AuthenticationOk with the rest, or alone
			c.serveAs("off")
		}))
		h.open(pg.route(1))
		var in, refused atomic.Int64
		over := make(chan struct{})
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for {
					select {
					case <-over:
						return
					case got := <-h.connect(t):
						switch {
						case got.err == nil:
							in.Add(1)
							_ = got.conn.Conn().Close()
						case codeOf(got.err) == "57P03":
							refused.Add(1)
						default:
							t.Errorf("login: %v", got.err)
						}
					}
				}
			})
		}
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		pauses := rand.New(rand.NewPCG(seed, 0))
		for epoch, began := uint64(1), time.Now(); epoch <= 100 || in.Load() < 20 && time.Since(began) < patience; epoch++ {
			time.Sleep(time.Duration(pauses.IntN(20_000)) * time.Microsecond)
			h.Cut(epoch, pgwire.WriterLost)
			h.open(pg.route(epoch + 1))
		}
		close(over)
		all.Wait()
		if in.Load() < 20 || h.refusals(pgwire.WriterUnproven) != 0 {
			t.Errorf("%d logins came in, %d were refused, %v of them as unproven", in.Load(), refused.Load(), h.refusals(pgwire.WriterUnproven))
		}
		t.Logf("%d logins came in, %d were refused", in.Load(), refused.Load())
	})
}

// A server that lets everybody in and is not the writer is tried by one login at a time, as one that refuses the connection.
func TestLoginsThatBeganAgainDoNotStormTheWrongServer(t *testing.T) {
	v := verifierOf(t, "secret", "0123456789abcdef")
	for _, kind := range []string{SCRAMRelay, SCRAMProxy} {
		t.Run(kind, func(t *testing.T) {
			h := startServer(t, againConfig(kind), Deps{Verifier: known(v)})
			var tried atomic.Int32
			h.open(startFakePG(t, afterSCRAM(v, nil, func(c *fakeConn) {
				tried.Add(1)
				c.serveAs("on")
			})).route(1))
			const logins = 10
			var clients []<-chan connected
			for range logins {
				clients = append(clients, h.connect(t))
			}
			h.wantOneAtATime(&tried, logins)
			h.Cut(1, pgwire.WriterLost)
			h.open(startFakePG(t, withSCRAM(v, nil)).route(2))
			for _, c := range clients {
				(<-c).asks(t, "hello")
			}
		})
	}
}

// How much of a record has been sent TLS does not say, and it takes no more after a write that failed.
func TestAWriteThatFailsSaysWhetherAPartMayHaveBeenSent(t *testing.T) {
	client, conn := tcpPair(t)
	defer client.Close()
	defer conn.Close()
	leg := newClientLeg(conn, 50*time.Millisecond)
	leg.interrupt(errSevered)
	if _, err := leg.Write([]byte("words")); !errors.Is(err, errSevered) || errors.Is(err, errTorn) {
		t.Errorf("a write that was not begun: %v", err)
	}
	if err := leg.resume(); err != nil {
		t.Fatal(err)
	}
	leg.conn = tls.Server(leg.raw, &tls.Config{})
	if _, err := leg.Write([]byte("words")); !errors.Is(err, errTorn) || !errors.Is(err, errStartupTimeout) {
		t.Errorf("a write of TLS that ran out of time: %v", err)
	}
}
