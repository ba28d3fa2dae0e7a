package health_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/pgtether/pgtether/decision"
	"github.com/pgtether/pgtether/health"
)

// One prober and one watcher for each node. A reload stores another target, which the next round takes; the prober is closed after Run.
func ExampleWatcher() {
	cfg := health.Config{
		User: "pgtether", Database: "postgres", Interval: time.Second, Timeout: time.Second, TLS: health.TLS{Mode: health.TLSPrefer},
	}
	first, err := cfg.Target("region-a", "127.0.0.1:1", "proxy-1")
	if err != nil {
		fmt.Println(err)
		return
	}
	var target atomic.Pointer[health.Target]
	target.Store(&first)

	start := time.Now()
	prober := health.NewProber(func() decision.Instant { return decision.Instant(time.Since(start)) })
	defer prober.Close()
	ctx, stop := context.WithCancel(context.Background())
	watcher := health.NewWatcher(health.WatcherConfig{
		Node:     "region-a",
		Interval: cfg.Interval,
		Probe: func(ctx context.Context, glance bool) decision.Observation {
			if glance {
				return prober.Glance(ctx, *target.Load())
			}
			return prober.Probe(ctx, *target.Load())
		},
		Deliver: func(o decision.Observation) {
			fmt.Println(o.Node, o.Evidence())
			stop()
		},
	})
	fmt.Println(watcher.Run(ctx))
	// Output:
	// region-a refused
	// context canceled
}
