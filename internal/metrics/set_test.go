package metrics

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
)

// contractSeries is one name that dashboards and alerts rest on, with its labels and how many series exist before anything happened.
type contractSeries struct {
	name   string
	kind   dto.MetricType
	labels []string
	series int
}

var contract = []contractSeries{
	{"pgtether_build_info", dto.MetricType_GAUGE, []string{"goversion", "revision", "version"}, 1},
	{"pgtether_state", dto.MetricType_GAUGE, []string{"state"}, 6},
	{"pgtether_epoch", dto.MetricType_GAUGE, nil, 1},
	{"pgtether_writes_open", dto.MetricType_GAUGE, nil, 1},
	{"pgtether_node_up", dto.MetricType_GAUGE, []string{"node"}, 2},
	{"pgtether_node_role", dto.MetricType_GAUGE, []string{"node", "role"}, 6},
	{"pgtether_node_lag_bytes", dto.MetricType_GAUGE, []string{"node"}, 2},
	{"pgtether_criterion_pass", dto.MetricType_GAUGE, []string{"criterion", "node"}, 3},
	{"pgtether_failover_data_loss_bytes", dto.MetricType_GAUGE, nil, 1},
	{"pgtether_relaxed_commits_total", dto.MetricType_COUNTER, nil, 1},
	{"pgtether_changes_total", dto.MetricType_COUNTER, []string{"kind", "lossless"}, 12},
	{"pgtether_change_step_seconds", dto.MetricType_HISTOGRAM, []string{"step"}, 3},
	{"pgtether_sessions", dto.MetricType_GAUGE, []string{"state"}, 7},
	{"pgtether_sessions_total", dto.MetricType_COUNTER, []string{"end"}, 3},
	{"pgtether_logins_total", dto.MetricType_COUNTER, []string{"result"}, 2},
	{"pgtether_refusals_total", dto.MetricType_COUNTER, []string{"reason"}, 2},
	{"pgtether_hold_seconds", dto.MetricType_HISTOGRAM, nil, 1},
	{"pgtether_held", dto.MetricType_GAUGE, nil, 1},
	{"pgtether_forwarded_bytes_total", dto.MetricType_COUNTER, []string{"direction"}, 2},
	{"pgtether_login_seconds", dto.MetricType_HISTOGRAM, nil, 1},
	{"pgtether_cancels_total", dto.MetricType_COUNTER, []string{"result"}, 2},
	{"pgtether_probes_total", dto.MetricType_COUNTER, []string{"evidence", "node"}, 10},
	{"pgtether_probe_seconds", dto.MetricType_GAUGE, []string{"node"}, 2},
	{"pgtether_config_last_reload_successful", dto.MetricType_GAUGE, nil, 1},
	{"pgtether_config_last_reload_timestamp_seconds", dto.MetricType_GAUGE, nil, 1},
	{"pgtether_stalls_total", dto.MetricType_COUNTER, nil, 1},
	{"pgtether_session_stall_seconds", dto.MetricType_HISTOGRAM, nil, 1},
	{"pgtether_sessions_moved_total", dto.MetricType_COUNTER, []string{"result"}, 2},
}

func TestEverySeriesOfTheContractExistsBeforeAnythingHappens(t *testing.T) {
	_, reg := newSet(t)
	_, families := gather(t, reg)
	for _, c := range contract {
		f, ok := families[c.name]
		if !ok {
			t.Errorf("%s does not exist", c.name)
			continue
		}
		if f.GetType() != c.kind {
			t.Errorf("%s is a %s, want %s", c.name, f.GetType(), c.kind)
		}
		if len(f.GetMetric()) != c.series {
			t.Errorf("%s has %d series, want %d", c.name, len(f.GetMetric()), c.series)
		}
		for _, m := range f.GetMetric() {
			var names []string
			for _, l := range m.GetLabel() {
				names = append(names, l.GetName())
			}
			if slices.Sort(names); !slices.Equal(names, c.labels) {
				t.Errorf("%s has the labels %v, want %v", c.name, names, c.labels)
			}
		}
	}
}

func TestNothingOfOursIsExposedBesideTheContractAndItsGuard(t *testing.T) {
	_, reg := newSet(t)
	_, families := gather(t, reg)
	for name := range families {
		if !strings.HasPrefix(name, "pgtether_") || name == "pgtether_unlisted_labels_total" {
			continue
		}
		if !slices.ContainsFunc(contract, func(c contractSeries) bool { return c.name == name }) {
			t.Errorf("%s is exposed but not in the contract", name)
		}
	}
}

func TestTheRuntimeAndTheProcessAreMeasuredToo(t *testing.T) {
	_, reg := newSet(t)
	_, families := gather(t, reg)
	for _, name := range []string{"go_goroutines", "go_gc_duration_seconds", "process_open_fds", "process_resident_memory_bytes"} {
		if families[name] == nil {
			t.Errorf("%s does not exist", name)
		}
	}
}

func TestExpositionFollowsThePrometheusRules(t *testing.T) {
	set, reg := newSet(t)
	set.Control.Attach(func() Snapshot { return Snapshot{State: "PROMOTING", Epoch: 7, LossBytes: Unknown()} })
	_, families := gather(t, reg)
	var ours []*dto.MetricFamily
	for name, f := range families {
		if strings.HasPrefix(name, "pgtether_") {
			ours = append(ours, f)
		}
	}
	problems, err := promlint.NewWithMetricFamilies(ours).Lint()
	if err != nil {
		t.Fatalf("lint: %v", err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestHandlerServesTheTextThatPrometheusScrapes(t *testing.T) {
	set, reg := newSet(t)
	set.Proxy.Refusals("no_writer").Inc()
	server := httptest.NewServer(Handler(reg))
	defer server.Close()
	res, err := http.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		t.Fatalf("status %d: %s", res.StatusCode, body)
	}
	problems, err := promlint.New(strings.NewReader(string(body))).Lint()
	if err != nil {
		t.Fatalf("parse the exposition: %v", err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "pgtether_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	for _, line := range []string{
		`pgtether_refusals_total{reason="no_writer"} 1`,
		`pgtether_refusals_total{reason="promoting"} 0`,
		`pgtether_node_lag_bytes{node="region-a"} NaN`,
	} {
		if !strings.Contains(string(body), line+"\n") {
			t.Errorf("the exposition lacks %q", line)
		}
	}
}

func TestASecondSetOnTheSameRegistryIsAMistakeOfTheProgram(t *testing.T) {
	_, reg := newSet(t)
	defer func() {
		if recover() == nil {
			t.Error("New registered the same series twice without a word")
		}
	}()
	New(reg, sampleLabels())
}

func TestALabelThatIsNotListedNeverBecomesASeries(t *testing.T) {
	set, reg := newSet(t)
	before, _ := gather(t, reg)
	for series, count := range map[string]func(){
		"pgtether_refusals_total":       func() { set.Proxy.Refusals("x' OR 1=1").Inc() },
		"pgtether_logins_total":         func() { set.Proxy.Logins("").Inc() },
		"pgtether_sessions_total":       func() { set.Proxy.Ends("other").Inc() },
		"pgtether_cancels_total":        func() { set.Proxy.Cancels("other").Inc() },
		"pgtether_sessions_moved_total": func() { set.Proxy.Moved("other").Inc() },
		"pgtether_probes_total":         func() { set.Health.Probed("region-z", "answers", time.Second) },
		"pgtether_changes_total":        func() { set.Control.Changed("coup", "proven") },
		"pgtether_change_step_seconds":  func() { set.Control.StepTook("dancing", time.Second) },
	} {
		before.want(t, "pgtether_unlisted_labels_total{series="+series+"}", 0)
		count()
		after, _ := gather(t, reg)
		after.want(t, "pgtether_unlisted_labels_total{series="+series+"}", 1)
		if len(after) != len(before) {
			t.Errorf("%s: an unlisted label changed the number of series from %d to %d", series, len(before), len(after))
		}
	}
	set.Health.Probed("region-a", "telepathy", time.Second)
	set.Control.Changed("failover", "maybe")
	after, _ := gather(t, reg)
	after.want(t, "pgtether_unlisted_labels_total{series=pgtether_probes_total}", 2)
	after.want(t, "pgtether_unlisted_labels_total{series=pgtether_changes_total}", 2)
}

func TestASetWithoutAnyListStillCountsAndRegisters(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	set := New(reg, Labels{})
	set.Proxy.Refusals("no_writer").Inc()
	set.Control.StepTook("promoting", time.Second)
	values, _ := gather(t, reg)
	values.want(t, "pgtether_unlisted_labels_total{series=pgtether_refusals_total}", 1)
	values.want(t, "pgtether_unlisted_labels_total{series=pgtether_change_step_seconds}", 1)
}
