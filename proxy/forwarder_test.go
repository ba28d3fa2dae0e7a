package proxy

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgtether/pgtether/internal/pgwire"
)

// implementations are those of the contract. Every test of this file and of the other forwarder tests runs on each of them.
var implementations = map[string]func() forwarder{
	"goroutines": func() forwarder { return newGoForwarder(testMetrics()) },
}

// rig is one pair with the test on both outer ends.
type rig struct {
	t         testing.TB
	forwarder forwarder
	table     *table
	pair      *pair
	leg       *clientLeg
	// client and server are the outer ends.
	client, server *testClient
	ended          chan result
	parkedAt       chan struct{}
}

// wiring says which legs of a pair are encrypted.
type wiring struct{ client, server bool }

func (w wiring) String() string {
	names := map[bool]string{false: "plain", true: "TLS"}
	return names[w.client] + " to " + names[w.server]
}

// onEach runs a test on every implementation and every wiring.
func onEach(t *testing.T, test func(t *testing.T, newRig func(opaque bool) *rig)) {
	for name, newForwarder := range implementations {
		for _, w := range []wiring{{}, {client: true}, {server: true}, {client: true, server: true}} {
			if w != (wiring{}) && isPlainOnly(name) {
				continue
			}
			t.Run(fmt.Sprintf("%s/%s", name, w), func(t *testing.T) {
				f, tab := newForwarder(), newTable()
				t.Cleanup(f.close)
				test(t, func(opaque bool) *rig { return newRig(t, f, tab, w, opaque) })
			})
		}
	}
}

// isPlainOnly reports whether an implementation differs from others for pairs without TLS only.
func isPlainOnly(implementation string) bool { return strings.Contains(implementation, "put off") }

// newRig wires a pair of epoch 1 and starts nothing.
func newRig(t testing.TB, f forwarder, tab *table, w wiring, opaque bool) *rig {
	t.Helper()
	r := &rig{t: t, forwarder: f, table: tab, ended: make(chan result, 1), parkedAt: make(chan struct{}, 1)}
	outerClient, clientRaw := tcpPair(t)
	outerServer, serverRaw := tcpPair(t)
	r.leg = newClientLeg(clientRaw, patience)
	b := newBackend(tab, testRoute(1), serverRaw, r.leg)
	if !tab.add(b) {
		t.Fatal("epoch 1 is cut already")
	}
	r.pair = &pair{client: clientRaw, clientRaw: clientRaw, backend: b}
	r.client, r.server = &testClient{Conn: outerClient, t: t}, &testClient{Conn: outerServer, t: t}
	if w.client {
		outer, inner := handshake(t, outerClient, clientRaw)
		r.client.Conn, r.pair.client = outer, inner
	}
	if w.server {
		inner := tls.Client(b, &tls.Config{InsecureSkipVerify: true})
		outer := tls.Server(outerServer, testTLS(t))
		shake(t, outer, inner)
		r.server.Conn, b.conn = outer, inner
	}
	if !opaque {
		r.pair.tracker = new(pgwire.Tracker)
		r.pair.tracker.Start('I')
	}
	t.Cleanup(func() { _ = outerClient.Close(); _ = outerServer.Close(); _ = clientRaw.Close(); _ = b.Close() })
	return r
}

// testRoute is a route that no table knows.
func testRoute(epoch uint64) *openRoute {
	return newRoute(Route{Epoch: epoch, Node: "region-a", Address: "127.0.0.1:1"})
}

// ask starts the pair, and has the client ask something that is not answered yet.
func (r *rig) ask() *rig {
	r.start()
	r.client.write([]byte(simple("q")))
	r.expect(r.server, simple("q"))
	return r
}

func (r *rig) start() *rig {
	r.forwarder.start(r.pair, func(res result) { r.ended <- res })
	r.t.Cleanup(func() { r.forwarder.cut(1, pgwire.Killed) })
	return r
}

// park asks for the pair to be parked; awaitParked waits for it.
func (r *rig) park() { r.forwarder.park(r.pair, func() { r.parkedAt <- struct{}{} }) }

func (r *rig) awaitParked() {
	r.t.Helper()
	select {
	case <-r.parkedAt:
	case res := <-r.ended:
		r.t.Fatalf("ended instead of being parked: %+v", res)
	case <-time.After(patience):
		r.t.Fatal("not parked")
	}
}

// awaitEnd waits for the end and checks what ended the pair.
func (r *rig) awaitEnd(want ending) result {
	r.t.Helper()
	select {
	case res := <-r.ended:
		if res.end != want {
			r.t.Errorf("ended with %d (%v), want %d", res.end, res.err, want)
		}
		return res
	case <-time.After(patience):
		r.t.Fatal("did not end")
		return result{}
	}
}

// expect reads exactly what it is told to expect.
func (r *rig) expect(c *testClient, want string) {
	r.t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != want {
		at := 0
		for at < n && got[at] == want[at] {
			at++
		}
		r.t.Errorf("got %d bytes (%v), want %d; after the first %d got %.80q, want %.80q", n, err, len(want), at, got[at:n], want[at:])
	}
}

// tcpPair is a loopback connection: the outer end and the inner one.
func tcpPair(t testing.TB) (outer, inner *net.TCPConn) {
	t.Helper()
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if inner, err = ln.AcceptTCP(); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn), inner
}

// handshake puts TLS on a connection whose inner end is the TLS server's.
func handshake(t testing.TB, outer net.Conn, inner *net.TCPConn) (*tls.Conn, *tls.Conn) {
	t.Helper()
	c, s := tls.Client(outer, &tls.Config{InsecureSkipVerify: true}), tls.Server(newTLSSocket(inner, nil), testTLS(t))
	shake(t, s, c)
	return c, s
}

func shake(t testing.TB, server, client *tls.Conn) {
	t.Helper()
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := server.Handshake(); err != nil {
			t.Error(err)
		}
	})
	if err := client.Handshake(); err != nil {
		t.Error(err)
	}
	wg.Wait()
}

var (
	ready        = encode(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	readyInBlock = encode(&pgproto3.ReadyForQuery{TxStatus: 'T'})
	done         = encode(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
	terminated   = encode(&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "57P01",
		Message: "terminating connection due to administrator command"})
	crashed = encode(&pgproto3.NoticeResponse{Severity: "WARNING", SeverityUnlocalized: "WARNING", Code: "57P02",
		Message: "terminating connection because of crash of another server process"})
	idleTimeout = encode(&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "57P05",
		Message: "terminating connection due to idle-session timeout"})
)

func simple(sql string) string { return string(appendQuery(nil, sql)) }

func TestForwarderPassesWhatWasReadBeforeFirst(t *testing.T) {
	onEach(t, func(t *testing.T, newRig func(bool) *rig) {
		r := newRig(false)
		r.pair.fromClient, r.pair.fromServer = []byte(simple("one")), []byte(done+ready)
		r.start()
		r.client.write([]byte(simple("two")))
		r.expect(r.server, simple("one")+simple("two"))
		r.server.write([]byte(done + ready))
		r.expect(r.client, done+ready+done+ready)
		// The count follows the write, which the server may see before it returns.
		want := int64(len(simple("one") + simple("two")))
		for end := time.Now().Add(10 * time.Second); r.pair.toServer.Load() != want; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("counted %d bytes to the server, want %d", r.pair.toServer.Load(), want)
			}
		}
	})
}

// The half-close table: who ends first, with what under way, and what arrives on the other side.
func TestForwarderPassesEachEndOnByItself(t *testing.T) {
	halfClose := func(c *testClient) { _ = c.Conn.(interface{ CloseWrite() error }).CloseWrite() }
	cases := []struct {
		name string
		play func(r *rig)
		want ending
	}{
		{"client ends while idle", func(r *rig) {
			halfClose(r.client)
			r.expect(r.server, "")
			if rest := r.server.end(); rest != "" {
				r.t.Errorf("the server got %q", rest)
			}
			_ = r.server.Close()
		}, endClient},
		{"client ends with a statement running: its result is delivered", func(r *rig) {
			r.client.write([]byte(simple("slow")))
			halfClose(r.client)
			if got := r.server.end(); got != simple("slow") {
				r.t.Errorf("the server got %q", got)
			}
			r.server.write([]byte(done + ready))
			r.expect(r.client, done+ready)
			_ = r.server.Close()
		}, endClient},
		{"statement and Terminate in one segment: both arrive", func(r *rig) {
			r.client.write([]byte(simple("last") + string(sayTerminate)))
			r.expect(r.server, simple("last")+string(sayTerminate))
			r.server.write([]byte(done + ready))
			_ = r.server.Close()
			r.expect(r.client, done+ready)
		}, endServer},
		{"server ends with data under way: all of it is delivered", func(r *rig) {
			r.client.write([]byte(simple("much")))
			r.expect(r.server, simple("much"))
			row := encode(&pgproto3.DataRow{Values: [][]byte{make([]byte, 500_000)}})
			go func() { r.server.write([]byte(row)); _ = r.server.Close() }()
			r.expect(r.client, row)
		}, endServer},
		{"server ends while idle", func(r *rig) { _ = r.server.Close() }, endServer},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			onEach(t, func(t *testing.T, newRig func(bool) *rig) {
				r := newRig(false).start()
				c.play(r)
				r.awaitEnd(c.want)
			})
		})
	}
}

// rawOf is the connection below TLS, if there is TLS.
func rawOf(c *testClient) *net.TCPConn {
	if raw, ok := c.Conn.(*net.TCPConn); ok {
		return raw
	}
	return c.Conn.(*tls.Conn).NetConn().(*net.TCPConn)
}

func TestForwarderNoticesResets(t *testing.T) {
	reset := func(c *testClient) {
		raw := rawOf(c)
		_ = raw.SetLinger(0)
		_ = raw.Close()
	}
	onEach(t, func(t *testing.T, newRig func(bool) *rig) {
		r := newRig(false).start()
		r.client.write([]byte(simple("slow")))
		r.expect(r.server, simple("slow"))
		reset(r.client)
		r.awaitEnd(endClientLost)

		r = newRig(false).start()
		r.client.write([]byte(simple("slow")))
		r.expect(r.server, simple("slow"))
		reset(r.server)
		if res := r.awaitEnd(endServerLost); !res.clean {
			t.Error("the client got whole messages only, yet the result is not clean")
		}
	})
}

// A client that has closed both directions looks like one that has closed one of them, until it is written to or the kernel gives up on it.
func TestForwarderNoticesAClientThatClosedBothWays(t *testing.T) {
	onEach(t, func(t *testing.T, newRig func(bool) *rig) {
		r := newRig(false).start()
		r.client.write([]byte(simple("slow")))
		r.expect(r.server, simple("slow"))
		_ = r.client.Close()
		for len(r.ended) == 0 { // the first row gets a reset for an answer
			_, _ = r.server.Write([]byte(encode(&pgproto3.DataRow{Values: [][]byte{[]byte("row")}})))
			time.Sleep(time.Millisecond)
		}
		r.awaitEnd(endClientLost)
	})
}

func TestForwarderServesWhatCameBeforeTerminateEvenIfTheClientIsGone(t *testing.T) {
	onEach(t, func(t *testing.T, newRig func(bool) *rig) {
		r := newRig(false).start()
		r.client.write([]byte(simple("commit") + string(sayTerminate)))
		_ = r.client.Close()
		r.expect(r.server, simple("commit")+string(sayTerminate))
		for range 5 { // nobody reads this
			r.server.write([]byte(encode(&pgproto3.NoticeResponse{Severity: "NOTICE", Message: strings.Repeat("x", 1000)})))
			time.Sleep(time.Millisecond)
		}
		r.server.write([]byte(done + ready))
		select {
		case res := <-r.ended:
			t.Fatalf("ended with %d before the server had closed the connection", res.end)
		case <-time.After(20 * time.Millisecond):
		}
		_ = r.server.Close()
		select {
		case res := <-r.ended:
			if res.end != endClient && res.end != endServer {
				t.Errorf("ended with %d: %v", res.end, res.err)
			}
		case <-time.After(patience):
			t.Fatal("did not end")
		}
	})
}

func TestForwarderDeliversTheLastWordsOfAServerThatCannotBeWrittenTo(t *testing.T) {
	onEach(t, func(t *testing.T, newRig func(bool) *rig) {
		r := newRig(false)
		_ = r.pair.backend.raw.CloseWrite() // from now on every write to the server fails
		r.start()
		r.client.write([]byte(simple("hello")))
		// Said to a session that still looks idle, the words would be kept back.
		eventually(t, "the statement is on its way to the server", func() bool { return r.forwarder.states().Active == 1 })
		time.Sleep(5 * time.Millisecond) // so that the write has failed by then, as a rule: the words arrive either way
		r.server.write([]byte(terminated))
		r.expect(r.client, terminated)
		_ = r.server.Close()
		if res := <-r.ended; res.end != endServer && res.end != endServerLost {
			t.Errorf("ended with %d: %v", res.end, res.err)
		}
	})
}
