package health

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgtether/pgtether/decision"
)

// What an operation may be refused for. Match them with errors.Is; everything else about a failure is in its OperateError.
var (
	// ErrNotInRecovery: the node to be promoted is a primary. Whether that is a success depends on its timeline.
	ErrNotInRecovery = errors.New("node is not in recovery")
	// ErrInRecovery: the node is a standby, and the operation is for a primary.
	ErrInRecovery = errors.New("node is in recovery")
	// ErrDenied: the role lacks a privilege (42501). Nothing happened.
	ErrDenied = errors.New("role lacks the privilege")
	// ErrWrongSystem: the node belongs to another cluster, or does not say to which.
	ErrWrongSystem = errors.New("system identifier is not the expected one")
	// ErrOldTimeline: the node is on a timeline below the wanted one: an old primary, or one that was not promoted.
	ErrOldTimeline = errors.New("timeline is older than the wanted one")
	// ErrReadOnly: new transactions are read-only there although the node is a primary.
	ErrReadOnly = errors.New("transactions are read-only on the node")
	// ErrNotCommitted: the server ended the verifying write otherwise than by a commit.
	ErrNotCommitted = errors.New("write was not committed")
)

// OperateError tells what came of an operation that failed. It holds no secret.
type OperateError struct {
	// Operation and Node say what was tried and where.
	Operation, Node string
	// Attempt is what the wire showed, as for a probe: the evidence, PostgreSQL's SQLSTATE, the reason in words.
	Attempt decision.Attempt
	// MayHaveHappened is true when the session was open and its answer is missing: the server may have done it, or may do it yet. It is
	// false when nothing was asked and when PostgreSQL refused.
	MayHaveHappened bool

	cause error
}

// Error says what failed, where and why.
func (e *OperateError) Error() string {
	text := e.Operation + " " + e.Node + ": "
	if e.Attempt.SQLState != "" {
		text += e.Attempt.SQLState + " "
	}
	return text + e.Attempt.Detail
}

// Unwrap gives the reasons above, and the context's when it ended the operation.
func (e *OperateError) Unwrap() error { return e.cause }

// Operator changes nodes. It is the only part of this package that does, and does nothing by itself: each call is one attempt on a fresh connection,
// made as a prober's is, and ends with ctx (without a deadline there, with the target's timeout). Calls that wait until a changed
// parameter is in force look at new sessions meanwhile. An error is an *OperateError.
type Operator struct{}

// Promote asks a standby to become a primary and returns as soon as it has been asked. It cannot be taken back, and may take effect later than any
// deadline: a server that is stopped promotes itself when it runs again, even when this call failed with MayHaveHappened. So the intent
// is to be durable before the call, and the node to be watched after it, whatever the call returned. ErrNotInRecovery: the node is a primary
// already, promoted before or never a standby, which its timeline tells.
func (Operator) Promote(ctx context.Context, t Target) error {
	return with(ctx, "promote", t, func(ctx context.Context, l *link) error {
		asked, err := l.one(ctx, "SELECT pg_promote(false) AS asked")
		switch {
		case sqlStateOf(err) == "55000":
			return refusedFor(ErrNotInRecovery, err)
		case err == nil && asked["asked"] != "t":
			return wireError{text: "pg_promote could not signal the server"}
		default:
			return err
		}
	})
}

// Checkpoint makes the node write a checkpoint (on a standby: a restartpoint) and waits for it. After a promotion it brings the new timeline into the
// control file, which pg_rewind reads. PostgreSQL 13 and 14 allow it to superusers only: ErrDenied.
func (Operator) Checkpoint(ctx context.Context, t Target) error {
	return with(ctx, "checkpoint", t, func(ctx context.Context, l *link) error { return l.exec(ctx, "CHECKPOINT") })
}

// maxOperation bounds statement_timeout, which the server holds in a 32-bit number of milliseconds.
const maxOperation = 24 * time.Hour

// with makes the one connection of an operation, hands it to do, and says in an OperateError what failed.
func with(ctx context.Context, operation string, t Target, do func(context.Context, *link) error) error {
	began := time.Now()
	ctx, cancel := bounded(ctx, t)
	defer cancel()
	t.Timeout = min(time.Until(deadlineOf(ctx)), maxOperation)
	l, err := connect(ctx, t, false)
	defer l.close(ctx)
	if err == nil {
		err = do(ctx, l)
	}
	if err == nil {
		return nil
	}
	e := &OperateError{Operation: operation, Node: t.Node, Attempt: classify(err, l.guard, time.Since(began)), cause: causeOf(ctx, err)}
	var no refusal
	if errors.As(err, &no) {
		e.Attempt.Detail = printable(no.Error())
	}
	e.MayHaveHappened = l.pg != nil && !isStatementError(err) && no.why == nil
	return e
}

// bounded gives a context a deadline.
func bounded(ctx context.Context, t Target) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, t.Timeout)
}

// refusal is a reason for which an operation was not done: one of the errors above, with what was found.
type refusal struct {
	why   error
	found string
}

func (r refusal) Error() string {
	if r.found == "" {
		return r.why.Error()
	}
	return r.why.Error() + ": " + r.found
}

func (r refusal) Unwrap() error { return r.why }

// refusedFor gives PostgreSQL's refusal the name under which a caller knows it.
func refusedFor(why, err error) error { return fmt.Errorf("%w: %w", refusal{why: why}, err) }

// causeOf is what errors.Is finds in an OperateError. What the libraries wrap (addresses, configurations) stays out of it.
func causeOf(ctx context.Context, err error) error {
	var no refusal
	switch {
	case errors.As(err, &no):
		return no.why
	case sqlStateOf(err) == "42501":
		return ErrDenied
	case sqlStateOf(err) == "25006":
		return ErrReadOnly
	default:
		return ctx.Err()
	}
}

// sqlStateOf is the SQLSTATE of an error of PostgreSQL, else "".
func sqlStateOf(err error) string {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		return ""
	}
	return sqlState(pgErr.Code)
}

// exec runs one statement that gives no rows.
func (l *link) exec(ctx context.Context, sql string) error {
	answers, err := l.ask(ctx, []string{sql})
	if err != nil {
		return err
	}
	return answers[0].err
}

// one runs a statement that gives exactly one row.
func (l *link) one(ctx context.Context, sql string) (row, error) {
	answers, err := l.ask(ctx, []string{sql})
	switch {
	case err != nil:
		return nil, err
	case answers[0].err != nil:
		return nil, answers[0].err
	case len(answers[0].rows) != 1:
		return nil, errNoFacts
	}
	return answers[0].rows[0], nil
}
