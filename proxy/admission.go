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
	// grace is how long a client may take for its answer before its login can be ended to make room: an honest one that is far away answers within
	// it, and whoever is kept out by silent ones waits no longer than that.
	grace = 200 * time.Millisecond
	// graceSpoken is the same for a client that has answered before: its next answer may be the one for which it has to compute (SCRAM's proof).
	graceSpoken = 1 * time.Second
	// hopeAfterEviction is how long a server may take to give back the connection of a login that made room.
	hopeAfterEviction = time.Second
)

// admission bounds the logins between the dial and the session. When all places are taken, the login that has waited longest for its own client,
// and for longer than grace, makes room: a client that stays silent after the password request keeps nobody out. A login whose server is still
// working is never ended.
type admission struct {
	mu       sync.Mutex
	max      int
	underWay int
	dialing  int
	silent   list.List // of *place: those who wait for the first answer of their client, the longest first
	spoken   list.List // of *place: those who wait for a further answer, the longest first
	line     list.List // of *place: those who wait for a place, the longest first
	// squeezed is the bound in place of max since squeezedAt, when the server was full; 0 when there is none.
	squeezed   int
	squeezedAt time.Time
	evictedAt  time.Time // when a silent login last made room
	// recheck looks again when the grace of the login that is silent for longest is over; nil when nobody waits for that.
	recheck *time.Timer
}

// place is one login's place, or its place in the line.
type place struct {
	adm   *admission
	evict func(error)   // ends the login for that reason; must not block
	came  time.Time     // when it joined the line
	in    chan struct{} // closed when the place is the login's; nil: it was at once

	dialing, underWay bool
	hasSpoken         bool // its client has answered before
	silentSince       time.Time
	asSilent, asWaits *list.Element
}

func newAdmission(most int) *admission { return &admission{max: most} }

// configure changes the bound; logins that are under way stay.
func (a *admission) configure(most int) {
	a.locked(func() { a.max = most })
}

// enter waits for a place, no longer than patience. evict is called at most once, from another goroutine, when the login has to make room: with
// errEvicted while it waits for its client, with errTurnedAway while it is in the line. It still has to leave. waits is called when there is no place
// yet. The error is errHoldFull or the cause of ctx.
func (a *admission) enter(ctx context.Context, patience time.Duration, evict func(error), waits func()) (*place, error) {
	p := &place{adm: a, evict: evict, came: time.Now()}
	a.locked(func() {
		if a.line.Len() == 0 && a.dialing < dialsAtOnce && a.underWay < a.limitLocked() {
			a.letInLocked(p)
		} else {
			p.in, p.asWaits = make(chan struct{}), a.line.PushBack(p)
		}
	})
	if p.in == nil {
		return p, nil
	}
	select {
	case <-p.in:
		return p, nil
	default:
	}
	waits()
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
			p.asSilent, p.silentSince = p.adm.listOf(p).PushBack(p), time.Now()
		}
	})
}

// clientSpoke ends what awaitsClient began. It reports whether the login may go on: when it has made room meanwhile, evict is called for it, or will be.
func (p *place) clientSpoke() (mayGoOn bool) {
	p.adm.locked(func() {
		p.adm.spokeLocked(p)
		p.hasSpoken = true
		mayGoOn = p.underWay
	})
	return mayGoOn
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
		if p, left := a.longestSilentLocked(); p != nil && left <= 0 {
			victim = p
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

// serverFull says that the server had no connection left for a login. While logins that wait for their clients hold some, fewer logins may be under
// way for a moment, so that those make room. It reports whether there is hope: silent logins there are, or a moment ago there were.
func (a *admission) serverFull() (hope bool) {
	a.locked(func() {
		hope = a.silent.Len()+a.spoken.Len() > 0 || time.Since(a.evictedAt) < hopeAfterEviction
		if hope {
			a.squeezed, a.squeezedAt = max(a.underWay*3/4, 1), time.Now()
		}
	})
	return hope
}

// limitLocked is how many logins may be under way: fewer than configured after the server was full, and twice as many with each second since.
func (a *admission) limitLocked() int {
	if a.squeezed == 0 {
		return a.max
	}
	since := time.Since(a.squeezedAt)
	if doublings := int(since / time.Second); doublings < 16 && a.squeezed<<doublings < a.max {
		return a.squeezed << doublings
	}
	a.squeezed = 0
	return a.max
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
		for limit := a.limitLocked(); a.underWay >= limit; {
			victim, left := a.longestSilentLocked()
			switch {
			case victim == nil:
				return evicted
			case left > 0:
				a.recheckLocked(left)
				return evicted
			}
			a.leaveLocked(victim)
			a.evictedAt = time.Now()
			evicted = append(evicted, victim)
		}
		next := a.line.Front()
		if time.Since(next.Value.(*place).came) > overload {
			next = a.line.Back()
		}
		p := next.Value.(*place)
		a.line.Remove(next)
		p.asWaits = nil
		a.letInLocked(p)
		close(p.in)
	}
	return evicted
}

func (a *admission) letInLocked(p *place) {
	p.dialing, p.underWay = true, true
	a.dialing++
	a.underWay++
}

// longestSilentLocked returns the login that is the first to make room, if any waits for its client, and what is left of its grace. Clients that have
// never answered come first.
func (a *admission) longestSilentLocked() (p *place, left time.Duration) {
	if e := a.silent.Front(); e != nil {
		p = e.Value.(*place)
		if left = grace - time.Since(p.silentSince); left <= 0 {
			return p, left
		}
	}
	if e := a.spoken.Front(); e != nil {
		other := e.Value.(*place)
		if l := graceSpoken - time.Since(other.silentSince); p == nil || l < left {
			return other, l
		}
	}
	return p, left
}

// listOf is the list in which the login waits for its client.
func (a *admission) listOf(p *place) *list.List {
	if p.hasSpoken {
		return &a.spoken
	}
	return &a.silent
}

// recheckLocked lets whoever waits try again after d.
func (a *admission) recheckLocked(d time.Duration) {
	if a.recheck != nil {
		return
	}
	a.recheck = time.AfterFunc(d, func() {
		a.locked(func() { a.recheck = nil })
	})
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
		a.listOf(p).Remove(p.asSilent)
		p.asSilent = nil
	}
}
