package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Health is what the probers count.
type Health struct {
	probes map[string]counters
	last   map[string]prometheus.Gauge

	unlisted prometheus.Counter
}

func newHealth(r *registrar, l Labels) *Health {
	const probes = "pgtether_probes_total"
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: probes, Help: "Probe rounds by node and by the evidence that they gave."},
		[]string{"node", "evidence"})
	r.MustRegister(vec)
	seconds := r.gaugeVec("pgtether_probe_seconds", "Duration of the last probe round of a node.", "node")
	h := &Health{probes: make(map[string]counters), last: make(map[string]prometheus.Gauge), unlisted: r.unlisted.WithLabelValues(probes)}
	for _, node := range closed(l.Nodes) {
		of := counters{by: make(map[string]prometheus.Counter, len(evidences)), unlisted: h.unlisted}
		for _, evidence := range evidences {
			of.by[evidence] = vec.WithLabelValues(node, evidence)
		}
		h.probes[node], h.last[node] = of, seconds.WithLabelValues(node)
	}
	return h
}

// Probed counts one probe round of a configured node, with the evidence that it gave and how long it took.
func (h *Health) Probed(node, evidence string, took time.Duration) {
	of, ok := h.probes[node]
	if !ok {
		h.unlisted.Inc()
		return
	}
	of.of(evidence).Inc()
	h.last[node].Set(took.Seconds())
}
