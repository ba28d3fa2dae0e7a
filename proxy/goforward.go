package proxy

import (
	"sync"
	"time"

	"github.com/pgtether/pgtether/internal/metrics"
	"github.com/pgtether/pgtether/internal/pgwire"
)

// goForwarder is the forwarder that runs on any system and carries TLS: two goroutines per pair, one per direction.
type goForwarder struct {
	metrics *metrics.Proxy
	heard   heard

	mu    sync.Mutex
	floor uint64        // the highest epoch that was cut
	why   pgwire.Reason // why it was
	runs  map[*pair]*goRun
}

func newGoForwarder(m *metrics.Proxy) *goForwarder {
	return &goForwarder{metrics: m, runs: map[*pair]*goRun{}}
}

// start implements forwarder.
func (f *goForwarder) start(p *pair, done func(result)) {
	p.backend.out = newQuietWriter(p.backend.raw)
	r := newGoRun(f, p, done)
	f.mu.Lock()
	f.runs[p] = r
	cut, why := p.backend.epoch <= f.floor, f.why
	f.mu.Unlock()
	if cut { // while the pair was on its way here
		r.end(result{end: endCut, why: why})
		sever([]*backend{p.backend})
	}
	go r.clientToServer()
	go r.serverToClient()
}

// park implements forwarder.
func (f *goForwarder) park(p *pair, parked func()) {
	if r := f.find(p); r != nil {
		r.park(parked)
	}
}

// unpark implements forwarder.
func (f *goForwarder) unpark(p *pair) bool {
	r := f.find(p)
	return r != nil && r.unpark()
}

// cut implements forwarder.
func (f *goForwarder) cut(epoch uint64, why pgwire.Reason) { sever(f.take(epoch, why)) }

// take is the first half of a cut: it ends the pairs of the epochs, all of their clients still attached, and returns their backends.
func (f *goForwarder) take(epoch uint64, why pgwire.Reason) []*backend {
	f.mu.Lock()
	if epoch >= f.floor {
		f.floor, f.why = epoch, why
	}
	var runs []*goRun
	for p, r := range f.runs {
		if p.backend.epoch <= epoch {
			runs = append(runs, r)
		}
	}
	f.mu.Unlock()
	backends := make([]*backend, 0, len(runs))
	for _, r := range runs {
		r.end(result{end: endCut, why: why})
		backends = append(backends, r.pair.backend)
	}
	return backends
}

// close implements forwarder: its goroutines end with their pairs.
func (f *goForwarder) close() {}

// heardAge implements forwarder.
func (f *goForwarder) heardAge(epoch uint64) (time.Duration, bool) { return f.heard.age(epoch) }

// states implements forwarder.
func (f *goForwarder) states() Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	var n Stats
	for _, r := range f.runs {
		r.count(&n)
	}
	return n
}

func (f *goForwarder) find(p *pair) *goRun {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.runs[p]
}

func (f *goForwarder) remove(p *pair) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.runs, p)
}
