package health

import (
	"context"
	"errors"
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

// ask sends all statements at once and reads their answers: one round trip, and the failure of one spares the others. The error is that
// of the connection, which is unusable then.
func (l *link) ask(ctx context.Context, statements []string) ([]answer, error) {
	p := l.pg.StartPipeline(ctx)
	for _, sql := range statements {
		l.send(p, sql)
		p.SendPipelineSync()
	}
	answers, err := receive(p, len(statements))
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
		name = "pgtether_" + strconv.Itoa(len(l.named))
		l.named[sql] = name
		p.SendPrepare(name, sql, nil)
	}
	if name == "" {
		p.SendQueryParams(sql, nil, nil, nil, nil)
	} else {
		p.SendQueryPrepared(name, nil, nil, nil)
	}
}

// unname has statements that failed asked without a name from now on: whether the server knows the name then, nobody can tell.
func (l *link) unname(statements []string, answers []answer) {
	for i, sql := range statements {
		if answers[i].err != nil && l.named != nil {
			l.named[sql] = ""
		}
	}
}

func receive(p *pgconn.Pipeline, n int) ([]answer, error) {
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
		case *pgconn.PipelineSync:
			i++
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
