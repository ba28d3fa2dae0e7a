package wire

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// patience ends hangs; it measures nothing.
const patience = 60 * time.Second

// Protocol versions.
const (
	version30 = 3 << 16
	version32 = 3<<16 | 2
)

// alpn is the protocol that a client has to name when it begins with TLS.
const alpn = "postgresql"

// door is one way to a server: an address and how to come in there.
type door struct {
	addr    string
	version uint32
	// encryption is nil for a client that asks for none.
	encryption *tls.Config
	// direct: the client begins with its ClientHello, and asks for nothing before that.
	direct bool
	// chopped: what the client sends arrives in pieces of a few bytes.
	chopped bool
}

// peer is one client that writes down everything its server says. One goroutine uses it.
type peer struct {
	*testing.T
	name    string
	door    door
	raw     *net.TCPConn
	conn    net.Conn
	in      *bufio.Reader
	chop    *rand.Rand
	heard   []entry
	status  byte
	pid     uint32
	secret  []byte
	version uint32
}

// entry is a line of the transcript: a message, or words of the client's own.
type entry struct {
	message
	words string
}

// connect dials, and encrypts where the door says so.
func connect(t *testing.T, name string, d door) *peer {
	t.Helper()
	p := &peer{T: t, name: name, door: d, version: d.version}
	conn, err := net.DialTimeout("tcp", d.addr, patience)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	p.raw = conn.(*net.TCPConn)
	t.Cleanup(func() { _ = p.raw.Close() })
	_ = p.raw.SetDeadline(time.Now().Add(patience))
	p.use(p.raw)
	if d.encryption != nil {
		p.encrypt()
	}
	if d.chopped {
		p.chop = rand.New(rand.NewPCG(1, uint64(len(name))))
	}
	return p
}

func (p *peer) use(c net.Conn) { p.conn, p.in = c, bufio.NewReaderSize(c, 64<<10) }

func (p *peer) encrypt() {
	p.Helper()
	if !p.door.direct {
		p.sendRaw(word(80877103))
		if answer := p.oneByte(); answer != 'S' {
			p.Fatalf("%s: answer %q to an SSLRequest", p.name, answer)
		}
	}
	c := tls.Client(p.raw, p.door.encryption)
	if err := c.Handshake(); err != nil {
		p.Fatalf("%s: handshake: %v", p.name, err)
	}
	state := c.ConnectionState()
	p.say("TLS %x, protocol %q, certificate %x", state.Version, state.NegotiatedProtocol, state.PeerCertificates[0].Signature)
	p.use(c)
}

// say writes down what the client itself saw.
func (p *peer) say(format string, args ...any) {
	p.heard = append(p.heard, entry{words: fmt.Sprintf(format, args...)})
}

// oneByte reads an answer that is no message, and writes it down.
func (p *peer) oneByte() byte {
	p.Helper()
	b, err := p.in.ReadByte()
	if err != nil {
		p.Fatalf("%s: %v", p.name, err)
	}
	p.say("byte %q", b)
	return b
}

// word is a packet without a type that holds one number: SSLRequest and GSSENCRequest are such.
func word(code uint32) []byte { return binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, code) }

// startup is a startup packet of the peer's version with these names and values, in this order.
func startup(version uint32, params ...string) []byte {
	b := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 0}, version)
	for _, s := range params {
		b = append(append(b, s...), 0)
	}
	b = append(b, 0)
	binary.BigEndian.PutUint32(b, uint32(len(b)))
	return b
}

// sendRaw writes bytes as they are, in one write or in small pieces.
func (p *peer) sendRaw(b []byte) {
	p.Helper()
	for len(b) > 0 {
		n := len(b)
		if p.chop != nil {
			n = min(n, 1+p.chop.IntN(7), len(b))
		}
		if _, err := p.conn.Write(b[:n]); err != nil {
			p.say("write failed")
			return
		}
		b = b[n:]
		if p.chop != nil && p.chop.IntN(8) == 0 {
			time.Sleep(50 * time.Microsecond) // lets the other side read what there is
		}
	}
}

// send writes messages in one segment.
func (p *peer) send(messages ...any) {
	p.Helper()
	var b []byte
	for _, m := range messages {
		switch m := m.(type) {
		case string:
			b = encode(p.T, b, &pgproto3.Query{String: m})
		case []byte:
			b = append(b, m...)
		case pgproto3.FrontendMessage:
			b = encode(p.T, b, m)
		default:
			p.Fatalf("%T is no message", m)
		}
	}
	p.sendRaw(b)
}

func encode(t *testing.T, b []byte, m pgproto3.FrontendMessage) []byte {
	t.Helper()
	b, err := m.Encode(b)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// next reads one message and writes it down. The connection must not end.
func (p *peer) next() message {
	p.Helper()
	m, err := p.read()
	if err != nil {
		p.Fatalf("%s: %v; heard:\n%s", p.name, err, p.tail())
	}
	return m
}

func (p *peer) read() (message, error) {
	var head [5]byte
	if _, err := io.ReadFull(p.in, head[:]); err != nil {
		return message{}, err
	}
	length := binary.BigEndian.Uint32(head[1:])
	if length < 4 || length > 64<<20 {
		return message{}, fmt.Errorf("message %q of length %d", head[0], length)
	}
	m := message{head[0], make([]byte, length-4)}
	if _, err := io.ReadFull(p.in, m.body); err != nil {
		return message{}, fmt.Errorf("message %q of length %d ends early: %w", head[0], length, errors.Join(errTorn, err))
	}
	p.heard = append(p.heard, entry{message: m})
	switch {
	case m.typ == 'K' && len(m.body) >= 4:
		p.pid, p.secret = binary.BigEndian.Uint32(m.body), m.body[4:]
	case m.typ == 'Z' && len(m.body) == 1:
		p.status = m.body[0]
	}
	return m, nil
}

var errTorn = errors.New("torn message")

// until reads up to and including the first message of one of the types.
func (p *peer) until(types string) message {
	p.Helper()
	for {
		m := p.next()
		for i := range len(types) {
			if types[i] == m.typ {
				return m
			}
		}
	}
}

// ready reads n answers, each up to its ReadyForQuery.
func (p *peer) ready(n int) {
	p.Helper()
	for range n {
		p.until("Z")
	}
}

// ask sends messages and reads one answer.
func (p *peer) ask(messages ...any) {
	p.Helper()
	p.send(messages...)
	p.ready(1)
}

// end reads to the end of the connection and writes down how it came.
func (p *peer) end() {
	p.Helper()
	for {
		_, err := p.read()
		switch {
		case err == nil:
			continue
		case errors.Is(err, errTorn):
			p.say("the end came inside a message: %v", err)
		case errors.Is(err, io.EOF):
			p.say("end of file")
		case errors.Is(err, io.ErrUnexpectedEOF):
			p.say("end of file without TLS's word")
		case errors.Is(err, syscall.ECONNRESET):
			p.say("reset")
		default:
			p.say("%v", err)
		}
		return
	}
}

// closeWrite ends the peer's own direction.
func (p *peer) closeWrite() {
	p.Helper()
	if c, ok := p.conn.(*tls.Conn); ok {
		_ = c.CloseWrite()
	}
	if err := p.raw.CloseWrite(); err != nil {
		p.Fatal(err)
	}
}

func (p *peer) tail() string {
	var out string
	for _, e := range p.heard[max(0, len(p.heard)-6):] {
		out += abbreviated(e.line(names{p.pid: p.name})) + "\n"
	}
	return out
}

func (e entry) line(known names) string {
	if e.words != "" {
		return "- " + e.words
	}
	return e.render(known)
}
