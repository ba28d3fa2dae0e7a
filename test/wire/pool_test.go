package wire

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// recorder writes down what a driver's user sees.
type recorder struct{ strings.Builder }

func (r *recorder) note(format string, args ...any) { fmt.Fprintf(r, format+"\n", args...) }

// fail notes an error as far as it comes from the server.
func (r *recorder) fail(what string, err error) {
	var pg *pgconn.PgError
	switch {
	case err == nil:
		r.note("%s: done", what)
	case errors.As(err, &pg):
		r.note("%s: %s %s %s", what, pg.Severity, pg.Code, pg.Message)
	default:
		r.note("%s: an error of the driver's", what)
	}
}

func TestAPgxPoolSeesTheSame(t *testing.T) {
	s := pg15.start(t)
	used := func(addr string) string {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		pool, err := pgxpool.New(ctx, fmt.Sprintf("postgres://%s:%s@%s/%s?sslmode=disable&pool_max_conns=6", roleSCRAM, rolePassword, addr, database))
		if err != nil {
			t.Fatal(err)
		}
		defer pool.Close()
		var r recorder
		usePool(ctx, t, pool, &r)
		return r.String()
	}
	sameText(t, used(s.node.Addr()), used(s.inClear(t).Listen))
}

// usePool does what applications do with a pool.
func usePool(ctx context.Context, t *testing.T, pool *pgxpool.Pool, r *recorder) {
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		for i := range 8 {
			rows, err := pool.Query(ctx, "SELECT n, n::text, ARRAY[n, NULL], now() IS NOT NULL, $2::text FROM generate_series(1, $1::int) n", mode, i, "ä")
			if err != nil {
				r.fail("query", err)
				continue
			}
			all, err := pgx.CollectRows(rows, pgx.RowToMap)
			r.note("%s %v", mode, all)
			r.fail("rows", err)
		}
	}
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "CREATE TEMP TABLE t (i int PRIMARY KEY, v text) ON COMMIT DROP"); err != nil {
			return err
		}
		n, err := tx.CopyFrom(ctx, pgx.Identifier{"t"}, []string{"i", "v"}, pgx.CopyFromSlice(1000, func(i int) ([]any, error) { return []any{i, fmt.Sprint("v", i)}, nil }))
		r.note("copied %d", n)
		r.fail("copy", err)
		batch := &pgx.Batch{}
		for i := range 20 {
			batch.Queue("SELECT v FROM t WHERE i = $1", i)
		}
		batch.Queue("SELECT 1/0")
		batch.Queue("SELECT 'never'")
		inner, err := tx.Begin(ctx)
		if err != nil {
			return err
		}
		results := inner.SendBatch(ctx, batch)
		for range 22 {
			var v string
			err := results.QueryRow().Scan(&v)
			r.note("%q", v)
			r.fail("batch", err)
		}
		r.fail("close", results.Close())
		return inner.Rollback(ctx)
	})
	r.fail("transaction", err)
	cancelled, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	_, err = pool.Exec(cancelled, "SELECT pg_sleep(60)")
	r.note("deadline exceeded: %v", errors.Is(err, context.DeadlineExceeded))
	listenOnPool(ctx, t, pool, r)
	r.note("concurrent sum: %d", sumOnPool(ctx, t, pool))
}

// listenOnPool notifies itself and names the sender.
func listenOnPool(ctx context.Context, t *testing.T, pool *pgxpool.Pool, r *recorder) {
	c, err := pool.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Release()
	if _, err := c.Exec(ctx, "LISTEN pool"); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(ctx, "SELECT pg_notify('pool', 'other')"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Exec(ctx, "SELECT pg_notify('pool', 'own')"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		n, err := c.Conn().WaitForNotification(ctx)
		if err != nil {
			t.Fatal(err)
		}
		r.note("notified of %q by itself: %v", n.Payload, n.PID == c.Conn().PgConn().PID())
	}
	var pid uint32
	if err := c.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&pid); err != nil {
		t.Fatal(err)
	}
	r.note("the process is the backend's: %v", pid == c.Conn().PgConn().PID())
}

// sumOnPool uses the pool from many goroutines.
func sumOnPool(ctx context.Context, t *testing.T, pool *pgxpool.Pool) int {
	var wg sync.WaitGroup
	var mu sync.Mutex
	total := 0
	for i := range 30 {
		wg.Go(func() {
			for j := range 10 {
				var n int
				if err := pool.QueryRow(ctx, "SELECT $1::int * $2::int", i, j).Scan(&n); err != nil {
					t.Error(err)
				}
				mu.Lock()
				total += n
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return total
}
