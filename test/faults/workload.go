package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// loginLimit is how long a login may be left without any answer: the time that pgtether holds logins, and something for a loaded machine.
const loginLimit = 25 * time.Second

// crowd is the load: clients that write rows of their own, one after the other, each on a session of its own, and log in again when it ends.
type crowd struct {
	dsn   string
	clock func() time.Duration
	// nodeOf names the server that listens on a port.
	nodeOf func(port string) string
	stop   context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	ops    []Op
	heard  []Heard
	hung   int
	opened int
	mixed  []string
}

func startCrowd(ctx context.Context, dsn string, clients int, clock func() time.Duration, nodeOf func(string) string) *crowd {
	ctx, stop := context.WithCancel(ctx)
	c := &crowd{dsn: dsn, clock: clock, nodeOf: nodeOf, stop: stop}
	for id := range clients {
		c.wg.Go(func() { c.write(ctx, id) })
	}
	return c
}

// mixedUp returns the answers that did not belong to the session that got them. The clients must have been ended.
func (c *crowd) mixedUp() []string { return c.mixed }

// end stops the clients and returns what they did and heard.
func (c *crowd) end() (ops []Op, heard []Heard, hung int) {
	c.stop()
	c.wg.Wait()
	return c.ops, c.heard, c.hung
}

// settle lets the clients write for a while, and longer when one of them has not yet committed what it began after an instant.
func (c *crowd) settle(ctx context.Context, since time.Duration) {
	pause(ctx, settle)
	for began := time.Now(); ctx.Err() == nil && time.Since(began) < againLimit; pause(ctx, 50*time.Millisecond) {
		c.mu.Lock()
		n := committed(c.ops, "", since)
		c.mu.Unlock()
		if n >= clients {
			return
		}
	}
}

// session is one connection and where it leads.
type session struct {
	*pgx.Conn
	node   string
	number int
	ear    *ear
	// warned is set when the server committed without waiting for its standby and said so.
	warned bool
}

func (c *crowd) write(ctx context.Context, id int) {
	var s *session
	for seq := int64(1); ctx.Err() == nil; {
		if s == nil {
			if s = c.login(ctx); s == nil {
				pause(ctx, 20*time.Millisecond)
				continue
			}
		}
		op := Op{Key: Key{id, seq}, Node: s.node, Session: s.number, Relaxed: seq%10 == 0, Invoke: c.clock()}
		s.warned = false
		answer, err := insert(s, op)
		op.Return, op.Heard = c.clock(), s.ear.lastHeard()
		op.Outcome = outcome(err, s.warned)
		if err != nil {
			op.Err = err.Error()
			c.leave(s, id)
			s = nil
		}
		c.note(op, answer)
		seq++
		pause(ctx, 3*time.Millisecond)
	}
	if s != nil {
		c.leave(s, id)
	}
}

// note writes a write down, and its answer when it is another session's.
func (c *crowd) note(op Op, answer string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ops = append(c.ops, op)
	if want := text(op) + " of " + own(op.Session); answer != "" && answer != want {
		c.mixed = append(c.mixed, fmt.Sprintf("client %d was answered %q, want %q", op.Client, answer, want))
	}
}

// text is what a row holds, own what a session's setting faults.session holds.
func text(op Op) string      { return fmt.Sprintf("%d/%d", op.Client, op.Seq) }
func own(session int) string { return fmt.Sprintf("session %d", session) }

// leave ends a session and notes what its client had heard by then.
func (c *crowd) leave(s *session, id int) {
	_ = s.Close(context.Background())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard = append(c.heard, Heard{Client: id, Node: s.node, Last: s.ear.lastHeard()})
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// login opens a session and asks where it leads; nil when it was refused. One that is left without an answer is counted.
func (c *crowd) login(ctx context.Context) *session {
	limited, cancel := context.WithTimeout(ctx, loginLimit)
	defer cancel()
	s := &session{}
	config, err := pgx.ParseConfig(c.dsn)
	if err != nil {
		return nil
	}
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		s.ear = &ear{Conn: conn, clock: c.clock}
		return s.ear, nil
	}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { s.warned = s.warned || n.Severity == "WARNING" }
	if s.Conn, err = pgx.ConnectConfig(limited, config); err != nil {
		if limited.Err() != nil && ctx.Err() == nil {
			c.mu.Lock()
			c.hung++
			c.mu.Unlock()
		}
		return nil
	}
	c.mu.Lock()
	s.number, c.opened = c.opened, c.opened+1
	c.mu.Unlock()
	var port string
	err = s.QueryRow(limited, "SELECT current_setting('port')").Scan(&port)
	if err == nil {
		_, err = s.Exec(limited, fmt.Sprintf("SET faults.session TO '%s'", own(s.number)))
	}
	if err != nil {
		_ = s.Close(context.Background())
		return nil
	}
	s.node = c.nodeOf(port)
	return s
}

// insert writes one row in one of four ways, two of which answer with what was written and with the session's own setting. It is never given up
// half-way: a write is only judged by what the server, or nobody, said.
func insert(s *session, op Op) (answer string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	const sql = "INSERT INTO w (client, seq, val) VALUES ($1, $2, $3)"
	const asked = sql + " RETURNING val || ' of ' || current_setting('faults.session')"
	switch {
	case op.Relaxed:
		return "", inTransaction(ctx, s, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "SET LOCAL synchronous_commit TO OFF"); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, sql, op.Client, op.Seq, text(op))
			return err
		})
	case op.Seq%4 == 1:
		_, err = s.Exec(ctx, fmt.Sprintf("INSERT INTO w (client, seq, val) VALUES (%d, %d, '%s')", op.Client, op.Seq, text(op)))
		return "", err
	case op.Seq%4 == 2:
		err = inTransaction(ctx, s, func(tx pgx.Tx) error { return tx.QueryRow(ctx, asked, op.Client, op.Seq, text(op)).Scan(&answer) })
		return answer, err
	case op.Seq%4 == 3:
		_, err = s.CopyFrom(ctx, pgx.Identifier{"w"}, []string{"client", "seq", "val"}, pgx.CopyFromRows([][]any{{op.Client, op.Seq, text(op)}}))
		return "", err
	}
	err = s.QueryRow(ctx, asked, op.Client, op.Seq, text(op)).Scan(&answer)
	return answer, err
}

// inTransaction does something in a transaction. One in which it fails is left as it is: the session is closed after every error.
func inTransaction(ctx context.Context, s *session, do func(pgx.Tx) error) error {
	tx, err := s.Begin(ctx)
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

// certainFailures are SQLSTATEs after which the write is certainly not there. 08006 is one: pgtether says 08007 where a commit is in doubt.
var certainFailures = []string{"08006", "25006", "40001", "40P01", "57P03", "53300", "25P02", "23505", "42P01"}

// outcome is what a client may conclude from an error.
func outcome(err error, warned bool) Outcome {
	var pg *pgconn.PgError
	switch {
	case err == nil && warned:
		return InDoubt // committed on one server only, it said
	case err == nil:
		return Acknowledged
	case errors.As(err, &pg) && slices.Contains(certainFailures, pg.Code):
		return Failed
	}
	return InDoubt
}
