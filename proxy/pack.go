package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/pgtether/pgtether/internal/continuity"
	"github.com/pgtether/pgtether/internal/pgwire"
)

// ContinuityMode is continuity.mode: which changes of the writer an idle session may survive.
type ContinuityMode string

const (
	// MoveLossless moves sessions only where every acknowledged commit is on the new writer.
	MoveLossless ContinuityMode = "lossless"
	// MoveRelaxed also where only commits that asked for less may be missing.
	MoveRelaxed ContinuityMode = "relaxed"
	// MoveAlways moves them whatever was lost.
	MoveAlways ContinuityMode = "always"
	// MoveOff ends them.
	MoveOff ContinuityMode = "off"
)

// Reasons for which a session cannot be moved, besides those of package continuity and of its credential.
const (
	immovableOff = "continuity_off"
	// immovableOpaque is for lists: such a session is never found at rest.
	immovableOpaque = "opaque"
)

// packReserve is what a session that is being packed leaves of hold.session, so that the answer comes before the drain is undone.
const packReserve = time.Second

// errDrainOver: the drain was undone while the session waited for its turn to be packed; nothing was asked of its backend.
var errDrainOver = errors.New("drain is over")

// baggage is what a session takes along to another backend. It belongs to whoever owns the session at rest.
type baggage struct {
	state      *continuity.State
	credential *credential
	// immovable is why the session cannot be moved; empty when it can.
	immovable string
	// since is when the session was stopped, until when it may wait.
	since, until time.Time
}

// pack asks the session's backend for all that another backend needs to take its place. The session is at rest and belongs to the caller. After
// errDrainOver the backend is as it was; every other error means that it cannot be used any more.
func (s *session) pack(p *pair) error {
	now := time.Now()
	cfg := s.srv.cfg.Load()
	s.baggage = baggage{since: now, until: now.Add(cfg.Hold.Session)}
	if cfg.Continuity.Mode == MoveOff {
		s.baggage.immovable = immovableOff
		return nil
	}
	s.srv.resting.Add(1)
	defer s.srv.resting.Add(-1)
	survey := s.srv.rest.surveyed()
	ctx, stop := context.WithCancelCause(p.backend.cut) // what is waited for before the backend is asked
	defer stop(nil)
	defer context.AfterFunc(survey.over, func() { stop(errDrainOver) })()
	select {
	case <-survey.passwords:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if s.baggage.credential, s.baggage.immovable = s.credential(); s.baggage.immovable != "" {
		return nil
	}
	select {
	case survey.slots <- struct{}{}:
		defer func() { <-survey.slots }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	by := s.baggage.until.Add(-packReserve)
	if !time.Now().Before(by) { // its turn has come too late, and a question that is cut short would cost the backend
		s.baggage.immovable = moveTimedOut
		return nil
	}
	_ = p.backend.SetDeadline(by)
	err := s.takeState(ctx, p, &survey.census)
	if cleared := p.backend.SetDeadline(time.Time{}); err == nil {
		err = cleared
	}
	if err != nil {
		return fmt.Errorf("ask %s for the session's state: %w", p.backend.node, err)
	}
	return nil
}

// takeState asks the backend. What the server says to the client meanwhile is kept for it.
func (s *session) takeState(ctx context.Context, p *pair, census *census) error {
	rw := fromBackend(p.fromServer, p.backend.conn)
	names, unknown, aside, err := census.names(ctx, s.who.database, rw)
	if err != nil {
		return err
	}
	p.fromServer = aside
	known := knownFrom(p.tracker.Recall())
	known.Custom = append(known.Custom, names...)
	known.CustomUnknown = known.CustomUnknown || unknown
	state, obstacle, aside, err := continuity.Take(rw, known)
	p.fromServer = append(p.fromServer, aside...)
	switch {
	case obstacle != "" && err != nil:
		s.srv.log.Debug("session cannot be moved", append(s.names(), "obstacle", string(obstacle), "err", err)...)
	case err != nil:
		return err
	}
	s.baggage.state, s.baggage.immovable = state, string(obstacle)
	return nil
}

// fromBackend reads what was read before first.
func fromBackend(before []byte, conn io.ReadWriter) io.ReadWriter {
	if len(before) == 0 {
		return conn
	}
	return struct {
		io.Reader
		io.Writer
	}{io.MultiReader(bytes.NewReader(before), conn), conn}
}

// knownFrom turns what the wire tells into what an inventory asks for.
func knownFrom(r pgwire.Recall) continuity.Known {
	k := continuity.Known{Custom: r.Custom, CustomUnknown: r.Unknown&pgwire.UnknownCustom != 0, UnnamedUnsure: r.Unsure.Unnamed, StringsChanged: r.StringsChanged}
	if u := r.Unnamed; u != nil {
		k.Unnamed = &continuity.Statement{Text: u.Text, Types: u.Types}
	}
	return k
}
