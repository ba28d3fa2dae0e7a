package metrics

import (
	"net/http"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Set is every series of one pgtether process.
type Set struct {
	Proxy   *Proxy
	Health  *Health
	Control *Control
	Config  *Config
}

// New registers every series with reg, together with those of the Go runtime and the process, and returns them. It panics when reg already
// holds one of them, which only a mistake in the program can cause.
func New(reg prometheus.Registerer, l Labels) *Set {
	r := registrar{Registerer: reg}
	r.unlisted = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "pgtether_unlisted_labels_total",
		Help: "Events that were counted nowhere else because their label is not in the closed list. Always 0 unless pgtether has a defect.",
	}, []string{"series"})
	r.MustRegister(r.unlisted, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	r.gaugeVec("pgtether_build_info", "Always 1; the labels say what is running.", "version", "revision", "goversion").
		WithLabelValues(l.Version, l.Revision, runtime.Version()).Set(1)
	return &Set{
		Proxy:   newProxy(&r, l),
		Health:  newHealth(&r, l),
		Control: newControl(&r, l),
		Config:  newConfig(&r),
	}
}

// Handler serves the series of g in the formats that Prometheus reads.
func Handler(g prometheus.Gatherer) http.Handler {
	return promhttp.HandlerFor(g, promhttp.HandlerOpts{EnableOpenMetrics: true})
}

// registrar creates series and registers them at once.
type registrar struct {
	prometheus.Registerer
	unlisted *prometheus.CounterVec
}

func (r *registrar) gauge(name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	r.MustRegister(g)
	return g
}

func (r *registrar) gaugeVec(name, help string, labels ...string) *prometheus.GaugeVec {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	r.MustRegister(v)
	return v
}

func (r *registrar) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	r.MustRegister(c)
	return c
}

func (r *registrar) histogram(name, help string, buckets []float64) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	r.MustRegister(h)
	return h
}

// counters is a counter with one closed label: the map never changes after its creation, so that reading it needs no lock.
type counters struct {
	by       map[string]prometheus.Counter
	unlisted prometheus.Counter
}

func (r *registrar) counters(name, help, label string, values []string) counters {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	r.MustRegister(v)
	c := counters{by: make(map[string]prometheus.Counter, len(values)), unlisted: r.unlisted.WithLabelValues(name)}
	for _, value := range closed(values) {
		c.by[value] = v.WithLabelValues(value)
	}
	return c
}

// of returns the counter of a listed value, and for any other the one that says that the list has a hole.
func (c counters) of(value string) prometheus.Counter {
	if counter, ok := c.by[value]; ok {
		return counter
	}
	return c.unlisted
}
