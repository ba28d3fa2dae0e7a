package proxy

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pgtether/pgtether/internal/pgwire"
)

const (
	// loopEvents is how many sockets one wait reports at most.
	loopEvents = 256
	// chunkSize is how much one read takes: the share of a busy pair before it is another one's turn.
	chunkSize = 32 << 10
	// sparesMax bounds the free chunks that a loop keeps.
	sparesMax = 32
	// fetchAhead is for how many events fetch is done at once: as many as a processor can wait for together.
	fetchAhead = 8
	// politeAfter is how often a wait is interrupted before it becomes an ordinary one: with nothing to do, every 10 to 20 ms.
	politeAfter = 3
	// yieldEvery is less than the ten milliseconds after which the runtime interrupts who has not given up its processor, which costs a signal, a failed
	// wait and a thread woken to look for work: at one client 4 to 12 % of the processor time.
	yieldEvery = 5 * time.Millisecond
	// expiryEvery is how exactly a loop's deadlines are kept.
	expiryEvery = 100 * time.Millisecond
)

// chunk holds what one side has sent while the other one does not read.
type chunk [chunkSize]byte

// eventLoop is one goroutine that waits for many sockets at once and is the only one to touch them. Others reach it by call and post.
//
// It waits in the kernel without telling the scheduler, which spares a hand-over per wake-up; the price is that it keeps its processor meanwhile.
// When the scheduler or the garbage collector wants that, a signal interrupts the wait, and the loop yields. After a few of those it waits in the ordinary
// way until there is something to do: so a loop with nothing to do costs nothing. Not after the first: in an ordinary wait the runtime takes the
// processor away, and its monitor looks after that every 20 us for a while.
type eventLoop struct {
	f     *loopForwarder
	epoll int
	wake  int // an eventfd
	load  atomic.Int64
	done  chan struct{} // closed when the loop has ended

	mu     sync.Mutex
	inbox  []func()
	closed bool // nothing is taken into the inbox any more

	// What follows belongs to the loop's goroutine.
	events   [loopEvents]unix.EpollEvent
	buffer   chunk
	spares   []*chunk
	batch    batch
	slots    []loopSlot
	doors    []*loopDoor
	routines []*loopRoutine // without a job
	free     []int32
	timed    map[*loopRun]struct{} // those with a deadline
	looked   int64                 // when the deadlines were last looked at
	floor    uint64
	why      pgwire.Reason
	polite   bool // wait in the ordinary way
	rude     bool // the other way is possible
	told     bool // the inbox is not empty
	closing  bool
	heard    uint64 // the newest epoch of which something was written to a client since the last wait
	clock    int64  // nanoseconds since heardBase, after the last wait
	yielded  int64  // when the processor was last given up, on the same clock
	signals  uint64 // waits that the runtime interrupted
	fetched  uint64 // of no meaning: it keeps fetch from being nothing
	received struct{ fromClients, fromServers uint64 }
}

// loopSlot is a place for a run. age tells its tenants apart: an event may be about the one before.
type loopSlot struct {
	run *loopRun
	age int32
}

// wakeSlot is the event of the eventfd.
const wakeSlot = -1

// doorSlot is the event of the first door; those of others follow below it.
const doorSlot = -2

func newEventLoop(f *loopForwarder) (*eventLoop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, errors.Join(os.NewSyscallError("eventfd", err), unix.Close(epoll))
	}
	l := &eventLoop{f: f, epoll: epoll, wake: wake, done: make(chan struct{}), timed: map[*loopRun]struct{}{}, rude: preemptible()}
	if err := control(epoll, unix.EPOLL_CTL_ADD, int32(wake), &unix.EpollEvent{Events: unix.EPOLLIN, Fd: wakeSlot}); err != nil {
		return nil, errors.Join(err, unix.Close(wake), unix.Close(epoll))
	}
	l.batch = newBatch()
	go l.run()
	return l, nil
}

// post has fn run on the loop's goroutine, after everything that was posted before. It reports false when the loop has ended.
func (l *eventLoop) post(fn func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.inbox = append(l.inbox, fn)
	if len(l.inbox) == 1 {
		_, _ = unix.Write(l.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // fails only when it is to be read anyway
	}
	return true
}

// call is post that waits until fn has run.
func (l *eventLoop) call(fn func()) bool {
	ran := make(chan struct{})
	ok := l.post(func() { fn(); close(ran) })
	if ok {
		<-ran
	}
	return ok
}

// run is the loop.
func (l *eventLoop) run() {
	defer close(l.done)
	for !l.closing {
		n := l.wait()
		l.handle(l.events[:n])
		l.settleAccounts(n)
		if l.clock-l.yielded >= int64(yieldEvery) {
			l.yielded = l.clock
			yield()
		}
		if l.told {
			l.told = false
			l.obey()
		}
		if len(l.timed) > 0 {
			l.expire()
		}
	}
	l.end()
}

// handle deals with everything that one wait has reported.
func (l *eventLoop) handle(events []unix.EpollEvent) {
	l.batch.taken = len(events) >= l.batch.from
	for len(events) > 0 {
		some := events[:min(len(events), fetchAhead)]
		l.fetch(some)
		for i := range some {
			l.dispatch(&some[i])
		}
		if events = events[len(some):]; l.batch.isDue() {
			l.submit()
		}
	}
	l.submit()
	l.batch.taken = false
}

// wait returns how many sockets are ready.
func (l *eventLoop) wait() int {
	timeout := -1
	if len(l.timed) > 0 {
		timeout = int(expiryEvery / time.Millisecond)
	}
	for interrupted := 1; ; interrupted++ {
		var n uintptr
		var errno syscall.Errno
		if l.polite || !l.rude {
			n, _, errno = syscall.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.epoll), uintptr(unsafe.Pointer(&l.events)), loopEvents, uintptr(timeout), 0, 0)
		} else {
			n, _, errno = syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.epoll), uintptr(unsafe.Pointer(&l.events)), loopEvents, uintptr(timeout), 0, 0)
		}
		if errno == 0 {
			l.polite = l.polite && n == 0
			return int(n)
		}
		// Interrupted: somebody wants this processor, or it was not given up for ten milliseconds.
		l.signals++
		yield()
		l.polite = l.polite || interrupted >= politeAfter
	}
}

// fetch reads a little of everything that the next events are about. With many sessions none of it is in the processor's caches: here the processor
// waits for all of it together, where dispatch would wait for one cache line after the other.
func (l *eventLoop) fetch(events []unix.EpollEvent) {
	var runs [fetchAhead]*loopRun
	n := 0
	for i := range events {
		if id := events[i].Fd; id >= 0 && l.slots[id>>1].run != nil {
			runs[n] = l.slots[id>>1].run
			n++
		}
	}
	sum := uint64(0)
	for _, r := range runs[:n] { // of each cache line of a run
		sum += uint64(len(r.toClient.bytes) + len(r.kept))
		if r.pair == nil {
			sum++
		}
	}
	for _, r := range runs[:n] {
		if p := r.pair; p != nil {
			sum += p.backend.epoch
			if p.tracker != nil {
				sum += p.tracker.Fetch()
			}
		}
	}
	l.fetched = sum
}

// dispatch hands an event to the run it is about.
func (l *eventLoop) dispatch(e *unix.EpollEvent) {
	if e.Fd == wakeSlot {
		var b [8]byte
		_, _ = unix.Read(l.wake, b[:])
		l.told = true
		return
	}
	if e.Fd < wakeSlot {
		l.submit() // logins take their time
		l.doors[doorSlot-e.Fd].ready()
		return
	}
	slot := &l.slots[e.Fd>>1]
	if slot.run != nil {
		slot.run.catchUp()
	}
	switch {
	case slot.run == nil || slot.age != e.Pad: // it has ended since
	case slot.run.login != nil:
		l.submit() // it takes its time
		slot.run.loginReady(slot.run.endOf(e.Fd), e.Events)
	case e.Fd&1 == 0:
		slot.run.clientReady(e.Events)
	default:
		slot.run.serverReady(e.Events)
	}
}

// settleAccounts does once for n events what need not be done for each: the clock, and the counts that others read. It comes before anything is
// acknowledged to others, so that they see everything that happened until then.
func (l *eventLoop) settleAccounts(n int) {
	if n == 0 && len(l.timed) == 0 {
		return
	}
	l.clock = int64(time.Since(heardBase))
	if l.heard != 0 {
		l.f.heard.note(l.heard, l.clock)
		l.heard = 0
	}
	if n := l.received.fromClients; n > 0 {
		l.f.metrics.ClientToServer.Add(n)
	}
	if n := l.received.fromServers; n > 0 {
		l.f.metrics.ServerToClient.Add(n)
	}
	l.received.fromClients, l.received.fromServers = 0, 0
}

// obey runs what was posted.
func (l *eventLoop) obey() {
	l.mu.Lock()
	orders := l.inbox
	l.inbox = nil
	l.mu.Unlock()
	for _, order := range orders {
		order()
	}
	l.settleAccounts(1)
}

// expire ends the waits whose time has passed.
func (l *eventLoop) expire() {
	if l.clock-l.looked < int64(expiryEvery) {
		return
	}
	l.looked = l.clock
	for r := range l.timed {
		switch {
		case l.clock < r.deadline:
		case r.login != nil:
			r.endWait(os.ErrDeadlineExceeded)
		case len(r.toClient.bytes) == 0: // what the server has said is delivered first
			r.serverEnded(os.ErrDeadlineExceeded)
		}
	}
}

// end lets go of everything. Those who still wait for an answer get it.
func (l *eventLoop) end() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.obey()
	for _, slot := range l.slots {
		if slot.run != nil && slot.run.pair != nil {
			slot.run.end(result{end: endCut, why: pgwire.Killed})
		}
	}
	for _, d := range l.doors {
		d.end(net.ErrClosed)
	}
	for _, c := range l.routines {
		c.stop()
	}
	l.batch.aio.close()
	_ = unix.Close(l.wake)
	_ = unix.Close(l.epoll)
}

// add takes a run over. Nothing of it has been sent before.
func (l *eventLoop) add(r *loopRun) {
	l.allot(r)
	r.begin()
}

// allot gives a run its slot.
func (l *eventLoop) allot(r *loopRun) {
	if len(l.free) == 0 {
		l.free = append(l.free, int32(len(l.slots)))
		l.slots = append(l.slots, loopSlot{})
	}
	r.slot = l.free[len(l.free)-1]
	l.free = l.free[:len(l.free)-1]
	l.slots[r.slot].run = r
}

// remove forgets a run: no event of its sockets is delivered any more. Of sockets that are closed next the kernel need not be told.
func (l *eventLoop) remove(r *loopRun, closing bool) {
	if !closing {
		_ = l.watch(r, &r.client, 0, false)
		_ = l.watch(r, &r.server, 0, false)
	}
	slot := &l.slots[r.slot]
	slot.run = nil
	slot.age++
	l.free = append(l.free, r.slot)
	delete(l.timed, r)
	l.load.Add(-1)
}

// watch says which events of a socket are wanted. A socket that is listed reports failures even with none; one that is not reports nothing. What is
// there already is reported at once, and then only what is new (edge triggered): the kernel need not look at every socket again after each event.
// The error is that memory is short.
func (l *eventLoop) watch(r *loopRun, e *loopEnd, events uint32, listed bool) error {
	op := unix.EPOLL_CTL_MOD
	switch {
	case !listed && !e.listed:
		return nil
	case !listed:
		op = unix.EPOLL_CTL_DEL
	case !e.listed:
		op = unix.EPOLL_CTL_ADD
	}
	told := events | unix.EPOLLET
	if events&unix.EPOLLIN != 0 {
		told |= unix.EPOLLRDHUP
	}
	event := unix.EpollEvent{Events: told, Fd: r.slot<<1 | int32(e.side), Pad: l.slots[r.slot].age}
	if err := control(l.epoll, op, e.fd, &event); err != nil && listed {
		return err
	}
	e.wanted, e.listed, e.again = events, listed, false
	return nil
}

// spare returns a free chunk.
func (l *eventLoop) spare() *chunk {
	if n := len(l.spares); n > 0 {
		c := l.spares[n-1]
		l.spares = l.spares[:n-1]
		return c
	}
	return new(chunk)
}

func (l *eventLoop) giveBack(c *chunk) {
	if c != nil && len(l.spares) < sparesMax {
		l.spares = append(l.spares, c)
	}
}

// take ends the runs of the epochs without a word, for good. From then on the loop touches none of their sockets.
func (l *eventLoop) take(epoch uint64, why pgwire.Reason) (taken []*loopRun) {
	l.settleAccounts(1)
	if epoch >= l.floor {
		l.floor, l.why = epoch, why
	}
	for _, slot := range l.slots {
		if r := slot.run; r != nil && r.pair != nil && r.pair.backend.epoch <= epoch { // a login's backend is in the table
			r.letGo(result{end: endCut, why: why})
			taken = append(taken, r)
		}
	}
	return taken
}
