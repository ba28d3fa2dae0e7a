package tellers

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	branches = 16
	accounts = 1600
	// think is how long a client waits between two transactions.
	think = 25 * time.Millisecond
	// hang ends a statement that is never answered. It measures nothing.
	hang = 60 * time.Second
)

// schema is that of TPC-B with a key in its history.
var schema = []string{
	"DROP TABLE IF EXISTS history, accounts, tellers, branches",
	"CREATE TABLE branches (bid int primary key, balance bigint not null default 0)",
	"CREATE TABLE tellers (tid int primary key, balance bigint not null default 0)",
	"CREATE TABLE accounts (aid int primary key, balance bigint not null default 0)",
	"CREATE TABLE history (client int, seq bigint, delta bigint not null, pad text)",
	fmt.Sprintf("INSERT INTO branches SELECT g FROM generate_series(0, %d) g", branches-1),
	fmt.Sprintf("INSERT INTO tellers SELECT g FROM generate_series(0, %d) g", 10*branches-1),
	fmt.Sprintf("INSERT INTO accounts SELECT g FROM generate_series(0, %d) g", accounts-1),
}

// Prepare makes the tables, anew if they are there.
func Prepare(ctx context.Context, dsn string) error {
	c, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("prepare tables: %w", err)
	}
	defer c.Close(context.WithoutCancel(ctx))
	for _, sql := range schema {
		if _, err := c.Exec(ctx, sql); err != nil {
			return fmt.Errorf("prepare tables: %w", err)
		}
	}
	return nil
}

// Crowd is the clients and what they have written down. Its methods may be called from any goroutine.
type Crowd struct {
	dsn  string
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu   sync.Mutex // guards what follows
	work []Work
	ends []End
	gaps []Gap
	// last is when a client was last acknowledged something, began when it began the latest thing that was.
	last, began map[int]time.Time
	// backends are the server processes that each session has met, its last one last; those of ours are numbered as they were opened.
	backends map[Session][]Met
	opened   int
}

// Start starts n clients, numbered from 0. Halt ends them.
func Start(ctx context.Context, dsn string, n int) *Crowd {
	ctx, stop := context.WithCancel(ctx)
	c := &Crowd{dsn: dsn, stop: stop, last: map[int]time.Time{}, began: map[int]time.Time{}, backends: map[Session][]Met{}}
	for id := range n {
		c.wg.Go(func() { c.serve(ctx, id) })
	}
	return c
}

// Halt ends the clients, each after its transaction, and waits for them. It may be called twice.
func (c *Crowd) Halt() {
	c.stop()
	c.wg.Wait()
}

// Await waits until n clients were acknowledged something that they began after an instant.
func (c *Crowd) Await(ctx context.Context, n int, since time.Time) error {
	for c.committedSince(since) < n {
		if ctx.Err() != nil {
			return fmt.Errorf("wait for commits begun after %s: %d of %d clients: %w", since.Format("15:04:05.000"), c.committedSince(since), n, context.Cause(ctx))
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}

// session is one connection of a client.
type session struct {
	*pgx.Conn
	number int
	// warned is set when the server committed without waiting for its standby, and said so.
	warned bool
}

// serve is one client.
func (c *Crowd) serve(ctx context.Context, id int) {
	var s *session
	for seq := int64(1); ctx.Err() == nil; {
		if s == nil {
			if s = c.login(ctx, id); s == nil {
				pause(ctx, 20*time.Millisecond)
				continue
			}
		}
		w := Work{Row: Row{id, seq}, Began: time.Now(), Outcome: Acknowledged}
		place, err := c.transact(s, w.Row)
		w.Ended = time.Now()
		if err != nil || s.warned {
			w.Outcome = conclude(place, err)
		}
		c.Note(w)
		if err != nil {
			c.NoteEnd(End{Client: id, At: w.Ended, Code: Code(err), Place: place})
			_ = s.Close(context.Background())
			s = nil
		}
		seq++
		pause(ctx, think)
	}
	if s != nil {
		_ = s.Close(context.Background())
	}
}

func (c *Crowd) login(ctx context.Context, id int) *session {
	s := &session{}
	config, err := pgx.ParseConfig(c.dsn)
	if err == nil {
		config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { s.warned = s.warned || n.Severity == "WARNING" }
		s.Conn, err = pgx.ConnectConfig(ctx, config)
	}
	if err != nil {
		if ctx.Err() == nil {
			c.NoteEnd(End{Client: id, At: time.Now(), Code: Code(err), Place: AtLogin})
		}
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.number, c.opened = c.opened, c.opened+1
	return s
}

// transact is one transaction, never given up half-way: it is only judged by what the server, or nobody, said.
func (c *Crowd) transact(s *session, row Row) (Place, error) {
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	defer cancel()
	s.warned = false
	if _, err := s.Exec(ctx, "BEGIN"); err != nil {
		return AtBoundary, err
	}
	delta, teller := rand.IntN(10000)-5000, rand.IntN(10*branches)
	var balance int64
	account := rand.IntN(accounts)
	if _, err := s.Exec(ctx, "UPDATE accounts SET balance = balance + $1 WHERE aid = $2", delta, account); err != nil {
		return InTransaction, err
	}
	if err := s.QueryRow(ctx, "SELECT balance FROM accounts WHERE aid = $1", account).Scan(&balance); err != nil {
		return InTransaction, err
	}
	if _, err := s.Exec(ctx, "UPDATE tellers SET balance = balance + $1 WHERE tid = $2", delta, teller); err != nil {
		return InTransaction, err
	}
	if _, err := s.Exec(ctx, "UPDATE branches SET balance = balance + $1 WHERE bid = $2", delta, teller/10); err != nil {
		return InTransaction, err
	}
	var pid uint32
	const insert = "INSERT INTO history VALUES ($1, $2, $3, repeat('x', 200)) RETURNING pg_backend_pid()"
	if err := s.QueryRow(ctx, insert, row.Client, row.Seq, delta).Scan(&pid); err != nil {
		return InTransaction, err
	}
	c.Meet(Session{Number: s.number}, pid, time.Now())
	_, err := s.Exec(ctx, "COMMIT")
	return AtCommit, err
}

// vouched are the SQLSTATEs after which a COMMIT certainly did not take place. 08006 is one: pgtether says 08007 where it is in doubt.
var vouched = []string{"08006", "25006", "40001", "40P01", "25P02"}

// conclude says what a client may conclude from an error, or from a warning at COMMIT.
func conclude(place Place, err error) Outcome {
	if err != nil && (place != AtCommit || slices.Contains(vouched, Code(err))) {
		return Failed
	}
	return InDoubt
}

// Code returns the SQLSTATE of an error, or what it is instead.
func Code(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return "no SQLSTATE: " + err.Error()
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
