package proxy

import (
	"encoding/binary"
	"iter"
	"slices"

	"github.com/pgtether/pgtether/internal/pgwire"
)

// admitted is a login whose client has authenticated itself and awaits no more than to be let in, while the server that has let it in turned out not to
// be the writer. It waits for the writer as one does that has heard nothing yet; there the proxy logs in in its place. Only a key of SCRAM does for that:
// it shows nothing to a server that does not know the same password.
type admitted struct {
	credential *credential
	// version is the one that the client was told.
	version pgwire.Version
	// unsaid is the first server's last word of SASL, when the client has not heard it.
	unsaid []byte
}

// enter prepares an exchange for the login. The function that is returned ends it.
func (a *admitted) enter(x *exchange) (end func()) {
	x.again = a.credential.begin(x.b.isEncrypted())
	x.version, x.negotiated, x.withheld = a.version, nil, slices.Clone(a.unsaid)
	return x.again.end
}

// isLetIn reports whether the server has said AuthenticationOk.
func (x *exchange) isLetIn() bool { return len(x.ready.messages) > 0 }

// letIn keeps the server's AuthenticationOk until the client may see it.
func (x *exchange) letIn(frame []byte) { x.ready.messages = append(x.in.said[:0], frame...) }

// mayBeginAgain reports whether a login that failed may wait for another writer: its client has heard nothing, or has authenticated itself and the
// proxy knows its key (then s.admitted is set). It is not called on an event loop.
func (s *session) mayBeginAgain(x *exchange, err error) bool {
	switch {
	case s.admitted != nil, !x.spoken:
		return true
	case !isBackends(err) && x.b.cut.Err() == nil, !x.isLetIn() && x.seen.verifier == nil, s.cfg.Continuity.Mode == MoveOff:
		return false
	}
	s.learn(x)
	if c, why := s.credential(); why != "" || c.method != methodSCRAM {
		return false
	}
	s.admitted = &admitted{credential: s.learned, version: x.version, unsaid: x.withheld}
	return true
}

// authenticateAgain answers one authentication request in the client's place. done means AuthenticationOk.
func (x *exchange) authenticateAgain(frame []byte) (done bool, err error) {
	reply, done, err := x.again.step(frame)
	if done {
		x.letIn(frame)
	}
	if err != nil || reply == nil {
		return done, err
	}
	defer clear(reply)
	return done, x.send(reply)
}

// told returns the parameters that the server has reported during the login.
func (x *exchange) told() map[string]string {
	told := map[string]string{}
	for report := range reportsIn(x.ready.messages) {
		if name, value, ok := cutParameter(report[headerLength:]); ok {
			told[string(name)] = string(value)
		}
	}
	return told
}

// reportsIn goes through the ParameterStatus messages among a server's, of whatever length; it ends at what is no whole message.
func reportsIn(words []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(words) >= headerLength {
			length := int64(binary.BigEndian.Uint32(words[1:])) + 1
			if length < headerLength || length > int64(len(words)) {
				return
			}
			if words[0] == 'S' && !yield(words[:length]) {
				return
			}
			words = words[length:]
		}
	}
}
