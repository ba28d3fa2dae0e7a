package proxy

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/pgtether/pgtether/internal/continuity"
)

// survey is what a drain finds out once, for all of its sessions, and what they share while each of them finds out the rest.
type survey struct {
	// over is done when the drain is: nobody waits for its findings any more.
	over context.Context
	end  context.CancelFunc
	// slots bounds how many backends are asked for their session's state at the same time. It belongs to the drain, so that a reload of
	// continuity.moves_at_once counts from the next one on.
	slots chan struct{}
	// passwords is closed when it is known whose password has changed.
	passwords chan struct{}
	census    census
}

// survey begins one.
func (s *Server) survey(pinned map[*session]*pair) *survey {
	cfg := s.cfg.Load().Continuity
	v := &survey{slots: make(chan struct{}, cfg.MovesAtOnce), passwords: make(chan struct{})}
	v.over, v.end = context.WithCancel(s.ctx)
	roles := map[string]bool{}
	for session := range pinned {
		roles[session.who.user] = true
	}
	s.loops.Go(func() {
		defer close(v.passwords)
		if cfg.Mode != MoveOff {
			// However many roles there are: of those that it does not come to the server will say.
			ctx, cancel := context.WithTimeout(v.over, questionTimeout)
			defer cancel()
			s.credentials.refresh(ctx, slices.Collect(maps.Keys(roles)))
		}
	})
	return v
}

// census finds, once in each database and drain, the names of custom settings that stored functions may have given their session: neither the wire
// nor the server's list of settings tells them. The first session of a database that is packed asks on its own backend; the others wait for that.
type census struct {
	mu sync.Mutex
	of map[string]*tally
	// refused counts, by database, the sessions whose server would not answer.
	refused map[string]int
}

// refusalsMax is how many sessions of a database are refused an answer before the others are not asked any more. A refusal may be the session's own
// affair (a replication connection, a short statement_timeout, a cancel request), or the database's.
const refusalsMax = 3

// tally is what the functions of one database set.
type tally struct {
	done  chan struct{} // closed when the rest is there
	names []string
	// unknown: there may be others.
	unknown bool
	// lost: the backend that was asked is gone or has refused, and somebody else has to ask.
	lost bool
}

// names returns the names for the database; rw is the caller's own backend, at rest. aside are messages of its server's for the client. An error
// means that the caller's backend cannot be used any more, or that ctx is done.
func (c *census) names(ctx context.Context, database string, rw io.ReadWriter) (names []string, unknown bool, aside []byte, err error) {
	for {
		c.mu.Lock()
		t, asked := c.of[database]
		if !asked {
			t = &tally{done: make(chan struct{})}
			if c.of == nil {
				c.of = map[string]*tally{}
			}
			c.of[database] = t
		}
		c.mu.Unlock()
		if !asked {
			aside, err = c.ask(database, t, rw)
			return t.names, t.unknown, aside, err
		}
		select {
		case <-t.done:
		case <-ctx.Done():
			return nil, false, nil, context.Cause(ctx)
		}
		if !t.lost {
			return t.names, t.unknown, nil, nil
		}
	}
}

// ask fills the tally in.
func (c *census) ask(database string, t *tally, rw io.ReadWriter) (aside []byte, err error) {
	defer close(t.done)
	var refused *continuity.Refusal
	t.names, aside, err = continuity.CustomNames(rw)
	switch {
	case err == nil:
	case errors.Is(err, continuity.ErrTooManyNames):
		t.unknown, err = true, nil
	case errors.As(err, &refused):
		t.unknown, err = true, nil
		t.lost = c.another(database, true)
	default:
		t.lost = c.another(database, false)
	}
	return aside, err
}

// another lets the next session ask, unless enough were refused.
func (c *census) another(database string, refused bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if refused {
		if c.refused == nil {
			c.refused = map[string]int{}
		}
		if c.refused[database]++; c.refused[database] >= refusalsMax {
			return false
		}
	}
	delete(c.of, database)
	return true
}
