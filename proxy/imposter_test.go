package proxy

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/pgtether/pgtether/internal/pgwire"
)

// A server that is not the writer may let in whom it likes. What others have proved at the writer is not for a client that has not.
func TestAWrongPasswordIsNotMadeRightByAServerThatTakesIt(t *testing.T) {
	const salt = "0123456789abcdef"
	right, wrong := verifierOf(t, "secret", salt), verifierOf(t, "wrong", salt)
	onEachForwarder(t, func(t *testing.T) {
		h := startServer(t, againConfig(SCRAMRelay), Deps{Verifier: known(right)})
		var script atomic.Value
		var tried atomic.Int32
		standby := func(c *fakeConn) {
			tried.Add(1)
			c.serveAs("on")
		}
		script.Store(withSCRAM(right, nil))
		h.open(startFakePG(t, func(c *fakeConn) { script.Load().(func(*fakeConn))(c) }).route(1))
		other := <-h.connect(t) // its session lives all the time
		if other.err != nil {
			t.Fatal(other.err)
		}
		script.Store(afterSCRAM(wrong, nil, standby))
		client := connecting(t, fmt.Sprintf("postgres://app:wrong@%s/db?sslmode=disable", h.addr))
		eventually(t, "a wrong server has let it in", func() bool { return tried.Load() > 0 })
		eventually(t, "it is refused or held", func() bool { return len(client) == 1 || h.Stats().Held == 1 })
		script.Store(withSCRAM(right, nil))
		got := <-client
		if codeOf(got.err) != "57P03" {
			t.Errorf("with a wrong password: %v", got.err)
		}
		if n := h.metric("pgtether_logins_total", loginPinned); n != 1 || h.refusals(pgwire.WriterUnproven) != 1 {
			t.Errorf("%v sessions, %v refusals", n, h.refusals(pgwire.WriterUnproven))
		}

		script.Store(afterSCRAM(right, nil, standby))
		client = h.connect(t)
		eventually(t, "the login with the right one is held", func() bool { return h.Stats().Held == 1 })
		script.Store(withSCRAM(right, nil))
		(<-client).asks(t, "hello")
		other.asks(t, "still here")
	})
}
