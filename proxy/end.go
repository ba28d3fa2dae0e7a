package proxy

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/pgtether/pgtether/internal/pgwire"
)

// What ends a session, besides the reasons of pgwire's list.
const (
	endedByClient   = "client"
	endedClientLost = "client_lost"
	endedByServer   = "server"
)

// How a login comes out.
const (
	loginPinned        = "pinned"
	loginRefused       = "refused"
	loginServerRefused = "server_refused"
	loginClientGone    = "client_gone"
	loginFailed        = "failed"
)

// Ends lists what can end a session: the label values of pgtether_sessions_total.
func Ends() []string {
	ends := []string{endedByClient, endedClientLost, endedByServer}
	for _, r := range []pgwire.Reason{pgwire.WriterLost, pgwire.SessionNotMovable, pgwire.LossyChange, pgwire.Drained, pgwire.Killed,
		pgwire.CommitInDoubt, pgwire.NoWriter, pgwire.Promoting, pgwire.ShuttingDown} {
		ends = append(ends, r.String())
	}
	return ends
}

// LoginResults lists how a login can come out: the label values of pgtether_logins_total.
func LoginResults() []string {
	return []string{loginPinned, loginRefused, loginServerRefused, loginClientGone, loginFailed}
}

const (
	// aliveTimeout bounds the question whether the writer still serves.
	aliveTimeout = 5 * time.Second
	// partingTimeout bounds what a server still says after a message that ends its session.
	partingTimeout = 2 * time.Second
)

// over ends a connection that was not pinned; nil means that it was.
func (s *session) over(err error) {
	if err == nil {
		return
	}
	s.client.leave()
	defer s.srv.roster.remove(s)
	defer s.leave()
	s.srv.credentials.release(s.learned)
	result, refused := s.comeOut(err)
	if !s.complete.IsZero() {
		s.observeHold()
		s.srv.metrics.Logins(result).Inc()
	}
	if refused != nil {
		s.srv.metrics.Refusals(refused.reason.String()).Inc()
	}
	s.logRefusal(result, err)
	switch {
	case errors.Is(err, errTorn):
		s.client.close()
	case refused != nil:
		s.refuse(refused)
	case result == loginServerRefused:
		s.client.say(nil)
	default:
		s.client.close()
	}
}

// comeOut says how a login that failed with err came out, and what its client is to be told by the proxy, if anything.
func (s *session) comeOut(err error) (result string, refused *refusedError) {
	var none *noWriterError
	switch {
	case errors.As(err, &refused):
		return loginRefused, refused
	case errors.As(err, &none):
		return loginRefused, &refusedError{reason: none.reason, detail: "waited for " + s.held.Round(time.Millisecond).String()}
	case errors.Is(err, errHoldFull):
		return loginRefused, &refusedError{reason: pgwire.HoldQueueFull}
	case errors.Is(err, errTurnedAway):
		return loginRefused, &refusedError{reason: pgwire.TooManyClients}
	case errors.Is(err, errShuttingDown):
		return loginRefused, &refusedError{reason: pgwire.ShuttingDown}
	case errors.Is(err, errEvicted), errors.Is(err, errStartupTimeout):
		return loginRefused, &refusedError{reason: pgwire.StartupTimeout}
	case errors.Is(err, errBadAnswer):
		return loginRefused, &refusedError{reason: pgwire.MalformedStartup, detail: err.Error()}
	case errors.Is(err, errServerRefused):
		return loginServerRefused, nil
	case errors.Is(err, errClientGone):
		return loginClientGone, nil
	case errors.Is(err, errHandshake): // TLS has its own words for it, and PostgreSQL adds none
		return loginRefused, &refusedError{reason: pgwire.BadStartupLength, detail: err.Error()}
	default:
		return loginFailed, nil
	}
}

// refuse tells the client why, in the format it understands, unless PostgreSQL would be silent too.
func (s *session) refuse(r *refusedError) {
	switch {
	case r.reason.Silent(), s.direct:
		s.client.close()
	case r.protocol2:
		s.client.say(pgwire.AppendErrorV2(nil, r.reason))
	default:
		s.client.say(pgwire.AppendError(nil, r.reason, r.detail))
	}
}

// logRefusal logs a connection that did not become a session: one that did not even send a startup packet once per address and minute.
func (s *session) logRefusal(result string, err error) {
	if s.complete.IsZero() {
		if !errors.Is(err, errClientGone) && s.srv.garbage.allow(s.address.Addr()) {
			s.srv.log.Info("connection refused before login", "client", s.address.String(), "reason", err.Error())
		}
		return
	}
	level := slog.LevelInfo
	if !s.srv.refused.allow(s.address.Addr()) {
		level = slog.LevelDebug
	}
	s.srv.log.Log(s.srv.ctx, level, "login refused", append(s.names(), "result", result, "held", s.held, "reason", err.Error())...)
}

// names are the attributes that say whose session it is.
func (s *session) names() []any {
	a := s.attrs()
	return []any{a[0], a[1], a[2], a[3]}
}

func (s *session) attrs() [4]slog.Attr {
	return [4]slog.Attr{slog.Uint64("session", s.id), slog.String("client", s.address.String()), slog.String("user", s.who.user),
		slog.String("database", s.who.database)}
}

// outcome is what an ended session's client is told, and what is recorded about it.
type outcome struct {
	end string
	// reason is told to the client when speak is set.
	reason pgwire.Reason
	speak  bool
	err    error
}

// ended is what follows the end of a pair.
func (s *session) ended(p *pair, r result) {
	o := outcome{err: r.err}
	switch r.end {
	case endClient:
		o.end = endedByClient
	case endClientLost:
		if errors.Is(context.Cause(s.client.ctx), errShuttingDown) { // the stop came between the login and the session
			o.end, o.reason, o.speak = pgwire.Drained.String(), pgwire.Drained, r.clean
			break
		}
		o.end = endedClientLost
		s.cancelRunning(p)
	case endServer, endServerLost:
		o = s.serverEnded(p, r)
	case endCut:
		o.reason, o.speak = inDoubt(p, r.why), r.clean
		o.end = o.reason.String()
	case endKeptBack:
		again, verdict := s.judge(p, r)
		if again {
			return
		}
		o = verdict
	}
	s.finish(p, o)
}

// cancelRunning cancels what the server is still running for a client that is gone: it would run on. A client that said Terminate wants what it
// sent before that to be done.
func (s *session) cancelRunning(p *pair) {
	if p.tracker == nil || !p.tracker.Running() || p.tracker.Terminated() || s.running == nil {
		return
	}
	result := s.srv.forwardCancel(*s.running)
	s.srv.metrics.Cancels(result).Inc()
}

// serverEnded says what becomes of a session whose server has closed the connection or lost it.
func (s *session) serverEnded(p *pair, r result) outcome {
	o := outcome{end: endedByServer, err: r.err}
	switch {
	case p.tracker != nil && p.tracker.Terminated():
		o.end = endedByClient
		return o
	case p.tracker == nil || p.tracker.LastServer() == 'E' || clientBroke(p):
		return o // nobody can know why, or it has said so, or it closes without a word as PostgreSQL does on such a client
	}
	s.srv.suspect(p.backend.node)
	o.reason, o.speak = inDoubt(p, pgwire.WriterLost), r.clean
	o.end = o.reason.String()
	return o
}

// clientBroke reports whether the client has sent what is no message.
func clientBroke(p *pair) bool {
	var broken *pgwire.FramingError
	return errors.As(p.tracker.Broken(), &broken) && !broken.FromServer
}

// inDoubt replaces the reason where nobody can know whether a commit has happened.
func inDoubt(p *pair, why pgwire.Reason) pgwire.Reason {
	if p.tracker != nil && p.tracker.InDoubt() {
		return pgwire.CommitInDoubt
	}
	return why
}

// judge decides about a message that an idle session did not ask for and that means either that the server is dying or that somebody ended this
// session: only a fresh look at the server can tell. again means that the pair was started again.
func (s *session) judge(p *pair, r result) (again bool, o outcome) {
	s.srv.suspect(p.backend.node)
	words := append(r.keptBack, p.fromServer...)
	p.fromServer = nil
	alive := s.writerAlive(p.backend)
	_ = p.clientRaw.SetWriteDeadline(time.Now().Add(wordTimeout)) // inside the gate it could undo the interrupt of a cut that waits for the write
	if !alive || !p.backend.toClient.enter() {
		why := whyCut(p.backend)
		return false, outcome{end: why.String(), reason: why, speak: r.clean}
	}
	_, err := p.client.Write(words)
	p.backend.toClient.leave()
	p.tracker.PassServer(words)
	if err == nil && r.keptBack[0] == 'N' && s.goesOn(p) {
		return true, outcome{}
	}
	return false, outcome{end: endedByServer}
}

// whyCut is why the backend's epoch was cut; WriterLost while it was not.
func whyCut(b *backend) pgwire.Reason {
	var cut *cutError
	if errors.As(context.Cause(b.cut), &cut) {
		return cut.why
	}
	return pgwire.WriterLost
}

// writerAlive asks whether the backend's server still serves. A cut ends the question.
func (s *session) writerAlive(b *backend) bool {
	if s.srv.deps.WriterAlive == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(s.srv.ctx, aliveTimeout)
	defer cancel()
	stop := context.AfterFunc(b.cut, cancel)
	defer stop()
	return s.srv.deps.WriterAlive(ctx, b.epoch) && b.cut.Err() == nil
}

// goesOn starts the pair again after a warning that the server means to end the session, unless it does so at once, as it does as a rule.
func (s *session) goesOn(p *pair) bool {
	_ = p.backend.SetReadDeadline(time.Now().Add(partingTimeout))
	var b [512]byte
	n, err := p.backend.conn.Read(b[:])
	p.fromServer = slices.Clone(b[:n])
	if n == 0 && !isTimeout(err) {
		return false
	}
	if p.clientRaw.SetDeadline(time.Time{}) != nil || p.backend.SetDeadline(time.Time{}) != nil {
		return false
	}
	s.forward(p)
	return true
}

// parted is the end of a session whose client has ended its side, or said Terminate, and then its server its own, and whose sockets are closed. It is
// called on an event loop and does not wait: it returns false when it would have to.
func (s *session) parted(p *pair, r result) bool {
	if !s.mu.TryLock() { // whoever has it may wait for the loop
		return false
	}
	defer s.mu.Unlock()
	if s.srv.rest.isDraining() { // it may be the last that is waited for, and who is told of that may wait
		return false
	}
	o := outcome{end: endedByClient, err: r.err}
	if !s.srv.departures.add(departure{s, p, o, time.Now()}) {
		return false
	}
	s.ending = true
	s.strike(o)
	s.srv.roster.remove(s)
	s.srv.sessions.Done()
	return true
}

// finish closes both connections and records the session's end.
func (s *session) finish(p *pair, o outcome) {
	defer s.srv.roster.remove(s)
	s.mu.Lock()
	s.ending = true // a drain that begins while its last words are said must not wait for it
	s.mu.Unlock()
	if !p.closed {
		p.backend.toClient.shut() // what follows is the proxy's own
		s.srv.dispose(p.backend, o.reason == pgwire.Drained)
	}
	s.strike(o)
	var words []byte
	if o.speak {
		words = pgwire.AppendError(nil, o.reason, "")
	}
	departure{s, p, o, time.Now()}.log()
	if !p.closed {
		lastWords(p.client, p.clientRaw, words)
	}
}

// strike takes the session off all lists but the roster.
func (s *session) strike(o outcome) {
	s.srv.rest.forget(s)
	s.forget()
	s.srv.credentials.release(s.learned)
	s.leave()
	s.srv.metrics.Ends(o.end).Inc()
	if o.reason != 0 {
		s.srv.metrics.Refusals(o.reason.String()).Inc()
	}
}
