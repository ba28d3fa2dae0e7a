package pgwire_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/internal/pgwire"
)

// door relays whole sessions, login included, of clients that know nothing of it.
type door struct {
	t        *testing.T
	listener net.Listener
	backend  string
	done     sync.WaitGroup

	mu       sync.Mutex
	sessions []*doorSession
}

// doorSession is one relayed session.
type doorSession struct {
	pgwire.Tracker
	seen atomic.Int64 // bytes of the client that the tracker has accounted for, and those of its startup packet
}

func openDoor(t *testing.T, backend string) *door {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &door{t: t, listener: l, backend: backend}
	d.done.Add(1)
	go d.accept()
	return d
}

// close ends the door and waits for its sessions, whose clients must be gone.
func (d *door) close() {
	d.listener.Close()
	d.done.Wait()
}

func (d *door) accept() {
	defer d.done.Done()
	for {
		c, err := d.listener.Accept()
		if err != nil {
			return
		}
		d.done.Add(1)
		go d.serve(c)
	}
}

// serve relays one session. What comes before the first typed message of the client is not the tracker's.
func (d *door) serve(client net.Conn) {
	defer d.done.Done()
	defer client.Close()
	server, err := net.Dial("tcp", d.backend)
	if err != nil {
		d.t.Error(err)
		return
	}
	defer server.Close()
	p, err := pgwire.ReadPacket(client)
	for err == nil && (p.Kind == pgwire.KindSSLRequest || p.Kind == pgwire.KindGSSENCRequest) {
		if _, err = client.Write([]byte("N")); err == nil {
			p, err = pgwire.ReadPacket(client)
		}
	}
	if err != nil {
		return // a client that only asked whether someone listens
	}
	if _, err := server.Write(p.Raw); err != nil || p.Kind == pgwire.KindCancel {
		return
	}
	session := new(doorSession)
	session.Remember(truthTexts)
	session.seen.Add(int64(len(p.Raw)))
	d.mu.Lock()
	d.sessions = append(d.sessions, session)
	d.mu.Unlock()
	pump(client, server, session)
}

// pump copies both ways until both sides have ended.
func pump(client, server net.Conn, session *doorSession) {
	var both sync.WaitGroup
	both.Go(func() {
		copyBytes(server, client, func(b []byte) {
			session.Client(b)
			session.seen.Add(int64(len(b)))
		})
	})
	both.Go(func() {
		copyBytes(client, server, func(b []byte) {
			if pass, stop := session.Server(b); stop {
				session.PassServer(b[pass:])
			}
		})
	})
	both.Wait()
}

func copyBytes(to, from net.Conn, account func([]byte)) {
	buf := make([]byte, 1500)
	for {
		n, err := from.Read(buf)
		account(buf[:n])
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			to.(*net.TCPConn).CloseWrite()
			return
		}
	}
}

// last returns the session that began last.
func (d *door) last() *doorSession {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sessions[len(d.sessions)-1]
}

// dsn is the node's, through the door.
func (d *door) dsn(node *lab.Node) string {
	u, err := url.Parse(node.AppDSN())
	if err != nil {
		d.t.Fatal(err)
	}
	u.Host = d.listener.Addr().String()
	return u.String()
}

// TestProgramsLeaveNothingUnanswered runs PostgreSQL's own clients: when they say Terminate, every session has all its answers.
func TestProgramsLeaveNothingUnanswered(t *testing.T) {
	node := truthNode(t)
	d := openDoor(t, node.Addr())
	dsn, dir := d.dsn(node), t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	program := func(input io.Reader, name string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Stdin, cmd.WaitDelay = input, 10*time.Second
		out, err := cmd.Output()
		if err != nil {
			var exit *exec.ExitError
			errors.As(err, &exit)
			t.Fatalf("%s: %s\n%s", name, err.Error(), exit.Stderr)
		}
		return string(out)
	}
	program(nil, "pgbench", "-i", "-s", "1", "-q", dsn)
	pipeline := file("pipeline.sql", "\\startpipeline\nBEGIN;\nSELECT 1;\nUPDATE pgbench_branches SET bbalance = 0;\nCOMMIT;\nSELECT 2;\n\\endpipeline\n")
	for _, args := range [][]string{{"-M", "simple"}, {"-M", "extended"}, {"-M", "prepared"}, {"-M", "prepared", "-f", pipeline}, {"-M", "extended", "-C"}} {
		program(nil, "pgbench", append(append([]string{"-n", "-c", "3", "-t", "15"}, args...), dsn)...)
	}
	data := file("data", "1\n2\n3\n")
	program(nil, "psql", "-X", "-f", file("script.sql", strings.ReplaceAll(`
		CREATE TABLE t (x int);
		\copy t FROM 'DATA'
		\copy t TO '/dev/null'
		\copy (SELECT generate_series(1, 3000)) TO '/dev/null'
		\copy t FROM '/dev/null'
		COPY t FROM STDIN;
5
no number
\.
		COPY t FROM STDIN \; COPY t FROM STDIN;
6
\.
7
\.
		SELEC;
		BEGIN; SELECT 1/0; SELECT 1; ROLLBACK;
		\set FETCH_COUNT 2
		SELECT * FROM generate_series(1, 9);
		BEGIN; SAVEPOINT s; ROLLBACK TO s; RELEASE s; END;
		\lo_import 'DATA'
		\d t
		LISTEN c; NOTIFY c;
		SELECT 1 \gdesc
		`, "DATA", data)), dsn)
	dump := program(nil, "pg_dump", "--schema=public", "-d", dsn)
	program(strings.NewReader("DROP SCHEMA public CASCADE;"+dump), "psql", "-X", "-q", dsn)
	d.close()
	for i, tracker := range d.sessions {
		if err := tracker.Broken(); err != nil || tracker.Running() || tracker.InDoubt() || !tracker.Terminated() {
			t.Errorf("session %d of %d: broken %v, running %t, in doubt %t, terminated %t", i, len(d.sessions), err, tracker.Running(),
				tracker.InDoubt(), tracker.Terminated())
		}
	}
	if len(d.sessions) < 40 {
		t.Errorf("only %d sessions", len(d.sessions))
	}
}

// TestADriverIsIdleWheneverItsCallsReturn uses pgx, with and without prepared statements.
func TestADriverIsIdleWheneverItsCallsReturn(t *testing.T) {
	node := truthNode(t)
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			d := openDoor(t, node.Addr())
			defer d.close()
			c, sent := countedConnection(t, d.dsn(node)+"&default_query_exec_mode="+mode)
			defer c.Close(context.WithoutCancel(t.Context()))
			session := d.last()
			driveConnection(t, c, &session.Tracker, func() {
				for end := time.Now().Add(30 * time.Second); session.seen.Load() != sent.Load(); time.Sleep(time.Millisecond) {
					if time.Now().After(end) {
						t.Fatalf("the tracker has seen %d of %d bytes", session.seen.Load(), sent.Load())
					}
				}
			})
		})
	}
}

// countedConnection also says how many bytes the driver has sent.
func countedConnection(t *testing.T, dsn string) (*pgx.Conn, *atomic.Int64) {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	sent := new(atomic.Int64)
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		return &countedConn{conn, sent}, err
	}
	c, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	return c, sent
}

type countedConn struct {
	net.Conn
	sent *atomic.Int64
}

func (c *countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.sent.Add(int64(n))
	return n, err
}

// driveConnection does one thing after the other and looks at the tracker between them, when rest has returned: a COPY that failed is answered
// before the client's CopyDone has come, and what is remembered may only be asked for when no byte is on its way.
func driveConnection(t *testing.T, c *pgx.Conn, tracker *pgwire.Tracker, rest func()) {
	ctx := t.Context()
	exec := func(sql string, args ...any) error {
		_, err := c.Exec(ctx, sql, args...)
		return err
	}
	inTransaction := func(do func(pgx.Tx) error) error { return pgx.BeginFunc(ctx, c, do) }
	for _, step := range []struct {
		name  string
		fails bool
		do    func() error
	}{
		{"create", false, func() error { return exec("CREATE TEMPORARY TABLE d (x int)") }},
		{"insert", false, func() error { return exec("INSERT INTO d SELECT generate_series(1, $1::int)", 1000) }},
		{"error", true, func() error { return exec("SELECT 1/0") }},
		{"syntax error", true, func() error { return exec("SELEC") }},
		{"empty", false, func() error { return exec("") }},
		{"ping", false, func() error { return c.Ping(ctx) }},
		{"copy", false, func() error {
			_, err := c.CopyFrom(ctx, pgx.Identifier{"d"}, []string{"x"}, pgx.CopyFromRows([][]any{{1}, {2}, {3}}))
			return err
		}},
		{"copy that fails", true, func() error {
			_, err := c.PgConn().CopyFrom(ctx, strings.NewReader("1\nno number\n"), "COPY d FROM STDIN")
			return err
		}},
		{"copy that the client fails", true, func() error {
			_, err := c.PgConn().CopyFrom(ctx, io.MultiReader(strings.NewReader("1\n"), failingReader{}), "COPY d FROM STDIN")
			return err
		}},
		{"copy out", false, func() error { _, err := c.PgConn().CopyTo(ctx, io.Discard, "COPY d TO STDOUT"); return err }},
		{"rows left unread", false, func() error {
			rows, err := c.Query(ctx, "SELECT x FROM d")
			if err == nil {
				rows.Next()
				rows.Close()
			}
			return err
		}},
		{"transaction", false, func() error {
			return inTransaction(func(tx pgx.Tx) error { _, err := tx.Exec(ctx, "INSERT INTO d VALUES (9)"); return err })
		}},
		{"transaction that fails", true, func() error {
			return inTransaction(func(tx pgx.Tx) error { _, err := tx.Exec(ctx, "SELECT 1/0"); return err })
		}},
		{"savepoint", false, func() error {
			return inTransaction(func(tx pgx.Tx) error {
				if !tracker.InTransaction() || tracker.Idle() {
					t.Error("a driver's transaction is not seen")
				}
				_ = pgx.BeginFunc(ctx, tx, func(inner pgx.Tx) error { _, err := inner.Exec(ctx, "SELECT 1/0"); return err })
				return nil
			})
		}},
		{"batch", false, func() error {
			var b pgx.Batch
			for i := range 20 {
				b.Queue("SELECT $1::int", i)
			}
			return c.SendBatch(ctx, &b).Close()
		}},
		{"batch that fails", true, func() error {
			var b pgx.Batch
			b.Queue("SELECT 1")
			b.Queue("SELECT 1/0")
			b.Queue("SELECT 2")
			return c.SendBatch(ctx, &b).Close()
		}},
		{"pipeline", false, func() error { return pipelineWithErrors(ctx, c.PgConn()) }},
		{"notification", false, func() error {
			if err := exec("LISTEN c"); err != nil {
				return err
			}
			if err := exec("NOTIFY c"); err != nil {
				return err
			}
			_, err := c.WaitForNotification(ctx)
			return err
		}},
	} {
		err := step.do()
		if (err != nil) != step.fails {
			t.Errorf("%s: %v", step.name, err)
		}
		rest()
		if !tracker.Idle() || tracker.InDoubt() || tracker.Broken() != nil {
			t.Fatalf("%s: idle %t, in doubt %t, broken %v", step.name, tracker.Idle(), tracker.InDoubt(), tracker.Broken())
		}
		if got, want := rememberedNames(t, tracker), preparedNames(t, c); got != want {
			t.Fatalf("%s: remembered %s, PostgreSQL has %s", step.name, got, want)
		}
	}
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errors.New("no more") }

// pipelineWithErrors sends several units in one go, some of which fail.
func pipelineWithErrors(ctx context.Context, c *pgconn.PgConn) error {
	p := c.StartPipeline(ctx)
	for _, sql := range []string{"SELECT 1", "SELECT 1/0", "SELECT 2"} {
		p.SendPrepare("", sql, nil)
		p.SendQueryParams(sql, nil, nil, nil, nil)
		p.SendPipelineSync()
		p.SendFlushRequest()
	}
	if err := p.Sync(); err != nil {
		return err
	}
	for {
		results, err := p.GetResults()
		var server *pgconn.PgError
		if err != nil && !errors.As(err, &server) {
			return err
		}
		if reader, ok := results.(*pgconn.ResultReader); ok {
			_, _ = reader.Close()
		}
		if err == nil && results == nil {
			return p.Close()
		}
	}
}
