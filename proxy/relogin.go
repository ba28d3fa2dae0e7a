package proxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/pgtether/pgtether/internal/scram"
)

var (
	// errCredentialGone: the key was wiped between the question for it and its use.
	errCredentialGone = errors.New("credential is gone")
	// errOtherMethod: the server asks for another way to authenticate than at the first login.
	errOtherMethod = errors.New("server asks for another way to authenticate than at the first login")
	// errLessProtected: the server asks for a password in clear and the leg to it is less protected than that of the first login.
	errLessProtected = errors.New("leg to the server is not encrypted as that of the first login was")
	// errReloginOver: the exchange has ended.
	errReloginOver = errors.New("login is over")
)

// reloginError is why the proxy cannot log in in its client's place: the key is gone, or the server does not ask for what it would answer. Another
// attempt would end in the same way.
type reloginError struct{ err error }

func (e *reloginError) Error() string { return "log in again: " + e.err.Error() }

// Unwrap returns what went wrong.
func (e *reloginError) Unwrap() error { return e.err }

// relogin is one login at a server with a credential. Its key is its own: it outlives a wipe of the credential and is wiped when the login ends,
// well or not, at the latest by end.
//
// What it says to which server: the proof of SCRAM goes only to a server that has shown the salt and iterations of the role's verifier, and the login
// counts only when that server has proved to know the verifier too. It says that it does not bind the channel (gs2 'n'), which PostgreSQL accepts over
// TLS as well. A password, and an answer to an MD5 salt, prove themselves to whoever asks: they go only over a leg that is encrypted if that of the
// first login was, and the caller encrypts it with the settings that the session has had from its beginning (the same backend.tls, the same roots),
// so that they reach nobody whom the client's own login could not have reached. Nothing at all is said to a server that asks for another method.
type relogin struct {
	method    authMethod
	sealed    bool // the first login's leg was encrypted
	encrypted bool // this one's is
	key       scram.ClientKey
	verifier  scram.Verifier
	client    *scram.Client
	secret    secret
	// answered says that the password or the MD5 answer was given.
	answered bool
	over     error
}

// begin starts a login. encrypted says that the leg to the server is TLS. The caller ends it with end.
func (c *credential) begin(encrypted bool) *relogin {
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	r := &relogin{method: c.method, sealed: c.sealed, encrypted: encrypted}
	if standing(c.standing.Load()) != stands {
		r.over = errCredentialGone
		return r
	}
	r.secret = c.secret.clone()
	if c.method == methodSCRAM {
		r.key, r.verifier = c.key.Clone(), c.verifier.Clone()
		r.client, r.over = scram.NewClient(r.key, r.verifier, nil)
	}
	return r
}

// step takes a whole AuthenticationRequest frame of the server's and returns the whole frame that answers it, nil when there is nothing to say; the
// caller clears it when it is sent. done comes with AuthenticationOk. After done or an error the login is over. An error shows no secret.
func (r *relogin) step(frame []byte) (reply []byte, done bool, err error) {
	if r.over != nil {
		return nil, false, &reloginError{r.over}
	}
	body, err := authBody(frame)
	if err == nil {
		if r.method == methodSCRAM {
			reply, done, err = r.client.Step(body)
			if reply != nil {
				reply = authFrame('p', reply)
			}
		} else {
			reply, done, err = r.plain(body)
		}
	}
	if err != nil {
		r.end()
		return nil, false, &reloginError{err}
	}
	if done {
		r.end()
	}
	return reply, done, nil
}

// authBody checks the frame of an authentication request.
func authBody(frame []byte) ([]byte, error) {
	if len(frame) < headerLength+4 || frame[0] != 'R' || uint64(binary.BigEndian.Uint32(frame[1:]))+1 != uint64(len(frame)) {
		return nil, fmt.Errorf("authentication request of %d bytes: %w", len(frame), errNonsense)
	}
	return frame[headerLength:], nil
}

// plain answers what takes one answer at most: trust, a password, MD5.
func (r *relogin) plain(body []byte) (reply []byte, done bool, err error) {
	code, rest := binary.BigEndian.Uint32(body), body[4:]
	switch {
	case code == authOK && len(rest) == 0 && (r.answered || r.method == methodTrust):
		return nil, true, nil
	case r.answered || r.method == methodTrust:
		return nil, false, fmt.Errorf("authentication request %d: %w", code, errOtherMethod)
	case code == authCleartext && r.method == methodPassword && len(rest) == 0,
		code == authMD5 && r.method == methodMD5 && len(rest) == 4:
	default:
		return nil, false, fmt.Errorf("authentication request %d: %w", code, errOtherMethod)
	}
	if r.sealed && !r.encrypted {
		return nil, false, errLessProtected
	}
	r.answered = true
	if code == authMD5 {
		return authFrame('p', append(appendMD5Answer(nil, r.secret, [4]byte(rest)), 0)), false, nil
	}
	body = append(append(make([]byte, 0, len(r.secret.bytes())+1), r.secret.bytes()...), 0)
	defer clear(body)
	return authFrame('p', body), false, nil
}

// end wipes what the login held. It may be called more than once.
func (r *relogin) end() {
	if r.over == nil {
		r.over = errReloginOver
	}
	r.key.Wipe()
	r.verifier.Wipe()
	r.secret.wipe()
	r.client = nil
}

// String returns a placeholder.
func (r *relogin) String() string { return withheld }

// Format writes the placeholder for every verb.
func (r *relogin) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, withheld) }

// LogValue returns the placeholder.
func (r *relogin) LogValue() slog.Value { return slog.StringValue(withheld) }
