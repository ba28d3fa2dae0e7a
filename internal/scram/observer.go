package scram

import (
	"bytes"
	"crypto/sha256"
	"fmt"
)

type observerState uint8

const (
	observerWantsOffer observerState = iota
	observerWantsInitial
	observerWantsChallenge // the client sent no initial response
	observerWantsClientFirst
	observerWantsServerFirst
	observerWantsClientFinal
	observerWantsServerFinal
	observerWantsOK
	observerComplete
	observerLost
)

// Observer watches a login that is relayed untouched. Fed with the bodies of every 'R' message of the server and every 'p' message of
// the client, in order, it can afterwards recover the ClientKey with the role's verifier. PostgreSQL alone decides who gets in; an exchange
// that the Observer cannot follow merely yields no key.
//
// It keeps at most a few copies of bounded messages, never the caller's slices. The zero value is ready. An Observer belongs to one
// goroutine.
type Observer struct {
	state observerState
	// why says how an exchange was lost.
	why  error
	plus bool
	// bare, first and without are the parts of the AuthMessage; they are set as the messages pass.
	bare, first, without []byte
	nonce                []byte
	challenge            serverFirst
	proof                [KeyLength]byte
	signature            [KeyLength]byte
}

// Server takes the body of an AuthenticationRequest, code included. It never fails and never blocks.
func (o *Observer) Server(body []byte) {
	if o.state == observerLost {
		return
	}
	code, data, err := authRequest(body)
	if err != nil {
		o.lose(err)
		return
	}
	switch {
	case o.state == observerWantsOffer && code == authSASL:
		names, err := parseMechanisms(data)
		switch {
		case err != nil:
			o.lose(err)
		case !offers(names, MechanismPlain) && !offers(names, MechanismPlus):
			o.lose(ErrNotSCRAM)
		default:
			o.state = observerWantsInitial
		}
	case o.state == observerWantsOffer:
		o.lose(ErrNotSCRAM)
	case o.state == observerWantsChallenge && code == authSASLContinue && len(data) == 0:
		o.state = observerWantsClientFirst
	case o.state == observerWantsServerFirst && code == authSASLContinue:
		o.serverFirst(data)
	case o.state == observerWantsServerFinal && code == authSASLFinal:
		if o.signature, err = parseServerFinal(data); err != nil {
			o.lose(err)
			return
		}
		o.state = observerWantsOK
	case o.state == observerWantsOK && code == authOK:
		o.state = observerComplete
	default:
		o.lose(ErrOutOfOrder)
	}
}

// Client takes the body of a SASLInitialResponse or SASLResponse. It never fails and never blocks.
func (o *Observer) Client(body []byte) {
	if o.state == observerLost {
		return
	}
	if len(body) > MaxClientMessage {
		o.lose(ErrTooLong)
		return
	}
	switch o.state {
	case observerWantsInitial:
		o.initial(body)
	case observerWantsClientFirst:
		o.clientFirst(body)
	case observerWantsClientFinal:
		o.clientFinal(body)
	default:
		o.lose(ErrOutOfOrder)
	}
}

// Complete says whether an exchange was seen from the offer to AuthenticationOk, so that ClientKey can be asked.
func (o *Observer) Complete() bool { return o.state == observerComplete }

// Challenge names the salt and iterations that the server showed, as Verifier.Challenge does: two logins of a role with the same were checked against
// the same verifier. ok is false until Complete.
func (o *Observer) Challenge() (name [sha256.Size]byte, ok bool) {
	if o.state != observerComplete {
		return name, false
	}
	return nameChallenge(o.challenge.salt, o.challenge.iterations), true
}

// ClientKey recovers the key that the client used, with the verifier of its role. It may be asked again with another verifier, until Wipe.
//
// Errors: ErrIncomplete before AuthenticationOk; ErrNotSCRAM, ErrMalformed, ErrTooLong, ErrOutOfOrder when the exchange could not be
// followed; ErrStaleVerifier when the server showed another salt or iteration count; ErrKeyMismatch when the proof does not belong to the
// verifier; ErrServerUnproven when the server's signature does not.
func (o *Observer) ClientKey(v Verifier) (ClientKey, error) {
	if err := v.Validate(); err != nil {
		return ClientKey{}, fmt.Errorf("recover client key: %w", err)
	}
	switch {
	case o.state == observerLost:
		return ClientKey{}, fmt.Errorf("recover client key: %w", o.why)
	case o.state != observerComplete:
		return ClientKey{}, fmt.Errorf("recover client key: %w", ErrIncomplete)
	case !v.shows(o.challenge):
		return ClientKey{}, fmt.Errorf("recover client key: %w", ErrStaleVerifier)
	}
	if want := sign(v.ServerKey, o.bare, o.first, o.without); !equalKeys(&want, &o.signature) {
		return ClientKey{}, fmt.Errorf("recover client key: %w", ErrServerUnproven)
	}
	key, fits := unmask(v, &o.proof, o.bare, o.first, o.without)
	if !fits {
		return ClientKey{}, fmt.Errorf("recover client key: %w", ErrKeyMismatch)
	}
	return key, nil
}

// Wipe forgets the exchange: with the verifier, what is kept is as good as the key. The Observer is then as new.
func (o *Observer) Wipe() {
	clear(o.proof[:])
	clear(o.bare)
	clear(o.first)
	clear(o.without)
	*o = Observer{}
}

// String names the mechanism only.
func (o Observer) String() string { return "SCRAM-SHA-256 observer" }

// Format writes String for every verb.
func (o Observer) Format(f fmt.State, _ rune) { writeRedacted(f, o.String()) }

// lose gives the exchange up; the first reason stays.
func (o *Observer) lose(why error) {
	o.Wipe()
	o.state, o.why = observerLost, why
}

func (o *Observer) initial(body []byte) {
	mechanism, rest, err := cutMechanism(body)
	switch {
	case err != nil:
		o.lose(err)
		return
	case mechanism == MechanismPlus:
		o.plus = true
	case mechanism != MechanismPlain:
		o.lose(ErrNotSCRAM)
		return
	}
	data, err := cutInitialData(rest)
	switch {
	case err != nil:
		o.lose(err)
	case data == nil:
		o.state = observerWantsChallenge
	default:
		o.clientFirst(data)
	}
}

func (o *Observer) clientFirst(msg []byte) {
	f, err := parseClientFirst(msg, o.plus)
	if err != nil {
		o.lose(err)
		return
	}
	o.bare = bytes.Clone(f.bare)
	o.nonce = bytes.Clone(f.nonce)
	o.state = observerWantsServerFirst
}

func (o *Observer) serverFirst(msg []byte) {
	o.first = bytes.Clone(msg)
	f, err := parseServerFirst(o.first)
	if err != nil {
		o.lose(err)
		return
	}
	if !bytes.HasPrefix(f.nonce, o.nonce) {
		o.lose(ErrOutOfOrder)
		return
	}
	o.challenge = f
	o.state = observerWantsClientFinal
}

func (o *Observer) clientFinal(msg []byte) {
	f, err := parseClientFinal(msg)
	if err != nil {
		o.lose(err)
		return
	}
	defer clear(f.proof[:])
	if !bytes.Equal(f.nonce, o.challenge.nonce) {
		o.lose(ErrOutOfOrder)
		return
	}
	o.without = bytes.Clone(f.without)
	o.proof = f.proof
	o.state = observerWantsServerFinal
}
