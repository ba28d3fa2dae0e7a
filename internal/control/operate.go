package control

import (
	"context"
	"time"

	"github.com/pgtether/pgtether/decision"
)

// errandTimeout bounds one call of the Operator but for the fence, which has its own time.
const errandTimeout = 10 * time.Second

// operate begins what the engine wants done to a node. A promotion is not asked for while events are not on disk: its own event would be
// among them. The outcome comes back as an event of its own.
func (l *Loop) operate(a decision.Action) (decision.Outcome, bool) {
	op := l.cfg.Operator
	switch a := a.(type) {
	case decision.Fence:
		l.errand(a.ID, 0, func(ctx context.Context) (decision.Outcome, error) {
			detail, end, err := op.Fence(ctx, a)
			return decision.Outcome{Detail: detail, End: end}, err
		})
	case decision.Promote:
		if !l.eventsOnDisk() {
			return decision.Outcome{Err: "events are not on disk"}, true
		}
		l.errand(a.ID, errandTimeout, only(func(ctx context.Context) error { return op.Promote(ctx, a.Node) }))
	case decision.Verify:
		l.errand(a.ID, errandTimeout, only(func(ctx context.Context) error { return op.Verify(ctx, a) }))
	case decision.Unfence:
		l.errand(a.ID, errandTimeout, only(func(ctx context.Context) error { return op.Unfence(ctx, a.Node) }))
	case decision.EndConflicts:
		l.errand(a.ID, errandTimeout, only(func(ctx context.Context) error { return op.EndConflicts(ctx, a.Node) }))
	case decision.RestoreSync:
		l.errand(a.ID, errandTimeout, only(func(ctx context.Context) error { return op.RestoreSync(ctx, a.Node, a.Names) }))
	case decision.Checkpoint:
		l.errand(a.ID, time.Minute, only(func(ctx context.Context) error { return op.Checkpoint(ctx, a.Node) }))
	}
	return decision.Outcome{}, false
}

// errand calls the Operator on a goroutine of its own, which Run waits for, and hands the outcome to the engine. A limit of 0 is no limit
// of the loop's own.
func (l *Loop) errand(id uint64, limit time.Duration, call func(context.Context) (decision.Outcome, error)) {
	ctx, cancel := l.life, context.CancelFunc(func() {})
	if limit > 0 {
		ctx, cancel = context.WithTimeout(l.life, limit)
	}
	l.errands.Go(func() {
		defer cancel()
		o, err := call(ctx)
		if err != nil {
			o.Err = err.Error()
		}
		select {
		case l.inbox <- func() { l.step(decision.Completed{At: l.now(), ActionID: id, Outcome: o}) }:
		case <-l.done:
		}
	})
}

// only is a call that has nothing to say but whether it was done.
func only(do func(context.Context) error) func(context.Context) (decision.Outcome, error) {
	return func(ctx context.Context) (decision.Outcome, error) { return decision.Outcome{}, do(ctx) }
}
