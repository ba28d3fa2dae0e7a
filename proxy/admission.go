package proxy

import (
	"container/list"
	"context"
	"sync"
	"time"
)

const (
	// dialsAtOnce bounds the logins between the dial and the backend's first answer. Each costs the server a process; more of them at once
	// make every one slower.
	dialsAtOnce = 32
	// overload is how long the first in the line may have waited before the line is served from its other end: whoever comes during a flood is
	// then served as if there were none, and those who would have been too late anyway pay for it.
	overload = 100 * time.Millisecond
)

// admission bounds the logins between the dial and the session. When all places are taken, the login that has waited longest for its own client
// makes room: a client that stays silent after the password request keeps nobody out. A login whose server is still working is never ended.
type admission struct {
	mu       sync.Mutex
	max      int
	underWay int
	dialing  int
	silent   list.List // of *place: those who wait for their client, the longest first
	line     list.List // of *place: those who wait for a place, the longest first
}

// place is one login's place, or its place in the line.
type place struct {
	adm   *admission
	evict func(error)   // ends the login for that reason; must not block
	came  time.Time     // when it joined the line
	in    chan struct{} // closed when the place is the login's

	dialing, underWay bool
	silentSince       time.Time
	asSilent, asWaits *list.Element
}

func newAdmission(most int) *admission { return &admission{max: most} }

// configure changes the bound; logins that are under way stay.
func (a *admission) configure(most int) {
	a.locked(func() { a.max = most })
}

// enter waits for a place, no longer than patience. evict is called at most once, from another goroutine, when the login has to make room: with
// errEvicted while it waits for its client, with errTurnedAway while it is in the line. It still has to leave. The error is errHoldFull or the cause of ctx.
func (a *admission) enter(ctx context.Context, patience time.Duration, evict func(error)) (*place, error) {
	p := &place{adm: a, evict: evict, came: time.Now(), in: make(chan struct{})}
	a.locked(func() { p.asWaits = a.line.PushBack(p) })
	select {
	case <-p.in:
		return p, nil
	default:
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.in:
		return p, nil
	case <-timer.C:
		p.leave()
		return nil, errHoldFull
	case <-ctx.Done():
		p.leave()
		return nil, context.Cause(ctx)
	}
}

// answered says that the backend gave its first answer.
func (p *place) answered() {
	p.adm.locked(func() { p.adm.answeredLocked(p) })
}

// awaitsClient says that the login waits for its client's bytes from now on.
func (p *place) awaitsClient() {
	p.adm.locked(func() {
		if p.underWay && p.asSilent == nil {
			p.asSilent, p.silentSince = p.adm.silent.PushBack(p), time.Now()
		}
	})
}

// clientSpoke ends what awaitsClient began.
func (p *place) clientSpoke() {
	p.adm.locked(func() { p.adm.spokeLocked(p) })
}

// leave gives the place back. It may be called more than once.
func (p *place) leave() {
	p.adm.locked(func() { p.adm.leaveLocked(p) })
}

// shed ends one login to make room for a new client where limits.max_clients is reached: the one that has waited longest for its client, or else
// the first in the line. (There is a line only when logins come faster than the server takes them: then somebody has to be turned away, and
// whoever has waited longest is too late first.) It reports whether there was one.
func (a *admission) shed() bool {
	var victim *place
	why := errEvicted
	a.locked(func() {
		if e := a.silent.Front(); e != nil {
			victim = e.Value.(*place)
		} else if e := a.line.Front(); e != nil {
			victim, why = e.Value.(*place), errTurnedAway
		}
		if victim != nil {
			a.leaveLocked(victim)
		}
	})
	if victim != nil {
		victim.evict(why)
	}
	return victim != nil
}

// silence reports whether any login waits for its client, and ends the one that has done so for longest if that is long: the server has no room, and
// that login takes some for nothing.
func (a *admission) silence() (any bool) {
	var victim *place
	a.locked(func() {
		e := a.silent.Front()
		if any = e != nil; any && time.Since(e.Value.(*place).silentSince) > overload {
			victim = e.Value.(*place)
			a.leaveLocked(victim)
		}
	})
	if victim != nil {
		victim.evict(errEvicted)
	}
	return any
}

// locked applies a change, lets in whoever can come in, and then ends those who had to make room.
func (a *admission) locked(change func()) {
	a.mu.Lock()
	change()
	evicted := a.admitLocked()
	a.mu.Unlock()
	for _, p := range evicted {
		p.evict(errEvicted)
	}
}

func (a *admission) admitLocked() (evicted []*place) {
	for a.line.Len() > 0 && a.dialing < dialsAtOnce {
		if a.underWay >= a.max {
			e := a.silent.Front()
			if e == nil {
				return evicted
			}
			victim := e.Value.(*place)
			a.leaveLocked(victim)
			evicted = append(evicted, victim)
		}
		next := a.line.Front()
		if time.Since(next.Value.(*place).came) > overload {
			next = a.line.Back()
		}
		p := next.Value.(*place)
		a.line.Remove(next)
		p.asWaits, p.dialing, p.underWay = nil, true, true
		a.dialing++
		a.underWay++
		close(p.in)
	}
	return evicted
}

func (a *admission) leaveLocked(p *place) {
	if p.asWaits != nil {
		a.line.Remove(p.asWaits)
		p.asWaits = nil
	}
	a.spokeLocked(p)
	a.answeredLocked(p)
	if p.underWay {
		p.underWay = false
		a.underWay--
	}
}

func (a *admission) answeredLocked(p *place) {
	if p.dialing {
		p.dialing = false
		a.dialing--
	}
}

func (a *admission) spokeLocked(p *place) {
	if p.asSilent != nil {
		a.silent.Remove(p.asSilent)
		p.asSilent = nil
	}
}
