package proxy

import (
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
	// each says that a socket's options are not those of the one that it came from: older kernels refuse them for a listener of MPTCP.
	each bool

	closing sync.Once
	// news is what Accept returns: an error, or the first client after a shortage. After each the door is shut until Accept is called, so that there is
	// room for all that can be said: one of them, and the last.
	news chan doorNews
}

type doorNews struct {
	conn net.Conn
	err  error
	last bool // nothing follows
}

// listen implements doorkeeper.
func (f *loopForwarder) listen(ln *net.TCPListener, serve func(seat, netip.AddrPort)) (net.Listener, error) {
	d := &loopDoor{loop: f.loops[0], addr: ln.Addr(), serve: serve, news: make(chan doorNews, 2)}
	var err error
	d.fd, err = duplicate(ln)
	_ = ln.Close()
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", d.addr, err)
	}
	d.each = setOptions(int(d.fd), clientKeepAlive) != nil // else what accept returns has them too (tcp(7))
	if !d.loop.call(func() { err = d.install() }) {
		err = net.ErrClosed
	}
	if err != nil {
		closeDescriptor(d.fd)
		return nil, fmt.Errorf("listen on %s: %w", d.addr, err)
	}
	return d, nil
}

// install is called on the loop, as all that follows down to end.
func (d *loopDoor) install() error {
	d.index = len(d.loop.doors)
	if err := d.watch(unix.EPOLL_CTL_ADD, 0); err != nil {
		return err
	}
	d.loop.doors = append(d.loop.doors, d)
	return nil
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

// welcomesAtOnce is how many clients are taken before others have their turn.
const welcomesAtOnce = 8

// ready takes those who have come.
func (d *loopDoor) ready() {
	for i := range welcomesAtOnce {
		if d.fd < 0 || !d.take(i == 0) { // closed meanwhile, in the same round even
			return
		}
	}
}

// take takes one client, and reports whether there may be another. sure says that somebody waits: descriptors can lack for nobody, too.
func (d *loopDoor) take(sure bool) bool {
	fd, from, errno := acceptFrom(d.fd)
	switch {
	case errno == 0 && d.short:
		conn, err := d.loop.f.adopt(fd, clientKeepAlive)
		d.short = err != nil
		d.tell(doorNews{conn: conn, err: err})
	case errno == 0:
		d.welcome(fd, from)
		return true
	case errno == syscall.ECONNABORTED, errno == syscall.EINTR:
		return true
	case errno == syscall.EAGAIN, isTemporary(errno) && !sure:
	case isTemporary(errno):
		d.short = true
		d.tell(doorNews{err: d.failed(errno)})
	default:
		d.end(d.failed(errno))
	}
	return false
}

// tell shuts the door until Accept is called again.
func (d *loopDoor) tell(n doorNews) {
	_ = d.watch(unix.EPOLL_CTL_MOD, 0)
	d.news <- n
}

func (d *loopDoor) failed(errno syscall.Errno) error {
	return &net.OpError{Op: "accept", Net: d.addr.Network(), Addr: d.addr, Err: os.NewSyscallError("accept4", errno)}
}

// welcome gives the client to the loop that has the fewest.
func (d *loopDoor) welcome(fd int32, from netip.AddrPort) {
	if d.each {
		_ = setOptions(int(fd), clientKeepAlive)
	}
	l := d.loop.f.leastLoaded()
	l.load.Add(1)
	if l == d.loop {
		l.board(fd, from, d.serve)
	} else if !l.post(func() { l.board(fd, from, d.serve) }) {
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
