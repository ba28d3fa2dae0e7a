package proxy

import (
	"errors"
	"io"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgtether/pgtether/internal/pgwire"
)

// A child that is being started holds every descriptor of its parent's for a moment, close-on-exec or not: a socket that is closed meanwhile goes on
// sending what the kernel has of it, and the peer is told nothing.
func TestACutResetsABackendWhoseSocketAChildStillHolds(t *testing.T) {
	onEach(t, func(t *testing.T, newRig func(bool) *rig) {
		r := newRig(false)
		raw, err := r.pair.backend.raw.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		held := -1
		if err := raw.Control(func(fd uintptr) { held, err = unix.Dup(int(fd)) }); err != nil || held < 0 {
			t.Fatal(err)
		}
		defer unix.Close(held)
		r.start()
		sent := flood(r.client, []byte(simple(string(make([]byte, 60_000))))) // the server's receive buffer, and what the kernel keeps for it, are full
		r.forwarder.cut(1, pgwire.WriterLost)
		r.awaitEnd(endCut)
		_ = r.server.SetReadDeadline(time.Now().Add(patience))
		n, err := io.Copy(io.Discard, r.server)
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("after %d of %d bytes the server saw %v, want a reset", n, sent, err)
		}
	})
}
