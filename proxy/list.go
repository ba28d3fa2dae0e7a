package proxy

import (
	"maps"
	"time"
)

// SessionInfo describes one pinned session at a moment.
type SessionInfo struct {
	ID uint64
	// Client is the address and port that it comes from.
	Client, User, Database string
	// State is active, idle, in_transaction, waiting (stopped by a drain, also after the cut) or opaque.
	State string
	// Since is when it was pinned.
	Since time.Time
	Node  string
	Epoch uint64
	// Immovable is why it would not be moved to another writer, as far as is known without asking its server; empty when it would.
	Immovable string
	// PID is its backend's process number; 0 when the server gave none.
	PID uint32
}

// Sessions lists the pinned sessions, in no order.
func (s *Server) Sessions() []SessionInfo {
	pinned := s.roster.sessions()
	waiting := s.rest.whoWaits()
	maps.Copy(waiting, s.stranded.sessions())
	list := make([]SessionInfo, 0, len(pinned))
	for session, p := range pinned {
		_, waits := waiting[session]
		list = append(list, session.info(p, waits))
	}
	return list
}

func (s *session) info(p *pair, waits bool) SessionInfo {
	s.mu.Lock() // the pair is handed over under it
	defer s.mu.Unlock()
	i := SessionInfo{ID: s.id, Client: s.address.String(), User: s.who.user, Database: s.who.database, Since: s.pinned, Node: p.backend.node,
		Epoch: p.backend.epoch, State: stateOf(p, waits)}
	i.Immovable = s.immovableLocked(p)
	if s.running != nil {
		i.PID = s.running.key.PID
	}
	return i
}

// stateOf says what a session is doing.
func stateOf(p *pair, waits bool) string {
	switch t := p.tracker; {
	case t == nil:
		return "opaque"
	case waits:
		return "waiting"
	case t.Running():
		return "active"
	case t.InTransaction():
		return "in_transaction"
	default:
		return "idle"
	}
}

// Movable counts the sessions that would be moved to another writer, as far as is known without asking their servers.
func (s *Server) Movable() (n int) {
	for session, p := range s.roster.sessions() {
		session.mu.Lock()
		if session.immovableLocked(p) == "" {
			n++
		}
		session.mu.Unlock()
	}
	return n
}

// immovableLocked says why a session would not be moved.
func (s *session) immovableLocked(p *pair) string {
	switch {
	case s.srv.cfg.Load().Continuity.Mode == MoveOff:
		return immovableOff
	case p.tracker == nil:
		return immovableOpaque
	}
	_, why := s.credential()
	return why
}
