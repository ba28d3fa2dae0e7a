package proxy

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/pgtether/pgtether/internal/metrics"
	"github.com/pgtether/pgtether/internal/pgwire"
)

// forwarders carries plain TCP pairs on event loops and those with TLS on goroutines. To the rest of the package they are one.
type forwarders struct {
	goroutines *goForwarder
	loops      *loopForwarder
}

// forwarderVariable chooses what carries plain pairs: "goroutines" for goroutines; event loops otherwise. It is a way out should a kernel or a
// sandbox not bear the loops, and for comparison.
const forwarderVariable = "PGTETHER_FORWARDER"

// newForwarder returns the forwarder of this system. With an error it works all the same, on goroutines alone.
func newForwarder(m *metrics.Proxy) (forwarder, error) {
	if os.Getenv(forwarderVariable) == "goroutines" {
		return newGoForwarder(m), nil
	}
	return newForwarders(m, loopCount())
}

func newForwarders(m *metrics.Proxy, loops int) (forwarder, error) {
	f := &forwarders{goroutines: newGoForwarder(m)}
	var err error
	if f.loops, err = newLoopForwarder(m, &f.goroutines.heard, loops); err != nil {
		return f.goroutines, fmt.Errorf("start event loops: %w", err)
	}
	return f, nil
}

// start implements forwarder.
func (f *forwarders) start(p *pair, done func(result)) {
	if !p.isPlain() || !f.loops.start(p, done) {
		f.goroutines.start(p, done)
	}
}

// listen implements doorkeeper.
func (f *forwarders) listen(ln *net.TCPListener, serve func(seat, netip.AddrPort)) (net.Listener, error) {
	return f.loops.listen(ln, serve)
}

// park implements forwarder. Each pair is known to one of the two at most.
func (f *forwarders) park(p *pair, parked func()) {
	f.loops.park(p, parked)
	f.goroutines.park(p, parked)
}

// unpark implements forwarder.
func (f *forwarders) unpark(p *pair) bool { return f.loops.unpark(p) || f.goroutines.unpark(p) }

// cut implements forwarder: first the loops let go of all their pairs, then every client is detached, then the first backend is closed.
func (f *forwarders) cut(epoch uint64, why pgwire.Reason) {
	runs := f.loops.take(epoch, why)
	backends := f.goroutines.take(epoch, why)
	for _, r := range runs {
		backends = append(backends, r.pair.backend)
	}
	sever(backends)
	for _, r := range runs {
		go r.report()
	}
}

// states implements forwarder.
func (f *forwarders) states() Stats {
	n := f.goroutines.states()
	f.loops.count(&n)
	return n
}

// heardAge implements forwarder: both write it down in the same place.
func (f *forwarders) heardAge(epoch uint64) (time.Duration, bool) {
	return f.goroutines.heardAge(epoch)
}

// close implements forwarder.
func (f *forwarders) close() { f.loops.close() }
