package tellers

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Found is what the tables say about what the clients were told.
type Found struct {
	Acknowledged, Failed, InDoubt int
	// Lost are acknowledged and not there, Doubled are there more than once, Risen failed and are there, Foreign are nobody's.
	Lost, Doubled, Risen, Foreign []Row
	// Unbalanced says which balances do not add up; empty when all do.
	Unbalanced string
}

// Sound says whether everybody was told the truth.
func (f Found) Sound() bool {
	return len(f.Lost)+len(f.Doubled)+len(f.Risen)+len(f.Foreign) == 0 && f.Unbalanced == ""
}

// String says what was found.
func (f Found) String() string {
	text := fmt.Sprintf("%d acknowledged, %d failed, %d in doubt; %d lost, %d doubled, %d failed and there, %d of nobody", f.Acknowledged, f.Failed, f.InDoubt,
		len(f.Lost), len(f.Doubled), len(f.Risen), len(f.Foreign))
	if f.Unbalanced != "" {
		text += "; " + f.Unbalanced
	}
	return text
}

// Verify reads the tables of a server, past every proxy. The clients must have been halted.
func (c *Crowd) Verify(ctx context.Context, dsn string) (Found, error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return Found{}, fmt.Errorf("verify tables: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := conn.Query(ctx, "SELECT client, seq, count(*) FROM history GROUP BY 1, 2")
	if err != nil {
		return Found{}, fmt.Errorf("verify tables: %w", err)
	}
	there := map[Row]int{}
	var r Row
	var n int
	if _, err := pgx.ForEachRow(rows, []any{&r.Client, &r.Seq, &n}, func() error { there[r] = n; return nil }); err != nil {
		return Found{}, fmt.Errorf("verify tables: %w", err)
	}
	var a, t, b, h int64
	err = conn.QueryRow(ctx, "SELECT (SELECT sum(balance) FROM accounts)::bigint, (SELECT sum(balance) FROM tellers)::bigint, "+
		"(SELECT sum(balance) FROM branches)::bigint, (SELECT coalesce(sum(delta), 0) FROM history)::bigint").Scan(&a, &t, &b, &h)
	if err != nil {
		return Found{}, fmt.Errorf("verify tables: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	found := compare(c.work, there)
	if a != h || t != h || b != h {
		found.Unbalanced = fmt.Sprintf("the history adds up to %d, accounts to %d, tellers to %d, branches to %d", h, a, t, b)
	}
	return found, nil
}

// compare holds what was told against what is there.
func compare(told []Work, there map[Row]int) (f Found) {
	known := map[Row]bool{}
	for _, w := range told {
		known[w.Row] = true
		n := there[w.Row]
		switch w.Outcome {
		case Acknowledged:
			f.Acknowledged++
			if n == 0 {
				f.Lost = append(f.Lost, w.Row)
			}
		case Failed:
			f.Failed++
			if n > 0 {
				f.Risen = append(f.Risen, w.Row)
			}
		case InDoubt:
			f.InDoubt++
		}
		if n > 1 {
			f.Doubled = append(f.Doubled, w.Row)
		}
	}
	for r := range there {
		if !known[r] {
			f.Foreign = append(f.Foreign, r)
		}
	}
	return f
}
