package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// loginPatience is how long a worker waits for a connection, as loginTimeout=30 in a JDBC URL: longer than hold.login, so that a client
// which gives up was told so by the proxy and not by its own clock.
const loginPatience = 30 * time.Second

// thinkTime is a worker's pause between two transactions.
const thinkTime = 40 * time.Millisecond

// rowsPerWorker keeps the keys of different workers apart.
const rowsPerWorker = 1_000_000

// workload is a pool of connections that write unique rows, each in an explicit transaction with prepared statements, and remember what
// they were told.
type workload struct {
	dsn string

	mu        sync.Mutex // guards the following fields
	acked     []int64    // rows whose COMMIT was acknowledged
	doubt     []int64    // rows whose COMMIT was sent and not answered
	errors    []failure
	commits   []sample // acknowledged transactions
	logins    []sample // successful logins
	connected int
}

// failure is one error that the application saw.
type failure struct {
	at       time.Time
	during   string // login, transaction or commit
	sqlState string
	message  string
}

// sample is one success: when it ended and how long it took.
type sample struct {
	at   time.Time
	took time.Duration
}

// run keeps the workers going until the context ends and returns when all of them have.
func (w *workload) run(ctx context.Context, workers int) {
	var all sync.WaitGroup
	for i := range workers {
		all.Go(func() { w.worker(ctx, int64(i)*rowsPerWorker) })
	}
	all.Wait()
}

// worker is one place of the pool: a connection that is opened again when it is lost.
func (w *workload) worker(ctx context.Context, next int64) {
	for ctx.Err() == nil {
		c := w.connect(ctx)
		if c == nil {
			pause(ctx, 100*time.Millisecond)
			continue
		}
		for ctx.Err() == nil && !c.IsClosed() {
			next++
			w.transact(ctx, c, next)
			pause(ctx, thinkTime)
		}
		w.count(-1)
		closeConn(c)
	}
}

// connect logs in once; nil is a failure that has been noted.
func (w *workload) connect(ctx context.Context) *pgx.Conn {
	began := time.Now()
	loginCtx, cancel := context.WithTimeout(ctx, loginPatience)
	defer cancel()
	c, err := pgx.Connect(loginCtx, w.dsn)
	if err != nil {
		w.fail(ctx, "login", err)
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.connected++
	w.logins = append(w.logins, sample{at: time.Now(), took: time.Since(began)})
	return c
}

// transact writes one row as a JDBC application with autocommit off does.
func (w *workload) transact(ctx context.Context, c *pgx.Conn, id int64) {
	began := time.Now()
	// A transaction under way is finished when the story ends, so that the last rows are not in doubt.
	txCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loginPatience)
	defer cancel()
	tx, err := c.Begin(txCtx)
	if err == nil {
		_, err = tx.Exec(txCtx, "INSERT INTO login_event (id, user_name) VALUES ($1, $2)", id, fmt.Sprintf("user-%d", id%97))
	}
	if err != nil {
		w.fail(ctx, "transaction", err)
		closeConn(c)
		return
	}
	if err := tx.Commit(txCtx); err != nil {
		w.mu.Lock()
		w.doubt = append(w.doubt, id)
		w.mu.Unlock()
		w.fail(ctx, "commit", err)
		closeConn(c)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acked = append(w.acked, id)
	w.commits = append(w.commits, sample{at: time.Now(), took: time.Since(began)})
}

// fail notes an error, unless it is the end of the story.
func (w *workload) fail(ctx context.Context, during string, err error) {
	if ctx.Err() != nil {
		return
	}
	f := failure{at: time.Now(), during: during, message: err.Error(), sqlState: "connection"}
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		f.sqlState, f.message = pgErr.Code, pgErr.Message
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.errors = append(w.errors, f)
}

func (w *workload) count(delta int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.connected += delta
}

// view is a copy of what the workload has seen.
type view struct {
	acked, doubt    []int64
	errors          []failure
	commits, logins []sample
	connected       int
}

func (w *workload) view() view {
	w.mu.Lock()
	defer w.mu.Unlock()
	return view{
		acked: slices.Clone(w.acked), doubt: slices.Clone(w.doubt), errors: slices.Clone(w.errors),
		commits: slices.Clone(w.commits), logins: slices.Clone(w.logins), connected: w.connected,
	}
}

// since keeps the samples that ended after t.
func since(samples []sample, t time.Time) []sample {
	return slices.DeleteFunc(slices.Clone(samples), func(s sample) bool { return !s.at.After(t) })
}

// median and longest describe how long samples took; 0 for none.
func median(samples []sample) time.Duration {
	if len(samples) == 0 {
		return 0
	}
	slices.SortFunc(samples, func(a, b sample) int { return int(a.took - b.took) })
	return samples[len(samples)/2].took
}

func longest(samples []sample) (d time.Duration) {
	for _, s := range samples {
		d = max(d, s.took)
	}
	return d
}

// closeConn closes a connection that may be broken; a goodbye that cannot be sent is no news.
func closeConn(c *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = c.Close(ctx)
}

// pause waits, or less when the context ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
