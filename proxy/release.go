package proxy

import (
	"context"
	"time"
)

// idle is what release returns when there is nothing to wait for but a change.
const idle = time.Duration(-1)

// run lets held logins go until ctx is done. It owns the decision who goes when; Server waits for its end.
func (q *holdQueue) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		q.mu.Lock()
		next := q.releaseLocked(time.Now())
		q.mu.Unlock()
		if next == idle {
			timer.Stop()
		} else {
			timer.Reset(next)
		}
		select {
		case <-ctx.Done():
			return
		case <-q.wake:
		case <-timer.C:
		}
	}
}

// releaseLocked lets go everybody whose turn has come and returns how long it is until the next one's.
func (q *holdQueue) releaseLocked(now time.Time) time.Duration {
	if q.route == nil || q.holding {
		return idle
	}
	for q.waiting.Len() > 0 {
		head := q.waiting.Front().Value.(*waiter)
		switch {
		case q.failing && q.scout != nil:
			return idle
		case q.failing && now.Before(q.retryAt):
			return q.retryAt.Sub(now)
		case q.failing:
			q.scout = q.letGoLocked(q.freshestLocked())
			return idle
		case head.seq <= q.paced && now.Before(q.pacer.due()):
			return q.pacer.due().Sub(now)
		case head.seq <= q.paced:
			q.pacer.take(now, q.chance())
		}
		q.letGoLocked(head)
	}
	return idle
}

// freshestLocked is the first of those who have tried least often. Somebody waits.
func (q *holdQueue) freshestLocked() *waiter {
	best := q.waiting.Front().Value.(*waiter)
	for e := q.waiting.Front().Next(); e != nil && best.tries > 0; e = e.Next() {
		if w := e.Value.(*waiter); w.tries < best.tries {
			best = w
		}
	}
	return best
}

func (q *holdQueue) letGoLocked(w *waiter) *ticket {
	q.waiting.Remove(w.place)
	w.tries++
	t := q.ticketLocked()
	w.ready <- t // has room for one: a waiter is in the queue once
	return t
}

// worked says that the backend answered as a server that takes logins does: everybody may go on. failed may still follow, when the same
// backend turns out not to be the writer.
func (t *ticket) worked() {
	t.settle(func(q *holdQueue) { q.failing, q.pause, q.workedAt, q.workedFor = false, 0, time.Now(), t })
}

// undecided says that the backend answered and has yet to show whether it is the writer. Those who wait for that need not wait for this login alone: the
// next one may try after a pause.
func (t *ticket) undecided() {
	t.settle(func(q *holdQueue) {
		if q.failing {
			q.retryAt = time.Now().Add(max(q.pause, scoutFirst))
		}
	})
}

// failed says that the route could not be used. It returns how long the attempt took: the login had no writer in that time. certain means that
// the node itself has shown it. Any other failure says nothing about the route when it has worked for another login since this attempt began: a
// server that is merely busy lets some wait for too long.
func (t *ticket) failed(certain bool) time.Duration {
	took := time.Since(t.begun)
	t.settle(func(q *holdQueue) {
		if !certain && q.workedFor != t && q.workedAt.After(t.begun) {
			return
		}
		q.failing = true
		q.pause = min(max(2*q.pause, scoutFirst), scoutLast)
		q.retryAt = time.Now().Add(q.pause)
	})
	return took
}

// unused says that the login has nothing more to tell about the route.
func (t *ticket) unused() { t.settle(func(*holdQueue) {}) }

// settle reports a result, unless the route has been replaced since.
func (t *ticket) settle(change func(*holdQueue)) {
	q := t.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if t.route != q.route {
		return
	}
	q.updateLocked(func() {
		if q.scout == t {
			q.scout = nil
		}
		change(q)
	})
}
