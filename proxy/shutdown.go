package proxy

import (
	"context"
	"time"

	"github.com/pgtether/pgtether/internal/pgwire"
)

// Shutdown stops accepting, refuses the logins that are under way (57P03), ends each session at its next idle boundary (08006, drained) and, after
// drain.timeout or when ctx is done, all that are left (08006 killed, or 08007 where a commit is unanswered). It returns when every connection
// is closed and every goroutine of the server has ended; the error is nil, or the cause of ctx when that cut the drain short.
func (s *Server) Shutdown(ctx context.Context) error {
	listeners, logins, pinned := s.roster.stop()
	for _, ln := range listeners {
		_ = ln.Close()
	}
	s.hold.stop(errShuttingDown)
	for _, login := range logins {
		login.client.abort(errShuttingDown)
	}
	s.pending.drop(s.pending.size())
	for session, p := range pinned {
		session.drain(p)
	}
	_, waiting := s.rest.end(everyEpoch)
	for session, p := range waiting {
		go session.endAtRest(p, pgwire.Drained)
	}
	s.loops.Go(func() {
		s.endPaced(s.stranded.takeAll(), func(session *session, p *pair) { session.endMove(p, moveInterrupted, pgwire.Drained) })
	})
	err := s.awaitSessions(ctx)
	s.stop()
	s.loops.Wait()
	s.departures.wait()
	s.credentials.close()
	s.forwarder.close()
	return err
}

// awaitSessions waits for the end of every session, and hastens it after drain.timeout.
func (s *Server) awaitSessions(ctx context.Context) error {
	over := make(chan struct{})
	go func() { s.sessions.Wait(); close(over) }()
	timer := time.NewTimer(s.cfg.Load().DrainTimeout)
	defer timer.Stop()
	var err error
	select {
	case <-over:
		return nil
	case <-timer.C:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	s.stop() // cancel requests and questions to the prober
	s.Cut(everyEpoch, pgwire.Killed)
	s.pending.drop(s.pending.size())
	<-over
	return err
}

// drain ends the session at its next idle boundary.
func (s *session) drain(p *pair) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drainLocked(p, s.srv.forwarder.park)
}

func (s *session) drainLocked(p *pair, park func(*pair, func())) {
	park(p, func() {
		defer s.srv.sessions.Done()
		s.finish(p, outcome{end: pgwire.Drained.String(), reason: pgwire.Drained, speak: true})
	})
}
