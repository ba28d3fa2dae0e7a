package metrics

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// Counter is a count that the forwarding path can afford: one atomic addition, no lock, no allocation, and a cache line of its own, so that
// the two directions of a busy session do not slow each other down. It is read only when somebody scrapes.
type Counter struct {
	_ [64]byte
	n atomic.Uint64
	_ [56]byte
}

// Add counts n more.
func (c *Counter) Add(n uint64) { c.n.Add(n) }

// Inc counts one more.
func (c *Counter) Inc() { c.n.Add(1) }

// Value returns the count so far.
func (c *Counter) Value() uint64 { return c.n.Load() }

// expose registers the counter under a name, and with a constant label where one is given.
func (c *Counter) expose(r *registrar, name, help string, labels prometheus.Labels) {
	r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels},
		func() float64 { return float64(c.Value()) }))
}
