package proxy

import (
	"encoding/binary"
	"iter"
)

// authenticateAgain answers one authentication request in the client's place. done means AuthenticationOk.
func (x *exchange) authenticateAgain(frame []byte) (done bool, err error) {
	reply, done, err := x.again.step(frame)
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
