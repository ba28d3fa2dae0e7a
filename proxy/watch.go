package proxy

import (
	"bytes"
	"crypto/subtle"
	"encoding/binary"

	"github.com/pgtether/pgtether/internal/scram"
)

// authMethod is how a role was let in by its server.
type authMethod uint8

const (
	// methodUnknown: nothing was asked yet.
	methodUnknown authMethod = iota
	// methodTrust: the server asked for nothing. Whatever else it went by (the address, the proxy's certificate) is the same at the next login.
	methodTrust
	methodPassword
	methodMD5
	methodSCRAM
	// methodOther cannot be repeated by the proxy: GSSAPI, SSPI, an exchange that could not be followed.
	methodOther
)

// watch looks on while a login's authentication is relayed, and keeps what a later login of the same role can be made from. It changes nothing of
// the exchange and cannot fail: what it cannot follow becomes methodOther.
type watch struct {
	method authMethod
	// blind says that there is no source of verifiers, so that an exchange that is of no use without one is not kept.
	blind bool
	// settled says that the one answer of methodPassword or methodMD5 was seen.
	settled bool
	salt    [4]byte
	// answer is the password, or the answer to an MD5 salt.
	answer   secret
	observer *scram.Observer
	// key and verifier are set where the proxy itself answered SCRAM.
	key      scram.ClientKey
	verifier *scram.Verifier
}

// request takes an AuthenticationRequest of the server's: a whole frame of at least headerLength+4 bytes.
func (w *watch) request(frame []byte) {
	body := frame[headerLength:]
	code := binary.BigEndian.Uint32(body)
	switch {
	case w.method == methodUnknown:
		w.begin(code, body)
	case w.method == methodSCRAM: // the observer knows what belongs to its exchange
	case w.method == methodTrust, w.method == methodOther, code == authOK && w.settled:
	default:
		w.lose()
	}
	if w.observer != nil {
		w.observer.Server(body)
	}
}

// begin takes the first request, which says what is asked for.
func (w *watch) begin(code uint32, body []byte) {
	switch {
	case code == authOK:
		w.method = methodTrust
	case code == authCleartext:
		w.method = methodPassword
	case code == authMD5 && len(body) == 4+len(w.salt):
		w.method = methodMD5
		w.salt = [4]byte(body[4:])
	case code == authSASL:
		w.method = methodSCRAM
		if !w.blind {
			w.observer = new(scram.Observer)
		}
	default:
		w.method = methodOther
	}
}

// answered takes the client's answer after it was sent on, and may take the slice over.
func (w *watch) answered(frame []byte) {
	switch {
	case len(frame) < headerLength || frame[0] != 'p':
		w.lose()
	case w.observer != nil:
		w.observer.Client(frame[headerLength:])
	case w.method != methodPassword && w.method != methodMD5:
	case w.settled:
		w.lose()
	case w.method == methodMD5 && w.blind:
		w.settled = true
	default:
		body := frame[headerLength:]
		if end := bytes.IndexByte(body, 0); end < 0 || end != len(body)-1 { // one text with its end, and nothing behind it
			clear(body)
			w.lose()
			return
		}
		w.settled = true
		w.answer = holdSecret(body[: len(body)-1 : len(body)-1])
	}
}

// proved is called where the proxy answered SCRAM itself: the client has shown the key of the role's verifier. The key is taken over.
func (w *watch) proved(key scram.ClientKey, v scram.Verifier) {
	w.wipe()
	v = v.Clone()
	w.method, w.key, w.verifier = methodSCRAM, key, &v
}

// lose gives the exchange up.
func (w *watch) lose() {
	w.wipe()
	w.method = methodOther
}

// close is called with AuthenticationOk: it settles what the login was.
func (w *watch) close() {
	if w.method == methodSCRAM && w.verifier == nil && w.observer != nil && !w.observer.Complete() {
		w.lose()
	}
}

// challenge names what the server has shown of its verifier. Only for methodSCRAM, after close, and not when blind.
func (w *watch) challenge() [32]byte {
	if w.verifier != nil {
		return w.verifier.Challenge()
	}
	name, _ := w.observer.Challenge()
	return name
}

// proves reports whether the client has shown the key that belongs to the verifier. As challenge.
func (w *watch) proves(v scram.Verifier) bool {
	if w.verifier != nil {
		return w.key.Matches(v)
	}
	key, err := w.observer.ClientKey(v)
	key.Wipe()
	return err == nil
}

// answers reports whether the answer to the MD5 salt was made from the hash.
func (w *watch) answers(hash secret) bool {
	return subtle.ConstantTimeCompare(appendMD5Answer(nil, hash, w.salt), w.answer.bytes()) == 1
}

// wipe forgets the exchange.
func (w *watch) wipe() {
	w.answer.wipe()
	w.key.Wipe()
	if w.observer != nil {
		w.observer.Wipe()
	}
	if w.verifier != nil {
		w.verifier.Wipe()
	}
	*w = watch{method: w.method, blind: w.blind}
}
