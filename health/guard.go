package health

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// What a server may make a probe hold or compute. The largest honest message is a timeline history (about 50 bytes for each
// promotion in the life of the cluster).
const (
	maxMessage       = 256 << 10
	maxRoundBytes    = 1 << 20
	maxAuthMessage   = 8 << 10
	maxStartupError  = 1 << 10
	maxIterations    = 1_000_000
	costPerIteration = time.Microsecond // on the slow side: it must not make a round late
	// maxPlausibleError is libpq's limit: an 'E' that claims a longer body is an error in the format of protocol 2, which PostgreSQL
	// still sends when it cannot fork a backend (report_fork_failure_to_client).
	maxPlausibleError = 30_000
)

// guard reads what a server sends on behalf of the protocol library, and lets nothing through that could hurt: messages over the
// limits, SCRAM parameters that would burn CPU, bytes that are not the protocol. On the way it notes whether the server has answered.
type guard struct {
	src      io.Reader
	deadline time.Time

	// answered is true once a well-formed message of this round was read to its end.
	answered bool
	// greeted is true once any message was read: only certain ones may be the first.
	greeted bool
	budget  int

	head     [5]byte
	headLen  int
	bodyLeft int
	auth     []byte // body of an authentication request, complete or not
	early    []byte // text of an error in the format of protocol 2
	err      error
}

// begin starts a round.
func (g *guard) begin(deadline time.Time) {
	g.answered, g.budget, g.deadline = false, maxRoundBytes, deadline
}

// Read implements io.Reader for pgproto3.Frontend. A message that violates a limit is never returned in full.
func (g *guard) Read(p []byte) (int, error) {
	if g.err != nil {
		return 0, g.err
	}
	n, err := g.src.Read(p)
	g.observe(p[:n])
	for g.early != nil && g.err == nil {
		// The library does not know this format: it gets the error, never the bytes.
		if err != nil {
			g.endEarly(g.early) // the server closes after such an error; its zero byte may be missing
			break
		}
		n, err = g.src.Read(p)
		g.observe(p[:n])
	}
	if g.err != nil {
		return 0, g.err
	}
	return n, err
}

// observe follows the framing of the bytes and sets g.err at the first violation.
func (g *guard) observe(b []byte) {
	if g.budget -= len(b); g.budget < 0 {
		g.err = violated("server sends more than %d bytes in one round", maxRoundBytes)
		return
	}
	for len(b) > 0 && g.err == nil {
		switch {
		case g.early != nil:
			g.collectEarly(b)
			return
		case g.headLen < len(g.head):
			n := copy(g.head[g.headLen:], b)
			g.headLen += n
			b = b[n:]
			if g.headLen == len(g.head) {
				g.begins()
			}
		default:
			n := min(g.bodyLeft, len(b))
			if g.head[0] == 'R' {
				g.auth = append(g.auth, b[:n]...)
			}
			g.bodyLeft -= n
			b = b[n:]
			if g.bodyLeft == 0 {
				g.ends()
			}
		}
	}
}

// begins checks a header.
func (g *guard) begins() {
	kind, length := g.head[0], binary.BigEndian.Uint32(g.head[1:])
	switch {
	case !g.greeted && kind == 'E' && length > maxPlausibleError:
		g.early = append([]byte{}, g.head[1:]...)
		return
	case !g.greeted && (strings.IndexByte("RENv", kind) < 0 || length < 4 || length > maxMessage),
		strings.IndexByte("RKSZENTDC123ntIAsvWHGdcV", kind) < 0, length < 4:
		g.err = g.foreign()
		return
	case length > maxMessage:
		g.err = violated("server sends a message of %d bytes", length)
		return
	case kind == 'R' && length > maxAuthMessage:
		g.err = violated("server sends an authentication request of %d bytes", length)
		return
	}
	g.bodyLeft = int(length) - 4
	g.auth = g.auth[:0]
	if g.bodyLeft == 0 {
		g.ends()
	}
}

// ends notes a complete message.
func (g *guard) ends() {
	g.answered, g.greeted, g.headLen = true, true, 0
	if g.head[0] != 'R' || len(g.auth) < 4 || binary.BigEndian.Uint32(g.auth) != 11 {
		return
	}
	// AuthenticationSASLContinue: r=<nonce>,s=<salt>,i=<iterations> (RFC 5802). What does not parse is refused by the library.
	for attribute := range bytes.SplitSeq(g.auth[4:], []byte{','}) {
		digits, ok := strings.CutPrefix(string(attribute), "i=")
		if !ok {
			continue
		}
		n, err := strconv.Atoi(digits)
		if err != nil || n > maxIterations || time.Duration(n)*costPerIteration > time.Until(g.deadline) {
			g.err = violated("server asks for %q SCRAM iterations, more than a probe computes", printable(digits))
		}
	}
}

// collectEarly gathers the text of an error in the old format, to its zero byte or the limit.
func (g *guard) collectEarly(b []byte) {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		g.endEarly(append(g.early, b[:i]...))
		return
	}
	if len(g.early)+len(b) > maxStartupError {
		g.err = g.foreign()
		return
	}
	g.early = append(g.early, b...)
}

// endEarly judges that text. PostgreSQL ends it with a line feed; a foreign protocol that happens to begin with an 'E' does not end so
// with a zero byte behind it or a closed connection, unless it is a line of text: that is told apart by the carriage return.
func (g *guard) endEarly(text []byte) {
	trimmed, ok := bytes.CutSuffix(text, []byte{'\n'})
	if !ok || bytes.ContainsAny(trimmed, "\r\n") {
		g.err = g.foreign()
		return
	}
	g.answered = true
	g.err = wireError{text: string(trimmed)}
}

// foreign is the error for bytes that are not the protocol. It shows the first ones: they usually tell what listens there.
func (g *guard) foreign() error {
	return violated("what answers does not speak PostgreSQL's protocol: %q", g.head)
}

func violated(format string, args ...any) error { return wireError{text: fmt.Sprintf(format, args...)} }
