package main

import (
	"bytes"
	endian "encoding/binary"
	"net"
	"sync"
	"time"
)

// maxKept is how much of a message is kept: an ErrorResponse of pgtether is shorter.
const maxKept = 4096

// ear is a client's connection, in clear text, that notes when it read the last byte of a server. What pgtether says itself when it ends a
// session is no such byte: it is told from a server's error by the fields F, L and R, which every server sends and pgtether never does.
type ear struct {
	net.Conn
	clock func() time.Duration

	mu sync.Mutex
	// message is the start of the one that is being read, want how much of it is still to come once its length is known.
	message []byte
	want    int
	last    time.Duration
}

// Read reads and listens.
func (e *ear) Read(p []byte) (int, error) {
	n, err := e.Conn.Read(p)
	e.listen(p[:n], e.clock())
	return n, err
}

func (e *ear) lastHeard() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.last
}

// listen follows the messages. Bytes count when they come, but those of an error only once it is known whose it is.
func (e *ear) listen(p []byte, at time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(p) > 0 {
		n := 1
		if len(e.message) >= 5 {
			n = min(len(p), e.want)
		}
		e.message = append(e.message, p[:min(n, max(1, maxKept-len(e.message)))]...)
		p = p[n:]
		switch {
		case len(e.message) < 5:
		case len(e.message) == 5 && e.want == 0:
			e.want = int(endian.BigEndian.Uint32(e.message[1:])) - 4
		default:
			e.want -= n
		}
		if len(e.message) >= 5 && e.message[0] != 'E' {
			e.last = at
		}
		if len(e.message) >= 5 && e.want <= 0 {
			if e.message[0] == 'E' && ofServer(e.message[5:]) {
				e.last = at
			}
			e.message, e.want = e.message[:0], 0
		}
	}
}

// ofServer says whether the fields of an ErrorResponse name the place in a server's source.
func ofServer(fields []byte) bool {
	for field := range bytes.SplitSeq(fields, []byte{0}) {
		if len(field) > 0 && field[0] == 'F' {
			return true
		}
	}
	return false
}
