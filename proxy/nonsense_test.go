package proxy

import (
	"fmt"
	"io"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgtether/pgtether/internal/pgwire"
)

// PostgreSQL writes errors in the format of protocol 2 to clients of protocols 0.1 to 2: 0.0 is none yet.
func TestProtocolZeroGetsTheErrorOfToday(t *testing.T) {
	h := startServer(t, testConfig(), Deps{})
	for version, want := range map[pgwire.Version]string{
		0: fatal(pgwire.UnsupportedProtocol), 1: "", 2 << 16: "", 1234<<16 | 5681: fatal(pgwire.UnsupportedProtocol),
	} {
		c := h.dial()
		c.write(startupPacket(version, "user", "app"))
		if want == "" {
			if got := c.end(); got != "EFATAL:  unsupported frontend protocol\n\x00" {
				t.Errorf("protocol %s: %q", version, got)
			}
			continue
		}
		same(t, "protocol "+version.String(), c.messages(), []string{want})
	}
	if got := h.refusals(pgwire.UnsupportedProtocol); got != 4 {
		t.Errorf("counted %v", got)
	}
}

// Whatever is no answer to an authentication request reaches the server by its first byte: it refuses it by that, and the length that seems to
// follow may promise bytes that never come.
func TestWhatIsNoAnswerIsNotWaitedFor(t *testing.T) {
	for _, sent := range []string{"Q", "\x00\x00\x00\x30\x00", "X\x00\x00\x00\x04", "\xff\xff\xff\xff\xff"} {
		got := make(chan byte, 1)
		pg := startFakePG(t, func(c *fakeConn) {
			if !c.accept() {
				return
			}
			c.sendMessages(&pgproto3.AuthenticationCleartextPassword{})
			var typ [1]byte
			if _, err := io.ReadFull(c, typ[:]); err == nil {
				got <- typ[0]
			}
			c.sendMessages(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "08P01", Message: "expected password response"})
		})
		h := startServer(t, testConfig(), Deps{})
		h.open(pg.route(1))
		c := h.start()
		c.write([]byte(sent))
		same(t, fmt.Sprintf("answer %q", sent), c.messages(), []string{"R 3", "E FATAL 08P01 expected password response"})
		if typ := <-got; typ != sent[0] {
			t.Errorf("the server got %q of %q", typ, sent)
		}
	}
}

// PostgreSQL closes without a word on a message of an impossible length: that is the client's doing, and no sign of a writer that is lost.
func TestAServerThatClosesOnGarbageIsNotSuspected(t *testing.T) {
	pg := startFakePG(t, func(c *fakeConn) {
		if c.accept() {
			c.loggedIn("off")
			_, _, _ = c.read() // fails on the length
		}
	})
	h := startServer(t, testConfig(), Deps{})
	h.open(pg.route(1))
	c := h.login()
	c.write([]byte("Q\x00\x00\x00\x03"))
	if got := c.end(); got != "" {
		t.Errorf("the client got %q", got)
	}
	if h.metric("pgtether_sessions_total", endedByServer) != 1 || h.refusals(pgwire.WriterLost) != 0 {
		t.Error("counted as a loss of the writer")
	}
	select {
	case node := <-h.suspects:
		t.Errorf("suspected %q", node)
	default:
	}
}

func TestAFailedHandshakeIsCounted(t *testing.T) {
	h := startServer(t, tlsConfig(t, TLSAllow), Deps{})
	c := h.dial()
	c.write([]byte(sslRequest))
	_, _ = io.ReadFull(c, make([]byte, 1))
	c.write([]byte("\x16\x03\x01\x00\x04junk"))
	_ = c.end()
	eventually(t, "it is counted", func() bool { return h.refusals(pgwire.BadStartupLength) == 1 })

	gone := h.dial()
	gone.write([]byte(sslRequest))
	_, _ = io.ReadFull(gone, make([]byte, 1))
	gone.write([]byte("\x16\x03\x01"))
	_ = gone.Close()
	eventually(t, "it is forgotten", func() bool { return h.Server.pending.size() == 0 })
	if got := h.refusals(pgwire.BadStartupLength); got != 1 {
		t.Errorf("a client that went away was counted as refused: %v", got)
	}
}
