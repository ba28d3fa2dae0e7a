package proxy

import (
	"io"
	"iter"
	"math"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// loopLogin is the login of a run: straight-line code, run by a coroutine. When it has to wait for one of the run's sockets it yields to the loop, which
// goes on with it when that socket is ready; the switch is one of stacks, not of threads. It belongs to the loop's goroutine, of which the coroutine
// is a part, until it leaves.
type loopLogin struct {
	*loopRoutine
	leg     *clientLeg
	backend *backend

	// awaits is the socket that the login waits for, nil when for none; events is what it waits for there.
	awaits *loopEnd
	events uint32
	// failure is what a wait ends with.
	failure   error
	connected bool // the backend's socket
}

// loopRoutine is a coroutine of a loop's. It carries one login after the other: a fresh stack would have to grow anew for each.
type loopRoutine struct {
	// resume goes on with it until it waits, leaves, or its job is done; yield is its counterpart. stop ends one that rests.
	resume func() (struct{}, bool)
	yield  func(struct{}) bool
	stop   func()
	left   bool // the loop

	// What it does: serve, once, for the run's client.
	serve func(place seat, from netip.AddrPort)
	run   *loopRun
	from  netip.AddrPort
}

// routinesMax bounds the coroutines that a loop keeps.
const routinesMax = 16

// routine returns a coroutine with nothing to do yet.
func (l *eventLoop) routine() *loopRoutine {
	if n := len(l.routines); n > 0 {
		c := l.routines[n-1]
		l.routines = l.routines[:n-1]
		return c
	}
	c := &loopRoutine{}
	c.resume, c.stop = iter.Pull(func(yield func(struct{}) bool) {
		c.yield = yield
		for {
			c.serve(c.run, c.from)
			if c.serve, c.run = nil, nil; c.left || len(l.routines) >= routinesMax {
				return
			}
			l.routines = append(l.routines, c)
			if !yield(struct{}{}) {
				return
			}
		}
	})
	return c
}

// loopConn is one of a run's two sockets as its login sees it.
type loopConn struct {
	run *loopRun
	end *loopEnd
	// gate admits writes; nil: they pass one already.
	gate     *gate
	deadline int64 // on the loop's clock
}

// noDeadline is never.
const noDeadline = math.MaxInt64

// board gives a client that was accepted a place on the loop and begins to serve it there. It is called on the loop.
func (l *eventLoop) board(fd int32, from netip.AddrPort, serve func(seat, netip.AddrPort)) {
	r := &loopRun{loop: l, client: loopEnd{fd: fd}, server: loopEnd{fd: -1, side: 1}}
	c := l.routine()
	c.serve, c.run, c.from = serve, r, from
	r.login = &loopLogin{loopRoutine: c}
	l.allot(r)
	l.timed[r] = struct{}{}
	r.goOn()
}

// goOn lets the login go on until it waits again, is pinned or over, or leaves.
func (r *loopRun) goOn() {
	g := r.login
	g.resume()
	if g.left {
		r.loop.remove(r, false)
		r.login = nil
		r.out.Store(true)
		go g.resume()
	}
}

// await waits until something of the events can be done with one of the sockets.
func (r *loopRun) await(e *loopEnd, events uint32, deadline int64) error {
	g := r.login
	switch {
	case e.dead:
		return errSevered
	case e == &r.client && g.leg.cause() != nil, g.isForsaken(), int64(time.Since(heardBase)) >= deadline:
		return os.ErrDeadlineExceeded
	}
	if e.wanted&events == 0 || !e.listed {
		if err := r.loop.watch(r, e, events, true); err != nil {
			return err
		}
	}
	g.awaits, g.events, g.failure = e, events, nil
	r.deadline = deadline
	g.yield(struct{}{})
	return g.failure
}

// isForsaken reports whether the login is over while its node is being dialled: nothing else wakes it there.
func (g *loopLogin) isForsaken() bool {
	return g.backend != nil && !g.connected && g.leg.ctx.Err() != nil
}

// loginReady handles an event of one of the sockets while the login has them. What it does not wait for now it is told when it does.
func (r *loopRun) loginReady(e *loopEnd, events uint32) {
	g := r.login
	e.again = e.again || events&streamEnd != 0
	if g.awaits != e || events&(g.events|streamEnd) == 0 {
		_ = r.loop.watch(r, e, 0, false)
		return
	}
	r.endWait(nil)
}

// endWait ends the login's wait.
func (r *loopRun) endWait(err error) {
	r.login.awaits, r.login.failure = nil, err
	r.goOn()
}

// wake implements seat.
func (r *loopRun) wake() {
	r.loop.post(func() {
		if g := r.login; g != nil && (g.awaits == &r.client && g.leg.cause() != nil || g.awaits != nil && g.isForsaken()) {
			r.endWait(os.ErrDeadlineExceeded)
		}
	})
}

// severLogin is what follows when the backend of a login is reset by others: the login touches its socket no more.
func (r *loopRun) severLogin() {
	_ = r.loop.watch(r, &r.server, 0, false)
	r.server.dead = true
	if r.login.awaits == &r.server {
		r.endWait(errSevered)
	}
}

// sit implements seat.
func (r *loopRun) sit(leg *clientLeg) net.Conn {
	r.login.leg = leg
	return &loopConn{run: r, end: &r.client, deadline: noDeadline}
}

// hasUnread implements seat.
func (r *loopRun) hasUnread() bool { return holdsUnread(int(r.client.fd)) }

// open implements seat.
func (r *loopRun) open(b *backend, at netip.AddrPort) error {
	fd, err := newBackendSocket(at)
	if err != nil {
		return err
	}
	r.server = loopEnd{fd: fd, side: 1}
	r.login.backend, r.login.connected = b, false
	b.keeper = r
	b.passage = &loopConn{run: r, end: &r.server, gate: &b.toBackend, deadline: noDeadline}
	return nil
}

// connect implements seat.
func (r *loopRun) connect(at netip.AddrPort, deadline time.Time) error {
	errno := connectTo(r.server.fd, at)
	if errno == syscall.EINPROGRESS { // on this machine it is done by now
		errno = connectTo(r.server.fd, at)
	}
	for errno == syscall.EINPROGRESS || errno == syscall.EALREADY || errno == syscall.EINTR {
		if err := r.await(&r.server, unix.EPOLLOUT, onLoopClock(deadline)); err != nil {
			return err
		}
		errno = connectTo(r.server.fd, at)
	}
	if errno != 0 && errno != syscall.EISCONN {
		return os.NewSyscallError("connect", errno)
	}
	if isSelf(r.server.fd, at) {
		return os.NewSyscallError("connect", syscall.ECONNREFUSED)
	}
	r.login.connected = true
	return nil
}

// leave implements seat.
func (r *loopRun) leave() (*net.TCPConn, error) {
	g := r.login
	g.left = true
	g.yield(struct{}{})
	if b := g.backend; b != nil {
		b.passage = nil
		if g.connected {
			_ = r.returnServer(b) // severed: then nothing can be read or written there, and whoever severs it closes it
		}
	}
	return r.loop.f.adopt(r.client.fd, clientKeepAlive)
}

// start implements seat.
func (r *loopRun) start(p *pair, done func(result)) {
	r.pair, r.done, r.login = p, done, nil
	p.backend.passage = nil
	p.client, p.clientRaw = noConn, noConn // until they are handed back
	r.client.again, r.server.again = !r.client.dry, !r.server.dry
	delete(r.loop.timed, r)
	r.loop.f.admit(r)
	r.begin()
}

// Read implements net.Conn.
func (c *loopConn) Read(p []byte) (int, error) {
	for {
		if c.end.dead {
			return 0, errSevered
		}
		if !c.end.dry {
			n, errno := receive(c.end.fd, p)
			c.end.dry = n < len(p) && !c.end.again
			switch {
			case n > 0 || len(p) == 0:
				return n, nil
			case errno == 0:
				return 0, io.EOF
			case !isLater(errno):
				return 0, os.NewSyscallError("read", errno)
			}
		}
		c.end.dry = false
		if err := c.run.await(c.end, unix.EPOLLIN, c.deadline); err != nil {
			return 0, err
		}
	}
}

// Write implements net.Conn. It never waits inside the gate.
func (c *loopConn) Write(p []byte) (n int, err error) {
	for n < len(p) {
		m, errno := c.send(p[n:])
		switch n += m; {
		case errno == errnoSevered:
			return n, errSevered
		case errno != 0 && !isLater(errno):
			return n, os.NewSyscallError("write", errno)
		case n == len(p):
		default:
			if err := c.run.await(c.end, unix.EPOLLOUT, c.deadline); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// errnoSevered stands for a gate that is shut.
const errnoSevered = syscall.ESHUTDOWN

func (c *loopConn) send(p []byte) (int, syscall.Errno) {
	if c.gate != nil {
		if !c.gate.enter() {
			return 0, errnoSevered
		}
		defer c.gate.leave()
	}
	if c.end.dead {
		return 0, errnoSevered
	}
	return send(c.end.fd, p)
}

// onLoopClock is an instant on the clock of the loops; the zero time is never.
func onLoopClock(t time.Time) int64 {
	if t.IsZero() {
		return noDeadline
	}
	return int64(t.Sub(heardBase))
}

// SetDeadline implements net.Conn.
func (c *loopConn) SetDeadline(t time.Time) error {
	c.deadline = onLoopClock(t)
	return nil
}

// SetReadDeadline implements net.Conn: a login has one deadline for both.
func (c *loopConn) SetReadDeadline(t time.Time) error { return c.SetDeadline(t) }

// SetWriteDeadline implements net.Conn.
func (c *loopConn) SetWriteDeadline(t time.Time) error { return c.SetDeadline(t) }

// Close implements net.Conn: nothing is closed here before the login has left.
func (c *loopConn) Close() error { return net.ErrClosed }

// LocalAddr implements net.Conn.
func (c *loopConn) LocalAddr() net.Addr { return nil }

// RemoteAddr implements net.Conn.
func (c *loopConn) RemoteAddr() net.Addr { return nil }
