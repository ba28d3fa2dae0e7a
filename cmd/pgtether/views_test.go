package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgtether/pgtether/decision"
	"github.com/pgtether/pgtether/internal/config"
	"github.com/pgtether/pgtether/internal/control"
	"github.com/pgtether/pgtether/internal/metrics"
)

// halt brings a failover to where an operator must decide: pg_promote does nothing, for longer than promote_timeout.
func halt(t *testing.T) *scene {
	t.Helper()
	s := newScene(t, decision.ModeAuto)
	s.promotes = nil
	s.dies()
	s.pass(2 * time.Minute)
	if st := s.engine.Status(); st.Step != decision.Halted {
		t.Fatalf("the state is %s/%s: %s", st.State, st.Step, st.Message)
	}
	return s
}

func TestReadinessSaysWhetherALoginWouldBeServedOrHeld(t *testing.T) {
	s := newScene(t, decision.ModeAuto)
	states := map[string]decision.Status{"open": s.engine.Status()}
	s.dies()
	s.pass(2 * time.Second)
	states["held"] = s.engine.Status()
	states["halted"] = halt(t).engine.Status()
	states["new"] = decision.New(sceneConfig(decision.ModeAuto), decision.NewRecord(), decision.Opt[decision.LastKnown]{}).Status()
	for name, want := range map[string]struct {
		ready bool
		why   string
	}{
		"open": {true, "logins are served by region-a"},
		"held": {true, "logins are held: "},
		"new":  {false, "no node has been probed yet"},
		// A promotion that cannot be completed: every login would be refused at once, and somebody has to be told.
		"halted": {false, "logins are refused until an operator decides (pgtether resolve): "},
	} {
		if ready, why := readiness(false, states[name]); ready != want.ready || !strings.HasPrefix(why, want.why) {
			t.Errorf("%s: ready %t, %q", name, ready, why)
		}
		if ready, why := readiness(true, states[name]); ready || why != "draining for exit" {
			t.Errorf("%s, while the process ends: ready %t, %q", name, ready, why)
		}
	}
}

// TestMetricsFollowAFailoverToItsEnd has Prometheus scrape after each step of a whole change and of one that halts.
func TestMetricsFollowAFailoverToItsEnd(t *testing.T) {
	for name, halts := range map[string]bool{"completed": false, "halted": true} {
		s := newScene(t, decision.ModeAuto)
		if halts {
			s.promotes = nil
		}
		reg := prometheus.NewRegistry()
		set := metrics.New(reg, labels(&config.File{Nodes: []config.Node{{Name: "region-a"}, {Name: "region-b"}}}))
		set.Control.Attach(func() metrics.Snapshot {
			return snapshot(control.View{Status: s.engine.Status(), Decision: s.engine.Decide(decision.Question{})})
		})
		last := decision.Place{}
		var steps []decision.Step
		s.watch = func(st decision.Status) {
			here := decision.Place{State: st.State, Step: st.Step}
			if here == last {
				return
			}
			last = here
			steps = append(steps, st.Step)
			got := scrape(t, reg)
			for _, state := range decision.States() {
				want := 0.0
				if state == st.State {
					want = 1
				}
				if series := fmt.Sprintf("pgtether_state{%s}", state); got[series] != want {
					t.Errorf("%s, in %s: %s is %v", name, here, series, got[series])
				}
			}
			if open := st.State != decision.PrimaryFailed && st.State != decision.Promoting; (got["pgtether_writes_open"] == 1) != open {
				t.Errorf("%s, in %s: pgtether_writes_open is %v", name, here, got["pgtether_writes_open"])
			}
		}
		s.dies()
		s.pass(2 * time.Minute)
		if slices.Contains(steps, decision.Halted) != halts || !slices.Contains(steps, decision.StepPromoting) {
			t.Errorf("%s: went through %v", name, steps)
		}
		got := scrape(t, reg)
		if halts {
			if got["pgtether_state{PROMOTING}"] != 1 || got["pgtether_writes_open"] != 0 {
				t.Errorf("halted: %v", got)
			}
			continue
		}
		c := s.engine.Status().LastChange.V
		if c.Kind != decision.ChangeFailover || len(c.Steps) < 8 {
			t.Fatalf("the change is %+v", c)
		}
		set.Control.Changed(string(c.Kind), string(c.Lossless))
		for _, step := range c.Steps {
			set.Control.StepTook(step.Step.String(), step.Took)
		}
		got = scrape(t, reg)
		if series := fmt.Sprintf("pgtether_changes_total{failover,%s}", c.Lossless); got[series] != 1 {
			t.Errorf("%s is %v", series, got[series])
		}
		for _, series := range []string{"pgtether_unlisted_labels_total{pgtether_change_step_seconds}", "pgtether_unlisted_labels_total{pgtether_changes_total}"} {
			if got[series] != 0 {
				t.Errorf("%s is %v: %v", series, got[series], c.Steps)
			}
		}
	}
}

func TestAnOverriddenCriterionDoesNotPassInTheMetrics(t *testing.T) {
	s := newScene(t, decision.ModeManual)
	d := s.engine.Decide(decision.Question{})
	for i := range d.Criteria {
		d.Criteria[i].Verdict, d.Criteria[i].Overridden = decision.Fail, true
	}
	for _, c := range snapshot(control.View{Status: s.engine.Status(), Decision: d}).Criteria {
		if c.Pass {
			t.Errorf("%s passes", c.Name)
		}
	}
}

// scrape is every counter and gauge by name and label values, histograms by their count.
func scrape(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var of []string
			for _, l := range m.GetLabel() {
				of = append(of, l.GetValue())
			}
			key := f.GetName()
			if len(of) > 0 {
				key += "{" + strings.Join(of, ",") + "}"
			}
			values[key] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return values
}
