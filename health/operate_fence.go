package health

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pgtether/pgtether/decision"
)

// FenceReport is what a fence by SQL did.
type FenceReport struct {
	// ReadOnly is true when new transactions are read-only on the node. It is a soft fence: a session can ask for a read-write one.
	ReadOnly bool
	// WasReadOnly is true when they were before: then it is somebody else's doing, and not to be undone.
	WasReadOnly bool
	// Skipped says why transactions were not made read-only; empty when they were.
	Skipped string
	// Ended counts the sessions that were ended, Left those among them that are still there, Superusers those that only a superuser may end.
	Ended, Left, Superusers int
	// End is a position that everything which was committed before is on disk up to, those commits included that did not wait for that
	// (synchronous_commit = off) and could otherwise be beyond what the server says it has written. Unflushed says why it is not known.
	End       decision.Opt[decision.LSN]
	Unflushed string
}

// Complete reports whether nothing is known to be left that could write through the ordinary way: not a fence against whoever asks for a read-write
// transaction, background workers or a restart with another configuration.
func (r FenceReport) Complete() bool {
	return r.ReadOnly && r.Left == 0 && r.Superusers == 0 && r.End.Known
}

// String says in words what was done.
func (r FenceReport) String() string {
	var parts []string
	switch {
	case r.WasReadOnly:
		parts = append(parts, "default_transaction_read_only was on already")
	case r.ReadOnly:
		parts = append(parts, "default_transaction_read_only is on")
	default:
		parts = append(parts, "default_transaction_read_only was not set: "+r.Skipped)
	}
	parts = append(parts, counted(r.Ended, "session was", "sessions were")+" ended")
	if r.Left > 0 {
		parts = append(parts, counted(r.Left, "of them is", "of them are")+" still there")
	}
	if r.Superusers > 0 {
		parts = append(parts, counted(r.Superusers, "session of a superuser goes on", "sessions of superusers go on"))
	}
	if r.Unflushed != "" {
		parts = append(parts, "what was committed could not be flushed: "+r.Unflushed)
	}
	return strings.Join(parts, "; ")
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

// notOurs leaves a pgtether's own sessions out of pg_stat_activity a.
const notOurs = "a.backend_type = 'client backend' AND a.pid <> pg_backend_pid() AND a.usesysid IS NOT NULL " +
	"AND NOT (a.usename = current_user AND a.application_name LIKE '" + applicationPrefix + "%')"

// endSessions ends the client backends for which the condition holds, but those of superusers, which would fail the whole statement. The answer is one
// row however many there are.
func endSessions(condition string) string {
	return "SELECT coalesce(string_agg(x.pid::text, ',') FILTER (WHERE x.ended), '') AS ended, count(*) FILTER (WHERE x.super) AS superusers FROM " +
		"(SELECT a.pid, r.rolsuper AS super, CASE WHEN NOT r.rolsuper THEN pg_terminate_backend(a.pid) END AS ended " +
		"FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid WHERE " + notOurs + " AND " + condition + " OFFSET 0) x"
}

// FenceSQL keeps an old writer that still answers from taking writes, as far as SQL can: it makes new transactions read-only (ALTER SYSTEM,
// PostgreSQL 15 and later with the grant; else that is skipped and said), ends all other client sessions but pgtether's own, and ends them
// again once the change is in force, for those that came back meanwhile. Commits that wait for a standby are not acknowledged by it. It refuses a node
// in recovery, and changes nothing that replicates. With an error the report says what was done before it; without one, what is left.
//
// UnfenceSQL undoes it. It survives a restart of the node until then.
func (Operator) FenceSQL(ctx context.Context, t Target) (FenceReport, error) {
	var report FenceReport
	err := with(ctx, "fence", t, func(ctx context.Context, l *link) error {
		if err := l.demandPrimary(ctx); err != nil {
			return err
		}
		f := fence{link: l, report: &report, ended: map[string]bool{}}
		return f.run(ctx)
	})
	return report, err
}

// fence is one FenceSQL in progress.
type fence struct {
	*link
	report *FenceReport
	ended  map[string]bool // pids
}

func (f *fence) run(ctx context.Context) error {
	asked, err := f.askReadOnly(ctx)
	if err != nil {
		return err
	}
	if err := f.endAll(ctx); err != nil {
		return err
	}
	if asked {
		half, cancel := context.WithTimeout(ctx, time.Until(deadlineOf(ctx))/2) // the sessions matter more than to see it in force
		err := f.awaitSetting(half, readOnlyParameter, func(r row) bool { return r["setting"] == "on" })
		cancel()
		if f.report.ReadOnly = err == nil; err != nil {
			f.report.Skipped = reason(err)
		}
		if err := f.endAll(ctx); err != nil {
			return err
		}
	}
	if err := f.awaitGone(ctx); err != nil {
		return err
	}
	return f.flush(ctx)
}

// flush makes everything durable that was committed, by a commit that waits for the disk and for no standby, and reads the position then. The
// record that it writes says nothing to anybody.
func (f *fence) flush(ctx context.Context) error {
	answers, err := f.ask(ctx, []string{"BEGIN READ WRITE", "SET LOCAL synchronous_commit = local", "SELECT pg_logical_emit_message(true, 'pgtether', 'fence')",
		"COMMIT", "SELECT pg_current_wal_flush_lsn() AS lsn"})
	if err != nil {
		return err
	}
	for _, a := range answers {
		if a.err != nil {
			f.report.Unflushed = reason(a.err)
			return nil
		}
	}
	f.report.End = lsn(single(answers[len(answers)-1]), "lsn")
	return nil
}

const readOnlyParameter = "default_transaction_read_only"

// askReadOnly sets the parameter and has the server read it. PostgreSQL's refusal is noted and no error.
func (f *fence) askReadOnly(ctx context.Context) (asked bool, err error) {
	was, err := f.setting(ctx, readOnlyParameter)
	if err != nil {
		return false, err
	}
	if f.report.WasReadOnly = was == "on"; f.report.WasReadOnly {
		f.report.ReadOnly = true
		return false, nil
	}
	if err = f.exec(ctx, "ALTER SYSTEM SET "+readOnlyParameter+" = on"); err == nil {
		err = f.reload(ctx)
	}
	if isStatementError(err) {
		f.report.Skipped = sqlStateOf(err) + " " + classify(err, f.guard, 0).Detail
		return false, nil
	}
	return err == nil, err
}

// endAll ends everybody's sessions and counts each once.
func (f *fence) endAll(ctx context.Context) error {
	r, err := f.one(ctx, endSessions("true"))
	if err != nil {
		return err
	}
	for pid := range strings.SplitSeq(r["ended"], ",") {
		if pid != "" {
			f.ended[pid] = true
		}
	}
	f.report.Ended, f.report.Superusers = len(f.ended), number(r, "superusers").V
	return nil
}

// awaitGone waits until the sessions that were ended are gone: a backend notices when it next can. It leaves some time to report.
func (f *fence) awaitGone(ctx context.Context) error {
	giveUp := time.Now().Add(time.Until(deadlineOf(ctx)) * 3 / 4)
	for {
		r, err := f.one(ctx, "SELECT coalesce(string_agg(a.pid::text, ','), '') AS pids FROM pg_stat_activity a WHERE "+notOurs)
		if err != nil {
			return err
		}
		f.report.Left = 0
		for pid := range strings.SplitSeq(r["pids"], ",") {
			if f.ended[pid] {
				f.report.Left++
			}
		}
		if f.report.Left == 0 || time.Now().After(giveUp) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lookAgain):
		}
	}
}

// UnfenceSQL takes back what FenceSQL set, on a primary or on a node that has become a standby meanwhile, and returns when new sessions show it. A value
// of postgresql.conf comes into force again. It is for a node whose FenceReport was not WasReadOnly.
func (Operator) UnfenceSQL(ctx context.Context, t Target) error {
	return with(ctx, "unfence", t, func(ctx context.Context, l *link) error {
		err := l.exec(ctx, "ALTER SYSTEM RESET "+readOnlyParameter)
		if isStatementError(err) {
			if now, lookErr := l.setting(ctx, readOnlyParameter); lookErr == nil && now == "off" {
				return nil // who may not set it has not set it
			}
		}
		if err != nil {
			return err
		}
		if err := l.reload(ctx); err != nil {
			return err
		}
		return l.awaitSetting(ctx, readOnlyParameter, func(r row) bool {
			return r["setting"] == "off" || r["sourcefile"] != "" && !strings.HasSuffix(r["sourcefile"], "postgresql.auto.conf")
		})
	})
}

// replayBlockers picks, out of pg_stat_activity a, the sessions that the startup process s waits for: for a lock, those that have it; for anything
// else (a snapshot, a pinned buffer), those that have a snapshot.
const replayBlockers = "EXISTS (SELECT FROM pg_stat_activity s WHERE s.backend_type = 'startup' AND pg_is_in_recovery() " +
	"AND coalesce(pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn(), true) AND CASE " +
	"WHEN s.wait_event_type = 'Lock' THEN EXISTS (SELECT FROM pg_locks w JOIN pg_locks h ON h.locktype = w.locktype AND h.database = w.database " +
	"AND h.relation = w.relation WHERE w.pid = s.pid AND NOT w.granted AND h.pid = a.pid AND h.granted) " +
	"WHEN s.wait_event_type = 'BufferPin' OR s.wait_event LIKE 'RecoveryConflict%' THEN a.backend_xmin IS NOT NULL ELSE false END)"

// EndReplayConflicts ends the sessions on a standby that hold its replay back, and returns how many: a promotion replays all that was received, and with
// max_standby_streaming_delay = -1 one query would hold it up for ever. It looks once, and ends nobody unless replay is behind what was received and the
// startup process waits for somebody; sessions of superusers and pgtether's own go on. On PostgreSQL 13 a wait for a snapshot does not show, and
// nobody is ended. It refuses a primary with ErrNotInRecovery.
func (Operator) EndReplayConflicts(ctx context.Context, t Target) (ended int, err error) {
	err = with(ctx, "end replay conflicts on", t, func(ctx context.Context, l *link) error {
		if r, err := l.one(ctx, "SELECT pg_is_in_recovery() AS in_recovery"); err != nil || r["in_recovery"] != "t" {
			if err == nil {
				err = refusal{why: ErrNotInRecovery}
			}
			return err
		}
		r, err := l.one(ctx, endSessions(replayBlockers))
		if err != nil {
			return err
		}
		if r["ended"] != "" {
			ended = 1 + strings.Count(r["ended"], ",")
		}
		if n := number(r, "superusers").V; n > 0 && ended == 0 {
			return refusal{ErrDenied, fmt.Sprintf("%s replay back", counted(n, "session of a superuser holds", "sessions of superusers hold"))}
		}
		return nil
	})
	return ended, err
}
