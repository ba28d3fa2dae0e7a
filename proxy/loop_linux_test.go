package proxy

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgtether/pgtether/internal/metrics"
)

func init() {
	implementations["loops"] = func() forwarder {
		f, err := newForwarders(metrics.New(prometheus.NewRegistry(), metrics.Labels{}).Proxy, 2)
		if err != nil {
			panic(err)
		}
		return f
	}
}

// isLoopKeeping reports whether the beginning of a message of the pair's is held up.
func isLoopKeeping(f forwarder, p *pair) (keeping bool) {
	both := f.(*forwarders)
	if r := both.loops.find(p); r != nil {
		r.loop.call(func() { keeping = len(r.kept) > 0 })
		return keeping
	}
	return isKeeping(both.goroutines, p)
}
