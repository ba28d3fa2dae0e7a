package health

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/pgtether/pgtether/decision"
)

var errNoFacts = wireError{text: "server answered, but not with what was asked for"}

// Prober probes one node, round by round. It keeps a connection to it between rounds. It is not safe for concurrent use.
type Prober struct {
	now     func() decision.Instant
	resolve func(ctx context.Context, network, host string) ([]netip.Addr, error)

	persistent *link
	history    historyCache
	// standby is the timeline that a standby was last identified with, kept while its receiver proves that it is still that one.
	standby timelineKey
	// wanting is true when the last round learned less than it should have: the replication connection is then tried at once.
	wanting bool
	// proof is the newest login, while nothing speaks against it.
	proof proof
	// differed says that in the last round the kept session did not find what a new one did.
	differed bool
	// deniedUntil is when to try the replication connection again after the server refused it.
	deniedUntil decision.Instant
	// gone is the history of which the server said that it does not have it; until goneUntil it is not asked for again. Any other timeline
	// is: a promotion may come at any moment, and its history decides whether the node may be the writer.
	gone      timelineKey
	goneUntil decision.Instant
}

// deniedPause spares the server's log: a missing line in pg_hba.conf, or a missing file, does not appear within a second.
const deniedPause = 30 * time.Second

// NewProber returns a prober without a connection. now is the clock that dates observations.
func NewProber(now func() decision.Instant) *Prober {
	return &Prober{now: now, resolve: net.DefaultResolver.LookupNetIP, wanting: true}
}

// outcome is what one way in gave.
type outcome struct {
	attempt  decision.Attempt
	facts    facts
	identity identity
}

// Probe makes one attempt on each way in and returns within the target's timeout (and the time in which the machine lets it run). When ctx is
// cancelled the observation proves nothing.
func (p *Prober) Probe(ctx context.Context, t Target) decision.Observation {
	return p.probe(ctx, t, false)
}

// Glance is Probe, but for a login that it may leave out: when the last one is younger than FreshEvery, and all is as it was then, it asks over the kept
// connection alone. The observation has the last login's attempt then. Anything else makes it a Probe: no answer, a late one, a name that leads
// elsewhere, a server that was started anew, another role, other settings of a session.
func (p *Prober) Glance(ctx context.Context, t Target) decision.Observation {
	return p.probe(ctx, t, true)
}

func (p *Prober) probe(ctx context.Context, t Target, glance bool) decision.Observation {
	began, start := p.now(), time.Now()
	ctx, cancel := context.WithDeadline(ctx, start.Add(t.Timeout))
	defer cancel()
	if p.persistent != nil && !p.persistent.target.sameServer(t) {
		p.persistent.close(ctx)
		p.persistent, p.wanting, p.deniedUntil = nil, true, 0
	}
	r := &round{prober: p, target: t, results: make(chan wayResult, wayCount), lastBeat: start, began: began}
	if glance && p.persistent.open() && !p.wanting && p.proof.lasts(began) {
		r.late = p.proof.patience(t.Timeout)
	}
	r.run(ctx)
	o := r.observation()
	r.renew(ctx)
	o.Node, o.Began, o.Took = t.Node, began, time.Since(start)
	o.ProberStalled = r.stalled
	return o
}

// Close ends the kept connection.
func (p *Prober) Close() {
	if p.persistent != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		p.persistent.close(ctx)
		p.persistent = nil
	}
}

// way is a way in.
type way uint8

const (
	persistent way = iota
	fresh
	replication
	wayCount
)

type wayResult struct {
	way way
	outcome
}

// round is one round in progress. Only the goroutine that runs it touches it; the ways report over results.
type round struct {
	prober  *Prober
	target  Target
	results chan wayResult
	began   decision.Instant
	// late is when a glance becomes a round of all ways, whatever it has learned; 0: it is one from the beginning.
	late time.Duration

	started, done [wayCount]bool
	outcomes      [wayCount]outcome
	// kept is what the kept connection has told, once it has.
	kept atomic.Pointer[facts]

	lastBeat time.Time
	stalled  bool
}

// run starts the two ordinary ways at once, and the replication way when it is needed, and waits for all that was started.
func (r *round) run(ctx context.Context) {
	beat := time.NewTicker(max(r.target.Timeout/10, time.Millisecond))
	defer beat.Stop()
	var late <-chan time.Time
	var leads <-chan bool
	if r.late > 0 {
		late, leads = time.After(r.late), r.lookUp(ctx)
	} else {
		r.start(ctx, fresh, r.askFresh)
	}
	r.start(ctx, persistent, r.askPersistent) // the kept connection is its own from here on
	if r.prober.wanting {
		r.startReplication(ctx)
	}
	for r.started != r.done || leads != nil && !r.started[fresh] {
		select {
		case res := <-r.results:
			r.done[res.way], r.outcomes[res.way] = true, res.outcome
			if res.way == persistent && !r.prober.proof.covers(res.outcome) {
				r.start(ctx, fresh, r.askFresh)
			}
			if r.needsIdentity(res) {
				r.startReplication(ctx)
			}
		case same := <-leads:
			if leads = nil; !same {
				r.start(ctx, fresh, r.askFresh)
			}
		case <-late:
			r.start(ctx, fresh, r.askFresh)
		case <-beat.C:
		}
		r.beat()
	}
}

// lookUp asks whether the node's name still leads to where the kept connection goes; nil when the address is no name. The answer comes by the end of ctx,
// wanted or not.
func (r *round) lookUp(ctx context.Context) <-chan bool {
	host, _, err := net.SplitHostPort(r.target.Address)
	if err != nil || net.ParseIP(host) != nil {
		return nil
	}
	remote, _ := netip.ParseAddrPort(r.prober.persistent.raw.RemoteAddr().String())
	leads := make(chan bool, 1)
	go func() {
		found, err := r.prober.resolve(ctx, "ip", host)
		leads <- err == nil && slices.ContainsFunc(found, func(a netip.Addr) bool { return a.Unmap() == remote.Addr().Unmap() })
	}()
	return leads
}

// startReplication starts the replication way, unless the server refused it a moment ago.
func (r *round) startReplication(ctx context.Context) {
	if r.prober.now() < r.prober.deniedUntil {
		return
	}
	history, started := r.prober.history, r.facts().started
	r.start(ctx, replication, func(ctx context.Context) outcome {
		return r.identify(ctx, func(timeline uint32) bool { return history.get(started, timeline).Known })
	})
}

// beat notices a process that was stopped or starved in mid-round: what timed out then may have done so for our own sake.
func (r *round) beat() {
	now := time.Now()
	r.stalled = r.stalled || now.Sub(r.lastBeat) > r.target.Timeout/2
	r.lastBeat = now
}

// start runs one way in its own goroutine, which reports exactly once, even when it panics.
func (r *round) start(ctx context.Context, w way, ask func(context.Context) outcome) {
	if r.started[w] {
		return
	}
	r.started[w] = true
	go func() {
		began := time.Now()
		var out outcome
		defer func() {
			if v := recover(); v != nil {
				out = outcome{attempt: decision.Attempt{Detail: printable(fmt.Sprintf("probe panicked: %v", v)), Took: time.Since(began)}}
			}
			r.results <- wayResult{w, out}
		}()
		out = ask(ctx)
	}()
}

// askPersistent asks over the kept connection. One that ended since the last round is no evidence of this one: what the server said then is
// set aside, and this round's attempt is the one to open it again.
func (r *round) askPersistent(ctx context.Context) outcome {
	p, began := r.prober, time.Now()
	if p.persistent.open() {
		p.persistent.guard.begin(deadlineOf(ctx))
		if !p.persistent.endedMeanwhile(ctx) {
			p.persistent.guard.answered = false
			return r.keep(ctx, p.persistent, began, nil)
		}
	}
	if p.persistent != nil {
		p.persistent.close(ctx)
	}
	l, err := connect(ctx, r.target, false)
	l.named = map[string]string{}
	p.persistent = l
	return r.keep(ctx, l, began, err)
}

// keep asks over the link that becomes or stays the kept one, and drops it when it is no longer usable.
func (r *round) keep(ctx context.Context, l *link, began time.Time, err error) outcome {
	usable := false
	defer func() { // also when decoding panics: a connection in an unknown state must not see another round
		if !usable {
			l.close(ctx)
			r.prober.persistent = nil
		}
	}()
	out := r.askFacts(ctx, l, began, err, persistent)
	usable = out.attempt.Evidence == decision.Answers && l.open()
	if usable {
		r.kept.Store(&out.facts)
	}
	return out
}

// askFresh asks over a connection of its own. A new session has everything to read anew, from the catalogs on: what the kept one has told in this very
// round is asked for once more only where the two do not speak of the same.
func (r *round) askFresh(ctx context.Context) outcome {
	began := time.Now()
	l, err := connect(ctx, r.target, false)
	defer l.close(ctx)
	if kept := r.kept.Load(); err == nil && kept != nil {
		var same bool
		if same, err = confirm(ctx, l, kept.sign); same {
			f := *kept
			f.lock = decision.Opt[bool]{}
			return outcome{attempt: classify(nil, l.guard, time.Since(began)), facts: f}
		}
	}
	return r.askFacts(ctx, l, began, err, fresh)
}

// confirm asks over a fresh link whether a new session finds what the kept one does: then it leads to the same server, and the kept one's facts are its own.
func confirm(ctx context.Context, l *link, kept sign) (same bool, err error) {
	answers, err := l.ask(ctx, []string{confirmStatement})
	if err != nil {
		return false, err
	}
	sign, ok := readSign(single(answers[0]))
	return ok && sign.started.Known && sign == kept, nil
}

// askFacts asks the round's questions over a link whose making gave err. The kept session takes the advisory lock of a primary, once: it asks on while
// another session has it, and never again when it has got it. In a glance it need not tell again what it told a moment ago.
func (r *round) askFacts(ctx context.Context, l *link, began time.Time, err error, w way) outcome {
	var f facts
	if err == nil {
		all := statements(l.major())
		if w == persistent && !r.target.Passing && !l.locked {
			all[askLock] = lockStatement
		}
		var answers []answer
		if w == persistent && r.late > 0 && l.told.lasts(r.began) {
			answers, err = l.askUnlessTold(ctx, all, r.began)
		} else if answers, err = l.askTogether(ctx, all); err == nil {
			l.told = settingsTold(answers[askSettings], r.began)
		}
		if err == nil {
			f, err = readFacts(answers)
		}
	}
	if l.locked = l.locked || err == nil && f.lock.V; l.locked {
		f.lock = decision.Some(true)
	}
	return outcome{attempt: classify(err, l.guard, time.Since(began)), facts: f}
}

// identify asks over a physical replication connection.
func (r *round) identify(ctx context.Context, known func(timeline uint32) bool) outcome {
	began := time.Now()
	l, err := connect(ctx, r.target, true)
	defer l.close(ctx)
	var id identity
	if err == nil {
		id, err = l.identify(ctx, known)
	}
	return outcome{attempt: classify(err, l.guard, time.Since(began)), identity: id}
}

func deadlineOf(ctx context.Context) time.Time {
	deadline, _ := ctx.Deadline() // a round's context has one
	return deadline
}
