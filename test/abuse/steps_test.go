package abuse

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// send sends bytes.
func send(b ...string) step { return func(p *peer) { p.send(strings.Join(b, "")) } }

// sendSlowly sends a byte at a time.
func sendSlowly(b string, every time.Duration) step {
	return func(p *peer) {
		for i := range len(b) {
			if _, err := io.WriteString(p.conn, b[i:i+1]); err != nil {
				return
			}
			time.Sleep(every)
		}
	}
}

// pause lets a moment pass.
func pause(p *peer) { time.Sleep(50 * time.Millisecond) }

// arrive waits until the other side has read what was sent: a reset destroys what it has not.
func arrive(p *peer) {
	for end := time.Now().Add(patience); isUnread(p.raw) && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
}

// isUnread reports whether the kernel still holds bytes that the other side, which is on this machine, has not read.
func isUnread(conn *net.TCPConn) bool {
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return true
	}
	mine, theirs := inTable(conn.LocalAddr()), inTable(conn.RemoteAddr())
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line) // number, local, remote, state, what is queued to be sent and to be read
		if len(f) < 5 {
			continue
		}
		sent, received, _ := strings.Cut(f[4], ":")
		if f[1] == mine && f[2] == theirs && strings.Trim(sent, "0") != "" || f[1] == theirs && f[2] == mine && strings.Trim(received, "0") != "" {
			return true
		}
	}
	return false
}

// inTable is an address as /proc/net/tcp has it.
func inTable(a net.Addr) string {
	addr := a.(*net.TCPAddr)
	return fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(addr.IP.To4()), addr.Port)
}

// halfClose ends the client's side; it still listens.
func halfClose(p *peer) { _ = p.raw.CloseWrite() }

// hangUp closes the connection without listening any more.
func hangUp(p *peer) {
	_ = p.raw.Close()
	p.over = true
	p.note("gone")
}

// reset closes the connection so that the other side sees a reset.
func reset(p *peer) {
	_ = p.raw.SetLinger(0)
	hangUp(p)
}

// answer reads the one byte that answers an encryption request. An error may stand in its place. Nobody here speaks GSSAPI: a server that wants
// to is left.
func answer(p *peer) {
	b, ok := p.take(1)
	switch {
	case !ok:
	case b[0] == 'E':
		p.ahead = append(p.ahead, 'E')
		p.message()
	default:
		p.note(string(b))
		if b[0] == 'G' {
			halfClose(p)
		}
	}
}

// hear reads messages up to the first of the type.
func hear(typ byte) step {
	return func(p *peer) {
		for {
			if got, _ := p.message(); got == typ || p.over {
				return
			}
		}
	}
}

// in logs in as a role that needs no password, and writes down nothing but that it went well.
func in(p *peer) {
	p.send(loginAs(trusted))
	inAfter(p)
}

// inAfter is the rest of a login whose startup packet was sent.
func inAfter(p *peer) {
	before := len(p.heard)
	hear('Z')(p)
	if !p.over && p.transcriptSince(before) == "R0 ZI" {
		p.heard = append(p.heard[:before], "in")
	}
}

func (p *peer) transcriptSince(n int) string {
	rest := peer{heard: p.heard[n:]}
	return rest.transcript()
}

// leave ends a session as a client should.
var leave = send(terminate)

// cancel sends a request made of the key of a session of this side that is open.
func cancel(request func(victim key) string) step {
	return func(p *peer) { p.send(request(p.victim)) }
}

// encrypt does a TLS handshake.
func encrypt(change func(*tls.Config)) step {
	return func(p *peer) {
		cfg := p.tls.Clone()
		if change != nil {
			change(cfg)
		}
		conn := tls.Client(p.conn, cfg)
		if err := conn.Handshake(); err != nil {
			p.note("no TLS")
			p.end(err)
			return
		}
		p.conn = conn
		p.note("TLS")
	}
}

// scramNonce is the client's part of the nonce; nothing here depends on its being random.
const scramNonce = "fyko+d2lbbFgONRv9qkxdawL"

// scramFirst is a client-first-message in its SASLInitialResponse.
func scramFirst(message string) string {
	return msg('p', "SCRAM-SHA-256\x00"+word(int64(len(message)))+message)
}

// scramFinal hears the server-first-message and answers with what make returns for it.
func scramFinal(make func(serverFirst string) string) step {
	return func(p *peer) {
		p.send(scramFirst("n,,n=,r=" + scramNonce))
		if typ, body := p.message(); typ == 'R' && number(body) == 11 {
			p.send(msg('p', make(string(body[4:]))))
		}
	}
}

// attribute returns the value of a SCRAM attribute.
func attribute(message, name string) string {
	for part := range strings.SplitSeq(message, ",") {
		if v, ok := strings.CutPrefix(part, name+"="); ok {
			return v
		}
	}
	return ""
}

// scramProof is an honest client-final-message.
func scramProof(password string) func(serverFirst string) string {
	return func(serverFirst string) string {
		without := "c=biws,r=" + attribute(serverFirst, "r")
		salt, _ := base64.StdEncoding.DecodeString(attribute(serverFirst, "s"))
		iterations, _ := strconv.Atoi(attribute(serverFirst, "i"))
		salted, err := pbkdf2.Key(sha256.New, password, salt, max(iterations, 1), sha256.Size)
		if err != nil {
			return fmt.Sprint(err)
		}
		clientKey := mac(salted, "Client Key")
		stored := sha256.Sum256(clientKey)
		proof := mac(stored[:], "n=,r="+scramNonce+","+serverFirst+","+without)
		for i := range proof {
			proof[i] ^= clientKey[i]
		}
		return without + ",p=" + base64.StdEncoding.EncodeToString(proof)
	}
}

func mac(key []byte, message string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(message))
	return h.Sum(nil)
}

// endTLS ends the client's side of TLS in order.
func endTLS(p *peer) {
	if c, ok := p.conn.(*tls.Conn); ok {
		_ = c.CloseWrite()
	}
	halfClose(p)
}

// inTheClear sends bytes past TLS.
func inTheClear(b string) step { return func(p *peer) { _, _ = io.WriteString(p.raw, b) } }

// drained reads to the end whatever comes: TLS libraries differ in what they say about garbage.
func drained(p *peer) {
	_, err := io.Copy(io.Discard, p.conn)
	p.end(err)
}
