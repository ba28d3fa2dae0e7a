package proxy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// loopDoor is a listening socket of an event loop: a client that comes is served on a loop from its first byte on, and has no goroutine of its own.
//
// Its descriptor is one that the runtime's poller does not know: that would be woken by each client.
type loopDoor struct {
	loop  *eventLoop
	fd    int32 // -1 when closed
	index int
	addr  net.Addr
	// serve is called on a loop for each client.
	serve func(place seat, from netip.AddrPort)
	// short says that the last client could not be accepted.
	short bool

	closing sync.Once
	// news is what Accept returns: an error, or the first client after a shortage. It has room for all that can be said before Accept is called.
	news chan doorNews
}

type doorNews struct {
	conn net.Conn
	err  error
	last bool // nothing follows
}

// listen implements doorkeeper.
func (f *loopForwarder) listen(ln *net.TCPListener, serve func(seat, netip.AddrPort)) (net.Listener, error) {
	d := &loopDoor{loop: f.loops[0], fd: -1, addr: ln.Addr(), serve: serve, news: make(chan doorNews, 3)}
	raw, err := ln.SyscallConn()
	if err == nil {
		d.fd, err = duplicate(raw)
	}
	if err == nil { // what accept returns has the options of the socket that it came from (tcp(7))
		err = errors.Join(setKeepAlive(int(d.fd), clientKeepAlive), unix.SetsockoptInt(int(d.fd), unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
	}
	_ = ln.Close()
	if err == nil && !d.loop.call(func() { err = d.install() }) {
		err = net.ErrClosed
	}
	if err != nil {
		if d.fd >= 0 {
			closeDescriptor(d.fd)
		}
		return nil, fmt.Errorf("listen on %s: %w", d.addr, err)
	}
	return d, nil
}

// install is called on the loop, as all that follows down to end.
func (d *loopDoor) install() error {
	d.index = len(d.loop.doors)
	d.loop.doors = append(d.loop.doors, d)
	return d.watch(unix.EPOLL_CTL_ADD, 0)
}

func (d *loopDoor) watch(op int, events uint32) error {
	return control(d.loop.epoll, op, d.fd, &unix.EpollEvent{Events: events, Fd: doorSlot - int32(d.index)})
}

// open lets clients in.
func (d *loopDoor) open() {
	if d.fd < 0 {
		return
	}
	if err := d.watch(unix.EPOLL_CTL_MOD, unix.EPOLLIN); err != nil {
		d.end(fmt.Errorf("accept on %s: %w", d.addr, err))
	}
}

// ready takes one client: others have their turn before the next.
func (d *loopDoor) ready() {
	if d.fd < 0 {
		return // closed in the same round
	}
	fd, from, errno := acceptFrom(d.fd)
	switch {
	case errno == 0 && d.short:
		d.short = false
		if conn, err := adopt(fd, clientKeepAlive); err == nil {
			d.news <- doorNews{conn: conn}
		}
	case errno == 0:
		d.welcome(fd, from)
	case errno == syscall.EAGAIN, errno == syscall.ECONNABORTED, errno == syscall.EINTR:
	case isTemporary(errno):
		d.short = true
		_ = d.watch(unix.EPOLL_CTL_MOD, 0) // until Accept is called again
		d.news <- doorNews{err: d.failed(errno)}
	default:
		d.end(d.failed(errno))
	}
}

func (d *loopDoor) failed(errno syscall.Errno) error {
	return &net.OpError{Op: "accept", Net: d.addr.Network(), Addr: d.addr, Err: os.NewSyscallError("accept4", errno)}
}

// welcome gives the client to the loop that has the fewest.
func (d *loopDoor) welcome(fd int32, from netip.AddrPort) {
	l := d.loop.f.leastLoaded()
	l.load.Add(1)
	board := func() { l.board(fd, func(place seat) { d.serve(place, from) }) }
	if l == d.loop {
		board()
	} else if !l.post(board) {
		closeDescriptor(fd)
	}
}

func (d *loopDoor) end(why error) {
	if d.fd < 0 {
		return
	}
	_ = d.watch(unix.EPOLL_CTL_DEL, 0)
	closeDescriptor(d.fd)
	d.fd = -1
	d.news <- doorNews{err: why, last: true}
}

// Close implements net.Listener: nobody is accepted any more when it returns.
func (d *loopDoor) Close() error {
	d.closing.Do(func() { d.loop.call(func() { d.end(net.ErrClosed) }) })
	return nil
}

// Accept implements net.Listener, as doorkeeper says.
func (d *loopDoor) Accept() (net.Conn, error) {
	d.loop.post(d.open)
	n := <-d.news
	if n.last {
		d.news <- n
	}
	return n.conn, n.err
}

// Addr implements net.Listener.
func (d *loopDoor) Addr() net.Addr { return d.addr }
