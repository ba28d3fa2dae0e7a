package proxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgtether/pgtether/internal/continuity"
	"github.com/pgtether/pgtether/internal/pgwire"
)

// Lossless says what became of the commits that were acknowledged before a change of the writer: are they on the new one?
type Lossless uint8

const (
	// LosslessUnknown: some may be missing, and nobody can bound how many.
	LosslessUnknown Lossless = iota
	// LosslessRelaxed: only those that asked for less may be.
	LosslessRelaxed
	// LosslessProven: all are there.
	LosslessProven
)

// allows reports whether sessions may survive such a change.
func (m ContinuityMode) allows(l Lossless) bool {
	switch m {
	case MoveLossless:
		return l == LosslessProven
	case MoveRelaxed:
		return l >= LosslessRelaxed
	case MoveAlways:
		return true
	default:
		return false
	}
}

// Results of moving a session: the label values of pgtether_sessions_moved_total.
const (
	moveDone        = "moved"
	moveTimedOut    = "timed_out"    // no writer came in time
	moveLossy       = "lossy_change" // the change may have lost commits
	moveFailed      = "failed"       // the new writer did not take the session
	moveInterrupted = "interrupted"  // pgtether was stopped

	moveAgain = "" // it waits for the next writer: its route was cut, and nothing is counted yet
)

// Relocated counts what a change of the writer did to the sessions that had waited for it.
type Relocated struct{ Moved, Ended int }

// Relocate decides about the sessions that waited across the cut of an older epoch: they are moved to the open epoch's writer if what the change may
// have lost allows it (continuity.mode), else they end. It returns at once; done is called, once, when all of them are moved or ended, and not at
// all when there were none, nor for an epoch that was decided about before.
func (s *Server) Relocate(epoch uint64, lossless Lossless, done func(Relocated)) {
	s.control.Lock()
	defer s.control.Unlock()
	route := s.table.current()
	if route == nil || route.Epoch != epoch || route == s.verdict.route { // opened again: what the change has lost does not change by that
		return
	}
	mode := s.cfg.Load().Continuity.Mode
	s.verdict = verdict{route: route, allowed: mode.allows(lossless)} // also for those that are still on their way to a route that was cut
	if s.stranded.size() == 0 {
		return
	}
	if s.verdict.allowed {
		s.loops.Go(func() {
			r := s.moveAll(route)
			s.letLoginsGo(route)
			done(r)
		})
		return
	}
	ending := s.stranded.takeAll()
	s.log.Warn("sessions are not moved: the change may have lost commits", "epoch", epoch, "sessions", len(ending), "mode", string(mode))
	s.loops.Go(func() {
		s.letLoginsGo(route)
		s.endPaced(ending, func(session *session, p *pair) { session.endMove(p, moveLossy, pgwire.LossyChange) })
		done(Relocated{Ended: len(ending)})
	})
}

// verdict is what was decided about moving sessions to a route.
type verdict struct {
	route   *openRoute
	allowed bool
}

// strandAgain keeps a session whose new route was cut while it was being moved there, for the next one. Where that is open already, and was decided
// upon, it is returned instead.
func (s *Server) strandAgain(who *session, p *pair) (next verdict) {
	s.control.Lock()
	defer s.control.Unlock()
	if route := s.table.current(); route != nil && route == s.verdict.route {
		return s.verdict
	}
	s.strand(map[*session]*pair{who: p})
	return verdict{}
}

// moveAll moves the stranded sessions, several at a time, those first that have waited longest.
func (s *Server) moveAll(route *openRoute) Relocated {
	waiting := s.stranded.longestFirst()
	began := time.Now()
	queue := make(chan *stay)
	var moved, ended atomic.Int64
	var workers sync.WaitGroup
	for range min(s.cfg.Load().Continuity.MovesAtOnce, len(waiting)) {
		workers.Go(func() {
			for e := range queue {
				if !s.stranded.take(e) {
					continue
				}
				switch e.session.relocate(e.pair, route) {
				case moveDone:
					moved.Add(1)
				case moveAgain:
				default:
					ended.Add(1)
				}
			}
		})
	}
	for _, e := range waiting {
		queue <- e
	}
	close(queue)
	workers.Wait()
	r := Relocated{Moved: int(moved.Load()), Ended: int(ended.Load())}
	s.log.Info("sessions moved", "epoch", route.Epoch, "node", route.Node, "moved", r.Moved, "ended", r.Ended, "took", time.Since(began).Round(time.Millisecond))
	return r
}

// relocate gives the session a backend on the route in the place of the one that was cut, or ends it. When the route itself is cut meanwhile the
// session waits for the next one.
func (s *session) relocate(p *pair, route *openRoute) (result string) {
	s.srv.resting.Add(1)
	defer s.srv.resting.Add(-1)
	ctx, cancel := context.WithDeadline(s.srv.ctx, s.baggage.until)
	defer cancel()
	for {
		fresh, err := s.arrive(ctx, p, route)
		switch {
		case err == nil:
			s.settleIn(fresh)
			return moveDone
		case s.srv.roster.isStopping():
			return s.endMove(p, moveInterrupted, pgwire.Drained)
		case route.ctx.Err() != nil:
			next := s.srv.strandAgain(s, p)
			if next.route == nil {
				return moveAgain
			}
			if !next.allowed {
				return s.endMove(p, moveLossy, pgwire.LossyChange)
			}
			route = next.route
		case ctx.Err() != nil:
			return s.endMove(p, moveTimedOut, pgwire.WriterLost)
		case !mayTryAgain(err):
			s.srv.log.Warn("session not moved", append(s.names(), "node", route.Node, "epoch", route.Epoch, "err", err)...)
			return s.endMove(p, moveFailed, pgwire.SessionNotMovable)
		default:
			s.srv.noteFailure(route.Route, err)
			select {
			case <-time.After(retryPause):
			case <-ctx.Done():
			}
		}
	}
}

// mayTryAgain reports whether the failure is one that passes: the node could not be reached, or takes no logins yet.
func mayTryAgain(err error) bool {
	var b *backendError
	return errors.As(err, &b) || errors.Is(err, errNotServing) || errors.Is(err, errServerFull)
}

// arrive logs in on the route with the client's own startup packet and makes the session's state there. The client notices nothing.
func (s *session) arrive(ctx context.Context, p *pair, route *openRoute) (*pair, error) {
	firstBy := time.Now().Add(s.cfg.Backend.ConnectTimeout)
	b, err := s.srv.dial(ctx, route, firstBy, s.client)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, b.reset)
	fresh, err := s.unpack(p, b, firstBy)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		b.reset()
		return nil, err
	}
	return fresh, nil
}

// unpack is the way from the dialled connection to a backend that can take the place of the old one.
func (s *session) unpack(p *pair, b *backend, firstBy time.Time) (*pair, error) {
	if err := b.encrypt(s.cfg, firstBy); err != nil {
		return nil, err
	}
	again := s.baggage.credential.begin(b.isEncrypted())
	defer again.end()
	x := &exchange{s: s, b: b, in: newFrames(b.conn), firstBy: firstBy, version: s.version, again: again}
	if err := x.run(); err != nil {
		return nil, err
	}
	_ = b.SetDeadline(time.Now().Add(serverPatience))
	owed, err := s.baggage.state.Replay(fromBackend(slices.Clone(x.in.rest()), b.conn), x.told())
	if err != nil {
		err = fmt.Errorf("make the session's state on %s: %w", b.node, err)
		if refused := new(continuity.Refusal); !errors.As(err, &refused) && !errors.Is(err, continuity.ErrShape) && !errors.Is(err, continuity.ErrStream) {
			err = x.backendError(err) // the connection is gone: another one may do
		}
		return nil, err
	}
	if !s.srv.table.isOpen(b.epoch) {
		return nil, x.backendError(errSevered)
	}
	if err := b.SetDeadline(time.Time{}); err != nil {
		return nil, x.backendError(err)
	}
	if x.ready.key.Secret != nil && s.running != nil {
		s.mu.Lock()
		s.running = &cancelTarget{key: x.ready.key, backend: b}
		s.mu.Unlock()
		s.srv.keys.repoint(s.issued, *s.running)
	}
	fresh := &pair{client: p.client, clientRaw: p.clientRaw, backend: b, tracker: p.tracker, fromClient: p.fromClient}
	// The client may have asked nothing since the move before; and what its old server said last was said before what the new one says otherwise.
	fresh.owed = slices.Concat(p.owed, p.fromServer, owed)
	fresh.toServer.Store(p.toServer.Load())
	fresh.toClient.Store(p.toClient.Load())
	return fresh, nil
}

// settleIn lets the session go on with its new backend.
func (s *session) settleIn(p *pair) {
	stall := time.Since(s.baggage.since)
	s.srv.metrics.Moved(moveDone).Inc()
	s.srv.metrics.StallSeconds.Observe(stall.Seconds())
	s.srv.log.Debug("session moved", append(s.names(), "node", p.backend.node, "epoch", p.backend.epoch, "stall", stall)...)
	if err := s.client.resume(); err != nil { // the stop has come
		go s.endAtRest(p, pgwire.Drained)
		return
	}
	s.resume(p)
}

// endUnmoved ends a session that waited and cannot be moved.
func (s *session) endUnmoved(p *pair, why pgwire.Reason) {
	if s.baggage.immovable == "" { // pgtether stops
		go s.endAtRest(p, why)
		return
	}
	if s.baggage.immovable != immovableOff {
		why = pgwire.SessionNotMovable
	}
	s.endMove(p, s.baggage.immovable, why)
}

// endMove ends a session that was not moved. It does not wait for the last words: a client that does not read, as one in an idle pool does not, takes
// their whole time, and the next session's turn must not wait for that.
func (s *session) endMove(p *pair, result string, why pgwire.Reason) string {
	s.srv.metrics.Moved(result).Inc()
	go s.endAtRest(p, why)
	return result
}

// MoveResults lists what can become of a session that a change of the writer finds at rest: the label values of pgtether_sessions_moved_total.
func MoveResults() []string {
	results := []string{moveDone, moveTimedOut, moveLossy, moveFailed, moveInterrupted, immovableOff}
	for _, o := range continuity.Obstacles() {
		results = append(results, string(o))
	}
	return append(results, CredentialObstacles()...)
}
