package metrics

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Control is what the failover side counts and what it shows of its state.
type Control struct {
	// Stalls counts the times that this process was found to have been stopped or starved, so that what it knew was too old.
	Stalls prometheus.Counter

	changes                      map[string]counters
	steps                        map[string]prometheus.Histogram
	unlistedChange, unlistedStep prometheus.Counter

	snapshot atomic.Pointer[func() Snapshot]
}

// Snapshot is the part of GET /status that is also shown as gauges. One snapshot feeds all of them, so that a scrape is never half old.
type Snapshot struct {
	// State is one of the failover states.
	State string
	// Epoch is 0 while no writer was ever adopted.
	Epoch uint64
	// WritesOpen is true while logins are routed to a writer.
	WritesOpen bool
	Nodes      []Node
	Criteria   []Criterion
	// LossBytes is what a crash of the writer now could lose; NaN when no figure can be given (Unknown).
	LossBytes float64
}

// Node is one node as GET /status shows it.
type Node struct {
	Name string
	// Up is true when the last probe round got an answer, be it a refusal in PostgreSQL's own words.
	Up bool
	// Role is "primary", "standby" or "unknown".
	Role string
	// LagBytes is NaN when unknown (Unknown).
	LagBytes float64
}

// Criterion is one criterion as GET /decision shows it. Node is empty for those that concern no single node.
type Criterion struct {
	Name, Node string
	// Pass is true for those that pass and for those that are not needed. Unknown never passes, nor does what an operator overrides.
	Pass bool
}

// Unknown is the value of a gauge for a fact that is not known.
func Unknown() float64 { return math.NaN() }

func newControl(r *registrar, l Labels) *Control {
	const changes, stepSeconds = "pgtether_changes_total", "pgtether_change_step_seconds"
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: changes, Help: "Completed changes of the writer."}, []string{"kind", "lossless"})
	steps := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: stepSeconds,
		Help:    "Duration of each step of a change of the writer.",
		Buckets: []float64{0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60}}, []string{"step"})
	r.MustRegister(vec, steps)
	c := &Control{
		Stalls:  r.counter("pgtether_stalls_total", "Times that this process was found to have been stopped or starved of CPU."),
		changes: make(map[string]counters),
		steps:   make(map[string]prometheus.Histogram),

		unlistedChange: r.unlisted.WithLabelValues(changes),
		unlistedStep:   r.unlisted.WithLabelValues(stepSeconds),
	}
	for _, kind := range changeKinds {
		of := counters{by: make(map[string]prometheus.Counter, len(losslessWords)), unlisted: c.unlistedChange}
		for _, lossless := range losslessWords {
			of.by[lossless] = vec.WithLabelValues(kind, lossless)
		}
		c.changes[kind] = of
	}
	for _, step := range closed(l.Steps) {
		c.steps[step] = steps.WithLabelValues(step).(prometheus.Histogram)
	}
	r.MustRegister(&statusCollector{control: c, states: closed(l.States), nodes: closed(l.Nodes), criteria: closed(l.Criteria)})
	return c
}

// Changed counts one completed change of the writer: kind is failover, switchover or adopted; lossless is proven, relaxed, bounded or unknown.
func (c *Control) Changed(kind, lossless string) {
	of, ok := c.changes[kind]
	if !ok {
		c.unlistedChange.Inc()
		return
	}
	of.of(lossless).Inc()
}

// StepTook records how long one step of a change took.
func (c *Control) StepTook(step string, took time.Duration) {
	h, ok := c.steps[step]
	if !ok {
		c.unlistedStep.Inc()
		return
	}
	h.Observe(took.Seconds())
}

// Attach says where the state comes from. It is called once per scrape, from any goroutine, and must not block. Until it is attached nothing
// is open and nothing is known.
func (c *Control) Attach(snapshot func() Snapshot) { c.snapshot.Store(&snapshot) }
