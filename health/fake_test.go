package health

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgtether/pgtether/decision"
)

// step is one thing that a scripted server does on a connection. An error ends the connection.
type step func(c *fakeConn) error

type fakeConn struct {
	net.Conn
	startup map[string]string
	nonce   string
	closing chan struct{} // closed when the test ends

	fake     *fake
	backend  *pgproto3.Backend // of serve
	prepared map[string]string
}

// fake is a scripted server: every connection runs the steps in order and is closed after the last one.
type fake struct {
	addr  string
	close func() // nobody is accepted any more
	dials atomic.Int64
	syncs atomic.Int64 // that serve has answered

	mu       sync.Mutex
	startups []map[string]string
}

func newFake(t *testing.T, steps ...step) *fake {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{addr: ln.Addr().String(), close: func() { ln.Close() }}
	closing := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			f.dials.Add(1)
			wg.Go(func() { f.serve(&fakeConn{Conn: conn, closing: closing, fake: f}, steps) })
		}
	})
	t.Cleanup(func() {
		close(closing)
		ln.Close()
		wg.Wait()
	})
	return f
}

func (f *fake) serve(c *fakeConn, steps []step) {
	raw := c.Conn // a step may put TLS over it
	defer raw.Close()
	go func() {
		<-c.closing
		raw.Close()
	}()
	for _, do := range steps {
		if err := do(c); err != nil {
			return
		}
		if c.startup != nil {
			f.mu.Lock()
			f.startups = append(f.startups, c.startup)
			f.mu.Unlock()
			c.startup = nil
		}
	}
}

// seen returns the parameters of the startup packets so far.
func (f *fake) seen() []map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]map[string]string(nil), f.startups...)
}

func readStartup(c *fakeConn) error {
	var head [4]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return err
	}
	body := make([]byte, binary.BigEndian.Uint32(head[:])-4)
	if _, err := io.ReadFull(c, body); err != nil {
		return err
	}
	c.startup = map[string]string{}
	fields := strings.Split(string(body[4:]), "\x00")
	for i := 0; i+1 < len(fields) && fields[i] != ""; i += 2 {
		c.startup[fields[i]] = fields[i+1]
	}
	return nil
}

func readMessage(c *fakeConn) error {
	var head [5]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return err
	}
	body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
	_, err := io.ReadFull(c, body)
	if i := bytes.Index(body, []byte("r=")); i >= 0 {
		c.nonce = string(body[i+2:])
	}
	return err
}

// untilSync reads messages up to and including the nth Sync, or a simple query (the replication connection sends those).
func untilSync(n int) step {
	return func(c *fakeConn) error {
		for n := n; n > 0; {
			var head [5]byte
			if _, err := io.ReadFull(c, head[:]); err != nil {
				return err
			}
			if _, err := io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint32(head[1:]))-4); err != nil {
				return err
			}
			switch head[0] {
			case 'S':
				n--
			case 'Q':
				return nil
			}
		}
		return nil
	}
}

func send(raw string) step {
	return func(c *fakeConn) error {
		_, err := io.WriteString(c, raw)
		return err
	}
}

func say(messages ...pgproto3.BackendMessage) step {
	return func(c *fakeConn) error {
		var buf []byte
		for _, m := range messages {
			var err error
			if buf, err = m.Encode(buf); err != nil {
				return err
			}
		}
		_, err := c.Write(buf)
		return err
	}
}

func fatal(code, message string) step {
	return say(&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: code, Message: message})
}

// tell answers all statements of a round with these rows; every column is text.
func tell(answers []answer) step {
	var all []pgproto3.BackendMessage
	for _, a := range answers {
		all = append(all, &pgproto3.ParseComplete{}, &pgproto3.BindComplete{})
		all = append(all, described(a))
		all = append(all, executed(a)...)
		all = append(all, &pgproto3.ReadyForQuery{TxStatus: 'I'})
	}
	return say(all...)
}

// serve answers what it is asked, prepared or not, with these answers to the statements of a round, until a round is over.
func serve(answers []answer) step {
	answers = slices.Clone(answers)
	sign := row{}
	for _, name := range []string{"in_recovery", "started", "transaction_read_only"} {
		if v, ok := answers[askCore].rows[0][name]; ok {
			sign[name] = v
		}
	}
	loaded := answer{}
	for _, r := range answers[askSettings].rows {
		switch name := r["name"]; name {
		case "default_transaction_read_only", "synchronous_commit":
			sign[name] = r["setting"]
		case loadedName:
			loaded.rows = []row{r}
		}
	}
	core := maps.Clone(answers[askCore].rows[0])
	maps.Copy(core, sign)
	answers[askCore].rows = []row{core}
	known := map[string]answer{confirmStatement: {rows: []row{sign}}, loadedStatement: loaded}
	all := statements(15)
	for i, sql := range all {
		known[sql] = answers[i]
	}
	known[lockStatement] = answers[askLock]
	last := []string{confirmStatement, all[statementCount-1]}
	return func(c *fakeConn) error {
		if c.backend == nil {
			c.backend, c.prepared = pgproto3.NewBackend(c, c), map[string]string{}
		}
		backend := c.backend
		failed := false // what follows is skipped, up to the next Sync
		for sql := ""; ; {
			m, err := backend.Receive()
			if err != nil {
				return err
			}
			if _, sync := m.(*pgproto3.Sync); failed && !sync {
				continue
			}
			switch m := m.(type) {
			case *pgproto3.Parse:
				c.prepared[m.Name], sql = m.Query, m.Query
				backend.Send(&pgproto3.ParseComplete{})
			case *pgproto3.Bind:
				sql = c.prepared[m.PreparedStatement]
				backend.Send(&pgproto3.BindComplete{})
			case *pgproto3.Describe:
				if m.ObjectType == 'S' {
					backend.Send(&pgproto3.ParameterDescription{})
				}
				backend.Send(described(known[sql]))
			case *pgproto3.Execute:
				if failed = known[sql].err != nil; failed {
					backend.Send(statementError("42501", known[sql].err.Error()))
					continue
				}
				for _, m := range executed(known[sql]) {
					backend.Send(m)
				}
			case *pgproto3.Sync:
				c.fake.syncs.Add(1)
				backend.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
				if err := backend.Flush(); err != nil || !failed && slices.Contains(last, sql) {
					return err
				}
				failed = false
			case *pgproto3.Query: // no replication here
				return io.EOF
			}
		}
	}
}

// columns are the names of an answer's columns.
func columns(a answer) []string {
	if len(a.rows) == 0 {
		return nil
	}
	return slices.Sorted(maps.Keys(a.rows[0]))
}

// described are the columns of an answer, every one of them text.
func described(a answer) *pgproto3.RowDescription {
	description := &pgproto3.RowDescription{}
	for _, name := range columns(a) {
		description.Fields = append(description.Fields, pgproto3.FieldDescription{Name: []byte(name), DataTypeOID: 25})
	}
	return description
}

// executed are the rows of an answer and its end.
func executed(a answer) []pgproto3.BackendMessage {
	var all []pgproto3.BackendMessage
	for _, r := range a.rows {
		data := &pgproto3.DataRow{}
		for _, name := range columns(a) {
			data.Values = append(data.Values, []byte(r[name]))
		}
		all = append(all, data)
	}
	return append(all, &pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
}

// announce reads the first statement and answers up to its columns, as a server does to one that is prepared first or not.
func announce(columns ...pgproto3.FieldDescription) step {
	return func(c *fakeConn) error {
		description := &pgproto3.RowDescription{Fields: columns}
		backend := pgproto3.NewBackend(c, c)
		var step, answer []pgproto3.BackendMessage
		for {
			m, err := backend.Receive()
			if err != nil {
				return err
			}
			switch m := m.(type) {
			case *pgproto3.Parse:
				step = append(step, &pgproto3.ParseComplete{})
			case *pgproto3.Bind:
				step = append(step, &pgproto3.BindComplete{})
			case *pgproto3.Describe:
				if m.ObjectType == 'S' {
					step = append(step, &pgproto3.ParameterDescription{})
				}
				step = append(step, description)
			case *pgproto3.Execute:
				if answer == nil {
					answer = step
				}
			case *pgproto3.Query: // the replication connection
				return say(&pgproto3.ParseComplete{}, &pgproto3.BindComplete{}, description)(c)
			case *pgproto3.Sync:
				return say(answer...)(c)
			}
		}
	}
}

// failing has all statements fail.
func failing(code, message string) step {
	read, answer := untilSync(1), say(statementError(code, message), &pgproto3.ReadyForQuery{TxStatus: 'I'})
	return func(c *fakeConn) error {
		for {
			if err := read(c); err != nil {
				return err
			}
			if err := answer(c); err != nil {
				return err
			}
		}
	}
}

func statementError(code, message string) *pgproto3.ErrorResponse {
	return &pgproto3.ErrorResponse{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: code, Message: message}
}

// login is trust authentication of a PostgreSQL 15 that is then ready.
func login() step {
	return say(&pgproto3.AuthenticationOk{}, &pgproto3.ParameterStatus{Name: "server_version", Value: "15.12"},
		&pgproto3.BackendKeyData{ProcessID: 42, SecretKey: []byte{1, 2, 3, 4}}, &pgproto3.ReadyForQuery{TxStatus: 'I'})
}

func askSCRAM(c *fakeConn) error {
	return say(&pgproto3.AuthenticationSASL{AuthMechanisms: []string{"SCRAM-SHA-256"}})(c)
}

// iterations answers the client's first SCRAM message.
func iterations(n int) step {
	return func(c *fakeConn) error {
		first := fmt.Sprintf("r=%sserver,s=c2FsdHNhbHRzYWx0c2FsdA==,i=%d", c.nonce, n)
		return say(&pgproto3.AuthenticationSASLContinue{Data: []byte(first)})(c)
	}
}

// hang keeps the connection open and silent.
func hang(c *fakeConn) error {
	<-c.closing
	return io.EOF
}

// swallow reads and never writes, until the client is gone.
func swallow(c *fakeConn) error {
	_, err := io.Copy(io.Discard, c)
	return err
}

func reset(c *fakeConn) error {
	return c.Conn.(*net.TCPConn).SetLinger(0)
}

// pause lets the client take what was sent before, so that what follows comes by itself.
func pause(c *fakeConn) error {
	select {
	case <-time.After(200 * time.Millisecond):
		return nil
	case <-c.closing:
		return io.EOF
	}
}

// drip sends one byte at a time.
func drip(raw string, every time.Duration) step {
	return func(c *fakeConn) error {
		for i := range len(raw) {
			if err := send(raw[i : i+1])(c); err != nil {
				return err
			}
			select {
			case <-time.After(every):
			case <-c.closing:
				return io.EOF
			}
		}
		return nil
	}
}

// flood sends raw for as long as anybody takes it.
func flood(raw string) step {
	chunk := strings.Repeat(raw, 1+65536/len(raw))
	return func(c *fakeConn) error {
		for {
			if err := send(chunk)(c); err != nil {
				return err
			}
		}
	}
}

func encoded(m pgproto3.BackendMessage) string {
	buf, err := m.Encode(nil)
	if err != nil {
		panic(err)
	}
	return string(buf)
}

// clock returns a clock that starts now.
func clock() func() decision.Instant {
	start := time.Now()
	return func() decision.Instant { return decision.Instant(time.Since(start)) }
}

func fakeTarget(addr string, timeout time.Duration) Target {
	return Target{Node: "region-a", Address: addr, User: "probe", Password: "secret-word", Database: "postgres", Instance: "test", Timeout: timeout}
}

// probeOnce makes one round against an address with a new prober.
func probeOnce(t *testing.T, target Target) decision.Observation {
	t.Helper()
	p := NewProber(clock())
	defer p.Close()
	return p.Probe(t.Context(), target)
}
