package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgtether/pgtether/internal/metrics"
	"github.com/pgtether/pgtether/internal/pgwire"
	"github.com/pgtether/pgtether/internal/scram"
)

// ErrServerClosed is what Serve returns after Shutdown.
var ErrServerClosed = errors.New("proxy: server is shut down")

// Deps is what the data plane needs from others. Its functions may be called from any goroutine.
type Deps struct {
	// Metrics and Log are required.
	Metrics *metrics.Proxy
	Log     *slog.Logger
	// Suspect is told that a node misbehaved on the data path, so that it is probed at once. It must not block. nil: nobody is told.
	Suspect func(node string)
	// WriterAlive asks for a fresh verdict: does the epoch's writer still serve? nil: never. Required with listen.tls = "passthrough".
	WriterAlive func(ctx context.Context, epoch uint64) bool
	// CancelAllowed says whether a cancel request may reach the epoch's writer. It must be false where that would turn a commit that waits for
	// synchronous replication into a false success. It must not block. nil: allowed.
	CancelAllowed func(epoch uint64) bool
	// Verifier looks up what is stored as a role's password; false means none that is valid. What it returns is the caller's. Required with
	// auth.scram = "proxy" and with a source of verifiers.
	Verifier func(ctx context.Context, role string) (Stored, bool, error)
}

// Stats is how many clients there are at a moment.
type Stats struct {
	// Open is the number of pinned sessions, those that wait for a change of the writer included (as Idle). Active, Idle, InTransaction and
	// Opaque are parts of it: the server works on a request, waits for one outside a transaction, waits for one inside a transaction, and TLS
	// passed through.
	Open, Active, Idle, InTransaction, Opaque int
	// Held is the number of logins that wait for a writer.
	Held int
}

// Server is the data plane. Its methods may be called from any goroutine. After New, Shutdown must be called, also when Serve never was.
type Server struct {
	deps    Deps
	metrics *metrics.Proxy
	log     *slog.Logger
	cfg     atomic.Pointer[settings]

	// control serialises what changes the way of sessions: Open, Hold, Refuse, Drain, Undrain, Cut and Relocate.
	control sync.Mutex

	table     *table
	hold      *holdQueue
	admission *admission
	counts    *counts
	pending   pending
	roster    *roster
	rest      rest
	resting   atomic.Int64 // sessions that are being packed or moved: no forwarder has them
	stranded  stranded
	// departures are the sessions whose end is still to be logged.
	departures departures
	// verdict is the last one of Relocate, moving the open route while logins wait for sessions that are moved there; control guards both.
	verdict verdict
	moving  *openRoute
	keys    *keyring
	texts   *pgwire.Texts
	// credentials are what sessions can be logged in with again.
	credentials *credentials
	mock        *scram.Mock
	forwarder   forwarder

	ids           atomic.Uint64
	cancelSlots   chan struct{}
	cancelLimiter *limiter[netip.Addr]
	// garbage, refused and failures keep the log readable: per address, per address, per node (and see lookups).
	garbage, refused *limiter[netip.Addr]
	failures         *limiter[string]

	// ctx is done when everything must end.
	ctx  context.Context
	stop context.CancelFunc
	// sessions counts every goroutine that serves a connection, and every pinned session.
	sessions sync.WaitGroup
	// loops counts the goroutines of the server itself.
	loops sync.WaitGroup
}

// New builds a server that holds every login until Open. Its error says which part of the configuration cannot be used.
func New(cfg Config, deps Deps) (*Server, error) {
	if deps.Metrics == nil || deps.Log == nil {
		return nil, errors.New("proxy: Deps.Metrics and Deps.Log are required")
	}
	loaded, err := load(cfg)
	if err != nil {
		return nil, err
	}
	mock, err := scram.NewMock(0)
	if err != nil {
		return nil, err
	}
	s := &Server{
		mock: mock, deps: deps, metrics: deps.Metrics, log: deps.Log,
		table: newTable(), hold: newHoldQueue(cfg.Hold.Max, cfg.Hold.ReleasePerSecond, rand.Float64),
		admission: newAdmission(cfg.Limits.LoginsUnderWay), counts: newCounts(), pending: pending{max: pendingMax},
		roster: newRoster(), keys: newKeyring(), texts: pgwire.NewTexts(),
		cancelSlots: make(chan struct{}, cancelsAtOnce), cancelLimiter: newLimiter[netip.Addr](cancelsPerSecond, cancelBurst),
		garbage: newLimiter[netip.Addr](1.0/60, 1), refused: newLimiter[netip.Addr](1, 50), failures: newLimiter[string](0.2, 5),
	}
	if err := s.supports(cfg); err != nil {
		return nil, err
	}
	s.cfg.Store(loaded)
	if s.forwarder, err = newForwarder(deps.Metrics); err != nil {
		s.log.Warn("event loops cannot be used", "err", err)
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.credentials = newCredentials(s.ctx, &s.loops, s.log, deps.Verifier, func() bool { return s.cfg.Load().hasVerifiers() })
	s.metrics.Attach(s.snapshot)
	s.loops.Go(func() { s.hold.run(s.ctx) })
	return s, nil
}

// supports checks that the server was given what the configuration needs.
func (s *Server) supports(cfg Config) error {
	switch {
	case cfg.Listen.TLS == TLSPassthrough && s.deps.WriterAlive == nil:
		return &InvalidError{Key: "listen.tls", Value: string(cfg.Listen.TLS), Want: "needs a prober of the writer"}
	case cfg.hasVerifiers() && s.deps.Verifier == nil:
		return &InvalidError{Key: "auth.scram", Value: cfg.SCRAM, Want: "needs a source of verifiers"}
	default:
		return nil
	}
}

// Reload replaces the configuration for connections that come from now on; those that are there keep what they began with. On error the old one
// stays in force.
func (s *Server) Reload(cfg Config) error {
	loaded, err := load(cfg)
	if err != nil {
		return err
	}
	if err := s.supports(cfg); err != nil {
		return err
	}
	s.cfg.Store(loaded)
	s.hold.configure(cfg.Hold.Max, cfg.Hold.ReleasePerSecond)
	s.admission.configure(cfg.Limits.LoginsUnderWay)
	return nil
}

// Open lets logins go to the route, those that are held in order and paced. Older epochs that were not cut are cut first. Opening the open route
// again ends a Hold. An epoch that was cut, or is older than the open one, is refused: it can never be opened again.
func (s *Server) Open(r Route) error {
	s.control.Lock()
	defer s.control.Unlock()
	if cur := s.table.current(); r.Epoch > 0 && (cur == nil || cur.Epoch < r.Epoch) {
		s.cutLocked(r.Epoch-1, pgwire.WriterLost)
	}
	route, err := s.table.open(r)
	if err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	s.undrainLocked(r.Epoch) // nobody waits at rest while the epoch is open
	if s.moving = nil; s.stranded.size() == 0 {
		s.hold.open(route)
	} else { // those that were here before go first: a server may have no connection to spare
		s.moving = route
		s.loops.Go(func() { s.letLoginsGoAfter(route, movesFirst) })
	}
	s.log.Info("route opened", "epoch", r.Epoch, "node", r.Node)
	return nil
}

// movesFirst bounds how long logins wait for sessions that are being moved.
const movesFirst = 2 * time.Second

// letLoginsGoAfter lets logins go to the route, at the latest after a while.
func (s *Server) letLoginsGoAfter(route *openRoute, limit time.Duration) {
	select {
	case <-time.After(limit):
		s.letLoginsGo(route)
	case <-route.ctx.Done():
	case <-s.ctx.Done():
	}
}

// letLoginsGo lets logins go to the route, unless they do already, or something else was decided since it was opened.
func (s *Server) letLoginsGo(route *openRoute) {
	s.control.Lock()
	defer s.control.Unlock()
	if s.moving == route && s.table.current() == route {
		s.moving = nil
		s.hold.open(route)
	}
}

// Hold makes new logins wait; sessions of the open epoch go on. step is the word for why: "promoting", or anything else for want of a writer. It
// is what a login is told at the end of its budget.
func (s *Server) Hold(step string) {
	s.control.Lock()
	defer s.control.Unlock()
	reason := pgwire.NoWriter
	if step == pgwire.Promoting.String() {
		reason = pgwire.Promoting
	}
	s.moving = nil
	s.hold.hold(reason)
	s.log.Info("logins held", "step", step)
}

// Refuse refuses logins at once with Promoting, those that wait included, until Hold or Open is called. Sessions of the open epoch go on.
func (s *Server) Refuse() {
	s.control.Lock()
	defer s.control.Unlock()
	s.moving = nil
	s.hold.refuse(pgwire.Promoting)
	s.log.Warn("logins refused: an operator must decide")
}

// Cut ends every path of the epochs up to and including epoch, for good. When it returns not one byte is being, or will be, sent to a backend that
// was opened under such an epoch, and nothing that such a backend said will reach a client. Clients are detached first, then the backends are
// closed with a reset. Each session ends with an error of its own: CommitInDoubt where a commit was unanswered, else why; but those that waited in
// a drain and can be moved wait on for Relocate, up to hold.session. It returns the number of sessions that it ended.
func (s *Server) Cut(epoch uint64, why pgwire.Reason) (sessions int) {
	s.control.Lock()
	defer s.control.Unlock()
	_, waiting := s.rest.state()
	sessions = s.forwarder.states().Open + waiting + int(s.resting.Load())
	kept := s.cutLocked(epoch, why)
	sessions = max(sessions-kept, 0) // more may have come to rest meanwhile
	s.log.Info("epoch cut", "epoch", epoch, "reason", why.String(), "ended", sessions, "waiting", kept)
	return sessions
}

func (s *Server) cutLocked(epoch uint64, why pgwire.Reason) (kept int) {
	s.table.cut(epoch, why)
	s.hold.close(epoch)
	s.forwarder.cut(epoch, why)
	sever(s.table.upTo(epoch)) // logins and cancel requests under way, and sessions that wait
	_, waiting := s.rest.end(epoch)
	return s.afterCut(waiting, why)
}

// IsOpen reports whether the epoch was opened and has not been cut, be logins held or not.
func (s *Server) IsOpen(epoch uint64) bool { return s.table.isOpen(epoch) }

// HeardAge says how long ago a backend of the epoch was last heard by a client; false when none was yet. It does not block.
func (s *Server) HeardAge(epoch uint64) (time.Duration, bool) { return s.forwarder.heardAge(epoch) }

// Stats counts the clients at this moment.
func (s *Server) Stats() Stats {
	stats := s.forwarder.states()
	_, waiting := s.rest.state()
	waiting += s.stranded.size() + int(s.resting.Load())
	stats.Open += waiting
	stats.Idle += waiting
	stats.Held = s.hold.held()
	return stats
}

func (s *Server) snapshot() metrics.Sessions {
	n := s.Stats()
	return metrics.Sessions{Open: n.Open, Active: n.Active, Idle: n.Idle, InTransaction: n.InTransaction, Held: n.Held, Opaque: n.Opaque}
}

// suspect passes on that a node misbehaved.
func (s *Server) suspect(node string) {
	if s.deps.Suspect != nil {
		s.deps.Suspect(node)
	}
}

// noteFailure records that a login could not use the route's node.
func (s *Server) noteFailure(r Route, err error) {
	s.suspect(r.Node)
	if s.failures.allow(r.Node) {
		s.log.Warn("login attempt failed", "node", r.Node, "epoch", r.Epoch, "err", err)
	}
}

// lookups is the key of failed lookups among the failures: no node's name.
const lookups = ""

// noteLookup records that a login waits because what is stored as its role's password cannot be looked up.
func (s *Server) noteLookup(role string, err error) {
	if s.failures.allow(lookups) {
		s.log.Warn("the stored password of a role cannot be looked up; its login waits", "user", role, "err", err)
	}
}

// everyEpoch is an epoch that no other is greater than.
const everyEpoch = math.MaxUint64
