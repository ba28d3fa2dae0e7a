package proxy

import (
	"context"
	"crypto/tls"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgtether/pgtether/internal/pgwire"
)

// wantOneAtATime waits until so many logins are held, and fails the test unless the server is tried by one after the other from then on.
func (h *harness) wantOneAtATime(tried *atomic.Int32, logins int) {
	h.t.Helper()
	eventually(h.t, "all are held", func() bool { return h.Stats().Held == logins })
	tried.Store(0)
	time.Sleep(1500 * time.Millisecond)
	if n := tried.Load(); n < 1 || n > 15 {
		h.t.Errorf("%d logins tried the wrong server within 1.5 s, want one every 0.1 s at most", n)
	}
}

// A server that asks for nothing has not shown that it is the writer: it too is tried by one login at a time.
func TestLoginsThatAreAskedNothingDoNotStormTheWrongServer(t *testing.T) {
	const negotiatesTo30 = "v\x00\x00\x00\x0c\x00\x03\x00\x00\x00\x00\x00\x00"
	cases := []struct {
		name  string
		cfg   Config
		first []byte // the client's
		wrong func(*fakeConn)
		right func(*fakeConn)
	}{
		{"trust", testConfig(), []byte(startup), asStandby, aPrimary},
		{"trust, PostgreSQL 13", testConfig(), []byte(startup), askRecovery("t"), aPrimary},
		{"trust, another protocol", testConfig(), startupPacket(pgwire.Version32, "user", "app"), func(c *fakeConn) {
			if c.accept() {
				c.send(negotiatesTo30)
				c.serveAs("on")
			}
		}, aPrimary},
		{"TLS passed through", passthroughConfig(), []byte(sslRequest), func(c *fakeConn) {
			_, _ = pgwire.ReadPacket(c)
			c.send("S")
			_, _ = c.Read(make([]byte, 1))
		}, encrypted(t, "", aPrimary)},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h := startServer(t, c.cfg, Deps{WriterAlive: func(_ context.Context, epoch uint64) bool { return epoch == 2 }})
			var tried atomic.Int32
			h.open(startFakePG(t, func(f *fakeConn) {
				tried.Add(1)
				c.wrong(f)
			}).route(1))
			const logins = 40
			var clients []*testClient
			for range logins {
				client := h.dial()
				client.write(c.first)
				clients = append(clients, client)
			}
			h.wantOneAtATime(&tried, logins)
			h.Cut(1, pgwire.WriterLost)
			h.open(startFakePG(t, c.right).route(2))
			for _, client := range clients {
				if c.cfg.Listen.TLS == TLSPassthrough {
					_ = client.SetReadDeadline(time.Now().Add(patience))
					_, _ = client.Read(make([]byte, 1))
					client.Conn = tls.Client(client.Conn, &tls.Config{InsecureSkipVerify: true})
					client.write([]byte(startup))
				}
				if got := client.messages(); got[len(got)-1] != "Z I" {
					t.Errorf("login: %q", got)
				}
			}
		})
	}
}

// A server may let a login in and then take its time. Neither does everybody follow, nor do they wait for that login alone.
func TestAScoutThatWasLetInWithoutAQuestionIsFollowedByOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newQueueBench(t, 100, 200, even)
		b.openEpoch(t, 1)
		b.login(t.Context(), 0, &waiter{budget: time.Minute})
		b.tickets[0].failed(true)
		for id := 1; id <= 20; id++ {
			b.login(t.Context(), id, &waiter{budget: time.Minute})
		}
		letGo := func() []int {
			synctest.Wait()
			b.mu.Lock()
			defer b.mu.Unlock()
			return slices.Clone(b.order)
		}
		for id := 1; id <= 3; id++ {
			time.Sleep(scoutFirst - time.Millisecond)
			if got := letGo(); len(got) != id {
				t.Fatalf("let go before the pause was over: %v, want %d", got, id)
			}
			time.Sleep(time.Millisecond)
			if got := letGo(); len(got) != id+1 || got[id] != id {
				t.Fatalf("let go: %v, want %d as the last", got, id)
			}
			b.tickets[id].undecided()
		}
		b.tickets[1].worked() // at last
		b.stop()
		if len(b.order) != 21 {
			t.Errorf("after one came through: %v", b.order)
		}
	})
}
