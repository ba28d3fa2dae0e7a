package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/pgtether/pgtether/internal/lab"
)

// writer is who wrote a row.
type writer struct {
	node    string
	process uint32
}

// writers reads from the rows of a server, past every proxy, who wrote them.
func (w *world) writers(ctx context.Context, n *lab.Node, into map[Key]writer) error {
	c, err := pgx.Connect(ctx, n.SuperDSN(w.pair.AppDatabase))
	if err != nil {
		return fmt.Errorf("read writers of the rows of %s: %w", n.Name(), err)
	}
	defer c.Close(ctx)
	rows, err := c.Query(ctx, "SELECT client, seq, port, process FROM w")
	if err != nil {
		return fmt.Errorf("read writers of the rows of %s: %w", n.Name(), err)
	}
	var k Key
	var port string
	var process uint32
	_, err = pgx.ForEachRow(rows, []any{&k.Client, &k.Seq, &port, &process}, func() error {
		into[k] = writer{w.nodeOf(port), process}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read writers of the rows of %s: %w", n.Name(), err)
	}
	return nil
}

// attribute says of each write which server it was made on: the one of the session's login, unless the session has moved.
func (w *world) attribute(ctx context.Context, r *Run) error {
	wrote := map[Key]writer{}
	var err error
	for _, name := range slices.Compact([]string{r.Old, r.New}) {
		err = errors.Join(err, w.writers(ctx, w.pair.Node(name), wrote))
	}
	attributeTo(r, wrote)
	return err
}

// attributeTo does so by the rows. What a client heard is known write by write then; what a session that could have moved heard last, when it ended
// in the middle of one, is nobody's.
func attributeTo(r *Run, wrote map[Key]writer) {
	if r.Movable {
		r.Heard = nil
	}
	for i := range r.Ops {
		op := &r.Ops[i]
		if by, there := wrote[op.Key]; there {
			op.Node, op.Process = by.node, by.process
		}
		if r.Movable && op.Process != 0 && op.Outcome == Acknowledged {
			r.Heard = append(r.Heard, Heard{Client: op.Client, Node: op.Node, Last: op.Heard})
		}
	}
}

// moved counts the sessions whose rows were written by more than one server process.
func moved(r Run) int {
	met, sessions := map[int]uint32{}, map[int]bool{}
	for _, op := range r.Ops {
		if op.Process == 0 {
			continue
		}
		if before, known := met[op.Session]; known && before != op.Process {
			sessions[op.Session] = true
		}
		met[op.Session] = op.Process
	}
	return len(sessions)
}

// checkMoved: no session is answered with what belongs to another, none goes on across a loss of what it was acknowledged, and where nothing
// disturbs a switchover and sessions can move, all do.
func checkMoved(r Run, say sayer) {
	for _, what := range r.Mixed {
		say("C10", "%s", what)
	}
	missing := map[int]Op{}
	ops := slices.Clone(r.Ops)
	slices.SortFunc(ops, func(a, b Op) int { return int(a.Return - b.Return) })
	for _, op := range ops {
		lost, before := missing[op.Session]
		switch {
		case op.Outcome != Acknowledged:
		case r.Rows[op.Key] == 0:
			missing[op.Session] = op
		case before:
			say("C10", "the session of client %d went on, row %d is there, although its acknowledged row %d is missing", op.Client, op.Seq, lost.Seq)
		}
	}
	if n := moved(r); r.Planned && r.Movable && !r.Disturbed && r.Old != r.New && n != r.Clients {
		say("C10", "nothing disturbed the switchover, and %d of %d sessions moved", n, r.Clients)
	}
}
