package health

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgtether/pgtether/decision"
	"github.com/pgtether/pgtether/internal/lab"
)

// ended reports whether a session is over.
func ended(ctx context.Context, c *pgx.Conn) bool {
	_, err := c.Exec(ctx, "SELECT 1")
	return err != nil && c.IsClosed()
}

// TestFenceOfAnOldWriter fences and unfences one primary several times.
func TestFenceOfAnOldWriter(t *testing.T) {
	ctx, l := startLab(t, lab.Options{})
	a, b := l.Node(lab.RegionA), l.Node(lab.RegionB)
	ta, tb := labTarget(l, lab.RegionA), labTarget(l, lab.RegionB)
	must(t, commits(ctx, a.AppDSN()))
	must(t, b.AwaitCaughtUp(ctx, a))
	var op Operator
	if l.Version() < 15 {
		t.Run("before PostgreSQL 15 sessions are ended and the rest is said", func(t *testing.T) { testFenceWithoutGrant(ctx, t, a, ta) })
		return
	}

	t.Run("every session ends but pgtether's own and superusers', and new ones cannot write", func(t *testing.T) {
		open, idle := connectAs(ctx, t, a.AppDSN(), "open"), connectAs(ctx, t, a.AppDSN(), "pgtether/impostor")
		super := connectAs(ctx, t, a.SuperDSN("postgres"), "admin")
		defer super.Close(ctx)
		_, err := open.Exec(ctx, "BEGIN; INSERT INTO w VALUES (2)")
		must(t, err)
		kept := newProber(t)
		answersEverywhere(t, kept.Probe(ctx, ta))
		session := kept.persistent

		report, err := op.FenceSQL(ctx, ta)
		must(t, err)
		sameFence(t, report, FenceReport{ReadOnly: true, Ended: 2, Superusers: 1})
		same(t, "in words", report.String(), "default_transaction_read_only is on; 2 sessions were ended; 1 session of a superuser goes on")
		same(t, "complete", report.Complete(), false)
		same(t, "the open transaction's session ended", ended(ctx, open), true)
		same(t, "the idle session ended", ended(ctx, idle), true)
		same(t, "the superuser's session ended", ended(ctx, super), false)
		uncommitted, err := a.QueryText(ctx, "keycloak", "SELECT count(*) FROM w WHERE x = 2")
		must(t, err)
		same(t, "rows of the open transaction", uncommitted, "0")
		answersEverywhere(t, kept.Probe(ctx, ta))
		if kept.persistent != session {
			t.Error("the prober's own session was ended")
		}
		var pgErr *pgconn.PgError
		if err := commits(ctx, a.AppDSN()); !errors.As(err, &pgErr) || pgErr.Code != "25006" {
			t.Errorf("a new session's write: %v, want 25006", err)
		}
		failure(t, op.ProveWritable(ctx, ta, Want{SystemID: one(ctx, t, a, "SELECT system_identifier FROM pg_control_system()")}), ErrReadOnly)
	})
	t.Run("a fence that was there is told apart", func(t *testing.T) {
		report, err := op.FenceSQL(ctx, ta)
		for err == nil && report.Ended+report.Superusers > 0 { // whose clients have gone, which the server has yet to notice
			time.Sleep(10 * time.Millisecond)
			report, err = op.FenceSQL(ctx, ta)
		}
		must(t, err)
		sameFence(t, report, FenceReport{ReadOnly: true, WasReadOnly: true})
		same(t, "in words", report.String(), "default_transaction_read_only was on already; 0 sessions were ended")
		same(t, "complete", report.Complete(), true)
	})
	t.Run("the fence does not replicate", func(t *testing.T) {
		same(t, "on the standby", one(ctx, t, b, "SHOW default_transaction_read_only"), "off")
	})
	t.Run("unfenced it takes writes again, and nothing is left in the file", func(t *testing.T) {
		must(t, op.UnfenceSQL(ctx, ta))
		must(t, commits(ctx, a.AppDSN()))
		same(t, "the file", one(ctx, t, a, "SELECT count(*) FROM pg_file_settings WHERE name = 'default_transaction_read_only'"), "0")
		must(t, op.UnfenceSQL(ctx, ta)) // twice does no harm
	})
	t.Run("what postgresql.conf says comes into force again", func(t *testing.T) {
		must(t, a.Exec(ctx, "postgres", "ALTER SYSTEM SET default_transaction_read_only = on"))
		must(t, a.Configure(map[string]string{"default_transaction_read_only": "on"}))
		must(t, op.UnfenceSQL(ctx, ta))
		same(t, "the file", one(ctx, t, a, "SELECT sourcefile LIKE '%postgresql.conf' FROM pg_settings WHERE name = 'default_transaction_read_only'"), "t")
		must(t, a.Configure(map[string]string{"default_transaction_read_only": "off"}))
		must(t, a.Await(ctx, "current_setting('default_transaction_read_only') = 'off'"))
	})
	t.Run("a client that comes back at once is ended again", func(t *testing.T) { testFenceOfAStubbornClient(ctx, t, a, ta) })
	t.Run("a session that cannot end is counted as left", func(t *testing.T) { testFenceOfAStuckSession(ctx, t, a, ta) })
	t.Run("a standby is not touched, but a fence that it still has is undone", func(t *testing.T) {
		reader := connectAs(ctx, t, b.AppDSN(), "reader")
		defer reader.Close(ctx)
		report, err := op.FenceSQL(ctx, tb)
		failure(t, err, ErrInRecovery)
		same(t, "report", report, FenceReport{})
		same(t, "the reader ended", ended(ctx, reader), false)
		must(t, b.Exec(ctx, "postgres", "ALTER SYSTEM SET default_transaction_read_only = on"))
		must(t, b.Exec(ctx, "postgres", "SELECT pg_reload_conf()"))
		must(t, b.Await(ctx, "current_setting('default_transaction_read_only') = 'on'"))
		must(t, op.UnfenceSQL(ctx, tb))
		same(t, "on the standby", one(ctx, t, b, "SHOW default_transaction_read_only"), "off")
	})
	t.Run("without the grant sessions are ended and the rest is said", func(t *testing.T) {
		must(t, a.Exec(ctx, "postgres", "REVOKE ALTER SYSTEM ON PARAMETER default_transaction_read_only FROM pgtether"))
		testFenceWithoutGrant(ctx, t, a, ta)
	})
	t.Run("a node that is gone", func(t *testing.T) {
		must(t, a.Kill9())
		_, err := op.FenceSQL(ctx, ta)
		same(t, "evidence", failure(t, err, nil).Attempt.Evidence, decision.Refused)
	})
}

func testFenceWithoutGrant(ctx context.Context, t *testing.T, a *lab.Node, ta Target) {
	idle := connectAs(ctx, t, a.AppDSN(), "idle")
	report, err := Operator{}.FenceSQL(ctx, ta)
	must(t, err)
	same(t, "ended", report.Ended, 1)
	same(t, "read only", report.ReadOnly, false)
	same(t, "complete", report.Complete(), false)
	if !strings.HasPrefix(report.String(), "default_transaction_read_only was not set: 42501 ERROR: ") {
		t.Errorf("report %q", report)
	}
	same(t, "the session ended", ended(ctx, idle), true)
	must(t, Operator{}.UnfenceSQL(ctx, ta)) // it was not set: there is nothing that could not be undone
	must(t, a.Exec(ctx, "postgres", "ALTER SYSTEM SET default_transaction_read_only = on"))
	must(t, a.Exec(ctx, "postgres", "SELECT pg_reload_conf()"))
	must(t, a.Await(ctx, "current_setting('default_transaction_read_only') = 'on'"))
	failure(t, Operator{}.UnfenceSQL(ctx, ta), ErrDenied)
}

// testFenceOfAStubbornClient: a pool logs in again within a millisecond. What it is told after the fence is 25006, however it gets in.
func testFenceOfAStubbornClient(ctx context.Context, t *testing.T, a *lab.Node, ta Target) {
	stop, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for stop.Err() == nil {
			c, err := pgx.Connect(stop, a.AppDSN())
			for err == nil {
				_, err = c.Exec(stop, "INSERT INTO w VALUES (3)")
			}
			if c != nil {
				c.Close(context.WithoutCancel(stop))
			}
		}
	}()
	must(t, a.Await(ctx, "EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE 'INSERT INTO w%')"))
	report, err := Operator{}.FenceSQL(ctx, ta)
	for err == nil && report.Superusers > 0 { // that which has just waited, until its server has noticed that it is over
		time.Sleep(10 * time.Millisecond)
		report, err = Operator{}.FenceSQL(ctx, ta)
	}
	must(t, err)
	same(t, "complete", report.Complete(), true)
	count := func() string {
		text, err := a.QueryText(ctx, "keycloak", "SELECT count(*) FROM w")
		must(t, err)
		return text
	}
	before := count()
	time.Sleep(200 * time.Millisecond) // room for writes that must not be there
	same(t, "rows after the fence", count(), before)
	cancel()
	<-done
	must(t, Operator{}.UnfenceSQL(ctx, ta))
}

// testFenceOfAStuckSession stops one backend, so that it cannot notice that it is to end.
func testFenceOfAStuckSession(ctx context.Context, t *testing.T, a *lab.Node, ta Target) {
	stuck := connectAs(ctx, t, a.AppDSN(), "stuck")
	pid, err := strconv.Atoi(one(ctx, t, a, "SELECT pid FROM pg_stat_activity WHERE application_name = 'stuck'"))
	must(t, err)
	must(t, syscall.Kill(pid, syscall.SIGSTOP))
	brief, cancel := context.WithTimeout(ctx, 6*time.Second)
	defer cancel()
	report, err := Operator{}.FenceSQL(brief, ta)
	must(t, syscall.Kill(pid, syscall.SIGCONT))
	must(t, err)
	sameFence(t, report, FenceReport{ReadOnly: true, Ended: 1, Left: 1})
	same(t, "in words", report.String(), "default_transaction_read_only is on; 1 session was ended; 1 of them is still there")
	same(t, "the session ended", ended(ctx, stuck), true)
	must(t, Operator{}.UnfenceSQL(ctx, ta))
}

// TestReplayThatASessionHoldsBack makes real recovery conflicts on a standby that would wait for ever.
func TestReplayThatASessionHoldsBack(t *testing.T) {
	ctx, l := startLab(t, lab.Options{NodeSettings: map[string]map[string]string{lab.RegionB: {"max_standby_streaming_delay": "-1"}}})
	a, b := l.Node(lab.RegionA), l.Node(lab.RegionB)
	ta, tb := labTarget(l, lab.RegionA), labTarget(l, lab.RegionB)
	must(t, a.Exec(ctx, "keycloak", "CREATE TABLE big AS SELECT generate_series(1, 1000) AS x; GRANT SELECT ON big TO keycloak"))
	must(t, b.AwaitCaughtUp(ctx, a))
	var op Operator
	begin := func(t *testing.T, dsn, sql string) *pgx.Conn {
		c := connectAs(ctx, t, dsn, "reader")
		_, err := c.Exec(ctx, sql)
		must(t, err)
		return c
	}
	const snapshot = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM big"
	conflict := func(t *testing.T) {
		must(t, a.Exec(ctx, "keycloak", "DELETE FROM big WHERE x % 2 = 0"))
		must(t, a.Exec(ctx, "keycloak", "VACUUM big"))
		must(t, a.Exec(ctx, "keycloak", "INSERT INTO big SELECT generate_series(1, 1000)"))
		must(t, b.Await(ctx, "EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'startup' AND wait_event LIKE 'RecoveryConflict%')"))
	}

	t.Run("nobody is ended while nothing waits", func(t *testing.T) {
		reader := begin(t, b.AppDSN(), snapshot)
		defer reader.Close(ctx)
		n, err := op.EndReplayConflicts(ctx, tb)
		must(t, err)
		same(t, "ended", n, 0)
		same(t, "the reader ended", ended(ctx, reader), false)
	})
	t.Run("a primary is refused", func(t *testing.T) {
		_, err := op.EndReplayConflicts(ctx, ta)
		failure(t, err, ErrNotInRecovery)
	})
	if l.Version() >= 14 { // before, a wait for a snapshot does not show
		t.Run("a snapshot that holds replay back ends, an idle session goes on", func(t *testing.T) {
			reader, idle := begin(t, b.AppDSN(), snapshot), begin(t, b.AppDSN(), "BEGIN")
			defer idle.Close(ctx)
			conflict(t)
			n, err := op.EndReplayConflicts(ctx, tb)
			must(t, err)
			same(t, "ended", n, 1)
			must(t, b.AwaitCaughtUp(ctx, a))
			same(t, "the reader ended", ended(ctx, reader), true)
			same(t, "the idle session ended", ended(ctx, idle), false)
		})
	}
	t.Run("a lock that holds replay back ends, a snapshot elsewhere goes on", func(t *testing.T) {
		holder := begin(t, b.AppDSN(), "BEGIN; SELECT count(*) FROM big")
		other := begin(t, b.SuperDSN("postgres"), "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
		defer other.Close(ctx)
		must(t, a.Exec(ctx, "keycloak", "ALTER TABLE big ADD COLUMN y int"))
		must(t, b.Await(ctx, "EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'startup' AND wait_event_type = 'Lock')"))
		n, err := op.EndReplayConflicts(ctx, tb)
		must(t, err)
		same(t, "ended", n, 1)
		must(t, b.AwaitCaughtUp(ctx, a))
		same(t, "the holder ended", ended(ctx, holder), true)
		same(t, "the other session ended", ended(ctx, other), false)
	})
	t.Run("a superuser's session cannot be ended, and that is said", func(t *testing.T) {
		super := begin(t, b.SuperDSN("keycloak"), "BEGIN; SELECT count(*) FROM big")
		must(t, a.Exec(ctx, "keycloak", "ALTER TABLE big ADD COLUMN z int"))
		must(t, b.Await(ctx, "EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'startup' AND wait_event_type = 'Lock')"))
		_, err := op.EndReplayConflicts(ctx, tb)
		e := failure(t, err, ErrDenied)
		same(t, "error", e.Error(), "end replay conflicts on region-b: role lacks the privilege: 1 session of a superuser holds replay back")
		super.Close(ctx)
		must(t, b.AwaitCaughtUp(ctx, a))
	})
	t.Run("a promotion that a reader would hold up for ever goes through", func(t *testing.T) {
		holder := begin(t, b.AppDSN(), "BEGIN; SELECT count(*) FROM big")
		must(t, a.Exec(ctx, "keycloak", "ALTER TABLE big DROP COLUMN z"))
		must(t, b.Await(ctx, "EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'startup' AND wait_event_type = 'Lock')"))
		must(t, op.Promote(ctx, tb))
		n, err := op.EndReplayConflicts(ctx, tb)
		must(t, err)
		same(t, "ended", n, 1)
		must(t, b.Await(ctx, "NOT pg_is_in_recovery()"))
		same(t, "the holder ended", ended(ctx, holder), true)
	})
}

// sameFence compares what a fence did. Up to where it has flushed is the server's; that it has is what counts.
func sameFence(t *testing.T, got, want FenceReport) {
	t.Helper()
	if !got.End.Known || got.End.V == 0 {
		t.Errorf("what was committed is not flushed: %s", got)
	}
	got.End = decision.Opt[decision.LSN]{}
	same(t, "report", got, want)
}
