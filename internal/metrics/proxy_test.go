package metrics

import (
	"sync"
	"testing"
)

func TestEventsOfTheDataPlaneAreCountedUnderTheirLabel(t *testing.T) {
	set, reg := newSet(t)
	set.Proxy.Refusals("promoting").Inc()
	set.Proxy.Logins("ok").Add(3)
	set.Proxy.Ends("client").Inc()
	set.Proxy.Cancels("unknown_key").Inc()
	set.Proxy.Moved("moved").Inc()
	set.Proxy.RelaxedCommits.Inc()
	set.Proxy.ClientToServer.Add(10)
	set.Proxy.ServerToClient.Add(1 << 33)
	set.Proxy.HoldSeconds.Observe(0.3)
	set.Proxy.LoginSeconds.Observe(0.004)
	values, _ := gather(t, reg)
	for series, want := range map[string]float64{
		"pgtether_refusals_total{reason=promoting}":                           1,
		"pgtether_refusals_total{reason=no_writer}":                           0,
		"pgtether_logins_total{result=ok}":                                    3,
		"pgtether_sessions_total{end=client}":                                 1,
		"pgtether_cancels_total{result=unknown_key}":                          1,
		"pgtether_sessions_moved_total{result=moved}":                         1,
		"pgtether_relaxed_commits_total":                                      1,
		"pgtether_forwarded_bytes_total{direction=client_to_server}":          10,
		"pgtether_forwarded_bytes_total{direction=server_to_client}":          1 << 33,
		"pgtether_hold_seconds":                                               1,
		"pgtether_login_seconds":                                              1,
		"pgtether_unlisted_labels_total{series=pgtether_refusals_total}":      0,
		"pgtether_unlisted_labels_total{series=pgtether_change_step_seconds}": 0,
	} {
		values.want(t, series, want)
	}
}

func TestCountingOnTheForwardingPathAllocatesNothing(t *testing.T) {
	set, _ := newSet(t)
	for name, count := range map[string]func(){
		"forwarded bytes": func() { set.Proxy.ClientToServer.Add(8192) },
		"relaxed commit":  func() { set.Proxy.RelaxedCommits.Inc() },
		"refusal":         func() { set.Proxy.Refusals("no_writer").Inc() },
		"unlisted":        func() { set.Proxy.Refusals("nobody knows").Inc() },
		"session end":     func() { set.Proxy.Ends("client").Inc() },
	} {
		if n := testing.AllocsPerRun(1000, count); n != 0 {
			t.Errorf("counting a %s allocates %v times, want 0", name, n)
		}
	}
}

func TestConcurrentCountsAreNotLostWhileSomebodyScrapes(t *testing.T) {
	set, reg := newSet(t)
	const workers, each = 8, 5000
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range each {
				set.Proxy.ServerToClient.Add(3)
				set.Proxy.Ends("server").Inc()
			}
		})
	}
	for range 5 {
		gather(t, reg)
	}
	wg.Wait()
	values, _ := gather(t, reg)
	values.want(t, "pgtether_forwarded_bytes_total{direction=server_to_client}", 3*workers*each)
	values.want(t, "pgtether_sessions_total{end=server}", workers*each)
}

func TestSessionGaugesAreReadAtScrapeTime(t *testing.T) {
	set, reg := newSet(t)
	values, _ := gather(t, reg)
	values.want(t, "pgtether_sessions{state=open}", 0)
	values.want(t, "pgtether_held", 0)

	now := Sessions{Open: 10, Active: 2, Idle: 5, InTransaction: 2, Opaque: 1, Held: 4, Read: 3}
	calls := 0
	set.Proxy.Attach(func() Sessions { calls++; return now })
	values, _ = gather(t, reg)
	for state, want := range map[string]float64{"open": 10, "active": 2, "idle": 5, "in_transaction": 2, "opaque": 1, "held": 4, "read": 3} {
		values.want(t, "pgtether_sessions{state="+state+"}", want)
	}
	values.want(t, "pgtether_held", 4)
	if calls != 1 {
		t.Errorf("one scrape asked %d times: its numbers may come from different moments", calls)
	}

	now.Held = 0
	values, _ = gather(t, reg)
	values.want(t, "pgtether_held", 0)
}
