package follow

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtether/pgtether/test/rig"
)

const (
	workers   = 4
	thinkTime = 40 * time.Millisecond
	// loginPatience is longer than any hold.login of these tests: a client that gives up was told so.
	loginPatience = 90 * time.Second
)

// write is one row that the load sent: which server on which timeline took it, and where its WAL was then, as the row itself says.
type write struct {
	id           int64
	begun, ended time.Time
	by, at       string
}

// failure is one error that a client saw.
type failure struct {
	at     time.Time
	during string // login, transaction or commit
	err    error
}

// load is a small application: workers that keep one connection each and write unique rows, none of them twice.
type load struct {
	dsn  string
	stop func() // ends the workers and waits for them

	mu       sync.Mutex // guards the following fields
	acked    []write
	failures []failure
	logins   []time.Duration
}

// startLoad creates the table and runs the workers until the test ends, or stopLoad.
func (w *world) startLoad() {
	w.Helper()
	l := &load{dsn: w.lab.AppDSNAt(w.proxy.Listen)}
	c, err := pgx.Connect(w.ctx, l.dsn)
	w.must(err)
	defer closeConn(c)
	// Every row carries the server and the timeline that accepted it. The name of a WAL file begins with the timeline.
	_, err = c.Exec(w.ctx, `CREATE TABLE written (id bigint PRIMARY KEY, by text NOT NULL DEFAULT
		left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) || ' on ' || current_setting('port'),
		at pg_lsn NOT NULL DEFAULT pg_current_wal_insert_lsn())`)
	w.must(err)
	ctx, cancel := context.WithCancel(w.ctx)
	var all sync.WaitGroup
	for i := range workers {
		all.Go(func() { l.work(ctx, int64(i+1)*1_000_000) })
	}
	w.load = l
	w.load.stop = sync.OnceFunc(func() {
		cancel()
		all.Wait()
	})
	w.Cleanup(w.load.stop)
}

// work is one worker.
func (l *load) work(ctx context.Context, id int64) {
	for ctx.Err() == nil {
		c := l.login(ctx)
		for c != nil && ctx.Err() == nil && !c.IsClosed() {
			id++
			l.write(ctx, c, id)
			pause(ctx, thinkTime)
		}
		if c != nil {
			closeConn(c)
		}
	}
}

// login connects once; nil is a failure that has been noted.
func (l *load) login(ctx context.Context) *pgx.Conn {
	began := time.Now()
	loginCtx, cancel := context.WithTimeout(ctx, loginPatience)
	defer cancel()
	c, err := pgx.Connect(loginCtx, l.dsn)
	if err != nil {
		l.fail(ctx, "login", err)
		pause(ctx, 100*time.Millisecond)
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.logins = append(l.logins, time.Since(began))
	return c
}

// write sends one row in a transaction of its own.
func (l *load) write(ctx context.Context, c *pgx.Conn, id int64) {
	r := write{id: id, begun: time.Now()}
	// A transaction under way is finished when the load stops, so that its last rows are not in doubt.
	txCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loginPatience)
	defer cancel()
	tx, err := c.Begin(txCtx)
	if err == nil {
		err = tx.QueryRow(txCtx, "INSERT INTO written (id) VALUES ($1) RETURNING by, at::text", id).Scan(&r.by, &r.at)
	}
	if err != nil {
		l.fail(ctx, "transaction", err)
		closeConn(c)
		return
	}
	if err := tx.Commit(txCtx); err != nil {
		l.fail(ctx, "commit", err)
		closeConn(c)
		return
	}
	r.ended = time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked = append(l.acked, r)
}

// fail notes an error, unless it is the end of the load.
func (l *load) fail(ctx context.Context, during string, err error) {
	if ctx.Err() != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failures = append(l.failures, failure{time.Now(), during, err})
}

// writesSince counts the rows whose transaction began and was acknowledged after t.
func (l *load) writesSince(t time.Time) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.acked {
		if r.begun.After(t) {
			n++
		}
	}
	return n
}

// awaitWrites waits until the load goes on after t.
func (w *world) awaitWrites(t time.Time) {
	w.Helper()
	w.eventually("the load goes on", func() error {
		if n := w.load.writesSince(t); n < 5*workers {
			return fmt.Errorf("%d rows since %s", n, t.Format(time.TimeOnly))
		}
		return nil
	})
}

// balance ends the load and holds what the clients were told against the rows of the writer: every acknowledged row is there, as accepted
// by whom the client was told; no timeline took a row after a later one had; every client saw only errors that its pool evicts on. Rows may
// be missing only within the loss that pgtether gave the change; it returns how many are.
func (w *world) balance(writer node, change *rig.Change) (lost int) {
	w.Helper()
	w.load.stop()
	there := w.rows(writer)
	l := w.load
	if len(l.acked) == 0 {
		w.Error("no row was acknowledged, so nothing was shown")
	}
	for _, r := range l.acked {
		by, ok := there[r.id]
		switch {
		case ok && by != r.by:
			w.Errorf("row %d was acknowledged by %q and is there as accepted by %q", r.id, r.by, by)
		case !ok && !within(r, change):
			w.Errorf("row %d was acknowledged by %q at %s (%s) and is missing; the change that was told is %+v", r.id, r.by, r.at,
				r.ended.Format(time.StampMilli), change)
		case !ok:
			lost++
		}
	}
	for _, contradiction := range rivals(l.acked) {
		w.Error(contradiction)
	}
	w.errorsAreFit()
	w.Logf("%d rows acknowledged, of which %d lost as told; %d errors; %d logins of which the longest took %s", len(l.acked), lost,
		len(l.failures), len(l.logins), slices.Max(l.logins).Round(time.Millisecond))
	return lost
}

// within tells whether a row lies in the loss that was told.
func within(r write, change *rig.Change) bool {
	return change != nil && change.Lossless == "bounded" && change.LossTo != nil && position(r.at) < position(*change.LossTo)
}

// position is an LSN as a number; 0 for what is none.
func position(lsn string) uint64 {
	var high, low uint64
	if n, err := fmt.Sscanf(lsn, "%X/%X", &high, &low); n != 2 || err != nil {
		return 0
	}
	return high<<32 | low
}

// errorsAreFit fails on an error that a pool would not evict the connection for, and on a login that was refused.
func (w *world) errorsAreFit() {
	w.Helper()
	for _, f := range w.load.failures {
		code := sqlState(f.err)
		// A login whose server died between its question for the password and its answer cannot be begun anew: the client tries again.
		midLogin := f.during == "login" && code == "57P03" && strings.Contains(f.err.Error(), "did not prove to be the writer")
		evicted := f.during != "login" && (strings.HasPrefix(code, "08") || code == "57P01" || code == "57P02")
		if !midLogin && !evicted {
			w.Errorf("a client's %s failed at %s with %s: %v", f.during, f.at.Format(time.StampMilli), code, f.err)
		}
	}
}

// rivals compares every pair of servers that took rows: on one timeline there is only one, and none takes a row that began after one of a
// later timeline was acknowledged. It returns what contradicts that.
func rivals(acked []write) (out []string) {
	first := map[string]time.Time{}
	for _, r := range acked {
		if t, ok := first[r.by]; !ok || r.ended.Before(t) {
			first[r.by] = r.ended
		}
	}
	for _, r := range acked {
		for other, since := range first {
			mine, theirs := r.by[:8], other[:8]
			if mine == theirs && r.by != other {
				out = append(out, fmt.Sprintf("row %d was accepted by %q, though %q took rows too", r.id, r.by, other))
			}
			if mine < theirs && r.begun.After(since) {
				out = append(out, fmt.Sprintf("row %d was accepted by %q %s after %q had taken over", r.id, r.by, r.begun.Sub(since), other))
			}
		}
	}
	return out
}

// rows reads what a server holds, past the proxy.
func (w *world) rows(n node) map[int64]string {
	w.Helper()
	there := map[int64]string{}
	w.must(w.withConn(n, w.lab.AppDatabase, func(c *pgx.Conn) error {
		rows, err := c.Query(w.ctx, "SELECT id, by FROM written")
		if err != nil {
			return fmt.Errorf("read rows of %s: %w", n.name, err)
		}
		var id int64
		var by string
		_, err = pgx.ForEachRow(rows, []any{&id, &by}, func() error {
			there[id] = by
			return nil
		})
		return err
	}))
	return there
}

// pause waits, or less when the context ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
