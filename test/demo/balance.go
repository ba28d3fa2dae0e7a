package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/pgtether/pgtether/internal/lab"
)

// result is the comparison of what was acknowledged with what is there.
type result struct {
	// missing were acknowledged and are not on the new writer; onlyOld are on the old one alone, so it accepted them after the change.
	missing, onlyOld []int64
	// doubtKept is how many of the commits in doubt took effect.
	doubtKept int
}

// compare holds the workload's view against the rows of the old and of the new writer.
func compare(v view, old, now map[int64]bool) result {
	var r result
	for _, id := range v.acked {
		if !now[id] {
			r.missing = append(r.missing, id)
		}
	}
	for id := range old {
		if !now[id] {
			r.onlyOld = append(r.onlyOld, id)
		}
	}
	for _, id := range v.doubt {
		if now[id] {
			r.doubtKept++
		}
	}
	return r
}

// verdict is what must not have happened. 25006 is the error of a client that was sent to a read-only server.
func (r result) verdict(v view) error {
	var errs []error
	if len(v.acked) == 0 {
		errs = append(errs, errors.New("no transaction was acknowledged, so nothing was shown"))
	}
	if len(r.missing) > 0 {
		errs = append(errs, fmt.Errorf("%d acknowledged rows are missing, the first is %d", len(r.missing), r.missing[0]))
	}
	if len(r.onlyOld) > 0 {
		errs = append(errs, fmt.Errorf("%d rows were accepted by the old primary after the change, one is %d", len(r.onlyOld), r.onlyOld[0]))
	}
	for _, e := range v.errors {
		switch {
		case e.sqlState == "25006":
			errs = append(errs, fmt.Errorf("a client was sent to a read-only server: %s", e.message))
		case e.during == "login":
			errs = append(errs, fmt.Errorf("a login was refused though a writer came within hold.login: %s %s", e.sqlState, e.message))
		}
	}
	return errors.Join(errs...)
}

// rowsOf reads the keys that a server holds, past the proxy.
func rowsOf(ctx context.Context, n *lab.Node) (map[int64]bool, error) {
	c, err := pgx.Connect(ctx, n.AppDSN())
	if err != nil {
		return nil, fmt.Errorf("log in to %s: %w", n.Name(), err)
	}
	defer closeConn(c)
	rows, err := c.Query(ctx, "SELECT id FROM login_event")
	if err != nil {
		return nil, fmt.Errorf("read rows of %s: %w", n.Name(), err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("read rows of %s: %w", n.Name(), err)
	}
	set := make(map[int64]bool, len(ids))
	for _, id := range ids {
		set[id] = true
	}
	return set, nil
}
