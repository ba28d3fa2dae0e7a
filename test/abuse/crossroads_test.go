package abuse

import (
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgtether/pgtether/internal/pgwire"
)

// crossroads stands where the proxy believes the node to be. Probes and honest clients get through to the real server; a client whose
// application_name names an act gets that act in the server's place.
type crossroads struct {
	ln     *net.TCPListener
	target string
	// cancels counts the CancelRequests that came, logins the startup packets that were not a probe's.
	cancels, logins atomic.Int64
	// staged numbers the acts.
	staged atomic.Int64
	// witness is a session that nobody has touched.
	witness *peer
	// toTLS, when set, answers SSLRequests in the place of an honest 'N'.
	toTLS atomic.Pointer[func(*impostor)]

	conns sync.WaitGroup
	mu    sync.Mutex
	acts  map[string]*act
	open  map[*net.TCPConn]struct{}
}

// act is what a hostile server does with a connection.
type act struct {
	play func(*impostor)
	// times is how many connections get it; those that follow are served by the real server. 0 means every one. The crossroads' mu guards played: a
	// login that has had its answer may still be on its way to the next server.
	times, played int
}

// impostor is one connection that an act has.
type impostor struct {
	conn    *net.TCPConn
	target  string
	startup []byte
}

func startCrossroads(t testing.TB, target string) *crossroads {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	x := &crossroads{ln: ln.(*net.TCPListener), target: target, acts: map[string]*act{}, open: map[*net.TCPConn]struct{}{}}
	x.conns.Go(x.accept)
	t.Cleanup(x.close)
	return x
}

func (x *crossroads) addr() string { return x.ln.Addr().String() }

func (x *crossroads) accept() {
	for {
		conn, err := x.ln.AcceptTCP()
		if err != nil {
			return
		}
		x.mu.Lock()
		x.open[conn] = struct{}{}
		x.mu.Unlock()
		x.conns.Go(func() {
			defer x.drop(conn)
			x.serve(conn)
		})
	}
}

func (x *crossroads) drop(conn *net.TCPConn) {
	_ = conn.Close()
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.open, conn)
}

// close ends every connection and waits for what serves it.
func (x *crossroads) close() {
	_ = x.ln.Close()
	x.mu.Lock()
	for conn := range x.open {
		_ = conn.Close()
	}
	x.mu.Unlock()
	x.conns.Wait()
}

// stage gives connections with the name to the act.
func (x *crossroads) stage(name string, a *act) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.acts[name] = a
}

// casting returns the act for a startup packet, nil when the real server is meant.
func (x *crossroads) casting(startup []byte) func(*impostor) {
	s, err := pgwire.ParseStartup(startup)
	if err != nil {
		return nil
	}
	name, _ := s.Get("application_name")
	if !strings.HasPrefix(name, "pgtether/") {
		x.logins.Add(1)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	a := x.acts[name]
	if a == nil || a.times > 0 && a.played >= a.times {
		return nil
	}
	a.played++
	return a.play
}

// played is how many connections an act has had.
func (x *crossroads) played(a *act) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return a.played
}

func (x *crossroads) serve(conn *net.TCPConn) {
	for {
		p, err := pgwire.ReadPacket(conn)
		if err != nil {
			return
		}
		switch p.Kind {
		case pgwire.KindSSLRequest, pgwire.KindGSSENCRequest:
			if toTLS := x.toTLS.Load(); toTLS != nil && p.Kind == pgwire.KindSSLRequest {
				(*toTLS)(&impostor{conn: conn, target: x.target})
				return
			}
			if _, err := io.WriteString(conn, "N"); err != nil {
				return
			}
		case pgwire.KindCancel:
			x.cancels.Add(1)
			lead(conn, x.target, p.Raw)
			return
		default:
			i := &impostor{conn: conn, target: x.target, startup: p.Raw}
			if play := x.casting(p.Raw); play != nil {
				play(i)
			} else {
				lead(conn, x.target, p.Raw)
			}
			return
		}
	}
}

// lead ties a connection to the real server, which gets first what was read already.
func lead(conn *net.TCPConn, target string, first []byte) {
	c, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	server := c.(*net.TCPConn)
	defer server.Close()
	if _, err := server.Write(first); err != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(server, conn)
		_ = server.CloseWrite()
	}()
	_, _ = io.Copy(conn, server)
	_ = conn.Close()
	<-done
}

// say sends words. The proxy may have gone by then.
func (i *impostor) say(words ...string) { _, _ = io.WriteString(i.conn, strings.Join(words, "")) }

// hear reads one message of the client's.
func (i *impostor) hear() {
	var head [5]byte
	if _, err := io.ReadFull(i.conn, head[:]); err == nil {
		_, _ = io.CopyN(io.Discard, i.conn, int64(binary.BigEndian.Uint32(head[1:]))-4)
	}
}

// wait listens until the proxy ends the connection.
func (i *impostor) wait() { _, _ = io.Copy(io.Discard, i.conn) }

// reset makes the end of the act a reset.
func (i *impostor) reset() { _ = i.conn.SetLinger(0) }

// asReal relays the real server's messages until before returns true for one; n counts them from 0. It returns that message, whole.
func (i *impostor) asReal(before func(n int, typ byte) bool) (message []byte) {
	c, err := net.Dial("tcp", i.target)
	if err != nil {
		return nil
	}
	defer c.Close()
	if _, err := c.Write(i.startup); err != nil {
		return nil
	}
	done := make(chan struct{})
	defer func() {
		_ = c.Close()
		_ = i.conn.SetReadDeadline(time.Unix(1, 0))
		<-done
		_ = i.conn.SetReadDeadline(time.Time{})
	}()
	go func() {
		defer close(done)
		_, _ = io.Copy(c, i.conn)
	}()
	for n := 0; ; n++ {
		message := make([]byte, 5)
		if _, err := io.ReadFull(c, message); err != nil {
			return nil
		}
		message = append(message, make([]byte, binary.BigEndian.Uint32(message[1:])-4)...)
		if _, err := io.ReadFull(c, message[5:]); err != nil {
			return nil
		}
		if before(n, message[0]) {
			return message
		}
		i.say(string(message))
	}
}
