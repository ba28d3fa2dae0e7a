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

	mu    sync.Mutex
	ops   []Op
	heard []Heard
	hung  int
}

func startCrowd(ctx context.Context, dsn string, clients int, clock func() time.Duration, nodeOf func(string) string) *crowd {
	ctx, stop := context.WithCancel(ctx)
	c := &crowd{dsn: dsn, clock: clock, nodeOf: nodeOf, stop: stop}
	for id := range clients {
		c.wg.Go(func() { c.write(ctx, id) })
	}
	return c
}

// end stops the clients and returns what they did and heard.
func (c *crowd) end() (ops []Op, heard []Heard, hung int) {
	c.stop()
	c.wg.Wait()
	return c.ops, c.heard, c.hung
}

// settle lets the clients write for a while, and longer when one of them has not yet committed on a server what it began after an instant.
func (c *crowd) settle(ctx context.Context, node string, since time.Duration) {
	pause(ctx, settle)
	for began := time.Now(); ctx.Err() == nil && time.Since(began) < againLimit; pause(ctx, 50*time.Millisecond) {
		c.mu.Lock()
		n := committed(c.ops, node, since)
		c.mu.Unlock()
		if n >= clients {
			return
		}
	}
}

// session is one connection and where it leads.
type session struct {
	*pgx.Conn
	node string
	ear  *ear
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
		op := Op{Key: Key{id, seq}, Node: s.node, Relaxed: seq%10 == 0, Invoke: c.clock()}
		s.warned = false
		err := insert(s, op)
		op.Return = c.clock()
		op.Outcome = outcome(err, s.warned)
		if err != nil {
			op.Err = err.Error()
			c.leave(s, id)
			s = nil
		}
		c.mu.Lock()
		c.ops = append(c.ops, op)
		c.mu.Unlock()
		seq++
		pause(ctx, 3*time.Millisecond)
	}
	if s != nil {
		c.leave(s, id)
	}
}

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
	var port string
	if err := s.QueryRow(limited, "SELECT current_setting('port')").Scan(&port); err != nil {
		_ = s.Close(context.Background())
		return nil
	}
	s.node = c.nodeOf(port)
	return s
}

// insert writes one row in one of four ways. It is never given up half-way: a write is only judged by what the server, or nobody, said.
func insert(s *session, op Op) error {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	text := fmt.Sprintf("%d/%d", op.Client, op.Seq)
	const sql = "INSERT INTO w (client, seq, val) VALUES ($1, $2, $3)"
	switch {
	case op.Relaxed:
		tx, err := s.Begin(ctx)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "SET LOCAL synchronous_commit TO OFF"); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, sql, op.Client, op.Seq, text); err != nil {
			return err
		}
		return tx.Commit(ctx)
	case op.Seq%4 == 1:
		_, err := s.Exec(ctx, fmt.Sprintf("INSERT INTO w (client, seq, val) VALUES (%d, %d, '%s')", op.Client, op.Seq, text))
		return err
	case op.Seq%4 == 2:
		tx, err := s.Begin(ctx)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, sql, op.Client, op.Seq, text); err != nil {
			return err
		}
		return tx.Commit(ctx)
	case op.Seq%4 == 3:
		_, err := s.CopyFrom(ctx, pgx.Identifier{"w"}, []string{"client", "seq", "val"}, pgx.CopyFromRows([][]any{{op.Client, op.Seq, text}}))
		return err
	}
	_, err := s.Exec(ctx, sql, op.Client, op.Seq, text)
	return err
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
