package proxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/jackc/pgx/v5/pgproto3"
	"golang.org/x/sys/unix"

	"github.com/pgtether/pgtether/internal/pgwire"
)

func init() {
	implementations["loops"] = func() forwarder { return newLoops(2) }
}

func newLoops(n int) forwarder {
	f, err := newForwarders(testMetrics(), n)
	if err != nil {
		panic(err)
	}
	return f
}

// isLoopKeeping reports whether the beginning of a message of the pair's is held up.
func isLoopKeeping(f forwarder, p *pair) (keeping bool) {
	both := f.(*forwarders)
	if r := both.loops.find(p); r != nil {
		r.loop.call(func() { keeping = len(r.kept) > 0 })
		return keeping
	}
	return isKeeping(both.goroutines, p)
}

// onLoops returns plain pairs on n loops.
func onLoops(t testing.TB, n int) (newPair func() *rig) {
	f, tab := newLoops(n), newTable()
	t.Cleanup(f.close)
	return func() *rig { return newRig(t, f, tab, wiring{}, false) }
}

func onlyLoop(f forwarder) *eventLoop { return f.(*forwarders).loops.loops[0] }

func TestPlainPairsRunOnLoopsAndTLSPairsOnGoroutines(t *testing.T) {
	f, tab := newLoops(1), newTable()
	t.Cleanup(f.close)
	both := f.(*forwarders)
	for _, w := range []wiring{{}, {client: true}, {server: true}} {
		r := newRig(t, f, tab, w, false).start()
		if got, want := both.loops.find(r.pair) != nil, w == (wiring{}); got != want {
			t.Errorf("%s: on a loop %v, want %v", w, got, want)
		}
		r.client.write([]byte(simple("hello")))
		r.expect(r.server, simple("hello"))
	}
	if got := f.states(); got != (Stats{Open: 3, Active: 3}) {
		t.Errorf("states %+v", got)
	}
}

// One loop, many goroutines' worth of garbage collections: a loop that waits must not hold a collection up, nor be lost after it.
func TestACollectionDoesNotWaitForALoopThatWaits(t *testing.T) {
	r := onLoops(t, 2)().start()
	for range 20 {
		r.client.write([]byte(simple("q")))
		r.expect(r.server, simple("q"))
		r.server.write([]byte(done + ready))
		r.expect(r.client, done+ready)
		start := time.Now()
		runtime.GC()
		if took := time.Since(start); took > patience/2 {
			t.Fatalf("a collection took %s", took)
		}
	}
}

// roundTrip is one request and its answer through blocking descriptors, so that the test's own ends allocate nothing.
type roundTrip struct {
	client, server int
	request        []byte
	answer         []byte
	scratch        []byte
}

func newRoundTrip(t testing.TB, r *rig) *roundTrip {
	blocking := func(c *testClient) int {
		fd, err := duplicate(rawOf(c))
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		if err := unix.SetNonblock(int(fd), false); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { closeDescriptor(fd) })
		return int(fd)
	}
	return &roundTrip{client: blocking(r.client), server: blocking(r.server), request: []byte(simple("SELECT 1")),
		answer: []byte(done + ready), scratch: make([]byte, 1024)}
}

func (r *roundTrip) pass(from, to int, b []byte) {
	if _, err := syscall.Write(from, b); err != nil {
		panic(err)
	}
	for n := 0; n < len(b); {
		m, err := syscall.Read(to, r.scratch)
		if err != nil || m == 0 {
			panic(errors.Join(err, io.ErrUnexpectedEOF))
		}
		n += m
	}
}

func (r *roundTrip) run() {
	r.pass(r.client, r.server, r.request)
	r.pass(r.server, r.client, r.answer)
}

func TestARoundTripOnALoopAllocatesNothing(t *testing.T) {
	const trips = 5000
	if n := allocations(t, onLoops(t, 1)(), trips); n > trips/50 { // the runtime's own
		t.Errorf("%d allocations in %d round trips", n, trips)
	}
}

func TestARoundTripOnGoroutinesAllocatesNothing(t *testing.T) {
	const trips = 5000
	most := uint64(trips / 50)
	if raceEnabled { // then a pool forgets what it was given, now and then
		most = 2 * trips
	}
	if n := allocations(t, newRig(t, newGoForwarder(testMetrics()), newTable(), wiring{}, false), trips); n > most {
		t.Errorf("%d allocations in %d round trips", n, trips)
	}
}

// allocations counts those of round trips. testing.AllocsPerRun would take a loop's processor away.
func allocations(t *testing.T, r *rig, trips int) uint64 {
	t.Helper()
	trip := newRoundTrip(t, r.start())
	for range 100 {
		trip.run()
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range trips {
		trip.run()
	}
	runtime.ReadMemStats(&after)
	return after.Mallocs - before.Mallocs
}

func BenchmarkLoopRoundTrip(b *testing.B) {
	trip := newRoundTrip(b, onLoops(b, 1)().start())
	b.ReportAllocs()
	for b.Loop() {
		trip.run()
	}
}

// One pair streams as fast as it can; the others on the same loop still get their turns.
func TestOneBusyPairDoesNotStopTheOthersOfItsLoop(t *testing.T) {
	newPair := onLoops(t, 1)
	hog := newPair().start()
	hog.client.write([]byte(simple("COPY t TO STDOUT")))
	hog.expect(hog.server, simple("COPY t TO STDOUT"))
	var copied atomic.Int64
	var busy sync.WaitGroup
	rows := []byte(strings.Repeat(encode(&pgproto3.CopyData{Data: make([]byte, 8000)}), 64))
	busy.Go(func() {
		for {
			if _, err := hog.server.Write(rows); err != nil {
				return
			}
		}
	})
	busy.Go(func() {
		b := make([]byte, 1<<20)
		for {
			_ = hog.client.SetReadDeadline(time.Now().Add(patience))
			n, err := hog.client.Read(b)
			copied.Add(int64(n))
			if err != nil {
				return
			}
		}
	})
	eventually(t, "the copy runs", func() bool { return copied.Load() > 1<<20 })
	const pairs, trips = 8, 100
	before, start := copied.Load(), time.Now()
	var small sync.WaitGroup
	for range pairs {
		r := newPair().start()
		small.Go(func() {
			for range trips {
				r.client.write([]byte(simple("q")))
				r.expect(r.server, simple("q"))
				r.server.write([]byte(done + ready))
				r.expect(r.client, done+ready)
			}
		})
	}
	small.Wait()
	took := time.Since(start)
	t.Logf("%d round trips took %s beside a copy of %d MiB", pairs*trips, took, (copied.Load()-before)>>20)
	if took > patience {
		t.Error("too long")
	}
	if copied.Load() == before {
		t.Error("the copy stood still")
	}
	hog.forwarder.cut(1, pgwire.Killed)
	busy.Wait()
}

func descriptors(t testing.TB) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// Whatever ends a pair, both its descriptors go where they belong, and none is left behind.
func TestNoDescriptorIsLeftBehind(t *testing.T) {
	ends := map[string]func(r *rig){
		"server": func(r *rig) { _ = r.server.Close(); r.awaitEnd(endServer) },
		"client": func(r *rig) { _ = rawOf(r.client).SetLinger(0); _ = r.client.Close(); r.awaitEnd(endClientLost) },
		"park":   func(r *rig) { r.park(); r.awaitParked() },
		"kept":   func(r *rig) { r.server.write([]byte(terminated)); r.awaitEnd(endKeptBack) },
		"cut":    func(r *rig) { r.forwarder.cut(1, pgwire.WriterLost); r.awaitEnd(endCut) },
		"reset":  func(r *rig) { r.pair.backend.reset(); r.awaitEnd(endServerLost) },
		"close":  func(r *rig) { _ = r.pair.backend.Close(); r.awaitEnd(endServerLost) },
		"late cut": func(r *rig) {
			r.park()
			r.awaitParked()
			sever([]*backend{r.pair.backend})
		},
	}
	before := descriptors(t)
	for name, end := range ends {
		for range 5 {
			t.Run(name, func(t *testing.T) {
				r := onLoops(t, 1)().start()
				r.client.write([]byte(simple("q")))
				r.expect(r.server, simple("q"))
				r.server.write([]byte(done + ready))
				r.expect(r.client, done+ready)
				end(r)
				_, serverRaw := r.pair.backend.kept()
				for _, c := range []io.Closer{r.pair.clientRaw, serverRaw} {
					_ = c.Close()
				}
			})
		}
	}
	eventually(t, "all descriptors are closed", func() bool { return descriptors(t) <= before })
}

// A reset may come from anywhere at any moment: while the pair goes to a loop, runs there, is handed back, or is gone.
func TestABackendCanBeSeveredAtAnyMoment(t *testing.T) {
	before := descriptors(t)
	t.Run("pairs", func(t *testing.T) {
		newPair := onLoops(t, 2)
		for i := range 100 {
			r := newPair()
			var racing sync.WaitGroup
			racing.Go(func() {
				time.Sleep(time.Duration(i%10) * 20 * time.Microsecond)
				sever([]*backend{r.pair.backend})
			})
			over := make(chan struct{})
			again := func(res result) { r.ended <- res; close(over) }
			r.forwarder.start(r.pair, again)
			r.forwarder.park(r.pair, func() { close(over) })
			racing.Wait()
			_ = r.client.Close()
			select {
			case <-over:
			case <-time.After(patience):
				t.Fatalf("pair %d did not end", i)
			}
			if _, err := r.pair.backend.Write([]byte("x")); !errors.Is(err, errSevered) {
				t.Errorf("a write after sever: %v", err)
			}
			_ = r.pair.clientRaw.Close()
			_ = r.server.Close()
		}
	})
	eventually(t, "all descriptors are closed", func() bool { return descriptors(t) <= before })
}

// What an idle pair costs, with both its sockets in this process: the number is for reading, the bound only tells a buffer per pair.
func TestIdlePairsHoldNoBuffers(t *testing.T) {
	pairs := 1000
	newPair := onLoops(t, 2)
	rigs := make([]*rig, pairs)
	for i := range rigs {
		rigs[i] = newPair()
	}
	runtime.GC()
	before := resident(t)
	for _, r := range rigs {
		r.start()
	}
	for _, r := range rigs {
		r.client.write([]byte(simple("q")))
		r.expect(r.server, simple("q"))
		r.server.write([]byte(done + ready))
		r.expect(r.client, done+ready)
	}
	runtime.GC()
	each := (resident(t) - before) / pairs
	t.Logf("%d bytes more for each of %d idle pairs", each, pairs)
	if each > 16<<10 && !raceEnabled {
		t.Errorf("%d bytes for each idle pair", each)
	}
}

// resident is what of this process is in memory.
func resident(t testing.TB) int {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(b))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// The end of a stream is passed on however it comes: with the last bytes, after a read that has filled the buffer, while the other side does not read.
func TestALoopMissesNoEndOfAStream(t *testing.T) {
	f, tab := newLoops(2), newTable()
	t.Cleanup(f.close)
	take := func(from *testClient, size int) {
		_ = from.SetReadDeadline(time.Now().Add(patience))
		if n, err := io.CopyN(io.Discard, from.Conn, int64(size)); err != nil {
			t.Errorf("%d of %d bytes arrived before %v", n, size, err)
		}
	}
	for _, size := range []int{0, 1, chunkSize - 1, chunkSize, chunkSize + 1, 3 * chunkSize, 2 << 20} {
		for i := range 10 {
			r := newRig(t, f, tab, wiring{}, true).start()
			sent := bytes.Repeat([]byte{'x'}, size)
			var writing sync.WaitGroup
			send := func(to *testClient) {
				written := make(chan struct{})
				if i == 0 && size <= 3*chunkSize { // all of it is there before the loops look
					for _, l := range f.(*forwarders).loops.loops {
						l.post(func() { <-written })
					}
				}
				writing.Go(func() {
					_, _ = to.Conn.Write(sent)
					_ = to.Conn.(*net.TCPConn).CloseWrite()
					close(written)
				})
				time.Sleep(time.Duration(i) * 200 * time.Microsecond)
			}
			send(r.client)
			take(r.server, size)
			if rest := r.server.end(); rest != "" {
				t.Errorf("the server got %d bytes more", len(rest))
			}
			send(r.server)
			take(r.client, size)
			r.awaitEnd(endClient)
			writing.Wait()
		}
	}
}

// startParting starts a pair whose end the channel tells, when it comes on the loop.
func startParting(r *rig) (*rig, chan result) {
	parted := make(chan result, 1)
	r.pair.parted = func(res result) bool { parted <- res; return true }
	return r.start(), parted
}

// holdLoop keeps the only loop from looking at its sockets until it may go on.
func holdLoop(f forwarder) (goOn func()) {
	holding, released := make(chan struct{}), make(chan struct{})
	onlyLoop(f).post(func() { close(holding); <-released })
	<-holding
	return func() { close(released) }
}

// TestAGoodbyeEndsOnTheLoopHoweverQuickTheServerIs: when the loop looks, the client has said Terminate and closed, and the server has closed already.
func TestAGoodbyeEndsOnTheLoopHoweverQuickTheServerIs(t *testing.T) {
	newPair := onLoops(t, 1)
	for range 20 {
		r, parted := startParting(newPair())
		r.client.write([]byte(simple("q")))
		r.expect(r.server, simple("q"))
		r.server.write([]byte(done + ready))
		r.expect(r.client, done+ready)
		goOn := holdLoop(r.forwarder)
		r.client.write(sayTerminate)
		_ = r.client.Close()
		_ = r.server.Close()
		goOn()
		select {
		case res := <-parted:
			if res.end != endClient {
				t.Fatalf("ended by %v", res.end)
			}
		case res := <-r.ended:
			t.Fatalf("ended on a goroutine: %+v", res)
		case <-time.After(patience):
			t.Fatal("not ended")
		}
	}
}

// TestAGoodbyeEndsOnTheLoopHoweverSlowTheClientIs: the server closes when it is told Terminate, before the client that has said it.
func TestAGoodbyeEndsOnTheLoopHoweverSlowTheClientIs(t *testing.T) {
	for name, c := range map[string]struct {
		more   string // what the client says after its Terminate
		onLoop bool
	}{
		"nothing follows":          {"", true},
		"something follows unread": {simple("nobody reads this"), false},
	} {
		t.Run(name, func(t *testing.T) {
			r, parted := startParting(onLoops(t, 1)())
			r.client.write(sayTerminate)
			r.expect(r.server, string(sayTerminate))
			goOn := holdLoop(r.forwarder)
			_ = r.server.Close()
			time.Sleep(time.Millisecond) // the loop is told of the server first
			r.client.write([]byte(c.more))
			goOn()
			select {
			case res := <-parted:
				if res.end != endServer || !c.onLoop {
					t.Fatalf("ended by %v, on the loop", res.end)
				}
				if got := r.client.end(); got != "" {
					t.Errorf("the client got %q", got)
				}
			case res := <-r.ended:
				if res.end != endServer || c.onLoop {
					t.Fatalf("ended on a goroutine: %+v", res)
				}
			case <-time.After(patience):
				t.Fatal("not ended")
			}
		})
	}
}

// TestWhatMessagesTouchFillsFewCacheLines: allocations of a size that is a multiple of a cache line begin with one.
func TestWhatMessagesTouchFillsFewCacheLines(t *testing.T) {
	const line = 64
	for name, is := range map[string]struct{ size, touched, lines uintptr }{
		"run":     {unsafe.Sizeof(loopRun{}), unsafe.Offsetof(loopRun{}.done), 3},
		"pair":    {unsafe.Sizeof(pair{}), unsafe.Offsetof(pair{}.client), 1},
		"backend": {unsafe.Sizeof(backend{}), unsafe.Offsetof(backend{}.node), 1},
	} {
		if is.size%line != 0 || is.size > 5*line || is.touched > is.lines*line {
			t.Errorf("a %s takes %d bytes, what every message touches %d", name, is.size, is.touched)
		}
	}
}
