package metrics

import (
	"testing"
	"time"
)

func TestBeforeAnythingIsKnownNothingIsOpenAndNothingPasses(t *testing.T) {
	_, reg := newSet(t)
	values, _ := gather(t, reg)
	for _, state := range sampleLabels().States {
		values.want(t, "pgtether_state{state="+state+"}", 0)
	}
	values.want(t, "pgtether_epoch", 0)
	values.want(t, "pgtether_writes_open", 0)
	values.want(t, "pgtether_failover_data_loss_bytes", Unknown())
	values.want(t, "pgtether_node_up{node=region-a}", 0)
	values.want(t, "pgtether_node_role{node=region-a,role=unknown}", 1)
	values.want(t, "pgtether_node_role{node=region-a,role=primary}", 0)
	values.want(t, "pgtether_node_lag_bytes{node=region-b}", Unknown())
	values.want(t, "pgtether_criterion_pass{criterion=no_split_brain,node=}", 0)
}

func TestStatusGaugesComeFromOneSnapshotPerScrape(t *testing.T) {
	set, reg := newSet(t)
	calls := 0
	set.Control.Attach(func() Snapshot {
		calls++
		return Snapshot{
			State: "STANDBY_READY", Epoch: 12, WritesOpen: true, LossBytes: 4096,
			Nodes: []Node{
				{Name: "region-a", Up: true, Role: "primary", LagBytes: Unknown()},
				{Name: "region-b", Up: true, Role: "standby", LagBytes: 512},
			},
			Criteria: []Criterion{
				{Name: "primary_unreachable", Node: "region-a"},
				{Name: "no_split_brain", Pass: true},
				{Name: "quorum", Pass: true},
			},
		}
	})
	values, _ := gather(t, reg)
	if calls != 1 {
		t.Errorf("one scrape took %d snapshots, want 1", calls)
	}
	for series, want := range map[string]float64{
		"pgtether_state{state=STANDBY_READY}":                                  1,
		"pgtether_state{state=PRIMARY_ACTIVE}":                                 0,
		"pgtether_epoch":                                                       12,
		"pgtether_writes_open":                                                 1,
		"pgtether_failover_data_loss_bytes":                                    4096,
		"pgtether_node_up{node=region-a}":                                      1,
		"pgtether_node_role{node=region-a,role=primary}":                       1,
		"pgtether_node_role{node=region-b,role=standby}":                       1,
		"pgtether_node_role{node=region-b,role=unknown}":                       0,
		"pgtether_node_lag_bytes{node=region-a}":                               Unknown(),
		"pgtether_node_lag_bytes{node=region-b}":                               512,
		"pgtether_criterion_pass{criterion=primary_unreachable,node=region-a}": 0,
		"pgtether_criterion_pass{criterion=no_split_brain,node=}":              1,
	} {
		values.want(t, series, want)
	}
	if _, ok := values["pgtether_criterion_pass{criterion=primary_unreachable,node=}"]; ok {
		t.Error("an evaluated criterion is also shown as not evaluated")
	}
}

func TestOneFailingEntryOfACriterionIsNotHiddenByAPassingOne(t *testing.T) {
	for _, order := range [][2]bool{{true, false}, {false, true}} {
		set, reg := newSet(t)
		set.Control.Attach(func() Snapshot {
			return Snapshot{Criteria: []Criterion{{Name: "quorum", Node: "region-b", Pass: order[0]}, {Name: "quorum", Node: "region-b", Pass: order[1]}}}
		})
		values, _ := gather(t, reg)
		values.want(t, "pgtether_criterion_pass{criterion=quorum,node=region-b}", 0)
	}
}

func TestASnapshotCannotOpenAClosedLabel(t *testing.T) {
	set, reg := newSet(t)
	before, _ := gather(t, reg)
	set.Control.Attach(func() Snapshot {
		return Snapshot{
			State: "CONFUSED", LossBytes: Unknown(),
			Nodes:    []Node{{Name: "stranger", Up: true, Role: "primary"}, {Name: "region-a", Role: "emperor", LagBytes: Unknown()}},
			Criteria: []Criterion{{Name: "astrology", Pass: true}, {Name: "quorum", Node: "stranger", Pass: true}},
		}
	})
	after, _ := gather(t, reg)
	for series := range after {
		if _, ok := before[series]; !ok {
			t.Errorf("the snapshot created the series %s", series)
		}
	}
	after.want(t, "pgtether_criterion_pass{criterion=quorum,node=}", 0)
}

func TestChangesStepsAndStallsAreCounted(t *testing.T) {
	set, reg := newSet(t)
	set.Control.Changed("adopted", "bounded")
	set.Control.StepTook("cutting", 30*time.Millisecond)
	set.Control.Stalls.Inc()
	set.Health.Probed("region-a", "silent", 250*time.Millisecond)
	set.Health.Probed("region-a", "answers", 20*time.Millisecond)
	values, _ := gather(t, reg)
	for series, want := range map[string]float64{
		"pgtether_changes_total{kind=adopted,lossless=bounded}":  1,
		"pgtether_changes_total{kind=failover,lossless=bounded}": 0,
		"pgtether_change_step_seconds{step=cutting}":             1,
		"pgtether_change_step_seconds{step=promoting}":           0,
		"pgtether_stalls_total":                                  1,
		"pgtether_probes_total{evidence=silent,node=region-a}":   1,
		"pgtether_probes_total{evidence=answers,node=region-a}":  1,
		"pgtether_probes_total{evidence=answers,node=region-b}":  0,
		"pgtether_probe_seconds{node=region-a}":                  0.02,
	} {
		values.want(t, series, want)
	}
}

func TestAFailedReloadIsVisibleUntilTheNextGoodOne(t *testing.T) {
	set, reg := newSet(t)
	at := time.Date(2026, 1, 2, 3, 4, 5, 250_000_000, time.UTC)
	for i, ok := range []bool{true, false, false, true} {
		when := at.Add(time.Duration(i) * time.Minute)
		set.Config.Reloaded(ok, when)
		values, _ := gather(t, reg)
		values.want(t, "pgtether_config_last_reload_successful", oneIf(ok))
		values.want(t, "pgtether_config_last_reload_timestamp_seconds", float64(when.UnixMilli())/1000)
	}
}
