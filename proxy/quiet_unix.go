//go:build unix

package proxy

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

// The goroutine forwarder's system calls. The runtime's own tell the scheduler of each call: one that is still in the kernel when the monitor looks,
// because whom it woke was given the processor, loses its place in the scheduler to another thread, and on a busy machine a handful of threads
// take turns at the work of one. The sockets never block, so nobody need hear of these calls.

// notYet is the error of an attempt to read when nothing has come. crypto/tls goes on after it where it was, because it is temporary.
type notYet struct{}

var _ net.Error = notYet{}

// Error implements error.
func (notYet) Error() string { return "nothing to read yet" }

// Timeout implements net.Error.
func (notYet) Timeout() bool { return false }

// Temporary implements net.Error.
func (notYet) Temporary() bool { return true }

// attempt is how a connection below TLS reads while a tap tries to: what is there, without waiting. Only TLS knows whether that makes a message, and
// it would wait for the rest with the buffer in its hands. It belongs to whoever reads.
type attempt struct {
	fd int32
	on bool
}

// begin has reads take what is there, until over.
func (a *attempt) begin(fd uintptr) { a.fd, a.on = int32(fd), true }

func (a *attempt) over() { a.on = false }

// read takes what is there. The error is notYet when that is nothing.
func (a *attempt) read(b []byte) (int, error) {
	for {
		n, errno := receive(a.fd, b)
		switch {
		case errno == syscall.EINTR:
		case errno == syscall.EAGAIN:
			return 0, notYet{}
		case errno != 0:
			return 0, os.NewSyscallError("read", errno)
		case n == 0 && len(b) > 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// attempter is a connection below TLS whose reads can be made attempts.
type attempter interface {
	syscall.Conn
	begin(fd uintptr)
	over()
}

// quietWriter writes to a connection. It waits, and is interrupted by deadlines and the connection's end, as the connection's own Write.
type quietWriter struct {
	raw syscall.RawConn

	mu   sync.Mutex
	rest []byte
	err  error
	try  func(fd uintptr) bool // allocated once
}

func newQuietWriter(conn *net.TCPConn) *quietWriter {
	w := &quietWriter{}
	w.raw, _ = conn.SyscallConn() // which fails for none that was ever open
	w.try = w.trySend
	return w
}

// Write implements io.Writer.
func (w *quietWriter) Write(b []byte) (int, error) {
	if w.raw == nil {
		return 0, net.ErrClosed
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest, w.err = b, nil
	err := w.raw.Write(w.try)
	if err == nil {
		err = w.err
	}
	n := len(b) - len(w.rest)
	w.rest = nil
	return n, err
}

// trySend reports false when the socket takes no more for now.
func (w *quietWriter) trySend(fd uintptr) bool {
	for len(w.rest) > 0 {
		n, errno := send(int32(fd), w.rest)
		switch {
		case errno == syscall.EINTR:
		case errno == syscall.EAGAIN:
			return false
		case errno != 0:
			w.err = os.NewSyscallError("write", errno)
			return true
		default:
			w.rest = w.rest[n:]
		}
	}
	return true
}
