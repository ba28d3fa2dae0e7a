package health

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pgtether/pgtether/decision"
	"github.com/pgtether/pgtether/internal/lab"
)

// TestPromotion: the order in which a standby is refused, promoted, and promoted again.
func TestPromotion(t *testing.T) {
	ctx, l := startLab(t, lab.Options{})
	a, b := l.Node(lab.RegionA), l.Node(lab.RegionB)
	ta, tb := labTarget(l, lab.RegionA), labTarget(l, lab.RegionB)
	var op Operator

	t.Run("without the privilege nothing happens", func(t *testing.T) {
		e := failure(t, op.Promote(ctx, poor(ctx, t, a, b, tb)), ErrDenied)
		same(t, "error", e.Error(), "promote region-b: 42501 ERROR: permission denied for function pg_promote")
		same(t, "may have happened", e.MayHaveHappened, false)
		same(t, "in recovery", one(ctx, t, b, "SELECT pg_is_in_recovery()"), "t")
	})
	t.Run("a primary is not promoted", func(t *testing.T) {
		e := failure(t, op.Promote(ctx, ta), ErrNotInRecovery)
		same(t, "error", e.Error(), "promote region-a: 55000 node is not in recovery")
		same(t, "may have happened", e.MayHaveHappened, false)
	})
	t.Run("a wrong password is in no error", func(t *testing.T) {
		wrong := tb
		wrong.Password = "sesame-open"
		e := failure(t, op.Promote(ctx, wrong), nil)
		same(t, "SQLSTATE", e.Attempt.SQLState, "28P01")
		same(t, "may have happened", e.MayHaveHappened, false)
		if strings.Contains(e.Error(), "sesame-open") {
			t.Errorf("error %q", e)
		}
	})
	t.Run("a node that hangs ends the call in time, with nothing asked", func(t *testing.T) {
		must(t, b.FreezePostmaster())
		brief, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		began := time.Now()
		e := failure(t, op.Promote(brief, tb), nil)
		must(t, b.Thaw())
		if took := time.Since(began); took > time.Second+slack {
			t.Errorf("took %s", took)
		}
		same(t, "evidence", e.Attempt.Evidence, decision.Silent)
		same(t, "may have happened", e.MayHaveHappened, false)
	})
	t.Run("a paused standby is promoted, and replays what it had received", func(t *testing.T) {
		must(t, b.PauseReplay(ctx))
		must(t, a.Exec(ctx, "postgres", "CREATE TABLE gap AS SELECT 1 AS x"))
		position := one(ctx, t, a, "SELECT pg_current_wal_lsn()")
		must(t, b.Await(ctx, "pg_last_wal_receive_lsn() >= '"+position+"'::pg_lsn"))
		must(t, op.Promote(ctx, tb))
		must(t, b.Await(ctx, "NOT pg_is_in_recovery()"))
		same(t, "the gap", one(ctx, t, b, "SELECT count(*) FROM gap"), "1")
	})
	t.Run("promoting it again says that it is no standby, on a timeline that has grown", func(t *testing.T) {
		failure(t, op.Promote(ctx, tb), ErrNotInRecovery)
		same(t, "timeline", newProber(t).Probe(ctx, tb).Timeline, decision.Some(uint32(2)))
	})
	t.Run("a checkpoint brings the new timeline into the control file", func(t *testing.T) {
		if l.Version() < 15 {
			failure(t, op.Checkpoint(ctx, tb), ErrDenied)
			return
		}
		must(t, op.Checkpoint(ctx, tb))
		same(t, "timeline", one(ctx, t, b, "SELECT timeline_id FROM pg_control_checkpoint()"), "2")
	})
	t.Run("a checkpoint without the privilege is denied", func(t *testing.T) {
		tb := tb
		tb.User, tb.Password = "poor", "poor"
		failure(t, op.Checkpoint(ctx, tb), ErrDenied)
	})
	t.Run("nobody there", func(t *testing.T) {
		must(t, a.Kill9())
		e := failure(t, op.Checkpoint(ctx, ta), nil)
		same(t, "error", e.Error(), "checkpoint region-a: connection refused")
		same(t, "evidence", e.Attempt.Evidence, decision.Refused)
	})
}

// TestAnAnswerThatIsLostLeavesItOpen: the server got the statement and nothing came back.
func TestAnAnswerThatIsLostLeavesItOpen(t *testing.T) {
	for name, then := range map[string]step{"silence": swallow, "reset": reset} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, readStartup, login(), untilSync(1), then)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			e := failure(t, Operator{}.Promote(ctx, fakeTarget(f.addr, time.Second)), nil)
			same(t, "may have happened", e.MayHaveHappened, true)
			same(t, "dials", f.dials.Load(), 1) // no cancel request, no second attempt
			if errors.Is(e, ErrDenied) || errors.Is(e, ErrNotInRecovery) {
				t.Errorf("error %q", e)
			}
		})
	}
	t.Run("a cancelled context ends the call", func(t *testing.T) {
		f := newFake(t, readStartup, login(), untilSync(1), swallow)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(200*time.Millisecond, cancel)
		e := failure(t, Operator{}.Promote(ctx, fakeTarget(f.addr, time.Minute)), context.Canceled)
		same(t, "may have happened", e.MayHaveHappened, true)
	})
	t.Run("a pg_promote that could not signal is a failure", func(t *testing.T) {
		f := newFake(t, readStartup, login(), untilSync(1), tell([]answer{{rows: []row{{"asked": "f"}}}}), swallow)
		e := failure(t, Operator{}.Promote(t.Context(), fakeTarget(f.addr, 10*time.Second)), nil)
		if !strings.Contains(e.Error(), "could not signal") {
			t.Errorf("error %q", e)
		}
	})
}
