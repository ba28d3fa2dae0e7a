package proxy

import (
	"io"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// loopRun is one pair on an event loop. All of it belongs to the loop's goroutine until the run is over, then to report, and
// the server's descriptor to whoever resets the backend; both descriptors belong to its login when that has left.
//
// Each direction reads only while it holds nothing: what one read has brought and the other side does not take is all that is ever kept.
type loopRun struct {
	// What every message touches comes first: it fills three cache lines, and the size keeps runs from sharing one. See eventLoop.fetch.

	loop *eventLoop
	pair *pair
	// login is what comes before the pair; nil from its end on.
	login *loopLogin

	client, server loopEnd
	slot           int32
	over           bool // nothing is forwarded any more
	halfClosed     bool // the client has ended its side
	discarding     bool // the client is gone, but what it sent before its Terminate is still served

	toServer, toClient stash
	// kept are bytes of the server that may be an unasked-for message to keep back.
	kept       []byte
	failedBy   error
	wantParked func()

	done     func(result)
	deadline int64 // when the wait for the server ends, on the loop's clock
	torn     bool  // a write to the client failed: it may have received a part of a message
	parted   bool  // the client had ended its side, or said Terminate, and then the server its own
	// out says that the loop does not touch the sockets any more.
	out    atomic.Bool
	result result // how the run ended; end is 0 when it was parked

	_ [48]byte
}

// loopEnd is one of the two sockets.
type loopEnd struct {
	fd     int32
	wanted uint32
	side   uint8 // 0 the client's, 1 the server's
	listed bool
	dead   bool // the server's, while it logs in: others reset it
	dry    bool // in a login: the last read has taken all there was
	again  bool // there may be something left to read, which nobody will report
	behind bool // a send to it was put off
}

// endOf is the end that an event is about.
func (r *loopRun) endOf(id int32) *loopEnd {
	if id&1 == 0 {
		return &r.client
	}
	return &r.server
}

// want says which events of an end are wanted; the run ends if that cannot be had.
func (r *loopRun) want(e *loopEnd, events uint32, listed bool) {
	if err := r.loop.watch(r, e, events, listed); err != nil {
		r.end(result{end: endServerLost, err: err})
	}
}

// stash is what one direction holds: read, but not yet written.
type stash struct {
	bytes []byte
	// cleared is how many of them have been accounted and may be written. Of what comes from the server that is all.
	cleared int
	chunk   *chunk
}

const (
	failure = unix.EPOLLERR | unix.EPOLLHUP
	// streamEnd is the end of the stream, which may come in the same event as the last bytes.
	streamEnd = unix.EPOLLRDHUP | failure
)

// begin starts to forward, what was read before first, unless the pair was cut, or its backend severed, on its way here.
func (r *loopRun) begin() {
	switch {
	case r.pair.backend.epoch <= r.loop.floor:
		r.end(result{end: endCut, why: r.loop.why})
		return
	case r.server.dead:
		r.end(result{end: endServerLost, err: errSevered})
		return
	}
	b, s := r.pair.fromClient, r.pair.fromServer
	r.pair.fromClient, r.pair.fromServer = nil, nil
	if len(b) > 0 {
		r.fromClient(b)
	}
	if len(s) > 0 && !r.over {
		r.fromServer(s)
	}
	r.settle()
}

// clientReady handles an event of the client's socket.
func (r *loopRun) clientReady(events uint32) {
	if len(r.toClient.bytes) > 0 && events&(unix.EPOLLOUT|failure) != 0 {
		r.flushClient()
	}
	switch {
	case r.over:
		return
	case r.client.wanted&unix.EPOLLIN != 0 && events&(unix.EPOLLIN|streamEnd) != 0:
		r.client.again = events&streamEnd != 0
		r.readClient()
	case r.client.wanted == 0 && events&failure != 0:
		if r.halfClosed { // until then nothing but this tells that it is gone
			r.clientLost(socketError(r.client.fd))
		} else {
			r.want(&r.client, 0, false) // looked at again when there is room for its bytes
		}
	}
	r.settle()
}

// serverReady handles an event of the server's socket.
func (r *loopRun) serverReady(events uint32) {
	if r.server.wanted&unix.EPOLLOUT != 0 && events&(unix.EPOLLOUT|failure) != 0 {
		r.flushServer()
	}
	switch {
	case r.over:
		return
	case r.server.wanted&unix.EPOLLIN != 0 && events&(unix.EPOLLIN|streamEnd) != 0:
		r.server.again = events&streamEnd != 0
		r.readServer()
	case r.server.wanted == 0 && events&failure != 0:
		r.want(&r.server, 0, false)
	}
	r.settle()
}

// settle asks for the events that the run can do something with.
func (r *loopRun) settle() {
	if r.over {
		return
	}
	var client, server uint32
	if !r.halfClosed && r.failedBy == nil && len(r.toServer.bytes) == 0 {
		client = unix.EPOLLIN
	}
	if len(r.toClient.bytes) > 0 {
		client |= unix.EPOLLOUT
	} else {
		server = unix.EPOLLIN
	}
	if r.toServer.cleared > 0 {
		server |= unix.EPOLLOUT
	}
	if r.client.needs(client) {
		r.want(&r.client, client, client != 0 || r.client.listed)
	}
	if !r.over && r.server.needs(server) {
		r.want(&r.server, server, server != 0 || r.server.listed)
	}
}

// needs reports whether the loop has to be told that these events are wanted: it does not know, or there may be something already that it has reported.
func (e *loopEnd) needs(events uint32) bool {
	return events != e.wanted || events != 0 && !e.listed || e.again && events&unix.EPOLLIN != 0
}

func (r *loopRun) readClient() {
	b := r.loop.buffer[:]
	for range 2 { // the second time for the end of the stream, which is there when it was reported with the last bytes
		n, errno := receive(r.client.fd, b)
		ending := r.client.again && n > 0 && n < len(b)
		r.client.again = r.client.again || n == len(b) || errno == syscall.EINTR
		switch {
		case n > 0:
			r.fromClient(b[:n])
		case errno == 0:
			r.halfClose()
		case !isLater(errno):
			r.clientLost(errno)
		}
		if !ending || r.over || r.failedBy != nil || len(r.toServer.bytes) > 0 {
			return
		}
	}
}

func (r *loopRun) readServer() {
	b := r.loop.buffer[:]
	n, errno := receive(r.server.fd, b)
	r.server.again = r.server.again || n == len(b) || errno == syscall.EINTR
	switch {
	case n > 0:
		r.fromServer(b[:n])
	case errno == 0:
		r.serverEnded(io.EOF)
	case !isLater(errno):
		r.serverEnded(errno)
	}
}

// fromClient forwards what the client sent, and holds what cannot go on now.
func (r *loopRun) fromClient(b []byte) {
	n := r.account(b)
	// Nothing of it was put off before: more than one read comes of an event that says again only, and what another one has left has been sent by dispatch.
	if n == len(b) && !r.client.again && r.loop.putOff(r, &r.server, b) {
		return
	}
	sent := r.sendServer(b[:n])
	if sent < len(b) && !r.over && r.failedBy == nil {
		r.hold(&r.toServer, b[sent:])
		r.toServer.cleared = n - sent
	}
}

// account says how many of the client's bytes may be forwarded now, and accounts them.
func (r *loopRun) account(b []byte) int {
	t, n := r.pair.tracker, len(b)
	if t == nil {
		return n
	}
	if r.wantParked != nil {
		n = t.ClientBoundary(b)
	}
	t.Client(b[:n])
	return n
}

// reconsider looks again at bytes of the client's that could not be forwarded before.
func (r *loopRun) reconsider() {
	s := &r.toServer
	if s.cleared < len(s.bytes) {
		s.cleared += r.account(s.bytes[s.cleared:])
	}
	if s.cleared > 0 {
		r.flushServer()
	}
}

// sendServer writes what it can and returns how much that was. On a failure nothing more will be written.
func (r *loopRun) sendServer(b []byte) int {
	if len(b) == 0 {
		return 0
	}
	gate := &r.pair.backend.toBackend
	if !gate.enter() {
		r.severed()
		return 0
	}
	n, errno := send(r.server.fd, b)
	gate.leave()
	if errno != 0 && !isLater(errno) {
		r.serverUnwritable(errno)
	}
	r.sent(&r.server, n)
	return n
}

// flushServer writes what is held for the server.
func (r *loopRun) flushServer() {
	s := &r.toServer
	n := r.sendServer(s.bytes[:s.cleared])
	if r.over || r.failedBy != nil {
		return
	}
	s.bytes, s.cleared = s.bytes[n:], s.cleared-n
	if len(s.bytes) == 0 {
		r.empty(s)
	}
	r.tryPark()
}

// fromServer forwards what the server sent.
func (r *loopRun) fromServer(b []byte) {
	if len(r.kept) > 0 {
		r.kept = append(r.kept, b...)
	} else if keep := r.relay(b); len(keep) > 0 {
		r.kept = slices.Clone(keep)
	}
	r.afterServer()
}

// relay accounts and forwards bytes of the server, up to those that may have to be kept back.
func (r *loopRun) relay(b []byte) (keep []byte) {
	if r.pair.tracker == nil {
		r.sendClient(b)
		return nil
	}
	if owed := r.pair.takeOwed(); owed != nil {
		if r.sendClient(owed); r.over {
			return nil
		}
	}
	pass, stop := r.pair.tracker.Server(b)
	r.pair.countRelaxed(r.loop.f.metrics)
	r.sendClient(b[:pass])
	if !stop || r.over {
		return nil
	}
	return b[pass:]
}

// afterServer draws the conclusions from what the server has said, or the client has taken.
func (r *loopRun) afterServer() {
	if len(r.kept) > 0 {
		r.sift()
	}
	if r.over {
		return
	}
	if r.halfClosed {
		r.linger()
	}
	if r.wantParked != nil && !r.tryPark() {
		r.reconsider()
	}
}

// sendClient writes to the client, and holds what it does not take.
func (r *loopRun) sendClient(b []byte) {
	if len(b) == 0 {
		return
	}
	if r.client.behind { // one after the other
		r.loop.submit()
	}
	switch {
	case r.discarding || r.over:
		return
	case len(r.toClient.bytes) > 0:
		r.hold(&r.toClient, b)
		return
	case r.loop.putOff(r, &r.client, b):
		return
	}
	if n := r.writeClient(b); n < len(b) && !r.over && !r.discarding {
		r.hold(&r.toClient, b[n:])
	}
}

func (r *loopRun) writeClient(b []byte) int {
	backend := r.pair.backend
	if !backend.toClient.enter() {
		r.severed()
		return 0
	}
	n, errno := send(r.client.fd, b)
	backend.toClient.leave()
	r.sent(&r.client, n)
	if errno != 0 && !isLater(errno) {
		r.torn = true
		r.clientLost(errno)
	}
	return n
}

// flushClient writes what is held for the client.
func (r *loopRun) flushClient() {
	s := &r.toClient
	n := r.writeClient(s.bytes)
	if r.over || r.discarding {
		return
	}
	if s.bytes = s.bytes[n:]; len(s.bytes) == 0 {
		r.empty(s)
		r.afterServer()
	}
}

// hold keeps bytes for later.
func (r *loopRun) hold(s *stash, b []byte) {
	if len(s.bytes) == 0 && s.chunk == nil {
		s.chunk = r.loop.spare()
		s.bytes = s.chunk[:0]
	}
	s.bytes = append(s.bytes, b...)
}

// empty gives the chunk back.
func (r *loopRun) empty(s *stash) {
	r.loop.giveBack(s.chunk)
	*s = stash{}
}

// halfClose passes the client's end of file on. What the server still owes is delivered.
func (r *loopRun) halfClose() {
	r.halfClosed = true
	if gate := &r.pair.backend.toBackend; gate.enter() {
		_, _, _ = syscall.RawSyscall(unix.SYS_SHUTDOWN, uintptr(r.server.fd), unix.SHUT_WR, 0)
		gate.leave()
	}
	r.linger()
}

// linger bounds the wait for the server's end of file once it owes nothing.
func (r *loopRun) linger() {
	if t := r.pair.tracker; t != nil && !t.Running() {
		r.waitFor(partingLinger)
	}
}

// waitFor bounds the wait for the server.
func (r *loopRun) waitFor(d time.Duration) {
	r.deadline = int64(time.Since(heardBase) + d)
	r.loop.timed[r] = struct{}{}
}
