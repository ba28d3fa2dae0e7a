package proxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/pgtether/pgtether/internal/pgwire"
)

// serverPatience bounds the wait for each of the server's answers after the first: PostgreSQL's own authentication_timeout.
const serverPatience = 60 * time.Second

// Authentication requests (src/include/libpq/protocol.h).
const (
	authOK           = 0
	authCleartext    = 3
	authMD5          = 5
	authGSS          = 7
	authGSSContinue  = 8
	authSSPI         = 9
	authSASL         = 10
	authSASLContinue = 11
	authSASLFinal    = 12
)

// usualReadiness is enough for what PostgreSQL says between its last word of SASL and ReadyForQuery: 14 parameters and the key.
const usualReadiness = 640

// tooManyConnections is the SQLSTATE of a server that has no connection left.
const tooManyConnections = "53300"

var (
	// errServerRefused: the server itself refused the login; its words have reached the client unchanged.
	errServerRefused = errors.New("server refused the login")
	// errUnproven: the backend did not prove to be the writer of the open epoch.
	errUnproven = errors.New("backend did not prove to be the writer")
	// errServerFull: the node has no connection left, and logins that wait for their clients hold some.
	errServerFull = errors.New("server is full while silent logins hold connections")
	// errNotServing: the node's first answer was that it does not take logins now (57P01, 57P02, 57P03).
	errNotServing = errors.New("node does not take logins now")
)

// exchange is one login on one backend, from the startup packet to ReadyForQuery.
type exchange struct {
	s      *session
	b      *backend
	ticket *ticket
	in     *frames
	// firstBy is when the backend must have given its first answer.
	firstBy time.Time
	// answered says that it did; spoken that something of it has reached the client: from then on the login cannot be held again, but see admitted.
	answered, spoken bool
	// judged says that the queue has been told what the server's first word means, vouched that it was that logins work.
	judged, vouched bool
	// withheld is the server's last word of SASL, which goes with what follows.
	withheld []byte
	// negotiated is what the client still has to be told about the protocol version; version is what is spoken.
	negotiated *pgwire.NegotiateProtocolVersion
	version    pgwire.Version
	// again is set when the proxy logs in in its client's place: for a login that has to begin again, or for a session that is there already, whose
	// client is told nothing and which has no ticket.
	again *relogin

	// seen looks on, and keeps what a later login of the role can be made from.
	seen  watch
	ready readiness
}

// readiness is what the server said between AuthenticationOk and ReadyForQuery, which the client must not see before the backend is proven.
type readiness struct {
	messages  []byte
	keyAt     int // where the client's BackendKeyData belongs in messages
	key       pgwire.CancelKey
	inStandby string // in_hot_standby as reported; empty before PostgreSQL 14
}

// run carries the login to the point where the backend waits for the first query and is proven.
func (x *exchange) run() error {
	if err := x.send(x.s.replay); err != nil {
		return err
	}
	if err := x.authenticate(); err != nil {
		return err
	}
	if err := x.collect(); err != nil {
		return err
	}
	return x.prove()
}

// authenticate relays the server's requests and the client's answers in lock step until the server sends AuthenticationOk, which is kept back.
func (x *exchange) authenticate() error {
	for {
		frame, err := x.receive()
		if err != nil {
			return err
		}
		switch frame[0] {
		case 'v':
			if err := x.negotiate(frame[headerLength:]); err != nil {
				return err
			}
		case 'R':
			if done, err := x.relayRequest(frame); done || err != nil {
				return err
			}
		case 'E':
			return x.serverError(nil, frame)
		case 'N':
			if x.again != nil {
				continue
			}
			if err := x.tell(frame); err != nil {
				return err
			}
		default:
			return fmt.Errorf("message %q before authentication: %w", frame[0], errNonsense)
		}
	}
}

// negotiate merges the server's NegotiateProtocolVersion with the proxy's own, so that the client gets one at most.
func (x *exchange) negotiate(body []byte) error {
	n, err := pgwire.ParseNegotiateProtocolVersion(body)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", err, errNonsense)
	case x.again != nil && n.Version != x.version:
		return &reloginError{fmt.Errorf("protocol %s in the place of %s", n.Version, x.version)}
	case x.again != nil:
		return nil // its client knows
	case x.spoken || n.Version > x.version:
		return fmt.Errorf("negotiation to %s out of place: %w", n.Version, errNonsense)
	}
	x.negotiated = x.negotiated.Merge(n)
	x.version = n.Version
	return nil
}

// relayRequest relays one authentication request and, where it asks for one, the client's answer. done means AuthenticationOk.
func (x *exchange) relayRequest(frame []byte) (done bool, err error) {
	if len(frame) < headerLength+4 {
		return false, fmt.Errorf("authentication request of %d bytes: %w", len(frame), errNonsense)
	}
	if x.again != nil {
		return x.authenticateAgain(frame)
	}
	code := binary.BigEndian.Uint32(frame[headerLength:])
	if code == authSASL && x.s.cfg.SCRAM == SCRAMProxy {
		return true, x.answerSASL(frame)
	}
	x.seen.request(frame)
	switch code {
	case authOK:
		x.letIn(frame)
		return true, nil
	case authSASL:
		if !x.s.encrypted {
			frame = offerInClear(frame)
		}
	case authCleartext, authMD5, authGSS, authGSSContinue, authSSPI, authSASLContinue, authSASLFinal:
	default:
		return false, fmt.Errorf("authentication request %d: %w", code, errNonsense)
	}
	if code == authSASLFinal && len(x.in.rest()) > 0 { // it can go with what follows
		x.withheld = append(x.withheld, frame...)
		return false, nil
	}
	if err := x.tell(frame); err != nil {
		return false, err
	}
	switch code {
	case authSASLFinal:
		return false, nil
	case authGSSContinue: // an answer follows only where the client's mechanism has more to say
		if more, err := x.clientSpeaksFirst(); !more || err != nil {
			return false, err
		}
	}
	answer, err := x.ask()
	if err != nil {
		return false, err
	}
	err = x.send(answer)
	x.seen.answered(answer)
	return false, err
}

// ask reads the client's answer to an authentication request that it was told.
func (x *exchange) ask() ([]byte, error) {
	x.s.place.awaitsClient()
	answer, err := readAnswer(x.s.client)
	switch mayGoOn := x.s.place.clientSpoke(); {
	case !mayGoOn: // whoever ends it may come late, and must not find a session
		return nil, errEvicted
	case errors.Is(err, errStartupTimeout):
		err = refuse(pgwire.StartupTimeout, "")
	}
	return answer, err
}

// clientSpeaksFirst waits until either side says something, and reports whether it was the client.
func (x *exchange) clientSpeaksFirst() (bool, error) {
	switch {
	case len(x.in.rest()) > 0:
		return false, nil
	case len(x.s.client.ahead) > 0:
		return true, nil
	}
	x.s.client.leave()
	_ = x.b.SetDeadline(time.Now().Add(serverPatience))
	stop := x.s.client.watch(func() { _ = x.b.SetReadDeadline(past) })
	err := x.in.fill(1)
	stop()
	if resumed := x.s.client.resume(); resumed != nil {
		return false, resumed
	}
	if len(x.s.client.ahead) > 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		return true, nil
	}
	return false, x.backendError(err)
}

// collect keeps everything from AuthenticationOk to ReadyForQuery.
func (x *exchange) collect() error {
	for {
		frame, err := x.receive()
		if err != nil {
			return err
		}
		body := frame[headerLength:]
		switch frame[0] {
		case 'S':
			if name, value, ok := cutParameter(body); ok && string(name) == "in_hot_standby" {
				x.ready.inStandby = string(value)
			}
		case 'K':
			if x.ready.key, err = pgwire.ParseBackendKeyData(body); err != nil {
				return fmt.Errorf("%w: %w", err, errNonsense)
			}
			x.ready.key.Secret = append([]byte(nil), x.ready.key.Secret...) // body is gone with the next message
			x.ready.keyAt = len(x.ready.messages)
			continue
		case 'N':
		case 'E':
			return x.serverError(x.ready.messages, frame)
		case 'Z':
			if len(body) != 1 || body[0] != 'I' {
				return fmt.Errorf("first ReadyForQuery: %w", errNonsense)
			}
			x.ready.messages = append(x.ready.messages, frame...)
			return nil
		default:
			return fmt.Errorf("message %q before ReadyForQuery: %w", frame[0], errNonsense)
		}
		if x.ready.messages = append(x.ready.messages, frame...); len(x.ready.messages) > loginTotalMax {
			return fmt.Errorf("more than %d bytes before ReadyForQuery: %w", loginTotalMax, errNonsense)
		}
	}
}

// serverError relays the server's refusal unchanged, after what it had said before; the login is over. As long as the client has heard nothing, a
// server that does not take logins now is not relayed: the login waits for a writer instead.
func (x *exchange) serverError(before, frame []byte) error {
	fields, err := pgwire.ParseErrorFields(frame[headerLength:])
	if err != nil {
		return fmt.Errorf("%w: %w", err, errNonsense)
	}
	if !x.spoken && isNotServing(frame) {
		return fmt.Errorf("%s %s: %w", fields.SQLState, fields.Message, errNotServing)
	}
	if x.ticket == nil {
		if fields.SQLState == tooManyConnections {
			return errServerFull
		}
		return fmt.Errorf("%s: %w", fields.SQLState, errServerRefused)
	}
	if !x.spoken && fields.SQLState == tooManyConnections && x.s.mayFindRoom() {
		return errServerFull
	}
	if err := x.tell(append(before, frame...)); err != nil {
		return err
	}
	return fmt.Errorf("%s: %w", fields.SQLState, errServerRefused)
}

// isNotServing reports whether the message says that the node takes no logins at the moment: it starts, stops or recovers.
func isNotServing(frame []byte) bool {
	if frame[0] != 'E' {
		return false
	}
	fields, err := pgwire.ParseErrorFields(frame[headerLength:])
	return err == nil && (fields.SQLState == "57P01" || fields.SQLState == "57P02" || fields.SQLState == "57P03")
}

// tell passes the server's words on to the client, after what the client has to know about the protocol version.
func (x *exchange) tell(words []byte) error {
	if !x.b.toClient.enter() {
		return x.backendError(errSevered)
	}
	defer x.b.toClient.leave()
	if len(x.withheld) > 0 {
		words = append(x.withheld, words...)
	}
	if x.negotiated != nil {
		words = append(x.negotiated.Append(nil), words...)
	}
	_, err := x.s.client.Write(words)
	if err == nil || errors.Is(err, errTorn) {
		x.spoken, x.withheld, x.negotiated = true, nil, nil
	}
	return err
}

// send writes to the backend.
func (x *exchange) send(p []byte) error {
	_ = x.b.SetDeadline(x.deadline())
	_, err := x.b.conn.Write(p)
	return x.backendError(err)
}

// receive reads the backend's next message.
func (x *exchange) receive() ([]byte, error) {
	_ = x.b.SetDeadline(x.deadline())
	frame, err := x.in.next()
	if err != nil {
		return nil, x.backendError(err)
	}
	if x.ticket != nil && !x.answered {
		x.s.place.answered()
	}
	x.answered = true
	if x.ticket != nil && !x.judged {
		x.judge(frame)
	}
	return frame, nil
}

// judge tells the queue what the server's first word about the login means for the others. When it asks the client they go on: the answer may take long.
// A server that asks nothing, or the proxy, shows soon whether it is the writer, and until then has shown nothing.
func (x *exchange) judge(frame []byte) {
	switch {
	case frame[0] == 'v', frame[0] == 'N', isNotServing(frame):
		return
	case x.again != nil, isAuthenticationOk(frame):
		x.ticket.undecided()
	default:
		x.ticket.worked()
		x.vouched = true
	}
	x.judged = true
}

// isAuthenticationOk reports whether the message is that.
func isAuthenticationOk(frame []byte) bool {
	body, err := authBody(frame)
	return err == nil && binary.BigEndian.Uint32(body) == authOK
}

func (x *exchange) deadline() time.Time {
	if !x.answered {
		return x.firstBy
	}
	return time.Now().Add(serverPatience)
}

// backendError marks an error as the backend's.
func (x *exchange) backendError(err error) error {
	if err == nil {
		return nil
	}
	return &backendError{addr: x.b.addr, err: err}
}

// backendError is a failure of the connection to a node, as opposed to one of the client's.
type backendError struct {
	addr string
	err  error
}

func (e *backendError) Error() string { return "backend " + e.addr + ": " + e.err.Error() }

// Unwrap returns the failure itself.
func (e *backendError) Unwrap() error { return e.err }

// cutParameter splits the body of a ParameterStatus. What it returns are parts of the body.
func cutParameter(body []byte) (name, value []byte, ok bool) {
	for i, c := range body {
		if c == 0 && len(body) > i+1 && body[len(body)-1] == 0 {
			return body[:i], body[i+1 : len(body)-1], true
		}
	}
	return nil, nil, false
}
