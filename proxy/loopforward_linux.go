package proxy

import (
	"sync"

	"github.com/pgtether/pgtether/internal/metrics"
	"github.com/pgtether/pgtether/internal/pgwire"
)

// loopForwarder carries plain TCP pairs on a few event loops. A pair costs no goroutine and, while neither side is behind, no buffer.
//
// The loops work on descriptors of their own: as long as the runtime's poller knew the sockets too, it would be woken for each message besides. So
// the pair's connections are closed when it starts, the sockets living on, and others are made when it ends.
type loopForwarder struct {
	metrics *metrics.Proxy
	heard   *heard
	loops   []*eventLoop

	mu      sync.Mutex
	runs    map[*pair]*loopRun
	closing sync.Once

	// need guards reserve, a descriptor that is kept for when there are no others.
	need    sync.Mutex
	reserve int32
}

// newLoopForwarder starts n loops.
func newLoopForwarder(m *metrics.Proxy, h *heard, n int) (*loopForwarder, error) {
	f := &loopForwarder{metrics: m, heard: h, runs: map[*pair]*loopRun{}, reserve: openReserve()}
	moreProcs(n)
	for range n {
		l, err := newEventLoop(f)
		if err != nil {
			f.close()
			moreProcs(len(f.loops) - n)
			return nil, err
		}
		f.loops = append(f.loops, l)
	}
	return f, nil
}

// start takes the pair, and reports whether it did: it does not when it is out of descriptors, or the backend has been severed.
func (f *loopForwarder) start(p *pair, done func(result)) bool {
	b := p.backend
	if !b.toBackend.enter() {
		return false
	}
	defer b.toBackend.leave() // until then whoever wants to reset the backend waits
	client, err := duplicate(p.clientRaw)
	if err != nil {
		return false
	}
	server, err := duplicate(b.raw)
	if err != nil {
		closeDescriptor(client)
		return false
	}
	r := &loopRun{loop: f.leastLoaded(), pair: p, done: done, client: loopEnd{fd: client}, server: loopEnd{fd: server, side: 1}}
	b.keep(r, nil)
	_ = b.raw.Close()
	_ = p.clientRaw.Close()
	f.admit(r)
	r.loop.load.Add(1)
	if !r.loop.post(func() { r.loop.add(r) }) {
		r.result = result{end: endCut, why: pgwire.Killed}
		r.out.Store(true)
		go r.report()
	}
	return true
}

// admit makes the run one that others can find.
func (f *loopForwarder) admit(r *loopRun) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.runs[r.pair] = r
}

func (f *loopForwarder) leastLoaded() *eventLoop {
	least := f.loops[0]
	for _, l := range f.loops[1:] {
		if l.load.Load() < least.load.Load() {
			least = l
		}
	}
	return least
}

// park implements forwarder. What the client sends after it has returned comes after the request.
func (f *loopForwarder) park(p *pair, parked func()) {
	if r := f.find(p); r != nil {
		r.loop.call(func() { r.park(p, parked) })
	}
}

// unpark implements forwarder.
func (f *loopForwarder) unpark(p *pair) (inTime bool) {
	if r := f.find(p); r != nil {
		r.loop.call(func() { inTime = r.unpark() })
	}
	return inTime
}

// take is the first half of a cut: when it returns no loop touches a socket of the epochs any more, nor ever will. The runs have still to be
// reported, and their backends to be reset.
func (f *loopForwarder) take(epoch uint64, why pgwire.Reason) (taken []*loopRun) {
	of := make([][]*loopRun, len(f.loops))
	var wg sync.WaitGroup
	for i, l := range f.loops {
		wg.Add(1)
		if !l.post(func() { of[i] = l.take(epoch, why); wg.Done() }) {
			wg.Done()
		}
	}
	wg.Wait()
	for _, runs := range of {
		taken = append(taken, runs...)
	}
	return taken
}

// count adds the pairs to the numbers.
func (f *loopForwarder) count(n *Stats) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for p := range f.runs {
		n.add(p.tracker)
	}
}

// close ends the loops.
func (f *loopForwarder) close() {
	f.closing.Do(func() {
		for _, l := range f.loops {
			l.post(func() { l.closing = true })
		}
		for _, l := range f.loops {
			<-l.done
		}
		moreProcs(-len(f.loops))
		f.need.Lock()
		defer f.need.Unlock()
		closeDescriptor(f.reserve)
		f.reserve = -1
	})
}

func (f *loopForwarder) find(p *pair) *loopRun {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.runs[p]
}

func (f *loopForwarder) remove(p *pair) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.runs, p)
}
