package pgwire_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/pgtether/pgtether/internal/pgwire"
)

// relay stands between a client and a logged-in backend connection, as the data plane does: one goroutine for each direction, reads of any size,
// each byte accounted before it is written.
type relay struct {
	tracker   pgwire.Tracker
	client    net.Conn // the relay's end of the connection to the client
	server    net.Conn
	pid       uint32
	done      sync.WaitGroup
	forwarded atomic.Int64 // bytes written to the server
	end       func()       // closes all connections and waits; may be called again

	mu   sync.Mutex
	kept []byte // what the tracker has kept back; the relay to the client stops there
}

// truthTexts are shared by all relayed sessions.
var truthTexts = pgwire.NewTexts()

// startRelay logs in to dsn and returns the client's end of a relayed session.
func startRelay(t *testing.T, dsn string, seed uint64) (*relay, net.Conn) {
	t.Helper()
	conn, err := pgconn.Connect(context.Background(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	// After a write that took long pgx reads in the background, and would take what the relay is to see.
	if err := conn.SyncConn(context.Background()); err != nil {
		t.Fatal(err)
	}
	session, err := conn.Hijack()
	if err != nil {
		t.Fatal(err)
	}
	if n := session.Frontend.ReadBufferLen(); n != 0 {
		t.Fatalf("%d bytes were read ahead during the login", n)
	}
	r := &relay{server: session.Conn, pid: session.PID}
	r.tracker.Remember(truthTexts)
	r.tracker.Start(session.TxStatus)
	client := r.listen(t)
	r.done.Add(2)
	go r.toServer(rand.New(rand.NewPCG(seed, 1)))
	go r.toClient(rand.New(rand.NewPCG(seed, 2)))
	r.end = func() {
		client.Close()
		r.server.Close()
		r.client.Close()
		r.done.Wait()
	}
	t.Cleanup(r.end)
	return r, client
}

// listen makes a connection over loopback, for its buffers, and returns the client's end.
func (r *relay) listen(t *testing.T) net.Conn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if r.client, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return client
}

// readSize is often small, so that headers and bodies are split everywhere.
func readSize(rng *rand.Rand) int {
	if rng.IntN(3) == 0 {
		return 1 + rng.IntN(12)
	}
	return 1 + rng.IntN(8192)
}

func (r *relay) toServer(rng *rand.Rand) {
	defer r.done.Done()
	buf := make([]byte, 8192)
	for {
		n, err := r.client.Read(buf[:readSize(rng)])
		if err != nil {
			return
		}
		r.tracker.Client(buf[:n])
		if _, err := r.server.Write(buf[:n]); err != nil {
			return
		}
		r.forwarded.Add(int64(n))
	}
}

func (r *relay) toClient(rng *rand.Rand) {
	defer r.done.Done()
	buf := make([]byte, 8192)
	for {
		n, err := r.server.Read(buf[:readSize(rng)])
		if err != nil {
			return
		}
		pass, stop := r.tracker.Server(buf[:n])
		if _, err := r.client.Write(buf[:pass]); err != nil {
			return
		}
		if stop {
			r.keep(buf[pass:n])
			return
		}
	}
}

// keep takes all the server still says, without relaying it.
func (r *relay) keep(first []byte) {
	all := append([]byte(nil), first...)
	rest, err := io.ReadAll(r.server)
	if err != nil && !errors.Is(err, net.ErrClosed) {
		all = nil
	}
	r.mu.Lock()
	r.kept = append(all, rest...)
	r.mu.Unlock()
	r.client.Close()
}

// truthClient speaks raw messages and reads until it has as many ReadyForQuery as it expects.
type truthClient struct {
	t        *testing.T
	conn     net.Conn
	frontend *pgproto3.Frontend
	status   byte // of the last ReadyForQuery
	sent     int64
}

func newTruthClient(t *testing.T, conn net.Conn) *truthClient {
	return &truthClient{t: t, conn: conn, frontend: pgproto3.NewFrontend(conn, conn), status: 'I'}
}

func (c *truthClient) send(list ...pgproto3.FrontendMessage) {
	c.t.Helper()
	var b []byte
	for _, m := range list {
		var err error
		if b, err = m.Encode(b); err != nil {
			c.t.Fatal(err)
		}
	}
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatal(err)
	}
	c.sent += int64(len(b))
}

// receive returns the next message's type, as on the wire.
func (c *truthClient) receive() byte {
	c.t.Helper()
	m, err := c.frontend.Receive()
	if err != nil {
		c.t.Fatalf("receive: %s", err.Error())
	}
	switch m := m.(type) {
	case *pgproto3.ReadyForQuery:
		c.status = m.TxStatus
		return 'Z'
	case *pgproto3.ErrorResponse:
		return 'E'
	case *pgproto3.CopyInResponse:
		return 'G'
	case *pgproto3.CommandComplete:
		return 'C'
	}
	return '.'
}

// until reads up to the first message of one of the types and returns its type.
func (c *truthClient) until(types ...byte) byte {
	c.t.Helper()
	for {
		typ := c.receive()
		for _, want := range types {
			if typ == want {
				return typ
			}
		}
	}
}

// ready reads n ReadyForQuery.
func (c *truthClient) ready(n int) {
	c.t.Helper()
	for range n {
		c.until('Z')
	}
}
