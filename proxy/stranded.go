package proxy

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/pgtether/pgtether/internal/pgwire"
)

// stranded holds the sessions whose epoch was cut while they waited with their baggage packed. Such a session has no backend; its client waits, and
// what it sends stays in the kernel.
//
// Invariant: each of them leaves it once: to be moved, or to be ended. Whoever took it out owns it.
type stranded struct {
	mu sync.Mutex
	in map[*stay]struct{}
}

// stay is one session's time among them. It does not change: the session's baggage, which knows the times too, belongs to whoever took it out.
type stay struct {
	session *session
	pair    *pair
	since   time.Time // when the session was stopped
	until   time.Time // when it has to end
}

// add takes a session in.
func (m *stranded) add(s *session, p *pair) *stay {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.in == nil {
		m.in = map[*stay]struct{}{}
	}
	e := &stay{session: s, pair: p, since: s.baggage.since, until: s.baggage.until}
	m.in[e] = struct{}{}
	return e
}

// take takes one out; false when it has left already.
func (m *stranded) take(e *stay) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.in[e]
	delete(m.in, e)
	return ok
}

// takeAll takes all out.
func (m *stranded) takeAll() map[*session]*pair {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := m.sessionsLocked()
	m.in = nil
	return all
}

// sessions returns those that are there.
func (m *stranded) sessions() map[*session]*pair {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sessionsLocked()
}

func (m *stranded) sessionsLocked() map[*session]*pair {
	all := make(map[*session]*pair, len(m.in))
	for e := range m.in {
		all[e.session] = e.pair
	}
	return all
}

// size is how many there are.
func (m *stranded) size() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.in)
}

// longestFirst returns those that are there, ordered by how long they have waited.
func (m *stranded) longestFirst() []*stay {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.SortedFunc(maps.Keys(m.in), func(a, b *stay) int { return a.since.Compare(b.since) })
}

// strand keeps sessions for the next writer, each until its own time is up. Then it ends with an error of its own.
func (s *Server) strand(sessions map[*session]*pair) {
	if len(sessions) == 0 {
		return
	}
	stays := make([]*stay, 0, len(sessions))
	for session, p := range sessions {
		stays = append(stays, s.stranded.add(session, p))
	}
	slices.SortFunc(stays, func(a, b *stay) int { return a.until.Compare(b.until) })
	s.loops.Go(func() {
		for _, e := range stays {
			select {
			case <-time.After(time.Until(e.until)):
			case <-s.ctx.Done():
			}
			if s.stranded.take(e) {
				e.session.endMove(e.pair, moveTimedOut, pgwire.WriterLost)
			}
		}
	})
}
