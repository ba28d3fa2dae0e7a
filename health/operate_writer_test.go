package health

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtether/pgtether/internal/lab"
)

// commits tries a transaction of the application on the node.
func commits(ctx context.Context, dsn string) error {
	c, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer c.Close(context.WithoutCancel(ctx))
	_, err = c.Exec(ctx, "CREATE TABLE IF NOT EXISTS w (x int); INSERT INTO w VALUES (1)")
	return err
}

// TestANewWriter takes a synchronous pair from health to the loss of its primary: each name a node's proof, then its synchronous_standby_names.
func TestANewWriter(t *testing.T) {
	ctx, l := startLab(t, lab.Options{Synchronous: true})
	a, b := l.Node(lab.RegionA), l.Node(lab.RegionB)
	ta, tb := labTarget(l, lab.RegionA), labTarget(l, lab.RegionB)
	must(t, commits(ctx, a.AppDSN()))
	id := one(ctx, t, a, "SELECT system_identifier FROM pg_control_system()")
	var op Operator

	t.Run("a primary proves that it commits, and leaves a message in its WAL", func(t *testing.T) {
		before := one(ctx, t, a, "SELECT pg_current_wal_lsn()")
		must(t, op.ProveWritable(ctx, ta, Want{SystemID: id, MinTimeline: 1}))
		same(t, "WAL was written", one(ctx, t, a, "SELECT pg_current_wal_lsn() > '"+before+"'"), "t")
	})
	t.Run("a standby is refused", func(t *testing.T) {
		failure(t, op.ProveWritable(ctx, tb, Want{SystemID: id, MinTimeline: 1}), ErrInRecovery)
		_, err := op.EmptySyncNames(ctx, tb)
		failure(t, err, ErrInRecovery)
		same(t, "names on the standby", one(ctx, t, b, "SHOW synchronous_standby_names"), `"region-a"`)
	})
	t.Run("another cluster is refused", func(t *testing.T) {
		failure(t, op.ProveWritable(ctx, ta, Want{SystemID: "7400000000000000001", MinTimeline: 1}), ErrWrongSystem)
		failure(t, op.ProveWritable(ctx, ta, Want{}), ErrWrongSystem)
	})
	t.Run("a timeline that has not grown is refused", func(t *testing.T) {
		e := failure(t, op.ProveWritable(ctx, ta, Want{SystemID: id, MinTimeline: 2}), ErrOldTimeline)
		same(t, "error", e.Error(), "prove writable region-a: timeline is older than the wanted one: it is 1, wanted at least 2")
	})
	t.Run("a server that is read-only by default is refused", func(t *testing.T) {
		must(t, a.Configure(map[string]string{"default_transaction_read_only": "on"}))
		must(t, a.Await(ctx, "current_setting('default_transaction_read_only') = 'on'"))
		failure(t, op.ProveWritable(ctx, ta, Want{SystemID: id, MinTimeline: 1}), ErrReadOnly)
		must(t, a.Configure(map[string]string{"default_transaction_read_only": "off"}))
		must(t, a.Await(ctx, "current_setting('default_transaction_read_only') = 'off'"))
	})
	t.Run("without the privilege for the message it is denied", func(t *testing.T) {
		function := one(ctx, t, a, "SELECT oid::regprocedure FROM pg_proc WHERE proname = 'pg_logical_emit_message' AND proargtypes[2] = 'text'::regtype")
		must(t, a.Exec(ctx, "postgres", "REVOKE EXECUTE ON FUNCTION "+function+" FROM PUBLIC, pgtether"))
		e := failure(t, op.ProveWritable(ctx, ta, Want{SystemID: id, MinTimeline: 1}), ErrDenied)
		same(t, "may have happened", e.MayHaveHappened, false)
		must(t, a.Exec(ctx, "postgres", "GRANT EXECUTE ON FUNCTION "+function+" TO pgtether"))
		must(t, b.AwaitCaughtUp(ctx, a))
	})
	t.Run("a node that nobody can reach does not hang", func(t *testing.T) {
		must(t, a.FreezeAll())
		brief, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		began := time.Now()
		failure(t, op.ProveWritable(brief, ta, Want{SystemID: id, MinTimeline: 1}), nil)
		if took := time.Since(began); took > time.Second+slack {
			t.Errorf("took %s", took)
		}
		must(t, a.Thaw())
	})

	must(t, a.Kill9())
	must(t, op.Promote(ctx, tb))
	must(t, b.Await(ctx, "NOT pg_is_in_recovery()"))
	hanging := make(chan error, 1)
	t.Run("a promoted standby proves itself although other commits wait for the node that it replaced", func(t *testing.T) {
		go func() { hanging <- commits(ctx, b.AppDSN()) }()
		must(t, b.Await(ctx, "EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep')"))
		must(t, op.ProveWritable(ctx, tb, Want{SystemID: id, MinTimeline: 2}))
		select {
		case err := <-hanging:
			t.Errorf("the application's commit did not wait: %v", err)
		default:
		}
	})
	if l.Version() < 15 {
		t.Run("before PostgreSQL 15 only a superuser may change the names", func(t *testing.T) {
			was, err := op.EmptySyncNames(ctx, tb)
			failure(t, err, ErrDenied)
			same(t, "was", was, `"region-a"`)
			failure(t, op.RestoreSyncNames(ctx, tb, "x"), ErrDenied)
		})
		must(t, b.Configure(map[string]string{"synchronous_standby_names": ""}))
		must(t, <-hanging)
		return
	}
	testSyncNames(ctx, t, b, tb, hanging)
	t.Run("the old primary that comes back is refused", func(t *testing.T) {
		must(t, a.Start(ctx))
		failure(t, op.ProveWritable(ctx, ta, Want{SystemID: id, MinTimeline: 2}), ErrOldTimeline)
	})
}

// testSyncNames empties the names of b, for which a commit waits, and puts them back.
func testSyncNames(ctx context.Context, t *testing.T, b *lab.Node, tb Target, hanging <-chan error) {
	var op Operator
	t.Run("emptied names let commits through, those that waited too", func(t *testing.T) {
		names, err := op.ReadSyncNames(ctx, tb)
		must(t, err)
		same(t, "names", names, `"region-a"`)
		was, err := op.EmptySyncNames(ctx, tb)
		must(t, err)
		same(t, "was", was, names)
		must(t, commits(ctx, b.AppDSN()))
		must(t, <-hanging)
	})
	t.Run("emptying them again changes nothing", func(t *testing.T) {
		before := one(ctx, t, b, "SELECT (pg_stat_file('postgresql.auto.conf')).modification")
		was, err := op.EmptySyncNames(ctx, tb)
		must(t, err)
		same(t, "was", was, "")
		same(t, "the file", one(ctx, t, b, "SELECT (pg_stat_file('postgresql.auto.conf')).modification"), before)
	})
	t.Run("they are put back, whatever they are, for new sessions at once", func(t *testing.T) {
		for _, names := range []string{"", `"region-a"`, `FIRST 1 ("it's", "back\slash", region_x)`, `*`, `"region-a"`} {
			must(t, op.RestoreSyncNames(ctx, tb, names))
			got, err := op.ReadSyncNames(ctx, tb)
			must(t, err)
			same(t, "names", got, names)
		}
	})
	t.Run("names that PostgreSQL does not take are an error, and nothing changes", func(t *testing.T) {
		e := failure(t, op.RestoreSyncNames(ctx, tb, "FIRST 1 ("), nil)
		same(t, "may have happened", e.MayHaveHappened, false)
		if e.Attempt.SQLState == "" {
			t.Errorf("error %q, want PostgreSQL's", e)
		}
		same(t, "names", one(ctx, t, b, "SHOW synchronous_standby_names"), `"region-a"`)
	})
	t.Run("without the privilege it is denied, and says what it was", func(t *testing.T) {
		must(t, b.Exec(ctx, "postgres", "SET synchronous_commit = local; REVOKE ALTER SYSTEM ON PARAMETER synchronous_standby_names FROM pgtether"))
		was, err := op.EmptySyncNames(ctx, tb)
		failure(t, err, ErrDenied)
		same(t, "was", was, `"region-a"`)
	})
}

// TestNamesThatStayInForce: whoever empties them must learn what they were although new sessions go on showing them.
func TestNamesThatStayInForce(t *testing.T) {
	say := func(r row) step { return tell([]answer{{rows: []row{r}}}) }
	still := say(row{"in_recovery": "f", "setting": "region_a"})
	f := newFake(t, readStartup, login(), untilSync(1), still, untilSync(1), still, untilSync(1), tell([]answer{{}}), untilSync(1), say(row{"asked": "t"}), swallow)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	was, err := Operator{}.EmptySyncNames(ctx, fakeTarget(f.addr, time.Second))
	e := failure(t, err, nil)
	same(t, "was", was, "region_a")
	same(t, "may have happened", e.MayHaveHappened, true)
	if f.dials.Load() < 3 {
		t.Errorf("%d connections: no new session was looked at twice", f.dials.Load())
	}
}
