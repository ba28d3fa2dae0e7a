package proxy

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgtether/pgtether/internal/pgwire"
)

// After a cut no byte may reach a backend, and nothing that a backend says may reach a client. Both ends stamp what they send with whether the cut had
// returned before they sent it: a stamped message on the other side is a violation, whatever the kernel had in its buffers.
func TestNothingSentAfterACutArrives(t *testing.T) {
	const pairs = 1000
	for name, newForwarder := range implementations {
		for _, w := range []wiring{{}, {client: true, server: true}} {
			if w != (wiring{}) && isPlainOnly(name) {
				continue
			}
			t.Run(name+"/"+w.String(), func(t *testing.T) {
				n := pairs
				if w.client {
					n = pairs / 10 // handshakes are slow
				}
				f := newForwarder()
				t.Cleanup(f.close)
				cutBusyPairs(t, f, w, n)
			})
		}
	}
}

func cutBusyPairs(t *testing.T, f forwarder, w wiring, n int) {
	tab := newTable()
	var after atomic.Bool
	var exchanged, late atomic.Int64
	var busy, ends sync.WaitGroup
	begin := make(chan struct{})
	for range n {
		r := newRig(t, f, tab, w, false)
		ends.Add(1)
		f.start(r.pair, func(res result) {
			defer ends.Done()
			if res.end != endCut && res.end != endServerLost && res.end != endClientLost {
				t.Errorf("a cut pair ended with %d: %v", res.end, res.err)
			}
		})
		busy.Go(func() { <-begin; stampedClient(r, &after, &exchanged, &late) })
		busy.Go(func() { stampedServer(r, &after, &late) })
	}
	close(begin)
	eventually(t, "all pairs are busy", func() bool { return exchanged.Load() > int64(3*n) })
	start := time.Now()
	f.cut(1, pgwire.WriterLost)
	took := time.Since(start)
	after.Store(true)
	ends.Wait()
	busy.Wait()
	t.Logf("cut %d busy pairs in %s after %d exchanges", n, took, exchanged.Load())
	if late.Load() != 0 {
		t.Errorf("%d messages sent after the cut arrived", late.Load())
	}
	if got := f.states(); got != (Stats{}) {
		t.Errorf("left over: %+v", got)
	}
}

const stamped = 0x01020304

func stamp(after *atomic.Bool) []byte {
	b := make([]byte, 4)
	if after.Load() {
		binary.BigEndian.PutUint32(b, stamped)
	}
	return b
}

// stampedClient asks again and again until its connection ends, and goes on trying for a while after the cut.
func stampedClient(r *rig, after *atomic.Bool, exchanged, late *atomic.Int64) {
	for until := time.Now().Add(patience); time.Now().Before(until); {
		_ = r.client.SetDeadline(time.Now().Add(100 * time.Millisecond))
		if _, err := r.client.Write(authFrame('Q', stamp(after))); err != nil {
			return
		}
		answer := make([]byte, 5+2+4+4+6)
		if _, err := io.ReadFull(r.client, answer); err != nil {
			if after.Load() {
				_, _ = r.client.Write(authFrame('Q', stamp(after)))
				return
			}
			continue
		}
		if binary.BigEndian.Uint32(answer[11:]) == stamped {
			late.Add(1)
		}
		exchanged.Add(1)
	}
}

func stampedServer(r *rig, after *atomic.Bool, late *atomic.Int64) {
	c := &fakeConn{Conn: r.server.Conn}
	for {
		_, body, err := c.read()
		if err != nil {
			return
		}
		if binary.BigEndian.Uint32(body) == stamped {
			late.Add(1)
		}
		_, _ = c.Write([]byte(encode(&pgproto3.DataRow{Values: [][]byte{stamp(after)}}) + ready))
	}
}

func TestACutClosesTheBackendWithAReset(t *testing.T) {
	onEach(t, func(t *testing.T, newRig func(bool) *rig) {
		rigs := []*rig{newRig(false).start(), newRig(true).start()}
		for _, r := range rigs {
			r.client.write([]byte(simple("slow")))
			r.expect(r.server, simple("slow"))
		}
		rigs[0].forwarder.cut(1, pgwire.LossyChange)
		for i, r := range rigs {
			_ = r.server.SetReadDeadline(time.Now().Add(patience))
			if _, err := r.server.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the server sees %v, want a reset", err)
			}
			opaque := i == 1
			if res := r.awaitEnd(endCut); res.why != pgwire.LossyChange || res.clean == opaque {
				t.Errorf("opaque %v: why %s, clean %v", opaque, res.why, res.clean)
			}
		}
	})
}

// flood writes until the other side has taken nothing for a while, and returns how much that was.
func flood(c *testClient, b []byte) (sent int) {
	for {
		_ = c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
		n, err := c.Write(b)
		if sent += n; err != nil {
			return sent
		}
	}
}

// Neither a client nor a server that does not read may keep a cut waiting.
func TestACutDoesNotWaitForThoseWhoDoNotRead(t *testing.T) {
	onEach(t, func(t *testing.T, newRig func(bool) *rig) {
		r := newRig(false).start()
		var wg sync.WaitGroup
		wg.Go(func() { flood(r.client, []byte(simple(string(make([]byte, 60_000))))) })
		wg.Go(func() { flood(r.server, []byte(encode(&pgproto3.DataRow{Values: [][]byte{make([]byte, 60_000)}}))) })
		wg.Wait()
		start := time.Now()
		r.forwarder.cut(1, pgwire.WriterLost)
		if took := time.Since(start); took > patience/4 {
			t.Errorf("the cut took %s", took)
		}
		r.awaitEnd(endCut)
	})
}

// An error of the proxy's own may follow only where the last message was relayed to its end.
func TestACutInTheMiddleOfAMessageIsNotClean(t *testing.T) {
	row := encode(&pgproto3.DataRow{Values: [][]byte{[]byte("value")}})
	onEach(t, func(t *testing.T, newRig func(bool) *rig) {
		half, whole := newRig(false).start(), newRig(false).start()
		for _, r := range []*rig{half, whole} {
			r.client.write([]byte(simple("slow")))
			r.expect(r.server, simple("slow"))
			words := row + row
			if r == half {
				words = words[:len(words)-1]
			}
			r.server.write([]byte(words))
			r.expect(r.client, words)
		}
		half.forwarder.cut(1, pgwire.WriterLost)
		if res := half.awaitEnd(endCut); res.clean {
			t.Error("clean in the middle of a message")
		}
		if res := whole.awaitEnd(endCut); !res.clean {
			t.Error("not clean after a whole message")
		}
	})
}

func TestACutSparesLaterEpochsAndEndsLateStarts(t *testing.T) {
	onEach(t, func(t *testing.T, newRig func(bool) *rig) {
		old, late, young := newRig(false).start(), newRig(false), newRig(false)
		young.pair.backend.epoch = 2
		young.start()
		old.forwarder.cut(1, pgwire.WriterLost)
		old.awaitEnd(endCut)
		late.start()
		if res := late.awaitEnd(endCut); res.why != pgwire.WriterLost {
			t.Errorf("why %s", res.why)
		}
		young.client.write([]byte(simple("hello")))
		young.expect(young.server, simple("hello"))
		young.forwarder.cut(2, pgwire.Killed)
		young.awaitEnd(endCut)
	})
}

// What a dying writer acknowledges while the cut goes on must not reach a client: the first backend is closed after the last client was detached.
func TestACutDetachesAllClientsBeforeItClosesAnyBackend(t *testing.T) {
	tab := newTable()
	const n = 50
	var backends []*backend
	var early atomic.Int32
	var watch sync.WaitGroup
	all := make(chan struct{})
	for range n {
		outer, inner := tcpPair(t)
		t.Cleanup(func() { _ = outer.Close() })
		b := newBackend(tab, testRoute(1), inner, nil)
		tab.add(b)
		backends = append(backends, b)
		watch.Go(func() {
			<-all
			_, _ = outer.Read(make([]byte, 1)) // returns with the reset
			for _, b := range backends {
				if b.toClient.state.Load()&gateShut == 0 {
					early.Add(1)
				}
			}
		})
	}
	close(all)
	sever(backends)
	watch.Wait()
	if early.Load() != 0 {
		t.Errorf("%d clients were still attached when a backend was closed", early.Load())
	}
	if left := tab.upTo(1); len(left) != 0 {
		t.Errorf("%d backends left in the table", len(left))
	}
}
