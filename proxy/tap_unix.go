//go:build unix

package proxy

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
)

// tapSize is how much one read takes at most.
const tapSize = 32 << 10

// taps are the buffers of all connections that have something to read at the moment.
var taps = sync.Pool{New: func() any { return new([tapSize]byte) }}

// tap reads one connection. A plain TCP connection holds a buffer only while it has bytes to read, so that idle sessions cost next to nothing; TLS
// needs one while it waits.
type tap struct {
	conn net.Conn
	raw  syscall.RawConn // nil: read through conn
	buf  *[tapSize]byte
	n    int
	err  error
	try  func(fd uintptr) bool // allocated once
}

// newTap reads conn. plain is the same connection when nothing lies between it and the wire, else nil.
func newTap(conn net.Conn, plain *net.TCPConn) *tap {
	t := &tap{conn: conn}
	if plain != nil {
		if raw, err := plain.SyscallConn(); err == nil {
			t.raw = raw
		}
	}
	t.try = t.tryRead
	return t
}

// read waits for bytes. They are valid until release, which must be called before the next read.
func (t *tap) read() ([]byte, error) {
	if t.raw == nil {
		t.hold()
		n, err := t.conn.Read(t.buf[:])
		return t.buf[:n], err
	}
	t.n, t.err = 0, nil
	if err := t.raw.Read(t.try); err != nil {
		return nil, err
	}
	if t.buf == nil {
		return nil, t.err
	}
	return t.buf[:t.n], t.err
}

// tryRead takes what is there. It reports false when there is nothing, and is called again when there may be.
func (t *tap) tryRead(fd uintptr) bool {
	t.hold()
	for {
		n, err := syscall.Read(int(fd), t.buf[:])
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
			t.release()
			return false
		case err != nil:
			t.err = err
		case n == 0:
			t.err = io.EOF
		default:
			t.n = n
		}
		return true
	}
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
