package proxy

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/pgtether/pgtether/internal/scram"
)

// errLookup: what is stored as the role's password cannot be looked up, or not be used. That says nothing about the server, which has just asked for it.
var errLookup = errors.New("verifier cannot be looked up")

// answerSASL answers SCRAM in the server's place (auth.scram = "proxy"): the client proves itself to the role's verifier, and the proxy then logs in
// with the key that the proof has yielded. The proxy offers no channel binding, so a client whose TLS ends here does not expect the server's
// certificate. The server still decides: a role that may not log in is refused by it. offer is the server's AuthenticationSASL.
func (x *exchange) answerSASL(offer []byte) error {
	offer = append([]byte(nil), offer...) // gone with the next message
	role := x.s.startup.User()
	stored, known, err := x.s.srv.credentials.lookUp(x.s.client.ctx, role)
	if err != nil {
		return fmt.Errorf("%w: %w", errLookup, err)
	}
	defer stored.wipe()
	var verifier scram.Verifier
	server := x.s.srv.mock.Server(role) // a password that is not stored for SCRAM is none: the answer must not tell which roles exist
	if known && stored.scram != nil {
		verifier = *stored.scram
		if server, err = scram.NewServer(verifier); err != nil {
			return fmt.Errorf("%w: %w", errLookup, err)
		}
	}
	defer server.Wipe()
	final, err := x.authenticateClient(server)
	if err != nil {
		return x.refuseClient(role, err)
	}
	key, _ := server.ClientKey()
	defer key.Wipe()
	x.seen.proved(key.Clone(), verifier)
	if err = x.authenticateSelf(key, verifier, offer); err != nil {
		err = x.refuseClient(role, err)
	}
	if !errors.Is(err, errServerRefused) { // the client has heard nothing else
		x.withheld = authFrame('R', final)
	}
	return err
}

// authenticateClient is the exchange with the client. It returns the server's last word, which the client must not see before the server itself has
// let the proxy in.
func (x *exchange) authenticateClient(server *scram.Server) (final []byte, err error) {
	request := server.Offer()
	for {
		if err := x.tell(authFrame('R', request)); err != nil {
			return nil, err
		}
		answer, err := x.ask()
		if err != nil {
			return nil, err
		}
		if answer[0] != 'p' {
			return nil, &scram.ExchangeError{SQLState: "08P01", Message: fmt.Sprintf("expected SASL response, got message type %d", answer[0])}
		}
		reply, done, err := server.Step(answer[headerLength:])
		if done || err != nil {
			return reply, err
		}
		request = reply
	}
}

// authenticateSelf logs the proxy in. The server's AuthenticationOk is kept for the client.
func (x *exchange) authenticateSelf(key scram.ClientKey, verifier scram.Verifier, offer []byte) error {
	client, err := scram.NewClient(key, verifier, nil)
	if err != nil {
		return err
	}
	frame := offer
	for {
		reply, done, err := client.Step(frame[headerLength:])
		switch {
		case err != nil:
			return fmt.Errorf("log in at %s: %w", x.b.addr, err)
		case done:
			x.letIn(frame)
			return nil
		case reply != nil:
			if err := x.send(authFrame('p', reply)); err != nil {
				return err
			}
		}
		if frame, err = x.receive(); err != nil {
			return err
		}
		switch frame[0] {
		case 'R':
		case 'E':
			return x.serverError(nil, frame)
		default:
			return fmt.Errorf("message %q during SCRAM: %w", frame[0], errNonsense)
		}
	}
}

// refuseClient tells the client in PostgreSQL's words why its login failed, where the reason is its own: a wrong proof, or one that fits a verifier
// which is no longer the role's.
func (x *exchange) refuseClient(role string, err error) error {
	var spoken *scram.ExchangeError
	switch {
	case errors.Is(err, scram.ErrAuthenticationFailed), errors.Is(err, scram.ErrStaleVerifier):
		return x.refuseInWords(err, "28P01", `password authentication failed for user "`+role+`"`, "")
	case errors.As(err, &spoken):
		return x.refuseInWords(err, spoken.SQLState, spoken.Message, spoken.Detail)
	case errors.Is(err, scram.ErrServerUnproven), errors.Is(err, scram.ErrNotSCRAM), errors.Is(err, scram.ErrMalformed),
		errors.Is(err, scram.ErrTooLong), errors.Is(err, scram.ErrOutOfOrder), errors.Is(err, scram.ErrKeyMismatch):
		return fmt.Errorf("%w: %w", err, errUnproven)
	default:
		return err
	}
}

func (x *exchange) refuseInWords(err error, state, message, detail string) error {
	if told := x.tell(appendFatal(nil, state, message, detail)); told != nil {
		return told
	}
	return fmt.Errorf("%w: %w", err, errServerRefused)
}

// appendFatal appends a FATAL ErrorResponse in the server's place.
func appendFatal(dst []byte, state, message, detail string) []byte {
	body := "SFATAL\x00VFATAL\x00C" + state + "\x00M" + message + "\x00"
	if detail != "" {
		body += "D" + detail + "\x00"
	}
	return append(dst, authFrame('E', []byte(body+"\x00"))...)
}

// authFrame is a message of the given type.
func authFrame(kind byte, body []byte) []byte {
	frame := binary.BigEndian.AppendUint32([]byte{kind}, uint32(4+len(body)))
	return append(frame, body...)
}
