package proxy

import (
	"bytes"
	"encoding/binary"
)

// bound ends the names of the SASL mechanisms that bind to a TLS channel.
var bound = []byte("-PLUS")

// offerInClear is what a client in clear is told of a server's AuthenticationSASL: the same without the mechanisms that bind to a TLS channel. A server
// whose connection with the proxy is encrypted offers them, and libpq takes that offer in clear for an attack ("server offered
// SCRAM-SHA-256-PLUS authentication over a non-SSL connection", pg_SASL_init in fe-auth.c). The server accepts the client's "I cannot bind".
func offerInClear(frame []byte) []byte {
	const list = headerLength + 4
	kept, rest, mechanisms := bytes.Clone(frame[:list]), frame[list:], 0
	for len(rest) > 0 && rest[0] != 0 {
		end := bytes.IndexByte(rest, 0)
		if end < 0 {
			return frame // the client judges what makes no sense
		}
		if !bytes.HasSuffix(rest[:end], bound) {
			kept = append(kept, rest[:end+1]...)
			mechanisms++
		}
		rest = rest[end+1:]
	}
	if mechanisms == 0 {
		return frame
	}
	kept = append(kept, rest...)
	binary.BigEndian.PutUint32(kept[1:], uint32(len(kept)-1))
	return kept
}
