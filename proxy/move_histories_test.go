//go:build linux

package proxy

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgtether/pgtether/internal/lab"
)

var (
	histories   = flag.Int("histories", 300, "random session histories that are moved")
	historySeed = flag.Uint64("history-seed", 0, "seed of the histories; 0 chooses one")
)

// historySetup is what the histories find in their database.
const historySetup = `CREATE TABLE kept (id int PRIMARY KEY, note text DEFAULT 'as it was');
INSERT INTO kept SELECT g FROM generate_series(1, 20) g;
CREATE FUNCTION sets_inside(v text) RETURNS text LANGUAGE plpgsql AS $f$ BEGIN
 PERFORM set_config('inside.own', v, false); PERFORM set_config('work_mem', '9MB', false); RETURN v; END $f$;
CREATE SCHEMA elsewhere; GRANT ALL ON SCHEMA elsewhere TO keycloak; GRANT ALL ON kept TO keycloak; CREATE ROLE other; GRANT other TO keycloak; GRANT SELECT ON kept TO other;`

// historySQL are steps by simple Query. %d is a random number.
var historySQL = []string{
	"SET work_mem = '%dMB'", "SET application_name = 'it''s %d'", "SET search_path TO public, \"$user\", elsewhere", "SET DateStyle = 'German'", "SET TimeZone = 'Asia/Tokyo'",
	"SET extra_float_digits = 0", "SET my.own = 'value %d'", "SET other.name_of = '%d'", "RESET work_mem", "RESET ALL", "RESET my.own", "SELECT sets_inside('%d')",
	"SELECT set_config('my.own', 'by function %d', false)", "SELECT set_config('statement_timeout', '6%d000', false)", "SET ROLE other", "RESET ROLE",
	"SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE", "SET default_transaction_read_only = on", "SET default_transaction_read_only = off",
	"BEGIN; SET work_mem = '3%dMB'; ROLLBACK", "BEGIN; SET LOCAL work_mem = '3%dMB'; COMMIT", "BEGIN; SET work_mem = '4%dMB'; COMMIT", "SET lc_messages = 'C'", "SET bytea_output = 'escape'",
	"PREPARE sql_one AS SELECT %d", "PREPARE sql_two (int) AS SELECT $1 + %d", "PREPARE odd AS SELECT 1; SELECT %d", "DEALLOCATE ALL", "DISCARD PLANS", "DISCARD ALL",
	"SELECT 1/0", "SELEC", "SELECT count(*) FROM kept", "COPY kept TO STDOUT", "SET nonsense = 1", "SET standard_conforming_strings = on", "DO $$ BEGIN PERFORM set_config('my.own', 'in a DO %d', false); END $$",
	"CREATE TEMP TABLE mine_%d (id int)", "DROP TABLE IF EXISTS mine_1", "LISTEN news", "UNLISTEN *", "SELECT pg_advisory_lock_shared(%d)", "SELECT pg_advisory_unlock_all()",
	"DECLARE held CURSOR WITH HOLD FOR SELECT 1", "CLOSE ALL", "SET client_min_messages = 'error'", "SET IntervalStyle = 'iso_8601'", "", ";", "SELECT current_setting('work_mem'); SET my.own = 'second of %d'",
}

// history is a random session, done in the same way on a session that will be moved and on its twin.
type history struct {
	seed uint64
	told []string
}

// live takes the steps. Both sessions see the same ones, because each starts from the seed.
func (h *history) live(ctx context.Context, c *pgconn.PgConn) {
	rng := rand.New(rand.NewPCG(h.seed, 7))
	h.told = nil
	for range 1 + rng.IntN(14) {
		n := rng.IntN(9) + 1
		switch kind := rng.IntN(10); kind {
		case 0, 1, 2, 3, 4, 5:
			sql := historySQL[rng.IntN(len(historySQL))]
			if strings.Contains(sql, "%d") {
				sql = strings.ReplaceAll(sql, "%d", fmt.Sprint(n))
			}
			h.told = append(h.told, sql)
			_ = c.Exec(ctx, sql).Close()
		case 6:
			h.told = append(h.told, fmt.Sprintf("Parse s%d", n))
			_, _ = c.Prepare(ctx, fmt.Sprintf("s%d", n), fmt.Sprintf("SELECT $1::int + %d, note FROM kept WHERE id = $1", n), nil)
		case 7:
			h.told = append(h.told, fmt.Sprintf("Close s%d", n))
			_ = c.Deallocate(ctx, fmt.Sprintf("s%d", n))
		case 8:
			h.told = append(h.told, "unnamed")
			_ = c.ExecParams(ctx, fmt.Sprintf("SELECT %d / ($1::int - %d)", n, n), [][]byte{[]byte(fmt.Sprint(1 + rng.IntN(9)))}, nil, nil, nil).Read()
		case 9:
			h.told = append(h.told, fmt.Sprintf("pipeline %d", n))
			p := c.StartPipeline(ctx)
			p.SendQueryParams("SET work_mem = '11MB'", nil, nil, nil, nil)
			p.SendPrepare(fmt.Sprintf("s%d", n), "SELECT 'in a pipeline'", nil)
			p.SendQueryParams(fmt.Sprintf("SELECT 1 / %d", n%3), nil, nil, nil, nil)
			p.SendPrepare(fmt.Sprintf("s%d", n+1), "SELECT 'behind'", nil)
			_ = p.Sync()
			_ = p.Close()
		}
	}
}

// obstacles asks the twin for what keeps its like from being moved.
func obstacles(ctx context.Context, t *testing.T, twin *pgconn.PgConn) string {
	return ask(ctx, t, twin, `SELECT concat_ws(' ',
 CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_class WHERE relnamespace = pg_catalog.pg_my_temp_schema()) THEN 'temp_objects' END,
 CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_listening_channels()) THEN 'listening' END,
 CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable) THEN 'holdable_cursor' END,
 CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid()) THEN 'advisory_lock' END,
 CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql AND statement LIKE '%;%') THEN 'prepared_unclear' END)`)
}

// observe asks a session everything that it can be asked, beginning with what asking would change.
func observe(ctx context.Context, c *pgconn.PgConn) (seen []string) {
	say := func(what string, value any) { seen = append(seen, fmt.Sprintf("%s: %v", what, value)) }
	say("unnamed", bindUnnamed(c))
	for n := range 12 {
		r := c.ExecPrepared(ctx, fmt.Sprintf("s%d", n), [][]byte{[]byte("3")}, nil, nil).Read()
		say(fmt.Sprint("s", n), fmt.Sprint(codeOf(r.Err), r.Rows))
	}
	for _, sql := range []string{
		"SELECT string_agg(name || '=' || setting, ', ' ORDER BY name) FROM pg_catalog.pg_settings WHERE source = 'session'",
		// Those of libraries are there once the library is.
		"SELECT string_agg(name || '=' || setting, ', ' ORDER BY name) FROM pg_catalog.pg_settings WHERE name <> 'temp_buffers' AND name NOT LIKE '%.%'",
		"SELECT concat_ws('|', current_user, session_user, current_setting('role'), current_setting('my.own', true), current_setting('other.name_of', true), current_setting('inside.own', true))",
		"SELECT string_agg(concat_ws(' ', name, statement, parameter_types, from_sql), ', ' ORDER BY name) FROM pg_catalog.pg_prepared_statements",
		"EXECUTE sql_one", "EXECUTE sql_two(4)", "SELECT 'a\\b', current_schemas(false)::text, now() IS NOT NULL, interval '1 day'::text",
	} {
		results, err := c.Exec(ctx, sql).ReadAll()
		value := codeOf(err)
		for _, r := range results {
			value += fmt.Sprintf("%q", r.Rows)
		}
		say(sql, value)
	}
	for _, name := range []string{"application_name", "client_encoding", "DateStyle", "IntervalStyle", "TimeZone", "standard_conforming_strings", "session_authorization", "is_superuser", "server_version", "default_transaction_read_only"} {
		say(name, c.ParameterStatus(name))
	}
	return seen
}

// bindUnnamed executes the unnamed statement without parsing one.
func bindUnnamed(c *pgconn.PgConn) string {
	f := c.Frontend()
	f.Send(&pgproto3.Bind{Parameters: [][]byte{[]byte("3")}})
	f.Send(&pgproto3.Execute{})
	f.Send(&pgproto3.Sync{})
	if err := f.Flush(); err != nil {
		return err.Error()
	}
	var said []string
	for {
		m, err := f.Receive()
		if err != nil {
			return strings.Join(append(said, "gone"), " ")
		}
		switch m := m.(type) {
		case *pgproto3.ErrorResponse:
			said = append(said, m.Code)
		case *pgproto3.DataRow:
			said = append(said, fmt.Sprintf("%q", m.Values))
		case *pgproto3.CommandComplete:
			said = append(said, string(m.CommandTag))
		case *pgproto3.ReadyForQuery:
			return strings.Join(said, " ")
		}
	}
}

// TestAMovedSessionAnswersAsItsUnmovedTwin moves random sessions, with what the wire has told of them, and compares each answer with that of a session
// that has lived the same life on a direct connection.
func TestAMovedSessionAnswersAsItsUnmovedTwin(t *testing.T) {
	ctx, l := startLabFor(t, limit+time.Duration(*histories)*time.Second/2, lab.Options{Single: true, MaxConnections: 150})
	a := l.Node(lab.RegionA)
	if err := a.Exec(ctx, l.AppDatabase, historySetup); err != nil {
		t.Fatal(err)
	}
	seed := *historySeed
	if seed == 0 {
		seed = rand.Uint64() >> 16
	}
	t.Logf("seeds %d to %d", seed, seed+uint64(*histories)-1)
	onEachForwarder(t, func(t *testing.T) {
		h := startMoving(t, l, movingConfig())
		epoch, moved := uint64(1), 0
		const atOnce = 30
		for first := 0; first < *histories/2; first += atOnce {
			moved += h.liveAndMove(ctx, l, seed+uint64(first), min(atOnce, *histories/2-first), epoch)
			epoch++
			seed += uint64(*histories / 2)
		}
		t.Logf("%d of %d sessions were moved: %s", moved, *histories/2, h.results())
		if moved < *histories/8 {
			t.Error("hardly any session was moved")
		}
	})
}

// liveAndMove lets sessions and their twins live, moves them and compares. It returns how many were moved.
func (h *harness) liveAndMove(ctx context.Context, l *lab.Lab, seed uint64, n int, epoch uint64) (moved int) {
	t := h.t.(*testing.T)
	a := l.Node(lab.RegionA)
	lives := make([]history, n)
	sessions, twins := make([]*pgconn.PgConn, n), make([]*pgconn.PgConn, n)
	for i := range n {
		lives[i].seed = seed + uint64(i)
		sessions[i], twins[i] = connect(ctx, t, l.AppDSNAt(h.addr)), connect(ctx, t, l.AppDSNAt(a.Addr()))
	}
	h.learned(n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { lives[i].live(ctx, sessions[i]); lives[i].live(ctx, twins[i]) })
	}
	all.Wait()
	h.change(epoch, a, LosslessProven)
	var count atomic.Int64
	for i := range n {
		all.Go(func() {
			if h.compare(ctx, lives[i], sessions[i], twins[i]) {
				count.Add(1)
			}
		})
	}
	all.Wait()
	eventually(t, "the sessions are gone", func() bool { return h.Stats().Open == 0 })
	return int(count.Load())
}

// compare asks both, and reports whether the session was moved.
func (h *harness) compare(ctx context.Context, life history, session, twin *pgconn.PgConn) (moved bool) {
	t := h.t.(*testing.T)
	truth, got := observe(ctx, twin), observe(ctx, session)
	defer session.Close(ctx)
	defer twin.Close(ctx)
	if got[0] == "unnamed: 08006 gone" {
		if obstacles(ctx, t, twin) == "" {
			t.Errorf("seed %d was not moved, and nothing kept it (all so far: %s): %q", life.seed, h.results(), life.told)
		}
		return false
	}
	for k := range truth {
		if got[k] != truth[k] {
			t.Errorf("seed %d: %q\n%s", life.seed, life.told, differing(got[k], truth[k]))
		}
	}
	return true
}

// differing shows where two answers differ.
func differing(moved, unmoved string) string {
	a, b := strings.Split(moved, ", "), strings.Split(unmoved, ", ")
	if len(a) != len(b) {
		return fmt.Sprintf(" moved    %s\n unmoved  %s", moved, unmoved)
	}
	var out strings.Builder
	for i := range a {
		if a[i] != b[i] {
			fmt.Fprintf(&out, " moved    %s\n unmoved  %s\n", a[i], b[i])
		}
	}
	return out.String()
}

// results are the counts of what became of sessions.
func (h *harness) results() string {
	var out []string
	for _, r := range MoveResults() {
		if n := h.metric("pgtether_sessions_moved_total", r); n > 0 {
			out = append(out, fmt.Sprintf("%s %v", r, n))
		}
	}
	return strings.Join(out, ", ")
}
