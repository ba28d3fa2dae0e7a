package abuse

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// side is one way to a server: straight, or through pgtether.
type side struct {
	name, addr string
	// tls is how a script encrypts on this side.
	tls *tls.Config
	// victim is the key of a session that is open on this side while scripts run, spent that of one that has ended.
	victim, spent key
}

// peer is a client that does one step after the other and writes down what it hears.
type peer struct {
	*side
	raw   *net.TCPConn
	conn  net.Conn
	ahead []byte // read before its turn
	heard []string
	over  bool // the other side, or this one, has ended the connection
	key   key  // the session's own
}

// step is one thing that a client does.
type step func(*peer)

// perform runs a script and returns what came back, a word per message, and last how it ended: "closed", or "hangs" when it had not come to an
// end after the time that a hang is given.
func (s *side) perform(steps []step) string {
	p, err := s.connect()
	if err != nil {
		return err.Error()
	}
	defer p.raw.Close()
	for _, do := range steps {
		if p.over {
			break
		}
		do(p)
	}
	for !p.over {
		p.message()
	}
	return p.transcript()
}

// connect returns a client that has not said anything yet.
func (s *side) connect() (*peer, error) {
	conn, err := net.DialTimeout("tcp", s.addr, patience)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	return &peer{side: s, raw: conn.(*net.TCPConn), conn: conn}, nil
}

// dial is connect for a test that cannot go on without.
func (s *side) dial(t testing.TB) *peer {
	t.Helper()
	p, err := s.connect()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// transcript joins the words, with the number of times that one came in a row.
func (p *peer) transcript() string {
	var words []string
	for i := 0; i < len(p.heard); {
		n := 1
		for i+n < len(p.heard) && p.heard[i+n] == p.heard[i] {
			n++
		}
		if words = append(words, p.heard[i]); n > 1 {
			words[len(words)-1] += "*" + strconv.Itoa(n)
		}
		i += n
	}
	return strings.Join(words, " ")
}

func (p *peer) note(word string) { p.heard = append(p.heard, word) }

// end writes down how the connection has ended.
func (p *peer) end(err error) {
	p.over = true
	if errors.Is(err, os.ErrDeadlineExceeded) {
		p.note("hangs")
		return
	}
	p.note("closed")
}

// send writes bytes. That they cannot be written is no news: what the other side had to say is still read.
func (p *peer) send(b string) { _, _ = io.WriteString(p.conn, b) }

// take reads exactly n bytes; false means that the connection has ended.
func (p *peer) take(n int) ([]byte, bool) {
	b := make([]byte, n)
	have := copy(b, p.ahead)
	p.ahead = p.ahead[have:]
	more, err := io.ReadFull(p.conn, b[have:])
	if have+more == n {
		return b, true
	}
	if have+more > 0 {
		p.note("a part")
	}
	p.end(err)
	return nil, false
}

// message reads one message and writes it down. Its type is 0 when there is none any more.
func (p *peer) message() (typ byte, body []byte) {
	head, ok := p.take(5)
	if !ok {
		return 0, nil
	}
	length := int64(binary.BigEndian.Uint32(head[1:]))
	switch {
	case head[0] == 'E' && (length > 30000 || length < 8):
		p.oldError()
		return 0, nil
	case head[0] == 0x15 && head[1] == 3:
		p.drain("an alert")
		return 0, nil
	case !strings.ContainsRune("RSKZENvTDCIAdGHcn123tsVW", rune(head[0])) || length < 4 || length > 1<<26:
		p.drain("garbage")
		return 0, nil
	}
	if body, ok = p.take(int(length - 4)); !ok {
		return 0, nil
	}
	p.write(head[0], body)
	return head[0], body
}

// oldError reads the rest of an error in the format of protocol 2: text, closed by a zero byte.
func (p *peer) oldError() {
	for {
		b, ok := p.take(1)
		if !ok {
			return
		}
		if b[0] == 0 {
			p.note("FATAL(2)")
			return
		}
	}
}

// drain reads to the end what is no message.
func (p *peer) drain(what string) {
	p.note(what)
	_, err := io.Copy(io.Discard, p.conn)
	p.end(err)
}

// write writes a message down: what a client would act on. Reports are left out: they do not depend on the input.
func (p *peer) write(typ byte, body []byte) {
	switch typ {
	case 'S':
	case 'K':
		if len(body) >= 8 {
			p.key = key{pid: binary.BigEndian.Uint32(body), secret: string(body[4:])}
		}
	case 'R':
		p.note("R" + strconv.FormatUint(number(body), 10))
	case 'Z':
		p.note("Z" + string(body))
	case 'v':
		p.note(negotiation(body))
	case 'E', 'N':
		fields := fieldsOf(body)
		p.note(fields['V'] + "/" + fields['C'])
	default:
		p.note(string(typ))
	}
}

func number(body []byte) uint64 {
	if len(body) < 4 {
		return 0
	}
	return uint64(binary.BigEndian.Uint32(body))
}

// negotiation is the version in a NegotiateProtocolVersion and the options that were not understood.
func negotiation(body []byte) string {
	if len(body) < 8 {
		return "v"
	}
	names := strings.TrimSuffix(string(body[8:]), "\x00")
	return "v" + strconv.Itoa(int(binary.BigEndian.Uint16(body))) + "." + strconv.Itoa(int(binary.BigEndian.Uint16(body[2:]))) +
		"[" + strings.ReplaceAll(names, "\x00", ",") + "]"
}

// fieldsOf splits the body of an ErrorResponse or NoticeResponse.
func fieldsOf(body []byte) map[byte]string {
	fields := map[byte]string{}
	for field := range strings.SplitSeq(string(body), "\x00") {
		if field != "" {
			fields[field[0]] = field[1:]
		}
	}
	return fields
}

// renew gives the connection its time again.
func (p *peer) renew() { _ = p.raw.SetDeadline(time.Now().Add(patience)) }
