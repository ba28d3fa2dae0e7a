package proxy

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/pgtether/pgtether/internal/pgwire"
)

const (
	// scoutFirst and scoutLast bound the pause before one login is sent to try a route on which the last attempt failed.
	scoutFirst = 100 * time.Millisecond
	scoutLast  = 500 * time.Millisecond
)

// errHoldFull: as many logins as may wait are waiting.
var errHoldFull = errors.New("hold queue is full")

// noWriterError: the login's budget for waiting is used up.
type noWriterError struct{ reason pgwire.Reason }

func (e *noWriterError) Error() string { return "waited for a writer: " + e.reason.String() }

// holdQueue is where logins wait for a writer, first come, first served.
//
// While a route is open and works, and nobody waits, a login passes at once. What waited while there was none is let go at a rate that grows;
// what came later follows without one. After a failed attempt on the open route the others wait while one login at a time, the scout, tries it:
// a writer that is about to be declared dead is not dialled by hundreds. The scout is the one that has tried least often, the first of those: a
// login that fails whenever it tries does not keep the others from finding out that they would not.
type holdQueue struct {
	max     int
	ceiling int            // releases per second
	chance  func() float64 // uniform in [0,1)

	mu       sync.Mutex
	route    *openRoute
	holding  bool          // the control side wants new logins to wait, whatever the route
	reason   pgwire.Reason // what a login is told at the end of its budget
	refusing bool          // nobody waits: the budget of every login is at its end
	stopped  error
	failing  bool // the last attempt on the route failed
	scout    *ticket
	retryAt  time.Time
	pause    time.Duration
	// workedAt is when the route last worked for anybody, workedFor for whom.
	workedAt  time.Time
	workedFor *ticket

	waiting list.List // of *waiter, in the order of seq
	lastSeq uint64
	paced   uint64 // waiters up to this seq are let go at the pacer's rate
	pacer   pacer
	changed chan struct{} // closed, and replaced, when usable changes: budgets start or stop running
	wake    chan struct{} // holds a token when the release loop has something to look at
}

// waiter is one login's place in the queue; it keeps the place and what is left of the budget over several waits.
type waiter struct {
	budget time.Duration
	seq    uint64
	tries  int          // how often it was let go
	ready  chan *ticket // receives the ticket of the one who let it go; made when it has to wait
	place  *list.Element
	waits  func() // called, if set, when the login has to wait, perhaps more than once, without the lock
}

// ticket lets a login try the route once. Its holder must call unused in the end, after worked and failed where those apply.
type ticket struct {
	queue *holdQueue
	route *openRoute
	begun time.Time
}

func newHoldQueue(max, ceiling int, chance func() float64) *holdQueue {
	return &holdQueue{max: max, ceiling: ceiling, chance: chance, reason: pgwire.NoWriter, changed: make(chan struct{}), wake: make(chan struct{}, 1)}
}

// configure changes the bounds; who waits already stays.
func (q *holdQueue) configure(max, ceiling int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.max, q.ceiling = max, ceiling
}

// usableLocked reports whether logins may go on. While it is false their budgets run.
func (q *holdQueue) usableLocked() bool { return q.route != nil && !q.holding && !q.failing }

// updateLocked applies a change and starts what follows from it.
func (q *holdQueue) updateLocked(change func()) {
	before := q.usableLocked()
	change()
	if after := q.usableLocked(); after != before {
		close(q.changed)
		q.changed = make(chan struct{})
		if after {
			q.paced = q.lastSeq
			q.pacer = newPacer(time.Now(), q.ceiling)
		}
	}
	q.wakeLocked()
}

// wakeLocked has the release loop look again, if anybody waits.
func (q *holdQueue) wakeLocked() {
	if q.waiting.Len() == 0 {
		return
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// open lets logins go to the route.
func (q *holdQueue) open(r *openRoute) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.updateLocked(func() {
		if q.route != r {
			q.route, q.failing, q.scout, q.pause = r, false, nil, 0
		}
		q.holding, q.refusing, q.reason = false, false, pgwire.NoWriter
	})
}

// hold makes new logins wait; reason is what they are told at the end of their budget.
func (q *holdQueue) hold(reason pgwire.Reason) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.updateLocked(func() { q.holding, q.refusing, q.reason = true, false, reason })
}

// refuse ends every wait, and begins none, until hold or open: an operator must decide, and that takes longer than a login can wait.
func (q *holdQueue) refuse(reason pgwire.Reason) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.updateLocked(func() { q.holding, q.refusing, q.reason = true, true, reason })
	close(q.changed) // those that wait already look again
	q.changed = make(chan struct{})
}

// close drops the route if its epoch was cut. Without a route logins wait.
func (q *holdQueue) close(epoch uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.route == nil || q.route.Epoch > epoch {
		return
	}
	q.updateLocked(func() { q.route, q.failing, q.scout, q.pause = nil, false, nil, 0 })
}

// stop ends every wait, now and later, with err.
func (q *holdQueue) stop(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stopped = err
	close(q.changed)
	q.changed = make(chan struct{})
	q.wakeLocked()
}

// why is what a login would be told at the end of its budget now.
func (q *holdQueue) why() pgwire.Reason {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.reason
}

// held is how many logins wait.
func (q *holdQueue) held() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waiting.Len()
}

// wait returns when the login may try the route. It ends with errHoldFull, a *noWriterError at the end of the budget, the error given to stop, or
// the cause of ctx.
func (q *holdQueue) wait(ctx context.Context, w *waiter) (*ticket, error) {
	q.mu.Lock()
	if q.stopped != nil {
		defer q.mu.Unlock()
		return nil, q.stopped
	}
	first := w.seq == 0
	if first {
		q.lastSeq++
		w.seq = q.lastSeq
	}
	if q.usableLocked() && q.waiting.Len() == 0 {
		defer q.mu.Unlock()
		w.tries++
		return q.ticketLocked(), nil
	}
	if q.refusing {
		defer q.mu.Unlock()
		return nil, &noWriterError{reason: q.reason}
	}
	if first && q.waiting.Len() >= q.max {
		defer q.mu.Unlock()
		return nil, errHoldFull
	}
	q.enqueueLocked(w)
	for {
		usable, changed := q.usableLocked(), q.changed
		q.mu.Unlock()
		if w.waits != nil {
			w.waits()
		}
		t := q.sleep(ctx, w, usable, changed)
		q.mu.Lock()
		if t == nil {
			t = w.taken() // let go between the wake-up and the lock
		}
		if t != nil {
			q.mu.Unlock()
			return t, nil
		}
		if err := q.overLocked(ctx, w); err != nil {
			q.waiting.Remove(w.place)
			q.mu.Unlock()
			return nil, err
		}
	}
}

// sleep waits for whatever comes first, and charges the time to the budget while there is no usable route.
func (q *holdQueue) sleep(ctx context.Context, w *waiter, usable bool, changed <-chan struct{}) *ticket {
	var expired <-chan time.Time
	if !usable {
		start := time.Now()
		timer := time.NewTimer(w.budget)
		defer func() { timer.Stop(); w.budget -= time.Since(start) }()
		expired = timer.C
	}
	select {
	case t := <-w.ready:
		return t
	case <-expired:
	case <-changed:
	case <-ctx.Done():
	}
	return nil
}

// overLocked says why the wait is over without a ticket; nil when it is not.
func (q *holdQueue) overLocked(ctx context.Context, w *waiter) error {
	switch {
	case q.stopped != nil:
		return q.stopped
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case (w.budget <= 0 || q.refusing) && !q.usableLocked():
		return &noWriterError{reason: q.reason}
	default:
		return nil
	}
}

// enqueueLocked puts the waiter in its place: before all who came later, also when it comes back.
func (q *holdQueue) enqueueLocked(w *waiter) {
	if w.ready == nil {
		w.ready = make(chan *ticket, 1)
	}
	for e := q.waiting.Back(); e != nil; e = e.Prev() {
		if e.Value.(*waiter).seq < w.seq {
			w.place = q.waiting.InsertAfter(w, e)
			q.wakeLocked()
			return
		}
	}
	w.place = q.waiting.PushFront(w)
	q.wakeLocked()
}

func (w *waiter) taken() *ticket {
	select {
	case t := <-w.ready:
		return t
	default:
		return nil
	}
}

func (q *holdQueue) ticketLocked() *ticket {
	return &ticket{queue: q, route: q.route, begun: time.Now()}
}
