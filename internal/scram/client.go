package scram

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
)

type clientState uint8

const (
	clientWantsOffer clientState = iota
	clientWantsFirst
	clientWantsFinal
	clientWantsOK
	clientDone
	clientFailed
)

// Client is one login at a PostgreSQL server with a role's ClientKey in place of its password.
//
//	for each 'R': reply, done, err := c.Step(body); on err close; send reply, if there is one, as 'p'; stop when done
//
// The login is done with AuthenticationOk, and only if the server has proved before that it knows the verifier. The Client holds the
// caller's key and verifier without copying them: they must not be wiped while it is in use. A Client belongs to one goroutine.
type Client struct {
	key      ClientKey
	verifier Verifier
	// binding is the tls-server-end-point hash of the server's certificate; nil means no channel binding.
	binding []byte
	state   clientState
	random  io.Reader
	// header is the gs2 header, bare and first are the parts of the AuthMessage, signature is what the server must show.
	header, bare, first []byte
	nonce               []byte
	signature           [KeyLength]byte
}

// NewClient prepares a login with the key and the verifier that it belongs to. When binding is not nil, it is the server certificate's
// hash from ServerEndPoint, and the login uses SCRAM-SHA-256-PLUS or fails; without it the login says that it does not bind
// (gs2 'n'), which PostgreSQL accepts over TLS as well.
// It returns ErrKeyMismatch when key is not that verifier's, also when it was wiped.
func NewClient(key ClientKey, v Verifier, binding []byte) (*Client, error) {
	if err := v.Validate(); err != nil {
		return nil, fmt.Errorf("prepare SCRAM login: %w", err)
	}
	if !key.Matches(v) {
		return nil, fmt.Errorf("prepare SCRAM login: %w", ErrKeyMismatch)
	}
	if binding != nil && (len(binding) == 0 || len(binding) > maxBindingLength) {
		return nil, fmt.Errorf("prepare SCRAM login: certificate hash of %d bytes: %w", len(binding), ErrNoBindingHash)
	}
	return &Client{key: key, verifier: v, binding: binding, random: rand.Reader}, nil
}

// Step takes the body of an 'R' message and returns the body of the 'p' message that answers it, nil when there is none to send.
//
// Errors: ErrNotSCRAM when the server asks for anything else, before a byte was sent; ErrNoChannelBinding; ErrStaleVerifier when the role's
// password was changed (nothing was proved to the server); ErrServerUnproven when the server does not know the verifier; ErrMalformed,
// ErrTooLong and ErrOutOfOrder for a server's nonsense, never an *ExchangeError. After any error the login is over.
func (c *Client) Step(body []byte) (reply []byte, done bool, err error) {
	state := c.state
	c.state = clientFailed // every way out of here but the good ones ends the login
	code, data, err := authRequest(body)
	if err != nil {
		return nil, false, err
	}
	switch {
	case state == clientWantsOffer && code == authSASL:
		reply, err = c.offer(data)
	case state == clientWantsOffer && code == authOK:
		err = fmt.Errorf("log in: server let us in without authentication: %w", ErrServerUnproven)
	case state == clientWantsOffer:
		err = fmt.Errorf("log in: authentication request %d: %w", code, ErrNotSCRAM)
	case state == clientWantsFirst && code == authSASLContinue:
		reply, err = c.serverFirst(data)
	case state == clientWantsFinal && code == authSASLFinal:
		err = c.serverFinal(data)
	case (state == clientWantsFirst || state == clientWantsFinal) && code == authOK:
		err = fmt.Errorf("log in: server ended the exchange early: %w", ErrServerUnproven)
	case state == clientWantsOK && code == authOK:
		c.state = clientDone
		return nil, true, nil
	default:
		err = fmt.Errorf("log in: authentication request %d: %w", code, ErrOutOfOrder)
	}
	return reply, false, serverFault(err)
}

// serverFault takes the words out of an ExchangeError: they are what a server says to a client, and here the server itself is at fault.
func serverFault(err error) error {
	var e *ExchangeError
	if errors.As(err, &e) {
		return fmt.Errorf("log in: read the server's message: %s: %w", e.Detail, ErrMalformed)
	}
	return err
}

// String names the mechanism only.
func (c Client) String() string { return "SCRAM-SHA-256 client" }

// Format writes String for every verb.
func (c Client) Format(f fmt.State, _ rune) { writeRedacted(f, c.String()) }

func (c *Client) offer(data []byte) ([]byte, error) {
	names, err := parseMechanisms(data)
	if err != nil {
		return nil, err
	}
	mechanism := MechanismPlain
	c.header = []byte("n,,")
	if c.binding != nil {
		if !offers(names, MechanismPlus) {
			return nil, fmt.Errorf("log in: %w", ErrNoChannelBinding)
		}
		mechanism = MechanismPlus
		c.header = []byte("p=" + bindingType + ",,")
	} else if !offers(names, MechanismPlain) {
		return nil, fmt.Errorf("log in: %w", ErrNotSCRAM)
	}
	var raw [nonceLength]byte
	if _, err := io.ReadFull(c.random, raw[:]); err != nil {
		return nil, fmt.Errorf("make client nonce: %w", err)
	}
	c.nonce = base64.StdEncoding.AppendEncode(nil, raw[:])
	c.bare = append([]byte("n=,r="), c.nonce...)
	c.state = clientWantsFirst
	return appendInitialResponse(nil, mechanism, append(bytes.Clone(c.header), c.bare...)), nil
}

func (c *Client) serverFirst(msg []byte) ([]byte, error) {
	f, err := parseServerFirst(msg)
	if err != nil {
		return nil, err
	}
	// A nonce that does not extend ours is a replay of an exchange that someone recorded.
	if len(f.nonce) <= len(c.nonce) || !bytes.HasPrefix(f.nonce, c.nonce) {
		return nil, malformed("Server nonce does not extend the client's.")
	}
	if !c.verifier.shows(f) {
		return nil, fmt.Errorf("log in: %w", ErrStaleVerifier)
	}
	c.first = bytes.Clone(msg)
	without := append([]byte("c="), c.encodedBinding()...)
	without = append(without, ",r="...)
	without = append(without, f.nonce...)
	proof := mask(c.key, c.verifier, c.bare, c.first, without)
	defer clear(proof[:])
	c.signature = sign(c.verifier.ServerKey, c.bare, c.first, without)
	c.state = clientWantsFinal
	return base64.StdEncoding.AppendEncode(append(without, ",p="...), proof[:]), nil
}

func (c *Client) serverFinal(msg []byte) error {
	signature, err := parseServerFinal(msg)
	if err != nil {
		return err
	}
	if !equalKeys(&signature, &c.signature) {
		return fmt.Errorf("log in: %w", ErrServerUnproven)
	}
	c.state = clientWantsOK
	return nil
}

// encodedBinding is base64 of the gs2 header followed by the channel binding data.
func (c *Client) encodedBinding() []byte {
	return base64.StdEncoding.AppendEncode(nil, append(bytes.Clone(c.header), c.binding...))
}
