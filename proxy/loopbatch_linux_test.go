package proxy

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"golang.org/x/sys/unix"

	"github.com/pgtether/pgtether/internal/pgwire"
)

// Every test of the forwarder's contract runs on loops that put off each send, too, with the kernel's help and without.
func init() {
	implementations["loops that put off"] = func() forwarder { return newPuttingOff(2, true) }
	implementations["loops that put off and send one by one"] = func() forwarder { return newPuttingOff(2, false) }
}

// newPuttingOff returns loops that put off every send that may be, even where a wait has reported one socket only.
func newPuttingOff(n int, together bool) forwarder {
	f := newLoops(n)
	for _, l := range f.(*forwarders).loops.loops {
		l.call(func() {
			l.batch.from = 1
			if !together {
				l.batch.aio.close()
				l.batch.aio = nil
			}
		})
	}
	return f
}

// onPuttingOff runs a test on one loop of each kind.
func onPuttingOff(t *testing.T, test func(t *testing.T, f forwarder, newPair func() *rig)) {
	for name, f := range map[string]func() forwarder{
		"as always":  func() forwarder { return newLoops(1) },
		"together":   func() forwarder { return newPuttingOff(1, true) },
		"one by one": func() forwarder { return newPuttingOff(1, false) },
	} {
		t.Run(name, func(t *testing.T) {
			f, tab := f(), newTable()
			t.Cleanup(f.close)
			test(t, f, func() *rig { return newRig(t, f, tab, wiring{}, false) })
		})
	}
}

// run is the pair's, on its loop.
func (r *rig) run() *loopRun { return r.forwarder.(*forwarders).loops.find(r.pair) }

// onLoop runs fn on the pair's loop as if one wait had reported many sockets.
func (r *rig) onLoop(fn func(run *loopRun)) {
	run := r.run()
	run.loop.call(func() {
		run.loop.batch.taken = true
		fn(run)
		run.loop.submit()
		run.loop.batch.taken = false
		if !run.over {
			run.settle()
		}
	})
}

func TestTheKernelOffersToSendSeveralMessagesAtOnce(t *testing.T) {
	a := newAsyncIO()
	if a == nil {
		t.Fatal("it does not: every test of this file has tested the other way alone")
	}
	a.close()
}

// Many sockets are ready at once, more than one batch takes: each message arrives once, at its own other end.
func TestEverythingThatOneWaitReportsArrivesWhereItBelongs(t *testing.T) {
	onPuttingOff(t, func(t *testing.T, f forwarder, newPair func() *rig) {
		rigs := make([]*rig, 3*batchSends+1)
		for i := range rigs {
			rigs[i] = newPair().start()
		}
		for round := range 5 {
			request := func(i int) string {
				return simple(fmt.Sprintf("round %d of %d%s", round, i, strings.Repeat("x", i*round)))
			}
			goOn := holdLoop(f)
			for i, r := range rigs {
				r.client.write([]byte(request(i)))
			}
			goOn()
			for i, r := range rigs {
				r.expect(r.server, request(i))
			}
			goOn = holdLoop(f)
			for _, r := range rigs {
				r.server.write([]byte(done + ready))
			}
			goOn()
			for _, r := range rigs {
				r.expect(r.client, done+ready)
			}
		}
	})
}

// What one wait reports may be about both ends of a pair, and about its end: nothing gets lost, and nothing out of order.
func TestBothEndsOfAPairInOneWait(t *testing.T) {
	onPuttingOff(t, func(t *testing.T, f forwarder, newPair func() *rig) {
		const pairs = 20
		for name, c := range map[string]struct {
			clientEnds, serverEnds, serverFirst bool
		}{
			"both go on":              {},
			"the server first":        {serverFirst: true},
			"the client ends":         {clientEnds: true},
			"the server ends":         {serverEnds: true},
			"the server ends first":   {serverEnds: true, serverFirst: true},
			"both end":                {clientEnds: true, serverEnds: true},
			"both, the server sooner": {clientEnds: true, serverEnds: true, serverFirst: true},
		} {
			t.Run(name, func(t *testing.T) {
				rigs := make([]*rig, pairs)
				for i := range rigs {
					rigs[i] = newPair().start()
					rigs[i].client.write([]byte(simple("one")))
					rigs[i].expect(rigs[i].server, simple("one"))
				}
				goOn := holdLoop(f)
				for _, r := range rigs {
					client := func() {
						r.client.write([]byte(simple("two")))
						if c.clientEnds {
							_ = rawOf(r.client).CloseWrite()
						}
					}
					server := func() {
						r.server.write([]byte(done + ready))
						if c.serverEnds {
							_ = rawOf(r.server).CloseWrite()
						}
					}
					if c.serverFirst {
						server()
						client()
					} else {
						client()
						server()
					}
				}
				goOn()
				for _, r := range rigs {
					if !c.serverEnds || !c.serverFirst { // else the pair has ended before
						r.expect(r.server, simple("two"))
					}
					r.expect(r.client, done+ready)
					if c.serverEnds {
						r.awaitEnd(endServer)
						continue
					}
					r.server.write([]byte(done + ready))
					r.expect(r.client, done+ready)
				}
			})
		}
	})
}

// Sockets that take a part of a message, or nothing for a while: small messages in both directions of pairs with small buffers, whose ends stop reading
// now and then.
func TestNothingIsOvertakenWhereASocketTakesAPart(t *testing.T) {
	onPuttingOff(t, func(t *testing.T, f forwarder, newPair func() *rig) {
		const pairs, size = 6, 1 << 20
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		var all sync.WaitGroup
		for i := range uint64(pairs) {
			r := newPair()
			for _, c := range []*net.TCPConn{r.pair.clientRaw, r.pair.backend.raw} {
				_ = c.SetWriteBuffer(4 << 10)
			}
			for _, c := range []*testClient{r.client, r.server} {
				_ = rawOf(c).SetReadBuffer(64 << 10)
			}
			r.pair.tracker = nil // any bytes will do
			r.start()
			for k, way := range [][2]*testClient{{r.client, r.server}, {r.server, r.client}} {
				s := seed + 100*i + uint64(k)
				sent := randomStream(s, size)
				all.Go(func() { writeInPieces(way[0], sent, s, batchedMax) })
				all.Go(func() {
					if got := digestSlowly(way[1], size, s); got != sha256.Sum256(sent) {
						t.Errorf("pair %d, way %d: what arrives is not what was sent", i, k)
					}
				})
			}
		}
		all.Wait()
	})
}

// digestSlowly reads n bytes and rests now and then.
func digestSlowly(c net.Conn, n int, seed uint64) (sum [32]byte) {
	_ = c.SetReadDeadline(time.Now().Add(3 * patience))
	random := rand.New(rand.NewPCG(seed, 2))
	h, b := sha256.New(), make([]byte, 8<<10)
	for n > 0 {
		m, err := c.Read(b[:min(1+random.IntN(len(b)), n)])
		if err != nil {
			break
		}
		h.Write(b[:m])
		if n -= m; random.IntN(50) == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	h.Sum(sum[:0])
	return sum
}

// A backend that is severed after a request was put off, and before it is sent, gets nothing of it.
func TestWhatWasPutOffIsNotSentThroughAGateThatWasShutMeanwhile(t *testing.T) {
	onPuttingOff(t, func(t *testing.T, _ forwarder, newPair func() *rig) {
		r := newPair().start()
		r.onLoop(func(run *loopRun) {
			run.fromClient([]byte(simple("too late")))
			if !run.server.behind {
				t.Error("not put off")
			}
			r.pair.backend.toBackend.shut()
		})
		if res := r.awaitEnd(endServerLost); res.err != errSevered {
			t.Errorf("ended with %v", res.err)
		}
		r.pair.backend.reset()
		if got := r.server.end(); strings.Contains(got, "too late") {
			t.Errorf("the server got %q", got)
		}
	})
}

// The same of the other direction: a client that is let go for the last words of the proxy is not told anything of the server's any more.
func TestWhatWasPutOffForAClientIsNotSentThroughAShutGate(t *testing.T) {
	onPuttingOff(t, func(t *testing.T, _ forwarder, newPair func() *rig) {
		r := newPair().ask()
		r.onLoop(func(run *loopRun) {
			run.fromServer([]byte(done + ready))
			if !run.client.behind {
				t.Error("not put off")
			}
			r.pair.backend.toClient.shut()
		})
		r.awaitEnd(endServerLost)
		_ = r.pair.clientRaw.Close()
		if got := r.client.end(); got != "" {
			t.Errorf("the client got %q", got)
		}
	})
}

// A pair that parks, ends, or keeps a message back in the same event in which its last words were put off has said them before.
func TestLastWordsThatWerePutOffAreSaidFirst(t *testing.T) {
	notice := encode(&pgproto3.NoticeResponse{Severity: "NOTICE", SeverityUnlocalized: "NOTICE", Code: "00000", Message: "by the way"})
	for name, c := range map[string]struct {
		said  string // by the server
		after func(r *rig, run *loopRun)
		want  string // by the client
		end   ending // 0: parked
	}{
		"parks":                {done + ready, func(*rig, *loopRun) {}, done + ready, 0},
		"ends":                 {done + ready, func(_ *rig, run *loopRun) { run.serverEnded(net.ErrClosed) }, done + ready, endServerLost},
		"keeps a message back": {done + ready + terminated, func(*rig, *loopRun) {}, done + ready, endKeptBack},
		"passes another on":    {done + ready + notice, func(*rig, *loopRun) {}, done + ready + notice, 0},
	} {
		t.Run(name, func(t *testing.T) {
			onPuttingOff(t, func(t *testing.T, _ forwarder, newPair func() *rig) {
				r := newPair().ask()
				if c.end == 0 {
					r.park()
				}
				r.onLoop(func(run *loopRun) {
					run.fromServer([]byte(c.said))
					if c.after(r, run); run.client.behind && (run.over || c.end != 0) {
						t.Error("it is over, and its last words are still to be sent")
					}
				})
				if c.end == 0 {
					r.awaitParked()
				} else {
					res := r.awaitEnd(c.end)
					if !res.clean {
						t.Error("the client has received a part of a message")
					}
				}
				r.expect(r.client, c.want)
				if _, err := r.pair.clientRaw.Write([]byte("the proxy's own")); err != nil {
					t.Error(err)
				}
				r.expect(r.client, "the proxy's own")
			})
		})
	}
}

// A message that may be kept back waits behind what the client has not taken yet.
func TestAMessageIsNotKeptBackBeforeWhatWasPutOffIsTaken(t *testing.T) {
	onPuttingOff(t, func(t *testing.T, _ forwarder, newPair func() *rig) {
		r := newPair().ask()
		filled := 0
		r.onLoop(func(run *loopRun) {
			filled = fill(run.client.fd)
			run.fromServer([]byte(done + ready + terminated))
		})
		r.expect(r.client, string(make([]byte, filled))+done+ready)
		r.awaitEnd(endKeptBack)
	})
}

// Several messages that nobody asked for, in one read, for a client whose socket is almost full: none is lost where the pair parks, or keeps the last of
// them back.
func TestNothingThatWasPutOffIsLostWhereThePairEndsBehindIt(t *testing.T) {
	notice := encode(&pgproto3.NoticeResponse{Severity: "NOTICE", SeverityUnlocalized: "NOTICE", Code: "00000", Message: strings.Repeat("n", 3000)})
	parameter := encode(&pgproto3.ParameterStatus{Name: "application_name", Value: strings.Repeat("v", 3000)})
	for name, c := range map[string]struct {
		said, want string
		park       bool
	}{
		"keeps the last back": {notice + parameter + terminated, notice + parameter, false},
		"parks":               {notice + parameter, notice + parameter, true},
		"parks behind two":    {notice + parameter + notice, notice + parameter + notice, true},
	} {
		t.Run(name, func(t *testing.T) {
			onPuttingOff(t, func(t *testing.T, _ forwarder, newPair func() *rig) {
				for _, room := range []int{0, 1000, 4000, 7000} {
					r := newPair()
					_ = r.pair.clientRaw.SetWriteBuffer(64 << 10)
					r.start()
					filled := 0
					r.onLoop(func(run *loopRun) {
						filled = fill(run.client.fd)
						if room > 0 {
							_ = rawOf(r.client).SetReadDeadline(time.Now().Add(patience))
							got, _ := rawOf(r.client).Read(make([]byte, room))
							filled -= got
						}
						if c.park {
							run.wantParked = func() { r.parkedAt <- struct{}{} }
						}
						run.fromServer([]byte(c.said))
					})
					r.expect(r.client, string(make([]byte, filled))+c.want)
					if c.park {
						r.awaitParked()
					} else {
						r.awaitEnd(endKeptBack)
					}
				}
			})
		})
	}
}

// A pair that begins where a login ends may be asked to park at once.
func TestAPairThatParksAsItBeginsHasSaidWhatWasReadBefore(t *testing.T) {
	onPuttingOff(t, func(t *testing.T, f forwarder, newPair func() *rig) {
		r := newPair().start()
		filled := 0
		r.onLoop(func(run *loopRun) {
			filled = fill(run.client.fd)
			r.pair.fromServer = []byte(encode(&pgproto3.ParameterStatus{Name: "a", Value: "b"}))
			run.begin()
			run.park(nil, func() { r.parkedAt <- struct{}{} })
		})
		r.expect(r.client, string(make([]byte, filled))+encode(&pgproto3.ParameterStatus{Name: "a", Value: "b"}))
		r.awaitParked()
	})
}

// A backend that is severed while both directions of its pair are put off: a client that has taken a part of a message is not spoken to.
func TestAClientThatHasTakenAPartIsNotCleanWhereItsBackendIsSevered(t *testing.T) {
	onPuttingOff(t, func(t *testing.T, _ forwarder, newPair func() *rig) {
		for range 50 {
			r := newPair().start()
			r.onLoop(func(run *loopRun) {
				run.fromClient([]byte(simple("never sent")))
				fill(run.client.fd)
				run.fromServer([]byte(done + ready))
				r.pair.backend.toBackend.shut()
			})
			res := r.awaitEnd(endServerLost)
			taken := r.pair.toClient.Load()
			if whole := taken == int64(len(done+ready)); res.clean != whole {
				t.Fatalf("%d bytes taken, clean %v", taken, res.clean)
			} else if !whole {
				return
			}
		}
		t.Error("each time all was taken")
	})
}

// fill sends zeroes until nothing more is taken, and returns how many.
func fill(fd int32) (filled int) {
	zeroes := make([]byte, 64<<10)
	for quiet := 0; quiet < 5; quiet++ { // what is on its way makes room
		for {
			n, _ := send(fd, zeroes)
			if n == 0 {
				break
			}
			filled, quiet = filled+n, 0
		}
		time.Sleep(2 * time.Millisecond)
	}
	return filled
}

// A login that is over in the same wait in which its client says the first thing and goes: what it had read ahead is sent before the end is.
func TestAnEndComesAfterWhatWasPutOff(t *testing.T) {
	onPuttingOff(t, func(t *testing.T, f forwarder, newPair func() *rig) {
		r := newPair().start()
		r.client.write([]byte(simple("first")))
		r.expect(r.server, simple("first"))
		r.onLoop(func(run *loopRun) {
			run.fromClient([]byte(simple("read ahead")))
			_ = rawOf(r.client).CloseWrite()
			run.loop.dispatch(&unix.EpollEvent{Fd: run.slot << 1, Pad: run.loop.slots[run.slot].age, Events: unix.EPOLLIN})
		})
		r.expect(r.server, simple("read ahead"))
		if got := r.server.end(); got != "" {
			t.Errorf("the server got %q more", got)
		}
	})
}

// A client that has reset its connection, and a server that has, are noticed when what was put off for them is sent.
func TestASendThatFailsAfterItWasPutOffEndsItsPairAlone(t *testing.T) {
	onPuttingOff(t, func(t *testing.T, _ forwarder, newPair func() *rig) {
		noClient, noServer, well := newPair().ask(), newPair().ask(), newPair().ask()
		well.onLoop(func(*loopRun) {
			for _, c := range []*testClient{noClient.client, noServer.server} {
				_ = rawOf(c).SetLinger(0)
				_ = c.Close()
			}
			for _, r := range []*rig{noClient, well, noServer} {
				run := r.run()
				run.fromServer([]byte(done + ready))
				run.fromClient([]byte(simple("next")))
			}
		})
		well.expect(well.client, done+ready)
		well.expect(well.server, simple("next"))
		noClient.awaitEnd(endClientLost)
		if res := <-noServer.ended; res.end != endServer && res.end != endServerLost { // who writes is told of the reset, who reads then of the end
			t.Errorf("ended with %d (%v)", res.end, res.err)
		}
		noServer.expect(noServer.client, done+ready)
	})
}

// Of several writes in one call each has its own result; those that the kernel does not accept are left to be made one by one.
func TestEachOfSeveralWritesHasItsOwnResult(t *testing.T) {
	const first, full, gone, shut = 0, 1, 2, 3 // the first is well
	sends := make([]batchedSend, 4)
	outer := make([]*net.TCPConn, 4)
	for i := range sends {
		var fd int32
		if i == full { // a pipe of this kind stays full: nothing of it is on its way
			pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { closeDescriptor(int32(pair[1])) })
			fd = int32(pair[0])
		} else {
			var inner *net.TCPConn
			var err error
			outer[i], inner = tcpPair(t)
			if fd, err = duplicate(inner); err != nil {
				t.Fatal(err)
			}
			_ = inner.Close()
			t.Cleanup(func() { _ = outer[i].Close() })
		}
		t.Cleanup(func() { closeDescriptor(fd) })
		sends[i] = batchedSend{end: &loopEnd{fd: fd}, bytes: bytes.Repeat([]byte{byte('a' + i)}, 100)}
	}
	fill(sends[full].end.fd)
	_ = outer[gone].SetLinger(0)
	_ = outer[gone].Close()
	time.Sleep(10 * time.Millisecond)
	sends[shut].shut = true
	a := newAsyncIO()
	defer a.close()
	check := func(how string, made ...bool) {
		t.Helper()
		for i, want := range []struct {
			n     int
			errno syscall.Errno
		}{first: {n: 100}, full: {errno: syscall.EAGAIN}, gone: {errno: syscall.ECONNRESET}, shut: {}} {
			got := &sends[i]
			reset := want.errno == syscall.ECONNRESET && got.errno == syscall.EPIPE // who asked first has been told of the reset
			if got.n != want.n || got.errno != want.errno && !reset || got.made != made[i] {
				t.Errorf("%s: write %d took %d bytes (%v), want %d (%v); made by the kernel at once: %v", how, i, got.n, got.errno, want.n, want.errno, got.made)
			}
			got.n, got.errno, got.made = 0, 0, false
		}
	}
	b := batch{sends: sends, aio: a}
	b.send()
	check("together", true, true, true, false)
	b.aio = nil
	b.send()
	check("one by one", false, false, false, false)
	b.aio = a
	valid := sends[full].end.fd
	sends[full].end.fd = -1
	if !a.send(sends) || !sends[0].made || sends[full].made || sends[gone].made {
		t.Errorf("those behind one that is no socket are left: %+v", sends)
	}
	sends[full].end.fd = valid
	b.send()
	check("the first for the second time", true, true, true, false)
	a.close()
	b.send()
	check("with a context that is no more", false, false, false, false)
	if b.aio != nil {
		t.Error("it is used again")
	}
	want := strings.Repeat("a", 500)
	r := &rig{t: t}
	r.expect(&testClient{Conn: outer[first], t: t}, want)
}

func TestARoundTripThatIsPutOffAllocatesNothing(t *testing.T) {
	const trips = 5000
	for _, together := range []bool{true, false} {
		f := newPuttingOff(1, together)
		t.Cleanup(f.close)
		if n := allocations(t, newRig(t, f, newTable(), wiring{}, false), trips); n > trips/50 {
			t.Errorf("together %v: %d allocations in %d round trips", together, n, trips)
		}
	}
}

// Messages that are too long to be put off, and those that are not, in turn.
func TestALongMessageDoesNotOvertakeAShortOne(t *testing.T) {
	onPuttingOff(t, func(t *testing.T, _ forwarder, newPair func() *rig) {
		r := newPair().ask()
		row := func(n int) string { return encode(&pgproto3.DataRow{Values: [][]byte{bytes.Repeat([]byte{'r'}, n)}}) }
		var want strings.Builder
		r.onLoop(func(run *loopRun) {
			for _, n := range []int{10, batchedMax, 20, 30, batchedMax - 100, 3 * batchedMax, 1} {
				want.WriteString(row(n))
				run.fromServer([]byte(row(n)))
			}
		})
		r.expect(r.client, want.String())
		r.forwarder.cut(1, pgwire.Killed)
		r.awaitEnd(endCut)
	})
}
