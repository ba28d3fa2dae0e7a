package proxy

import (
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// batchSends is how many messages are sent together at most.
	batchSends = 32
	// batchedMax is the longest message that is copied to be sent with others.
	batchedMax = 4 << 10
	// batchRoom holds what the next fetchAhead events may bring when half of it is taken.
	batchRoom = 2 * fetchAhead * batchedMax
	// batchFrom is for how many events of one wait, and how many sends, it pays.
	batchFrom = 2
)

// batch gathers what an event loop sends while it reads what one wait has reported, and sends all of it with one system call. A send wakes somebody,
// and who was woken often gets the processor when the system call ends: that is one interruption then instead of one for each message.
//
// A socket has one send in it at most, and none while bytes are held for it, so that nothing overtakes. What is in it has been accounted, but not yet
// sent: whatever depends on that calls catchUp first, and looks after that at what is held. The gates are passed when it is sent, as with any send.
type batch struct {
	from  int // for how many it pays
	taken bool
	long  bool // something was too long for it, and has taken its time
	used  int
	sends []batchedSend
	aio   *asyncIO // nil: the kernel does not offer it, and sends go one by one
	room  *[batchRoom]byte
}

func newBatch() batch {
	return batch{from: batchFrom, sends: make([]batchedSend, 0, batchSends), aio: newAsyncIO(), room: new([batchRoom]byte)}
}

// batchedSend is a message on its way to one end of a run, and what became of it.
type batchedSend struct {
	run   *loopRun
	end   *loopEnd
	bytes []byte
	shut  bool // the gate
	made  bool // by asyncIO
	n     int
	errno syscall.Errno
}

func (s *batchedSend) gate() *gate {
	if s.end.side == 0 {
		return &s.run.pair.backend.toClient
	}
	return &s.run.pair.backend.toBackend
}

func (s *batchedSend) failed() bool { return s.errno != 0 && !isLater(s.errno) }

// putOff takes a send to one end of a run into the batch, and reports whether it did. Nothing must be held for that end.
func (l *eventLoop) putOff(r *loopRun, e *loopEnd, p []byte) bool {
	b := &l.batch
	b.long = b.long || len(p) > batchedMax
	if !b.taken || e.behind || len(p) > batchedMax || len(b.sends) == batchSends || len(p) > len(b.room)-b.used {
		return false
	}
	kept := b.room[b.used : b.used+copy(b.room[b.used:], p)]
	b.used += len(kept)
	b.sends = append(b.sends, batchedSend{run: r, end: e, bytes: kept})
	e.behind = true
	return true
}

// isDue reports whether the next events may bring more than there is room for, or have to wait for no more of them.
func (b *batch) isDue() bool {
	return len(b.sends) > batchSends-fetchAhead || b.used > batchRoom/2 || b.long
}

// catchUp sends what was put off, if any of it is the run's.
func (r *loopRun) catchUp() {
	if r.client.behind || r.server.behind {
		r.loop.submit()
	}
}

// submit sends what was put off.
func (l *eventLoop) submit() {
	b := &l.batch
	b.long = false
	if len(b.sends) == 0 {
		return
	}
	taken := b.taken
	b.taken = false
	for i := range b.sends {
		b.sends[i].shut = !b.sends[i].gate().enter()
	}
	b.send()
	for i := range b.sends { // of all, before what became of one can end a run
		b.sends[i].account()
	}
	for i := range b.sends {
		if s := &b.sends[i]; s.n < len(s.bytes) {
			s.conclude()
		}
	}
	clear(b.sends)
	b.sends, b.used, b.taken = b.sends[:0], 0, taken
}

// send makes the sends whose gates were open.
func (b *batch) send() {
	if b.aio != nil && len(b.sends) >= b.from && !b.aio.send(b.sends) {
		b.aio.close()
		b.aio = nil
	}
	for i := range b.sends {
		if s := &b.sends[i]; !s.shut && !s.made {
			s.n, s.errno = send(s.end.fd, s.bytes)
		}
	}
}

// account takes down what the end has taken, and holds the rest.
func (s *batchedSend) account() {
	r := s.run
	s.end.behind = false
	if s.shut {
		return
	}
	s.gate().leave()
	r.sent(s.end, s.n)
	rest := s.bytes[s.n:]
	switch {
	case s.failed():
		r.torn = r.torn || s.end == &r.client
	case len(rest) == 0:
	case s.end == &r.server:
		r.hold(&r.toServer, rest)
		r.toServer.cleared = len(rest)
	default:
		r.hold(&r.toClient, rest)
	}
}

// sent counts what an end has taken.
func (r *loopRun) sent(e *loopEnd, n int) {
	switch {
	case e == &r.server:
		r.pair.toServer.Add(int64(n))
		r.loop.received.fromClients += uint64(n)
		return
	case n > 0:
		r.loop.heard = max(r.loop.heard, r.pair.backend.epoch)
	}
	r.pair.toClient.Add(int64(n))
	r.loop.received.fromServers += uint64(n)
}

// conclude draws the conclusions from an end that has not taken everything.
func (s *batchedSend) conclude() {
	r := s.run
	switch {
	case r.over:
		return
	case s.shut:
		r.severed()
	case s.failed() && s.end == &r.client:
		r.clientLost(s.errno)
	case s.failed():
		r.serverUnwritable(s.errno)
	}
	r.settle()
}

// asyncIO is the kernel's interface for several writes in one system call, io_submit(2). Of sockets that do not block, as those of a loop, nothing is
// asynchronous about it: each write has been made, as far as it could, when the call returns.
type asyncIO struct {
	context uintptr
	orders  [batchSends]asyncWrite
	listed  [batchSends]*asyncWrite // each of them
	events  [batchSends]asyncEvent
}

// asyncWrite is struct iocb of linux/aio_abi.h.
type asyncWrite struct {
	data   uint64 // comes back with the event
	_      uint64
	opcode uint16
	_      int16
	fd     int32
	buffer uint64
	length uint64
	_      [3]uint64
}

// asyncEvent is struct io_event of the same header.
type asyncEvent struct {
	data   uint64
	_      uint64
	result int64 // bytes, or an error below zero
	_      int64
}

// asyncPwrite is IOCB_CMD_PWRITE.
const asyncPwrite = 1

// newAsyncIO returns nil where the kernel, or a filter of system calls, does not allow it, or does not write to sockets with it.
func newAsyncIO() *asyncIO {
	a := &asyncIO{}
	if _, _, errno := syscall.Syscall(unix.SYS_IO_SETUP, batchSends, uintptr(unsafe.Pointer(&a.context)), 0); errno != 0 {
		return nil
	}
	for i := range a.orders {
		a.listed[i] = &a.orders[i]
	}
	if !a.writesToSockets() {
		a.close()
		return nil
	}
	return a
}

// writesToSockets tries it: what only looks like Linux may take files alone.
func (a *asyncIO) writesToSockets() bool {
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return false
	}
	defer ln.Close()
	to, err := net.DialTCP("tcp", nil, ln.Addr().(*net.TCPAddr))
	if err != nil {
		return false
	}
	defer to.Close()
	fd, err := duplicate(to)
	if err != nil {
		return false
	}
	defer closeDescriptor(fd)
	trial := []batchedSend{{end: &loopEnd{fd: fd}, bytes: []byte("pgtether")}}
	return a.send(trial) && trial[0].made && trial[0].n == len(trial[0].bytes)
}

// send makes the sends whose gates were open, as many as the kernel accepts, and marks them. It reports whether it can be used again.
func (a *asyncIO) send(sends []batchedSend) bool {
	n := 0
	for i := range sends {
		if s := &sends[i]; !s.shut {
			a.orders[n] = asyncWrite{data: uint64(i), opcode: asyncPwrite, fd: s.end.fd,
				buffer: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(s.bytes)))), length: uint64(len(s.bytes))}
			n++
		}
	}
	if n == 0 {
		return true
	}
	m, _, errno := syscall.RawSyscall(unix.SYS_IO_SUBMIT, a.context, uintptr(n), uintptr(unsafe.Pointer(&a.listed)))
	if errno != 0 { // not even the first was accepted
		return isLater(errno) || errno == syscall.EBADF
	}
	for _, order := range a.orders[:m] {
		s := &sends[order.data]
		s.made, s.errno = true, syscall.EIO // until it is known better
	}
	return a.collect(sends, int(m))
}

// collect learns what became of n writes, and reports whether it did.
func (a *asyncIO) collect(sends []batchedSend, n int) bool {
	for n > 0 {
		m, _, errno := syscall.RawSyscall6(unix.SYS_IO_GETEVENTS, a.context, uintptr(n), uintptr(n), uintptr(unsafe.Pointer(&a.events)), 0, 0)
		switch errno {
		case 0:
		case syscall.EINTR:
			continue
		default:
			return false
		}
		for _, e := range a.events[:m] {
			s := &sends[e.data]
			s.n, s.errno = max(int(e.result), 0), syscall.Errno(max(-e.result, 0))
		}
		n -= int(m)
	}
	return true
}

// close lets go of the kernel's part, which may take a while. It may be called more than once.
func (a *asyncIO) close() {
	if a != nil && a.context != 0 {
		_, _, _ = syscall.Syscall(unix.SYS_IO_DESTROY, a.context, 0, 0)
		a.context = 0
	}
}
