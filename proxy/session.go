package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgtether/pgtether/internal/pgwire"
)

const (
	// roomPatience bounds how long a login tries a server that has no connection left while silent logins hold some.
	roomPatience = 2 * time.Second
	// retryPause is the least time between two attempts of one login.
	retryPause = 10 * time.Millisecond
)

// session is one client from accept to its end.
type session struct {
	srv    *Server
	cfg    *settings
	id     uint64
	client *clientLeg
	// address is the client's, port the one it came from: together they are how logs name it.
	address netip.AddrPort
	// encrypted says that the client leg is encrypted by the proxy.
	encrypted bool

	startup *pgwire.Startup
	// replay is what a backend gets as startup packet, negotiated what the proxy itself has to say about it.
	replay     []byte
	negotiated *pgwire.NegotiateProtocolVersion

	// direct says that the client began with TLS that is passed through: it would not understand a refusal.
	direct bool
	// sslDone and gssDone say which encryption requests the client may not send (again).
	sslDone, gssDone bool

	who identity
	// counted says that enter has counted who.
	counted  atomic.Bool
	place    *place
	roomBy   time.Time // until when a full server is tried again
	held     time.Duration
	waited   bool      // it had to wait for a writer
	complete time.Time // when the startup packet was complete

	pinned time.Time // when the session began
	// running is what a cancel for this session goes to; nil when its server gave no key. forget drops the client's key.
	running *cancelTarget
	forget  func()
	// issued is the key that the client was given, version the protocol version that is spoken with it.
	issued  pgwire.CancelKey
	version pgwire.Version
	baggage baggage
	// learned is what the proxy can log in with as the session's role again; without it unlearned says why. Set before the session is pinned.
	learned   *credential
	unlearned string
	// admitted is what is left of a login that its server has let in and that has to begin again; nil: there was none.
	admitted *admitted
	// mu is held while the pair is handed over, so that a drain comes after that, and guards ending: the session has ended, but for its last words.
	mu     sync.Mutex
	ending bool
}

func (s *Server) newSession(cfg *settings, leg *clientLeg, from netip.AddrPort) *session {
	return &session{srv: s, cfg: cfg, id: s.ids.Add(1), address: unmap(from), client: leg, forget: func() {}}
}

// serveConn serves a client on the calling goroutine until it is pinned or over.
func (s *Server) serveConn(conn *net.TCPConn) {
	cfg := s.cfg.Load()
	from, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
	s.newSession(cfg, newClientLeg(conn, cfg.Limits.StartupTimeout), from).serve()
}

// serveAt is serveConn for a client on an event loop.
func (s *Server) serveAt(place seat, from netip.AddrPort) {
	cfg := s.cfg.Load()
	s.newSession(cfg, newSeatedLeg(place, cfg.Limits.StartupTimeout), from).serve()
}

// serve carries the connection from its first byte to a pinned session or to its end. It returns when the connections have been handed to the
// forwarder, or are closed.
func (s *session) serve() {
	g, err := s.hello()
	if err == nil && g.opaque != nil {
		s.client.leave()
		err = s.passThrough(g.opaque)
		if errors.Is(err, errNodeInClear) {
			s.out()
			g, err = s.hello()
		}
	}
	switch {
	case err != nil:
		s.over(err)
	case g.cancel != nil:
		s.client.leave()
		s.srv.cancel(s.client, s.address.Addr(), *g.cancel)
	case g.startup != nil:
		s.startup = g.startup
		s.over(s.login())
	}
}

// hello finds out what the client wants, while it is in the table of those that may be dropped.
func (s *session) hello() (greeting, error) {
	remove := s.srv.pending.add(s.client)
	g, err := s.greet()
	if there := remove(); !there {
		err = refuse(pgwire.StartupTimeout, "") // it made room for others
	}
	return g, err
}

// login carries a client with a complete startup packet to a pinned session. nil means that the forwarder has it.
func (s *session) login() error {
	s.negotiated, s.replay = s.startup.Negotiation()
	s.who = identity{user: s.startup.User(), database: s.startup.Database(), address: s.address.Addr()}
	if err := s.enter(); err != nil {
		return err
	}
	return s.untilPinned(s.attempt)
}

// enter counts the client in, from the complete startup packet on.
func (s *session) enter() error {
	s.complete = time.Now()
	for {
		reason, ok := s.srv.counts.take(s.cfg.Limits, s.who)
		if ok {
			s.counted.Store(true)
			return s.srv.roster.addLogin(s)
		}
		if reason != pgwire.TooManyClients || !s.srv.admission.shed() {
			return refuse(reason, "")
		}
	}
}

// leave gives back what enter has counted. It may be called more than once, and by others.
func (s *session) leave() {
	if s.counted.Swap(false) {
		s.srv.counts.give(s.who)
	}
}

// out undoes enter.
func (s *session) out() {
	s.leave()
	s.srv.roster.remove(s)
}

// evict ends the login to make room for another.
func (s *session) evict(why error) {
	s.leave()
	s.client.abort(why)
}

// untilPinned waits for a writer and tries it, again and again while the login can be begun once more and has budget left.
func (s *session) untilPinned(attempt func(*ticket) error) error {
	w := &waiter{budget: s.cfg.Hold.Login}
	var lookupPause time.Duration
	for {
		t, err := s.await(w)
		if err != nil {
			return err
		}
		patience := s.client.patience
		t.begun = time.Now() // the wait for a place is not for want of a writer
		err = attempt(t)
		s.place.leave()
		var again *againError
		var lost time.Duration
		pause := retryPause
		switch {
		case errors.Is(err, errServerFull):
			t.unused()
			s.pause(pause)
			continue
		case !errors.As(err, &again):
			t.unused()
			return err
		case errors.Is(err, errLookup): // which says nothing about the route: nobody else waits for that
			t.unused()
			s.srv.noteLookup(s.who.user, again)
			lookupPause = min(max(2*lookupPause, scoutFirst), scoutLast)
			pause = lookupPause
			lost = time.Since(t.begun)
		default:
			s.srv.noteFailure(t.route.Route, again)
			thought := patience - s.client.patience // by the client
			lost = t.failed(errors.Is(err, errUnproven) || errors.Is(err, errNotServing)) - thought
		}
		if w.budget -= lost + pause; w.budget <= 0 {
			return &noWriterError{reason: s.srv.hold.why()}
		}
		s.pause(pause)
	}
}

// mayFindRoom reports whether it makes sense to try a full server again: it does for a moment, while logins that wait for their own clients make
// room.
func (s *session) mayFindRoom() bool {
	now := time.Now()
	if s.roomBy.IsZero() {
		s.roomBy = now.Add(roomPatience)
	}
	return now.Before(s.roomBy) && s.srv.admission.serverFull()
}

// pause waits, unless the login ends.
func (s *session) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-s.client.ctx.Done():
	}
}

// await waits for a route and for a place among the logins under way, while watching that the client is still there. A client that need not wait
// is not watched: it may have sent all it has to say and closed its side, and is answered as by PostgreSQL.
func (s *session) await(w *waiter) (*ticket, error) {
	var stop func()
	w.waits = func() {
		if stop == nil {
			s.client.leave()
			stop = s.client.watch(nil)
		}
	}
	start := time.Now()
	t, err := s.srv.hold.wait(s.client.ctx, w)
	s.held += time.Since(start)
	s.waited = s.waited || w.place != nil
	if err == nil {
		s.place, err = s.srv.admission.enter(s.client.ctx, s.cfg.Hold.Login, s.evict, w.waits)
	}
	if stop != nil {
		stop()
	}
	if gone := s.client.resume(); err == nil && gone != nil {
		err = gone
		s.place.leave()
	}
	if err != nil && t != nil {
		t.unused()
	}
	return t, err
}

// againError says that the login may wait for a writer again: the client has heard nothing yet, or nothing that has to be said twice.
type againError struct{ err error }

func (e *againError) Error() string { return e.err.Error() }

// Unwrap returns what went wrong.
func (e *againError) Unwrap() error { return e.err }

// attempt tries to log in on the ticket's route.
func (s *session) attempt(t *ticket) error {
	firstBy := time.Now().Add(s.cfg.Backend.ConnectTimeout)
	b, err := s.reach(t.route, firstBy)
	if err != nil {
		return s.afterFailure(t, err, true)
	}
	x := &exchange{s: s, b: b, ticket: t, firstBy: firstBy, negotiated: s.negotiated, version: s.startup.Version,
		seen: watch{blind: !s.cfg.hasVerifiers()}}
	if s.negotiated != nil {
		x.version = s.negotiated.Version
	}
	if err = b.encrypt(s.cfg, firstBy); err == nil {
		x.in = newFrames(b.conn)
		if s.admitted != nil {
			defer s.admitted.enter(x)()
		}
		err = x.run()
	}
	if err == nil && !x.vouched {
		t.worked()
	}
	if err == nil {
		err = s.deliver(x)
	}
	if err == nil {
		x.in.free()
		return nil
	}
	s.client.leave()
	tellable := x.again == nil && len(x.withheld) > 0 && (x.isLetIn() || x.seen.verifier == nil) // the proxy's own word needs the server's first
	again := s.mayBeginAgain(x, err)
	if tellable && !again && !errors.Is(err, errTorn) {
		_ = x.tell(nil)
	}
	x.seen.wipe()
	s.srv.dispose(b, false)
	return s.afterFailure(t, err, again)
}

// afterFailure says what a failed attempt means for the login; again says that it can be begun once more.
func (s *session) afterFailure(t *ticket, err error, again bool) error {
	var refused *refusedError
	var failed *reloginError
	switch {
	case errors.As(err, &refused), errors.Is(err, errTorn), errors.Is(err, errServerRefused), errors.Is(err, errBadAnswer), errors.Is(err, errServerFull):
		return err
	case errors.As(err, &failed):
		return refuse(pgwire.WriterUnproven, err.Error())
	case t.route.ctx.Err() != nil: // the epoch was cut meanwhile: that is what ended whatever was going on
		err = fmt.Errorf("%w: %w", context.Cause(t.route.ctx), err)
		if again && s.client.resume() == nil {
			return &againError{err: err}
		}
		return refuse(s.srv.hold.why(), err.Error())
	case s.client.ctx.Err() != nil:
		return context.Cause(s.client.ctx)
	case errors.Is(err, errLookup) && again:
		return &againError{err: err}
	case errors.Is(err, errLookup):
		return refuse(s.srv.hold.why(), err.Error())
	case !isBackends(err):
		return err
	case !again, errors.Is(err, errNonsense):
		s.srv.noteFailure(t.route.Route, err)
		return refuse(pgwire.WriterUnproven, err.Error())
	default:
		return &againError{err: err}
	}
}

// isBackends reports whether the failure is the node's or the path's to it, as opposed to the client's.
func isBackends(err error) bool {
	var b *backendError
	return errors.As(err, &b) || errors.Is(err, errUnproven) || errors.Is(err, errNotServing) || errors.Is(err, errNonsense)
}

// deliver lets the client see that it is logged in, on a backend that has proven to be the writer of the open epoch, and pins the two together.
func (s *session) deliver(x *exchange) error {
	if !s.srv.table.isOpen(x.b.epoch) {
		return x.backendError(errSevered)
	}
	words, err := s.issueKey(x)
	if err != nil {
		return err
	}
	unsaid := x.withheld
	words, x.withheld = slices.Insert(words, 0, unsaid...), nil
	if err = x.tell(words); err != nil {
		x.withheld = unsaid
	} else if err = s.client.resume(); errors.Is(err, errShuttingDown) { // to its client this is a session already
		err = refuse(pgwire.Drained, "")
	}
	if err != nil {
		s.forget()
		return err
	}
	s.version = x.version
	_ = x.b.SetDeadline(time.Time{})
	tracker := new(pgwire.Tracker)
	s.prepareMove(x, tracker)
	tracker.Start('I')
	if s.startup.RelaxesCommits() {
		tracker.RelaxSession()
	}
	s.pin(&pair{client: s.client.conn, clientRaw: s.client.raw, backend: x.b, tracker: tracker,
		fromClient: s.client.takeAhead(), fromServer: slices.Clone(x.in.rest())})
	return nil
}

// prepareMove keeps what only the login shows and only the wire will tell of the session, in case it is to be moved one day.
func (s *session) prepareMove(x *exchange, tracker *pgwire.Tracker) {
	if s.cfg.Continuity.Mode == MoveOff {
		s.unlearned = immovableOff
		x.seen.wipe()
		return
	}
	if s.admitted == nil {
		s.learn(x)
	}
	tracker.Remember(s.srv.texts)
}

// learn keeps what the proxy can log in with as the session's role again.
func (s *session) learn(x *exchange) {
	atHand := s.cfg.Verifiers == VerifiersAtHand && s.client.seat == nil // whoever is asked may log, which no event loop waits for
	s.learned, s.unlearned = s.srv.credentials.learn(s.who.user, &x.seen, x.b.isEncrypted(), atHand)
}

// issueKey puts the client's own cancel key in the place of the backend's.
func (s *session) issueKey(x *exchange) (words []byte, err error) {
	words = x.ready.messages
	if x.ready.key.Secret == nil {
		return words, nil // not every server has one
	}
	n := keyLength30
	if x.version >= pgwire.Version32 {
		n = keyLength32
	}
	s.running = &cancelTarget{key: x.ready.key, backend: x.b}
	key, forget, err := s.srv.keys.issue(n, *s.running)
	if err != nil {
		return nil, err
	}
	s.forget, s.issued = forget, key
	var room [48]byte
	return slices.Insert(words, x.ready.keyAt, pgwire.AppendBackendKeyData(room[:0], key)...), nil
}

// pin hands both connections to the forwarder. The session's goroutine has nothing to do after that.
func (s *session) pin(p *pair) {
	s.pinned = time.Now()
	s.place.leave()
	s.srv.metrics.Logins(loginPinned).Inc()
	s.srv.metrics.LoginSeconds.Observe((s.pinned.Sub(s.complete) - s.held).Seconds())
	s.observeHold()
	s.forward(p)
}

// forward starts the pair and sees to it that a drain reaches it.
func (s *session) forward(p *pair) {
	s.srv.sessions.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	draining := s.srv.roster.pin(s, p)
	done := func(r result) {
		defer s.srv.sessions.Done()
		s.ended(p, r)
	}
	park := s.srv.forwarder.park
	if place := s.client.seat; place == nil {
		s.srv.forwarder.start(p, done)
	} else {
		s.client.unseat(noConn)
		p.parted = func(r result) bool { return s.parted(p, r) }
		place.start(p, done)
		park = place.park // the forwarder's waits for the loop, on which this runs
	}
	if draining {
		s.drainLocked(p, park)
		return
	}
	s.restLocked(p, park)
}

// observeHold records how long the login waited, when it did.
func (s *session) observeHold() {
	if s.waited {
		s.srv.metrics.HoldSeconds.Observe(s.held.Seconds())
	}
}
