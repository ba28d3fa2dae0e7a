//go:build unix

package proxy

import (
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"syscall"
)

// tapSize is how much one read takes at most.
const tapSize = 32 << 10

// taps are the buffers of all connections that have something to read at the moment.
var taps = sync.Pool{New: func() any { return new([tapSize]byte) }}

// tap reads one connection. It holds a buffer only while there are bytes to read, so that idle sessions cost next to nothing.
type tap struct {
	conn net.Conn
	raw  syscall.RawConn // nil: the connection was closed before
	// below is what TLS reads; nil: there is no TLS.
	below attempter
	plain attempt
	buf   *[tapSize]byte
	n     int
	err   error
	try   func(fd uintptr) bool // allocated once
}

// newTap reads a TCP connection, a backend, or TLS on top of a backend or a tlsSocket.
func newTap(conn net.Conn) *tap {
	t := &tap{conn: conn}
	t.try = t.tryRead
	source, _ := conn.(syscall.Conn)
	if encrypted, ok := conn.(*tls.Conn); ok {
		t.below, _ = encrypted.NetConn().(attempter)
		source = t.below
	}
	if raw, err := source.SyscallConn(); err == nil {
		t.raw = raw
	}
	return t
}

// read waits for bytes. They are valid until release, which must be called before the next read.
func (t *tap) read() ([]byte, error) {
	if t.raw == nil {
		return nil, net.ErrClosed
	}
	t.n, t.err = 0, nil
	if err := t.raw.Read(t.try); err != nil {
		return nil, err
	}
	return t.buf[:t.n], t.err
}

// tryRead takes what is there. It reports false when there is nothing, and is called again when there may be.
func (t *tap) tryRead(fd uintptr) bool {
	t.hold()
	if t.below == nil {
		t.plain.begin(fd)
		t.n, t.err = t.plain.read(t.buf[:])
	} else {
		t.below.begin(fd)
		t.n, t.err = t.conn.Read(t.buf[:])
		t.below.over()
	}
	if !errors.Is(t.err, notYet{}) {
		return true
	}
	t.err = nil
	if t.n > 0 { // TLS has looked for more
		return true
	}
	t.release()
	return false
}

func (t *tap) hold() {
	if t.buf == nil {
		t.buf = taps.Get().(*[tapSize]byte)
	}
}

// release gives the buffer back.
func (t *tap) release() {
	if t.buf != nil {
		taps.Put(t.buf)
		t.buf = nil
	}
}
