package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// errNodeInClear: the node of a passthrough listener does not encrypt.
var errNodeInClear = errors.New("node does not encrypt")

// passThrough ties a client that asked for TLS to a node, whose TLS it gets untouched. first is what the client has sent: its SSLRequest, or the
// first byte of its ClientHello. nil means that the forwarder has the session, errNodeInClear that the client has been told 'N' and goes on
// in clear.
func (s *session) passThrough(first []byte) error {
	s.who = identity{address: s.address.Addr()}
	if err := s.enter(); err != nil {
		return err
	}
	s.direct = first[0] == tlsHandshakeRecord
	return s.untilPinned(func(t *ticket) error { return s.attemptOpaque(t, first) })
}

// attemptOpaque connects to the ticket's node and proves it, before the client's first byte goes there or the node's first byte comes back. The
// proof is a fresh look on another connection, which was opened after this one: the proxy can ask nothing on a connection it cannot read.
func (s *session) attemptOpaque(t *ticket, first []byte) error {
	firstBy := time.Now().Add(s.cfg.Backend.ConnectTimeout)
	b, err := s.srv.dial(s.client.ctx, t.route, firstBy, s.client)
	if err != nil {
		return s.afterFailure(t, err, true)
	}
	if err = s.proveOpaque(t, b, firstBy); err == nil {
		return s.pinOpaque(b, first)
	}
	s.srv.dispose(b, false)
	if errors.Is(err, errNodeInClear) {
		return s.answerNo()
	}
	return s.afterFailure(t, err, true)
}

// proveOpaque asks the node for TLS where the client has asked for it, and then whether it is the writer.
func (s *session) proveOpaque(t *ticket, b *backend, firstBy time.Time) error {
	_ = b.SetDeadline(firstBy)
	if !s.direct {
		answer, err := b.askTLS()
		switch {
		case err != nil:
			return &backendError{addr: b.addr, err: err}
		case answer == 'N':
			s.place.answered()
			t.worked()
			return errNodeInClear
		case answer != 'S':
			return &backendError{addr: b.addr, err: fmt.Errorf("answer %q to an SSLRequest: %w", answer, errNotServing)}
		}
	}
	s.place.answered()
	t.undecided()
	ctx, cancel := context.WithDeadline(s.client.ctx, firstBy)
	defer cancel()
	if !s.srv.deps.WriterAlive(ctx, b.epoch) || !s.srv.table.isOpen(b.epoch) {
		return &backendError{addr: b.addr, err: errUnproven}
	}
	t.worked()
	return nil
}

// pinOpaque lets the client begin its handshake with the node.
func (s *session) pinOpaque(b *backend, first []byte) error {
	p := &pair{client: s.client.raw, clientRaw: s.client.raw, backend: b}
	b.relaxed.blind.Store(true) // before the client can ask for anything
	if s.direct {
		p.fromClient = append(p.fromClient, first...)
	} else if err := s.relayYes(b); err != nil {
		s.srv.dispose(b, false)
		return err
	}
	if err := s.client.resume(); err != nil {
		s.srv.dispose(b, false)
		return err
	}
	p.fromClient = append(p.fromClient, s.client.takeAhead()...)
	_ = b.SetDeadline(time.Time{})
	s.pin(p)
	return nil
}

// relayYes passes the node's 'S' on.
func (s *session) relayYes(b *backend) error {
	if !b.toClient.enter() {
		return errClientGone // cut in this instant: the client has heard nothing and connects again
	}
	defer b.toClient.leave()
	_, err := s.client.Write([]byte{'S'})
	return err
}

// answerNo tells the client that it has to go on in clear.
func (s *session) answerNo() error {
	if _, err := io.WriteString(s.client, "N"); err != nil {
		return err
	}
	return errNodeInClear
}
