package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// past is a deadline that has passed: it wakes whoever is blocked in a read or write.
var past = time.Unix(1, 0)

// errSevered is what a write on a backend connection gets after its epoch was cut or the connection was closed.
var errSevered = errors.New("backend connection is closed to writes")

// backend is one connection to a node under one epoch. Every byte that the proxy sends to a node passes its Write, also what TLS sends on its
// own account, and every byte of a node's that goes to a client is written inside toClient. It is the net.Conn below TLS.
type backend struct {
	// What every message touches comes first, and the size keeps backends from sharing a cache line.

	epoch uint64
	// toBackend admits writes to the node, toClient writes of what the node said to its client.
	toBackend, toClient gate
	node                string
	addr                string
	// cut is done when the epoch has been cut; its cause is a *cutError.
	cut   context.Context
	table *table
	// relaxed is the epoch's count.
	relaxed *relaxedCommits
	// raw is the connection while no keeper has its socket. Both change only inside toBackend and under mu; whoever the connection belongs to
	// needs neither to read them.
	raw    *net.TCPConn
	keeper keeper
	mu     sync.Mutex
	// out writes to raw for a pair on goroutines; nil: raw does.
	out *quietWriter
	// passage is the connection for a login that runs on the keeper's event loop; nil: it is raw. It belongs to the login.
	passage net.Conn
	// conn is what the protocol is spoken on: the backend itself, or TLS on top of it. Set once, before the backend is shared.
	conn net.Conn
	// client is woken when it has to be detached; nil for a connection that serves no client (a cancel request).
	client interrupter

	closing sync.Once

	attempt

	_ [40]byte
}

// interrupter is a client that can be woken from its reads and writes.
type interrupter interface {
	interrupt(cause error)
	// replace says that the client's socket is another object now. An interrupt holds for that one too.
	replace(raw *net.TCPConn)
}

// keeper is an event loop's hold on a backend's socket. While there is one, raw is closed, and the socket is another descriptor that nobody else
// knows.
type keeper interface {
	// reset makes the loop let go of the socket and closes it with a TCP reset. It is called once at most, when nobody is inside toBackend.
	reset()
}

// kept returns who has the socket: a keeper, or raw if it is nil.
func (b *backend) kept() (keeper, *net.TCPConn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.keeper, b.raw
}

// keep changes who has the socket: a keeper, or raw. The caller is inside toBackend, so that whoever has shut that gate finds the socket where it is.
func (b *backend) keep(k keeper, raw *net.TCPConn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.keeper, b.out = k, nil
	if raw != nil {
		b.raw = raw
	}
}

// newBackend wraps a fresh connection. It still has to be added to the table.
func newBackend(t *table, r *openRoute, raw *net.TCPConn, client interrupter) *backend {
	b := &backend{epoch: r.Epoch, node: r.Node, addr: r.Address, cut: r.ctx, relaxed: &r.relaxed, raw: raw, table: t, client: client}
	b.conn = b
	return b
}

// isEncrypted reports whether TLS is spoken with the node.
func (b *backend) isEncrypted() bool {
	_, ok := b.conn.(*tls.Conn)
	return ok
}

// socket is the connection to the node itself.
func (b *backend) socket() net.Conn {
	if b.passage != nil {
		return b.passage
	}
	return b.raw
}

// Read implements net.Conn.
func (b *backend) Read(p []byte) (int, error) {
	if b.attempt.on {
		return b.attempt.read(p)
	}
	return b.socket().Read(p)
}

// SyscallConn implements syscall.Conn.
func (b *backend) SyscallConn() (syscall.RawConn, error) { return b.raw.SyscallConn() }

// Write implements net.Conn: it sends nothing once the backend was severed.
func (b *backend) Write(p []byte) (int, error) {
	if b.passage != nil { // which passes toBackend itself
		return b.passage.Write(p)
	}
	if !b.toBackend.enter() {
		return 0, errSevered
	}
	defer b.toBackend.leave()
	if b.out != nil {
		return b.out.Write(p)
	}
	return b.raw.Write(p)
}

// CloseWrite ends the direction towards the node; what the node still has to say can be read.
func (b *backend) CloseWrite() error {
	if !b.toBackend.enter() {
		return errSevered
	}
	defer b.toBackend.leave()
	return b.raw.CloseWrite()
}

// Close closes the connection in the ordinary way and forgets it. Bytes already handed to the kernel are still delivered. One that an event loop
// has is reset.
func (b *backend) Close() error {
	k, raw := b.kept()
	if k != nil {
		b.reset()
		return nil
	}
	var err error
	b.closing.Do(func() {
		b.toBackend.shut()
		b.toClient.shut()
		err = raw.Close()
		b.table.remove(b)
	})
	return err
}

// forsaken forgets a connection whose keeper has closed its socket.
func (b *backend) forsaken() {
	b.closing.Do(func() {
		b.toBackend.shut()
		b.toClient.shut()
		b.table.remove(b)
	})
}

// sayTerminate is the Terminate message.
var sayTerminate = []byte{'X', 0, 0, 0, 4}

// partWithin bounds how long a server is given to close a connection that the proxy is done with.
const partWithin = time.Second

// part ends the connection so that the server takes it for an ordinary end: it ends its own side and waits for the server's end of file. A server
// that does not come to an end gets a reset. What was sent is delivered, unless the epoch is cut meanwhile.
func (b *backend) part(terminate bool) {
	b.toClient.shut()
	_ = b.SetDeadline(time.Now().Add(partWithin))
	if terminate {
		_, _ = b.conn.Write(sayTerminate)
	}
	closeWrite(b)
	if _, err := io.Copy(io.Discard, b.raw); err != nil {
		b.reset()
		return
	}
	_ = b.Close()
}

// closeWrite ends the direction towards the node, with TLS's own word first where there is TLS.
func closeWrite(b *backend) {
	if t, ok := b.conn.(*tls.Conn); ok {
		_ = t.CloseWrite()
	}
	_ = b.CloseWrite()
}

// detach begins to keep the backend's words from its client; toClient.wait says when it is done.
func (b *backend) detach() {
	if first := b.toClient.shut(); first && b.client != nil {
		b.client.interrupt(errSevered)
	}
}

// reset closes the connection with a TCP reset: what the kernel has not sent yet is dropped. When it returns no byte is being sent, and none
// will be.
func (b *backend) reset() {
	b.toBackend.shut()
	_, raw := b.kept()
	_ = raw.SetWriteDeadline(past)
	b.toBackend.wait()
	b.closing.Do(func() {
		if k, raw := b.kept(); k != nil { // it stays so: nobody can be inside toBackend any more
			k.reset()
		} else {
			closeWithReset(raw)
		}
		b.table.remove(b)
	})
}

// LocalAddr implements net.Conn.
func (b *backend) LocalAddr() net.Addr { return b.socket().LocalAddr() }

// RemoteAddr implements net.Conn.
func (b *backend) RemoteAddr() net.Addr { return b.socket().RemoteAddr() }

// SetDeadline implements net.Conn.
func (b *backend) SetDeadline(t time.Time) error { return b.socket().SetDeadline(t) }

// SetReadDeadline implements net.Conn.
func (b *backend) SetReadDeadline(t time.Time) error { return b.socket().SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn.
func (b *backend) SetWriteDeadline(t time.Time) error { return b.socket().SetWriteDeadline(t) }
