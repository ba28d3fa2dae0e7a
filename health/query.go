package health

import (
	"context"
	"errors"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"
)

// row is one row of an answer, in text format; a column that is NULL is absent.
type row map[string]string

// answer is what one statement gave: rows, or PostgreSQL's error, which concerns that statement alone.
type answer struct {
	rows []row
	err  error
}

// maxRows bounds an answer; more are read and dropped, and the answer is marked as unusable.
const maxRows = 2000

var errTooManyRows = wireError{text: "server sends more rows than a probe reads"}

// errNotAsked: the statement came after one that failed, in the same transaction.
var errNotAsked = wireError{text: "statement was skipped after one that failed"}

// ask sends all statements at once and reads their answers: one round trip, and each is a transaction of its own, so that the failure of one spares the
// others. The error is that of the connection, which is unusable then.
func (l *link) ask(ctx context.Context, statements []string) ([]answer, error) {
	return l.exchange(ctx, statements, true)
}

// askTogether is ask in a single transaction, which the server begins, ends and answers once. What follows a statement that fails is asked again as by ask,
// from then on at once. It is for statements that change nothing which the end of a transaction would keep or undo.
func (l *link) askTogether(ctx context.Context, statements []string) ([]answer, error) {
	if l.severally {
		return l.ask(ctx, statements)
	}
	answers, err := l.exchange(ctx, statements, false)
	first := slices.IndexFunc(answers, func(a answer) bool { return a.err != nil }) + 1
	if err != nil || first == 0 {
		return answers, err
	}
	l.severally = true
	rest, err := l.ask(ctx, statements[first:])
	copy(answers[first:], rest)
	return answers, err
}

func (l *link) exchange(ctx context.Context, statements []string, severally bool) ([]answer, error) {
	p := l.pg.StartPipeline(ctx)
	for i, sql := range statements {
		l.send(p, sql)
		if severally || i == len(statements)-1 {
			p.SendPipelineSync()
		}
	}
	answers, err := receive(p, len(statements), severally)
	l.unname(statements, answers)
	if err != nil {
		l.raw.Close() // or Close would read on, to the end of the round
	}
	if closeErr := p.Close(); err == nil && closeErr != nil && !isStatementError(closeErr) {
		err = closeErr
	}
	return answers, err
}

// send puts one statement into the pipeline. On a link that is kept it is prepared the first time: the server need not parse and plan it in each round.
func (l *link) send(p *pgconn.Pipeline, sql string) {
	name, ok := l.named[sql]
	if !ok && l.named != nil {
		l.names++
		name = "pgtether_" + strconv.Itoa(l.names)
		l.named[sql] = name
		p.SendPrepare(name, sql, nil)
	}
	if name == "" {
		p.SendQueryParams(sql, nil, nil, nil, nil)
	} else {
		p.SendQueryPrepared(name, nil, nil, nil)
	}
}

// unname has statements that failed asked without a name from now on: whether the server knows the name then, nobody can tell. Of those that were skipped
// it has not heard.
func (l *link) unname(statements []string, answers []answer) {
	for i, sql := range statements {
		switch {
		case l.named == nil, answers[i].err == nil:
		case errors.Is(answers[i].err, errNotAsked):
			delete(l.named, sql)
		default:
			l.named[sql] = ""
		}
	}
}

func receive(p *pgconn.Pipeline, n int, severally bool) ([]answer, error) {
	answers := make([]answer, n)
	if err := p.Flush(); err != nil {
		return answers, err
	}
	for i := 0; i < n; {
		result, err := p.GetResults()
		switch r := result.(type) {
		case nil:
			if err == nil {
				return answers, wireError{text: "server ends its answers early"}
			}
			if !isStatementError(err) {
				return answers, err
			}
			answers[i].err = err
		case *pgconn.ResultReader:
			answers[i].rows, answers[i].err = readRows(r)
			if err := answers[i].err; err != nil && !isStatementError(err) {
				return answers, err
			}
			if !severally && answers[i].err == nil {
				i++
			}
		case *pgconn.PipelineSync:
			if severally {
				i++
				continue
			}
			for i++; i < n; i++ {
				answers[i].err = errNotAsked
			}
		}
	}
	return answers, nil
}

func readRows(r *pgconn.ResultReader) ([]row, error) {
	var rows []row
	fields := r.FieldDescriptions()
	for r.NextRow() {
		values := r.Values()
		if len(rows) == maxRows || len(values) != len(fields) {
			return nil, errTooManyRows
		}
		this := make(row, len(fields))
		for i, v := range values {
			if v != nil {
				this[fields[i].Name] = string(v)
			}
		}
		rows = append(rows, this)
	}
	_, err := r.Close()
	return rows, err
}

// isStatementError reports whether an error ended a statement and not the session.
func isStatementError(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Severity != "FATAL" && pgErr.Severity != "PANIC" &&
		pgErr.SeverityUnlocalized != "FATAL" && pgErr.SeverityUnlocalized != "PANIC"
}
