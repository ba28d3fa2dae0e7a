package proxy

import (
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/pgtether/pgtether/internal/pgwire"
)

// endWithin bounds how long the sessions that waited for a change of the writer and cannot be kept are ended for, however many they are.
const endWithin = 2 * time.Second

// rest is where sessions wait at the end of their transaction while the writer is changed. Such a session belongs to nobody else: the forwarder has
// handed both connections back, and what its client sends meanwhile stays in the kernel.
//
// Invariant: waiting sessions are of an epoch that is being drained, until that ends: by Undrain, when they go on, or by a cut, when those that can be
// moved are stranded and the others end.
type rest struct {
	mu sync.Mutex
	// epoch is the one that is drained; 0 when none is.
	epoch uint64
	// asked are to stop at the end of their transaction, waiting have done so.
	asked, waiting map[*session]*pair
	// complete says that every session was asked; drained is called, once, when none of them is left to wait for.
	complete bool
	drained  func()
	// survey is what is found out in this drain for all sessions.
	survey *survey
	// limit ends the drain when nobody else does.
	limit *time.Timer
}

// SessionsLeft counts the sessions of an epoch that is being drained.
type SessionsLeft struct {
	// Waiting are at the end of their transaction and kept there; the others are as in Stats.
	Waiting, InTransaction, Active, Idle, Opaque int
}

// Drain stops every session of the epochs up to and including epoch at the end of its transaction and keeps it waiting there until Undrain or Cut, but
// no longer than hold.session: then it is undone. A session that is idle stops now. Its backend is asked for the session's state, which changes
// nothing of it, and is kept. Opaque sessions cannot be stopped and are not waited for. drained is called once, from any goroutine, when no session is
// left that is still to stop; not after Undrain or Cut. The caller has called Hold: nothing new begins.
func (s *Server) Drain(epoch uint64, drained func()) {
	s.control.Lock()
	defer s.control.Unlock()
	if s.roster.isStopping() {
		return // every session ends at its boundary anyway
	}
	pinned := s.roster.sessions()
	s.rest.begin(epoch, drained, time.AfterFunc(s.cfg.Load().Hold.Session, func() { s.Undrain(epoch) }), s.survey(pinned))
	for session, p := range s.roster.sessions() { // those that were pinned meanwhile have seen the drain, or are in here
		session.restOnce(p)
	}
	s.rest.settle(func(r *rest) { r.complete = true })
	s.log.Info("epoch draining", "epoch", epoch)
}

// Undrain lets the sessions go on that Drain stopped, as if nothing had happened.
func (s *Server) Undrain(epoch uint64) {
	s.control.Lock()
	defer s.control.Unlock()
	s.undrainLocked(epoch)
}

func (s *Server) undrainLocked(epoch uint64) {
	asked, waiting := s.rest.end(epoch)
	if asked == nil {
		return // it is over already
	}
	for session, p := range asked {
		session.mu.Lock()
		s.forwarder.unpark(p)      // one that is stopping just now finds the drain over, and goes on by itself
		if s.roster.isStopping() { // the stop may have asked in vain, because the drain had
			session.drainLocked(p, s.forwarder.park)
		}
		session.mu.Unlock()
	}
	for session, p := range waiting {
		session.resume(p)
	}
	s.log.Info("drain undone", "epoch", epoch, "waited", len(waiting))
}

// Draining counts the sessions of the epoch that is being drained; false when none is.
func (s *Server) Draining() (SessionsLeft, bool) {
	epoch, waiting := s.rest.state()
	if epoch == 0 {
		return SessionsLeft{}, false
	}
	n := s.forwarder.states()
	return SessionsLeft{Waiting: waiting, InTransaction: n.InTransaction, Active: n.Active, Idle: n.Idle + int(s.resting.Load()),
		Opaque: n.Opaque}, true
}

// restOnce asks the pair to stop at its next boundary if its epoch is being drained.
func (s *session) restOnce(p *pair) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.restLocked(p, s.srv.forwarder.park)
}

func (s *session) restLocked(p *pair, park func(*pair, func())) {
	if s.ending || p.tracker == nil || !s.srv.rest.ask(s, p) {
		return
	}
	park(p, func() { s.rested(p) })
}

// rested is called when the pair has stopped at its boundary: the session owns both connections again.
func (s *session) rested(p *pair) {
	switch {
	case s.srv.roster.isStopping():
		s.endAtRest(p, pgwire.Drained)
	case p.backend.cut.Err() != nil:
		s.endAtRest(p, whyCut(p.backend))
	default:
		s.settleAtRest(p)
	}
}

// settleAtRest packs the session's state and lets it wait.
func (s *session) settleAtRest(p *pair) {
	switch err := s.pack(p); {
	case p.backend.cut.Err() != nil:
		s.endAtRest(p, whyCut(p.backend))
	case errors.Is(err, errDrainOver):
		s.resume(p)
	case err != nil:
		defer s.srv.sessions.Done()
		s.ended(p, result{end: endServerLost, err: err, clean: true})
	case s.srv.rest.wait(s, p):
	default: // undone meanwhile
		s.resume(p)
	}
}

// resume hands the pair to the forwarder again. What the session would have taken along is of no use any more.
func (s *session) resume(p *pair) {
	defer s.srv.sessions.Done()
	s.baggage = baggage{}
	s.forward(p)
}

// endAtRest ends a session that waited.
func (s *session) endAtRest(p *pair, why pgwire.Reason) {
	defer s.srv.sessions.Done()
	s.finish(p, outcome{end: why.String(), reason: why, speak: true})
}

// afterCut decides what becomes of the sessions that waited when their epoch was cut. Their backends are gone. Those that can be moved wait for the
// next writer; each of the others ends with an error of its own at its boundary. It returns how many are kept.
func (s *Server) afterCut(waiting map[*session]*pair, why pgwire.Reason) (kept int) {
	keep, ending := map[*session]*pair{}, map[*session]*pair{}
	stopping := s.roster.isStopping() || why == pgwire.Killed
	for session, p := range waiting {
		if session.baggage.immovable == "" && !stopping {
			keep[session] = p
		} else {
			ending[session] = p
		}
	}
	s.strand(keep)
	if len(ending) > 0 {
		s.loops.Go(func() { s.endPaced(ending, func(session *session, p *pair) { session.endUnmoved(p, why) }) })
	}
	return len(keep)
}

// endPaced ends sessions one after the other, so that their clients do not all come back at one instant. end does not wait for last words.
func (s *Server) endPaced(sessions map[*session]*pair, end func(*session, *pair)) {
	if len(sessions) == 0 {
		return
	}
	rate := max(float64(s.cfg.Load().Hold.ReleasePerSecond), float64(len(sessions))/endWithin.Seconds())
	ticker := time.NewTicker(time.Duration(float64(time.Second) / rate))
	defer ticker.Stop()
	for session, p := range sessions {
		end(session, p)
		select {
		case <-ticker.C:
		case <-s.ctx.Done(): // no time left to be gentle
		}
	}
}

// begin starts a drain; one of an older epoch is over.
func (r *rest) begin(epoch uint64, drained func(), limit *time.Timer, survey *survey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.limit != nil {
		r.limit.Stop()
		r.survey.end()
	}
	r.epoch, r.complete, r.drained, r.limit, r.survey = epoch, false, drained, limit, survey
	r.asked = map[*session]*pair{}
	if r.waiting == nil {
		r.waiting = map[*session]*pair{}
	}
}

// end ends a drain of the epoch, or of an older one, and returns the sessions that have not stopped yet and those that wait.
func (r *rest) end(epoch uint64) (asked, waiting map[*session]*pair) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.epoch == 0 || r.epoch > epoch {
		return nil, nil
	}
	r.limit.Stop()
	r.survey.end()
	asked, waiting = r.asked, r.waiting
	r.epoch, r.drained, r.asked, r.waiting = 0, nil, nil, nil
	return asked, waiting
}

// ask notes that a session is to stop; false when its epoch is not being drained, or it waits already.
func (r *rest) ask(s *session, p *pair) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, waits := r.waiting[s]; waits || r.epoch == 0 || p.backend.epoch > r.epoch {
		return false
	}
	r.asked[s] = p
	return true
}

// wait takes a session in that has stopped; false when the drain is over.
func (r *rest) wait(s *session, p *pair) (in bool) {
	r.settle(func(r *rest) {
		if in = r.epoch != 0 && p.backend.epoch <= r.epoch; in {
			delete(r.asked, s)
			r.waiting[s] = p
		}
	})
	return in
}

// forget drops a session that has ended.
func (r *rest) forget(s *session) {
	r.settle(func(r *rest) {
		delete(r.asked, s)
		delete(r.waiting, s)
	})
}

// settle applies a change and says so when nobody is left to wait for.
func (r *rest) settle(change func(*rest)) {
	r.mu.Lock()
	change(r)
	var drained func()
	if r.epoch != 0 && r.complete && len(r.asked) == 0 {
		drained, r.drained = r.drained, nil
	}
	r.mu.Unlock()
	if drained != nil {
		drained()
	}
}

// surveyed is that of the last drain that was begun.
func (r *rest) surveyed() *survey {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.survey
}

// whoWaits returns the sessions that wait; the map is the caller's.
func (r *rest) whoWaits() map[*session]*pair {
	r.mu.Lock()
	defer r.mu.Unlock()
	who := make(map[*session]*pair, len(r.waiting))
	maps.Copy(who, r.waiting)
	return who
}

// isDraining reports whether there is a drain.
func (r *rest) isDraining() bool {
	epoch, _ := r.state()
	return epoch != 0
}

// state returns the epoch that is being drained, 0 for none, and how many sessions wait.
func (r *rest) state() (epoch uint64, waiting int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.epoch, len(r.waiting)
}
