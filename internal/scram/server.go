package scram

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"strconv"
)

// nonceLength is how many random bytes each side adds to the nonce, before base64 (SCRAM_RAW_NONCE_LEN).
const nonceLength = 18

// The channel binding values of a client without channel binding: base64 of its gs2 header "n,," or "y,,".
const (
	bindingNone        = "biws"
	bindingUnsupported = "eSws"
)

type serverState uint8

const (
	serverWantsMechanism serverState = iota
	serverWantsFirst
	serverWantsFinal
	serverEnded
)

// Server is one exchange with a client, answered with a verifier.
//
// It offers SCRAM-SHA-256 only, over TLS too: then a client that could bind the channel says so with 'y', which a server that offers no
// binding accepts. A client that insists on binding ('p=', or the PLUS mechanism) is refused as PostgreSQL refuses it.
//
//	send 'R' with s.Offer()
//	for each 'p': reply, done, err := s.Step(body); on err send it as FATAL and close; else send 'R' with reply
//	when done: log in at the backend with s.ClientKey(), then send AuthenticationOk
//
// A Server belongs to one goroutine.
type Server struct {
	verifier Verifier
	// doomed is set for a mock exchange, which goes its whole way and fails at the end.
	doomed bool
	state  serverState
	random io.Reader
	flag   byte
	nonce  []byte
	// bare and first are the first two parts of the AuthMessage.
	bare, first []byte
	key         ClientKey
}

// NewServer returns an exchange for a role with this verifier. An unknown role, or one without a SCRAM verifier, gets Mock.Server.
// It returns ErrInvalidVerifier when v is out of bounds.
func NewServer(v Verifier) (*Server, error) {
	if err := v.Validate(); err != nil {
		return nil, fmt.Errorf("start SCRAM exchange: %w", err)
	}
	return &Server{verifier: v, random: rand.Reader}, nil
}

// Offer returns the body of the AuthenticationSASL message that opens the exchange.
func (s *Server) Offer() []byte {
	return appendMechanisms(appendAuthRequest(nil, authSASL), MechanismPlain)
}

// Step takes the body of a 'p' message and returns the body of the 'R' message that answers it. Done means that the client has proved
// itself; the reply is then AuthenticationSASLFinal and AuthenticationOk is the caller's to send.
//
// Errors: an *ExchangeError carries what PostgreSQL would say; ErrAuthenticationFailed is 28P01 with the role's name, also for a message
// above MaxClientMessage (then with ErrTooLong); ErrOutOfOrder is the caller's mistake. After any error the exchange is over.
func (s *Server) Step(body []byte) (reply []byte, done bool, err error) {
	if len(body) > MaxClientMessage {
		s.state = serverEnded
		return nil, false, fmt.Errorf("read SASL response of %d bytes: %w: %w", len(body), ErrTooLong, ErrAuthenticationFailed)
	}
	state := s.state
	s.state = serverEnded // every way out of here but the good ones ends the exchange
	switch state {
	case serverWantsMechanism:
		reply, err = s.initial(body)
		return reply, false, err
	case serverWantsFirst:
		reply, err = s.clientFirst(body)
		return reply, false, err
	case serverWantsFinal:
		reply, err = s.clientFinal(body)
		return reply, err == nil, err
	default:
		return nil, false, ErrOutOfOrder
	}
}

// ClientKey returns a copy of the key that the client proved to have; ok is false before the exchange is done.
func (s *Server) ClientKey() (key ClientKey, ok bool) { return s.key.Clone(), s.key.held != nil }

// Wipe overwrites the recovered key. The verifier is the caller's to wipe.
func (s *Server) Wipe() {
	s.key.Wipe()
	s.key = ClientKey{}
}

// String names the mechanism only.
func (s Server) String() string { return "SCRAM-SHA-256 server" }

// Format writes String for every verb.
func (s Server) Format(f fmt.State, _ rune) { writeRedacted(f, s.String()) }

func (s *Server) initial(body []byte) ([]byte, error) {
	mechanism, rest, err := cutMechanism(body)
	if err != nil {
		return nil, err
	}
	if mechanism != MechanismPlain {
		return nil, violation("client selected an invalid SASL authentication mechanism", "")
	}
	data, err := cutInitialData(rest)
	if err != nil {
		return nil, err
	}
	if data == nil { // no initial response: an empty challenge asks for it
		s.state = serverWantsFirst
		return appendAuthRequest(nil, authSASLContinue), nil
	}
	return s.clientFirst(data)
}

func (s *Server) clientFirst(msg []byte) ([]byte, error) {
	f, err := parseClientFirst(msg, false)
	if err != nil {
		return nil, err
	}
	var raw [nonceLength]byte
	if _, err := io.ReadFull(s.random, raw[:]); err != nil {
		return nil, fmt.Errorf("make server nonce: %w", err)
	}
	s.flag = f.flag
	s.bare = bytes.Clone(f.bare)
	s.nonce = base64.StdEncoding.AppendEncode(bytes.Clone(f.nonce), raw[:])
	s.first = appendServerFirst(nil, s.nonce, s.verifier)
	s.state = serverWantsFinal
	return append(appendAuthRequest(nil, authSASLContinue), s.first...), nil
}

func (s *Server) clientFinal(msg []byte) ([]byte, error) {
	f, err := parseClientFinal(msg)
	if err != nil {
		return nil, err
	}
	defer clear(f.proof[:])
	want := bindingNone
	if s.flag == 'y' {
		want = bindingUnsupported
	}
	if string(f.binding) != want {
		return nil, violation("unexpected SCRAM channel-binding attribute in client-final-message", "")
	}
	if !bytes.Equal(f.nonce, s.nonce) {
		return nil, violation("invalid SCRAM response", "Nonce does not match.")
	}
	// The proof is checked in a mock exchange too, so that both take the same time.
	key, fits := unmask(s.verifier, &f.proof, s.bare, s.first, f.without)
	if !fits || s.doomed {
		key.Wipe()
		return nil, ErrAuthenticationFailed
	}
	s.key = key
	signature := sign(s.verifier.ServerKey, s.bare, s.first, f.without)
	reply := append(appendAuthRequest(nil, authSASLFinal), "v="...)
	return base64.StdEncoding.AppendEncode(reply, signature[:]), nil
}

func appendServerFirst(dst, nonce []byte, v Verifier) []byte {
	dst = append(dst, "r="...)
	dst = append(dst, nonce...)
	dst = append(dst, ",s="...)
	dst = base64.StdEncoding.AppendEncode(dst, v.Salt)
	dst = append(dst, ",i="...)
	return strconv.AppendInt(dst, int64(v.Iterations), 10)
}
