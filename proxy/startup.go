package proxy

import (
	"errors"
	"fmt"
	"io"

	"github.com/pgtether/pgtether/internal/pgwire"
)

// refusedError ends a login with a reason from the closed list.
type refusedError struct {
	reason pgwire.Reason
	detail string
	// protocol2 asks for the error in the format of clients before protocol 3.
	protocol2 bool
}

func (e *refusedError) Error() string {
	if e.detail == "" {
		return e.reason.String()
	}
	return e.reason.String() + ": " + e.detail
}

func refuse(reason pgwire.Reason, detail string) error {
	return &refusedError{reason: reason, detail: detail}
}

// tlsHandshakeRecord is the first byte of a TLS ClientHello.
const tlsHandshakeRecord = 0x16

// errHandshake: the TLS handshake with the client failed.
var errHandshake = errors.New("TLS handshake with client")

// greeting is what a client wants once its first packets have been read.
type greeting struct {
	// startup is the parsed packet of a login, cancel the key of a CancelRequest; opaque are the client's first bytes of a connection whose TLS
	// is handed to the node. Exactly one is set.
	startup *pgwire.Startup
	cancel  *pgwire.CancelKey
	opaque  []byte
}

// greet reads the client's packets one at a time until it is clear what it wants, and encrypts on the way when it asks for that. Each of the two
// encryption requests may come once, in either order, as in ProcessStartupPacket (src/backend/tcop/backend_startup.c).
func (s *session) greet() (greeting, error) {
	for first := !s.sslDone; ; first = false {
		p, err := pgwire.ReadPacket(s.client)
		if err != nil {
			return greeting{}, packetError(err)
		}
		switch {
		case p.Kind == pgwire.KindDirectTLS && first:
			if g, done, err := s.directTLS(p.Raw); done || err != nil {
				return g, err
			}
			s.sslDone, s.gssDone = true, true
		case p.Kind == pgwire.KindDirectTLS: // in PostgreSQL's eyes the first byte of an impossible length
			return greeting{}, refuse(pgwire.BadStartupLength, "")
		case p.Kind == pgwire.KindSSLRequest && !s.sslDone:
			s.sslDone = true
			if g, done, err := s.answerSSLRequest(p.Raw); done || err != nil {
				return g, err
			}
			s.gssDone = s.gssDone || s.encrypted
		case p.Kind == pgwire.KindGSSENCRequest && !s.gssDone:
			s.gssDone = true
			if err := s.answerInClear('N'); err != nil {
				return greeting{}, err
			}
		case p.Kind == pgwire.KindCancel:
			key, err := pgwire.ParseCancel(p.Raw)
			if err != nil { // PostgreSQL logs and closes
				return greeting{}, refuse(pgwire.BadStartupLength, err.Error())
			}
			return greeting{cancel: &key}, nil
		default: // a StartupMessage, or a second request of a kind, which is no version that anybody speaks
			startup, err := s.parseStartup(p.Raw)
			return greeting{startup: startup}, err
		}
	}
}

// packetError says how a connection ends whose next packet could not be read.
func packetError(err error) error {
	switch {
	case errors.Is(err, pgwire.ErrBadLength):
		return refuse(pgwire.BadStartupLength, "")
	case errors.Is(err, errStartupTimeout):
		return refuse(pgwire.StartupTimeout, "")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errClientGone
	default:
		return err
	}
}

// parseStartup parses a StartupMessage and refuses what this listener does not take.
func (s *session) parseStartup(raw []byte) (*pgwire.Startup, error) {
	startup, err := pgwire.ParseStartup(raw)
	var major *pgwire.UnsupportedMajorError
	switch {
	case errors.As(err, &major):
		// 0.0 is to PostgreSQL a version that is not known yet (send_message_to_frontend): it gets the format of today.
		old := major.Version.Major() < 3 && major.Version != 0
		return nil, &refusedError{reason: pgwire.UnsupportedProtocol, detail: major.Error(), protocol2: old}
	case errors.Is(err, pgwire.ErrMissingUser):
		return startup, refuse(pgwire.MissingUser, "")
	case err != nil:
		return nil, refuse(pgwire.MalformedStartup, err.Error())
	case s.cfg.Listen.TLS == TLSRequire && !s.encrypted:
		return startup, refuse(pgwire.TLSRequired, "")
	case startup.Replication() && !s.cfg.Listen.Replication:
		return startup, refuse(pgwire.ReplicationRefused, "")
	default:
		return startup, nil
	}
}

// answerInClear writes the one-byte answer to an encryption request. Bytes that came before the answer are an attack or a broken client
// (CVE-2021-23214).
func (s *session) answerInClear(answer byte) error {
	if s.client.hasUnread() {
		return refuse(pgwire.PlaintextAfterSSLRequest, "")
	}
	_, err := s.client.Write([]byte{answer})
	return err
}

// answerSSLRequest answers 'S' and encrypts, answers 'N', or leaves the connection to passthrough (done).
func (s *session) answerSSLRequest(raw []byte) (g greeting, done bool, err error) {
	switch {
	case s.cfg.Listen.TLS == TLSPassthrough:
		if s.client.hasUnread() {
			return g, false, refuse(pgwire.PlaintextAfterSSLRequest, "")
		}
		return greeting{opaque: raw}, true, nil
	case s.cfg.listenTLS == nil:
		return g, false, s.answerInClear('N')
	}
	if err := s.answerInClear('S'); err != nil {
		return g, false, err
	}
	var b [1]byte
	if _, err := io.ReadFull(s.client, b[:]); err != nil {
		return g, false, packetError(err)
	}
	if b[0] != tlsHandshakeRecord {
		return g, false, refuse(pgwire.PlaintextAfterSSLRequest, "")
	}
	_, err = s.encrypt(b[0])
	return g, false, err
}

// directTLS encrypts for a client that began with a ClientHello, or leaves the connection to passthrough (done).
func (s *session) directTLS(raw []byte) (g greeting, done bool, err error) {
	switch {
	case s.cfg.Listen.TLS == TLSPassthrough:
		return greeting{opaque: raw}, true, nil
	case s.cfg.listenTLS == nil: // as a server that cannot encrypt: closed without a word
		return g, false, refuse(pgwire.BadStartupLength, "")
	}
	protocol, err := s.encrypt(raw[0])
	if err == nil && protocol != alpnPostgreSQL { // PostgreSQL closes without a word
		err = refuse(pgwire.BadStartupLength, "")
	}
	return g, false, err
}

// encrypt does the handshake and returns the protocol that was negotiated in it.
func (s *session) encrypt(first byte) (protocol string, err error) {
	s.client.leave()
	state, err := s.client.encrypt(s.cfg.listenTLS, first)
	switch {
	case errors.Is(err, errStartupTimeout):
		return "", refuse(pgwire.StartupTimeout, "")
	case errors.Is(err, io.ErrUnexpectedEOF): // it went away in the middle of a record
		return "", errClientGone
	case err != nil:
		return "", fmt.Errorf("%w: %w", errHandshake, err)
	}
	s.encrypted = true
	return state.NegotiatedProtocol, nil
}
