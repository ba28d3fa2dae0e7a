package proxy

import (
	"bytes"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Whatever sizes the reads and writes have, what goes in comes out, in both directions at once, tracked or not.
func TestBytesInAreBytesOut(t *testing.T) {
	onEach(t, func(t *testing.T, newRig func(bool) *rig) {
		for _, opaque := range []bool{true, false} {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			r := newRig(opaque).start()
			up, down := randomStream(seed, 1<<18), randomStream(seed+1, 1<<18)
			if !opaque { // as large messages that a tracker understands
				up, down = []byte(simple(string(up[:1<<17]))), []byte(encode(&pgproto3.DataRow{Values: [][]byte{down}})+ready)
				up = bytes.ReplaceAll(up, []byte{0}, []byte{1})
				up[1], up[2], up[3], up[4] = byte((len(up)-1)>>24), byte((len(up)-1)>>16), byte((len(up)-1)>>8), byte(len(up)-1)
			}
			go writeInPieces(r.client, up, seed+2, 100_000)
			go writeInPieces(r.server, down, seed+3, 100_000)
			got := make(chan [32]byte, 1)
			go func() { got <- digest(r.server, len(up)) }()
			if digest(r.client, len(down)) != sha256.Sum256(down) {
				t.Error("what the server sent is not what the client got")
			}
			if <-got != sha256.Sum256(up) {
				t.Error("what the client sent is not what the server got")
			}
			eventually(t, "every byte is counted", func() bool {
				return r.pair.toServer.Load() == int64(len(up)) && r.pair.toClient.Load() == int64(len(down))
			})
		}
	})
}

func randomStream(seed uint64, n int) []byte {
	b := make([]byte, n)
	random := rand.New(rand.NewPCG(seed, 0))
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

// writeInPieces writes b in pieces of at most so many bytes.
func writeInPieces(w io.Writer, b []byte, seed uint64, most int) {
	random := rand.New(rand.NewPCG(seed, 0))
	for len(b) > 0 {
		n := min(1+random.IntN(most), len(b))
		if _, err := w.Write(b[:n]); err != nil {
			return
		}
		b = b[n:]
	}
}

func digest(r net.Conn, n int) (sum [32]byte) {
	_ = r.SetReadDeadline(time.Now().Add(patience))
	h := sha256.New()
	_, _ = io.CopyN(h, r, int64(n))
	h.Sum(sum[:0])
	return sum
}

// A client that does not read stops its server, and costs no more memory than the buffers; its own direction goes on.
func TestASlowReaderStopsItsSenderAndNothingElse(t *testing.T) {
	onEach(t, func(t *testing.T, newRig func(bool) *rig) {
		r := newRig(false).start()
		r.client.write([]byte(simple("much")))
		r.expect(r.server, simple("much"))
		row := []byte(encode(&pgproto3.DataRow{Values: [][]byte{make([]byte, 60_000)}}))
		written := 0
		for { // until the kernel's buffers and the proxy's are full
			_ = r.server.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
			n, err := r.server.Write(row)
			written += n
			if err != nil {
				break
			}
			if written > 64<<20 {
				t.Fatal("the proxy takes whatever the server sends, though its client reads nothing")
			}
		}
		var before runtime.MemStats
		runtime.ReadMemStats(&before)
		if before.HeapInuse > 256<<20 {
			t.Errorf("%d MiB of heap in use behind one slow reader", before.HeapInuse>>20)
		}
		r.client.write([]byte(simple("still here")))
		r.expect(r.server, simple("still here"))
		if got := r.pair.toClient.Load(); got == 0 || got > int64(written) {
			t.Errorf("%d bytes forwarded of %d", got, written)
		}
	})
}

func TestStatesAreThoseOfTheServer(t *testing.T) {
	onEach(t, func(t *testing.T, newRig func(bool) *rig) {
		r := newRig(false).start()
		state := func(want Stats) {
			t.Helper()
			eventually(t, "the state is seen", func() bool { return r.forwarder.states() == want })
		}
		state(Stats{Open: 1, Idle: 1})
		r.client.write([]byte(simple("begin")))
		r.expect(r.server, simple("begin"))
		state(Stats{Open: 1, Active: 1})
		r.server.write([]byte(done + readyInBlock))
		state(Stats{Open: 1, InTransaction: 1})
		opaque := newRig(true).start()
		state(Stats{Open: 2, InTransaction: 1, Opaque: 1})
		_ = opaque.server.Close()
		opaque.awaitEnd(endServer)
		state(Stats{Open: 1, InTransaction: 1})
	})
}
