package proxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgtether/pgtether/internal/pgwire"
)

// patience bounds every wait of these tests. It is long because the machine may be busy; nothing waits for it to pass.
const patience = 20 * time.Second

// fakePG is a scripted PostgreSQL server.
type fakePG struct {
	t    testing.TB
	addr string
	// pid numbers the backends.
	pid atomic.Uint32
	// cancels receives the key of every CancelRequest.
	cancels chan pgwire.CancelKey

	ln    net.Listener
	wg    sync.WaitGroup
	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

// fakeConn is one connection to a fakePG.
type fakeConn struct {
	net.Conn
	pg      *fakePG
	key     pgwire.CancelKey
	startup []byte           // as received
	asked   func(sql string) // told of each query before it is answered; may be nil
}

// startFakePG serves each connection with script, which gets it before the first byte was read.
func startFakePG(t testing.TB, script func(*fakeConn)) *fakePG {
	t.Helper()
	return startFakePGAt(t, "127.0.0.1:0", script)
}

func startFakePGAt(t testing.TB, address string, script func(*fakeConn)) *fakePG {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	pg := &fakePG{t: t, addr: ln.Addr().String(), ln: ln, cancels: make(chan pgwire.CancelKey, 100), conns: map[net.Conn]struct{}{}}
	pg.pid.Store(1000)
	pg.wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			pg.mu.Lock()
			pg.conns[conn] = struct{}{}
			pg.mu.Unlock()
			pg.wg.Go(func() {
				defer pg.drop(conn)
				script(&fakeConn{Conn: conn, pg: pg})
			})
		}
	})
	t.Cleanup(pg.close)
	return pg
}

func (pg *fakePG) drop(conn net.Conn) {
	_ = conn.Close()
	pg.mu.Lock()
	defer pg.mu.Unlock()
	delete(pg.conns, conn)
}

// close ends the server and every connection.
func (pg *fakePG) close() {
	_ = pg.ln.Close()
	pg.mu.Lock()
	for conn := range pg.conns {
		_ = conn.Close()
	}
	pg.mu.Unlock()
	pg.wg.Wait()
}

// count is how many connections are open.
func (pg *fakePG) count() int {
	pg.mu.Lock()
	defer pg.mu.Unlock()
	return len(pg.conns)
}

func (pg *fakePG) route(epoch uint64) Route {
	return Route{Epoch: epoch, Node: "region-a", Address: pg.addr}
}

// accept reads the startup packet; false means that the connection is over (a cancel request, or the peer went away).
func (c *fakeConn) accept() bool {
	for {
		p, err := pgwire.ReadPacket(c)
		if err != nil {
			return false
		}
		switch p.Kind {
		case pgwire.KindSSLRequest, pgwire.KindGSSENCRequest:
			c.send("N")
		case pgwire.KindCancel:
			key, err := pgwire.ParseCancel(p.Raw)
			if err == nil {
				c.pg.cancels <- key
			}
			return false
		default:
			c.startup = p.Raw
			return true
		}
	}
}

func (c *fakeConn) send(s string) { _, _ = io.WriteString(c, s) }

func (c *fakeConn) sendMessages(messages ...pgproto3.BackendMessage) { c.send(encode(messages...)) }

// encode renders a server's messages.
func encode(messages ...pgproto3.BackendMessage) string {
	var b []byte
	for _, m := range messages {
		var err error
		if b, err = m.Encode(b); err != nil {
			panic(err)
		}
	}
	return string(b)
}

// loggedIn says everything from AuthenticationOk to ReadyForQuery; standby is in_hot_standby, not reported when empty.
func (c *fakeConn) loggedIn(standby string) {
	n := keyLength30
	if binary.BigEndian.Uint32(c.startup[4:]) >= uint32(pgwire.Version32) {
		n = keyLength32
	}
	c.key = pgwire.CancelKey{PID: c.pg.pid.Add(1), Secret: []byte(strings.Repeat("k", n))}
	c.sendMessages(&pgproto3.AuthenticationOk{})
	if standby != "" {
		c.sendMessages(&pgproto3.ParameterStatus{Name: "in_hot_standby", Value: standby})
	}
	c.sendMessages(&pgproto3.ParameterStatus{Name: "server_version", Value: "15.0"},
		&pgproto3.BackendKeyData{ProcessID: c.key.PID, SecretKey: c.key.Secret}, &pgproto3.ReadyForQuery{TxStatus: 'I'})
}

// read reads one message of the client's.
func (c *fakeConn) read() (typ byte, body []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n < 4 || n > 1<<20 {
		return 0, nil, errors.New("bad length from the proxy")
	}
	body = make([]byte, n-4)
	_, err = io.ReadFull(c, body)
	return head[0], body, err
}

// serve answers queries until the client ends: "begin" and "commit" open and close a block, "fail" fails, what contains "silent" is never answered,
// everything else is echoed as one row.
func (c *fakeConn) serve() {
	status := byte('I')
	for {
		typ, body, err := c.read()
		if err != nil || typ == 'X' {
			return
		}
		if typ != 'Q' {
			continue
		}
		sql := strings.TrimRight(string(body), "\x00")
		if c.asked != nil {
			c.asked(sql)
		}
		switch {
		case sql == "begin":
			status = 'T'
		case sql == "commit":
			status = 'I'
		case strings.Contains(sql, "silent"):
			continue
		case sql == "fail":
			c.sendMessages(&pgproto3.ErrorResponse{Severity: "ERROR", Code: "42601", Message: "syntax error"})
		}
		c.sendMessages(&pgproto3.DataRow{Values: [][]byte{[]byte(sql)}}, &pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")},
			&pgproto3.ReadyForQuery{TxStatus: status})
	}
}

// serveAs lets the client in and answers its queries; standby is as of loggedIn.
func (c *fakeConn) serveAs(standby string) {
	c.loggedIn(standby)
	c.serve()
}

// aPrimary is the script of an ordinary writer without passwords.
func aPrimary(c *fakeConn) {
	if c.accept() {
		c.serveAs("off")
	}
}

// withPassword is the script of a writer that asks for a cleartext password and takes any.
func withPassword(c *fakeConn) {
	if !c.accept() {
		return
	}
	c.sendMessages(&pgproto3.AuthenticationCleartextPassword{})
	if typ, _, err := c.read(); err != nil || typ != 'p' {
		return
	}
	c.loggedIn("off")
	c.serve()
}

// startupPacket renders a startup packet: pairs of names and values.
func startupPacket(version pgwire.Version, params ...string) []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 4), uint32(version))
	for _, p := range params {
		b = append(append(b, p...), 0)
	}
	b = append(b, 0)
	binary.BigEndian.PutUint32(b, uint32(len(b)))
	return b
}

// testClient is a client that is driven message by message.
type testClient struct {
	net.Conn
	t testing.TB
}

// messages reads until ReadyForQuery, an error of FATAL severity, or the end, and renders what came.
func (c *testClient) messages() []string {
	c.t.Helper()
	var out []string
	for {
		m, err := c.message()
		if err != nil {
			return append(out, "EOF")
		}
		out = append(out, m)
		if m[0] == 'Z' || strings.HasPrefix(m, "E FATAL") {
			return out
		}
	}
}

// message reads and renders one message.
func (c *testClient) message() (string, error) {
	typ, body, err := c.frame()
	if err != nil {
		return "", err
	}
	return render(typ, body), nil
}

// frame reads one message.
func (c *testClient) frame() (typ byte, body []byte, err error) {
	_ = c.SetReadDeadline(time.Now().Add(patience))
	var head [5]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return 0, nil, err
	}
	body = make([]byte, binary.BigEndian.Uint32(head[1:])-4)
	_, err = io.ReadFull(c, body)
	return head[0], body, err
}

func render(typ byte, body []byte) string {
	switch typ {
	case 'E', 'N':
		f, err := pgwire.ParseErrorFields(body)
		if err != nil {
			return fmt.Sprintf("%c malformed %q", typ, body)
		}
		return fmt.Sprintf("%c %s %s %s", typ, f.Severity, f.SQLState, f.Message)
	case 'D':
		return fmt.Sprintf("D %s", body[6:])
	case 'R':
		return fmt.Sprintf("R %d", binary.BigEndian.Uint32(body))
	case 'K':
		return fmt.Sprintf("K %d secret of %d", binary.BigEndian.Uint32(body), len(body)-4)
	default:
		return strings.TrimRight(fmt.Sprintf("%c %s", typ, strings.ReplaceAll(string(body), "\x00", " ")), " ")
	}
}

func (c *testClient) write(b []byte) {
	c.t.Helper()
	if _, err := c.Write(b); err != nil {
		c.t.Errorf("client cannot write: %v", err)
	}
}

// query sends a simple query and returns the answer.
func (c *testClient) query(sql string) []string {
	c.t.Helper()
	c.write(appendQuery(nil, sql))
	return c.messages()
}

// end reads to the end of the stream and returns what came.
func (c *testClient) end() string {
	_ = c.SetReadDeadline(time.Now().Add(patience))
	b, err := io.ReadAll(c)
	if err != nil {
		return fmt.Sprintf("%q then %v", b, err)
	}
	return string(b)
}

// queryMessage is a simple query as a driver's message.
func queryMessage(sql string) *pgproto3.Query { return &pgproto3.Query{String: sql} }
