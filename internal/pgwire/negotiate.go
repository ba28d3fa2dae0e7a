package pgwire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// protocolOptionPrefix marks a startup parameter that is an option of the protocol and not of the session.
const protocolOptionPrefix = "_pq_."

// maxNegotiatedOptions bounds what is read from a server's NegotiateProtocolVersion: it can only name what was sent.
const maxNegotiatedOptions = MaxStartupPacketLength / 2

// NegotiateProtocolVersion is the answer to a startup packet that asks for a later minor version or for unknown protocol options. It comes
// before any authentication request, and the client goes on with what it offers.
type NegotiateProtocolVersion struct {
	// Version is the full version that will be spoken. (libpq takes a bare minor number for a downgrade to before 3.0.)
	Version Version
	// Unrecognized are the names of the options that were not understood.
	Unrecognized []string
}

// ErrNegotiation is returned for a NegotiateProtocolVersion that cannot be right.
var ErrNegotiation = errors.New("malformed protocol negotiation")

// Negotiation says what the proxy itself answers to the packet and what it sends to the server in its place. A client that asks for 3.0 or
// 3.2 without protocol options gets no answer of the proxy (reply is nil) and replay is the packet as it came. Otherwise replay has the
// version lowered to one that is spoken and the options taken out; the rest stands as it came, in the same order.
func (s *Startup) Negotiation() (reply *NegotiateProtocolVersion, replay []byte) {
	var options []string
	for _, p := range s.Params {
		if strings.HasPrefix(p.Name, protocolOptionPrefix) {
			options = append(options, p.Name)
		}
	}
	speak := s.Version
	switch {
	case speak > Version32:
		speak = Version32
	case speak != Version30 && speak != Version32:
		speak = Version30 // 3.1 was never released
	}
	if speak == s.Version && len(options) == 0 {
		return nil, s.Raw
	}
	replay = append(make([]byte, 0, len(s.Raw)), s.Raw[:8]...)
	binary.BigEndian.PutUint32(replay[4:], uint32(speak))
	for _, p := range s.Params {
		if !strings.HasPrefix(p.Name, protocolOptionPrefix) {
			replay = append(append(append(append(replay, p.Name...), 0), p.Value...), 0)
		}
	}
	replay = append(replay, 0)
	binary.BigEndian.PutUint32(replay, uint32(len(replay)))
	return &NegotiateProtocolVersion{Version: speak, Unrecognized: options}, replay
}

// Merge returns the one answer that a client gets when both the proxy (n, may be nil) and the server (server, may be nil) have negotiated:
// the lower version, and every option that one of them did not know. Nil when neither has.
func (n *NegotiateProtocolVersion) Merge(server *NegotiateProtocolVersion) *NegotiateProtocolVersion {
	if n == nil {
		return server
	}
	if server == nil {
		return n
	}
	m := &NegotiateProtocolVersion{Version: min(n.Version, server.Version), Unrecognized: slices.Clone(n.Unrecognized)}
	for _, o := range server.Unrecognized {
		if !slices.Contains(m.Unrecognized, o) {
			m.Unrecognized = append(m.Unrecognized, o)
		}
	}
	return m
}

// Append appends the message ('v').
func (n *NegotiateProtocolVersion) Append(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, 'v', 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(n.Version))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(n.Unrecognized)))
	for _, o := range n.Unrecognized {
		dst = append(append(dst, o...), 0)
	}
	binary.BigEndian.PutUint32(dst[start+1:], uint32(len(dst)-start-1))
	return dst
}

// ParseNegotiateProtocolVersion parses the body of a server's message.
func ParseNegotiateProtocolVersion(body []byte) (*NegotiateProtocolVersion, error) {
	if len(body) < 8 {
		return nil, fmt.Errorf("parse negotiation of %d bytes: %w", len(body), ErrNegotiation)
	}
	n := &NegotiateProtocolVersion{Version: Version(binary.BigEndian.Uint32(body))}
	count := binary.BigEndian.Uint32(body[4:])
	if n.Version.Major() != 3 || count > maxNegotiatedOptions {
		return nil, fmt.Errorf("parse negotiation of version %s with %d options: %w", n.Version, count, ErrNegotiation)
	}
	rest := body[8:]
	for range count {
		name, after, ok := cutString(rest)
		if !ok {
			return nil, fmt.Errorf("parse negotiation: %d options promised, %d there: %w", count, len(n.Unrecognized), ErrNegotiation)
		}
		n.Unrecognized = append(n.Unrecognized, name)
		rest = after
	}
	if len(rest) != 0 {
		return nil, fmt.Errorf("parse negotiation: %d bytes left over: %w", len(rest), ErrNegotiation)
	}
	return n, nil
}
