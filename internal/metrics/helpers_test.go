package metrics

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// sampleLabels are closed lists as the other rooms hand them over: unsorted and with a duplicate.
func sampleLabels() Labels {
	return Labels{
		Version: "1.2.3", Revision: "abcdef",
		Nodes:         []string{"region-b", "region-a", "region-b"},
		States:        []string{"PRIMARY_ACTIVE", "STANDBY_READY", "PRIMARY_FAILED", "PROMOTING", "NEW_PRIMARY", "REJOINING"},
		Criteria:      []string{"primary_unreachable", "no_split_brain", "quorum"},
		Steps:         []string{"draining", "cutting", "promoting"},
		Reasons:       []string{"no_writer", "promoting"},
		Ends:          []string{"client", "server", "writer_lost"},
		LoginResults:  []string{"ok", "refused"},
		CancelResults: []string{"forwarded", "unknown_key"},
		MoveResults:   []string{"moved", "ended"},
	}
}

func newSet(t *testing.T) (*Set, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	return New(reg, sampleLabels()), reg
}

// gathered is one scrape: "name" or "name{a=1,b=2}" (labels sorted) to its value; histograms by their count.
type gathered map[string]float64

func gather(t *testing.T, reg prometheus.Gatherer) (gathered, map[string]*dto.MetricFamily) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatalf("gather: %v", err)
	}
	values, byName := gathered{}, map[string]*dto.MetricFamily{}
	for _, f := range families {
		byName[f.GetName()] = f
		for _, m := range f.GetMetric() {
			values[seriesKey(f.GetName(), m)] = seriesValue(m)
		}
	}
	return values, byName
}

func seriesKey(name string, m *dto.Metric) string {
	var labels []string
	for _, l := range m.GetLabel() {
		labels = append(labels, l.GetName()+"="+l.GetValue())
	}
	if len(labels) == 0 {
		return name
	}
	slices.Sort(labels)
	return name + "{" + strings.Join(labels, ",") + "}"
}

func seriesValue(m *dto.Metric) float64 {
	switch {
	case m.GetCounter() != nil:
		return m.GetCounter().GetValue()
	case m.GetHistogram() != nil:
		return float64(m.GetHistogram().GetSampleCount())
	default:
		return m.GetGauge().GetValue()
	}
}

// want fails unless the series exists and has the value; NaN is equal to NaN.
func (g gathered) want(t *testing.T, series string, value float64) {
	t.Helper()
	got, ok := g[series]
	switch {
	case !ok:
		t.Errorf("series %s does not exist", series)
	case got != value && !(math.IsNaN(got) && math.IsNaN(value)):
		t.Errorf("%s = %v, want %v", series, got, value)
	}
}
