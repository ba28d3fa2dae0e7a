package main

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pgtether/pgtether/decision"
	"github.com/pgtether/pgtether/health"
	"github.com/pgtether/pgtether/internal/config"
	"github.com/pgtether/pgtether/internal/metrics"
)

// probes are the watchers of all nodes. They satisfy control.Prober.
type probes struct {
	watchers map[string]*health.Watcher
	probers  []*health.Prober
	targets  map[string]*atomic.Pointer[health.Target] // the value is replaced as a whole by a reload
	instance string
}

// newProbes makes one watcher for each node. deliver gets every observation.
func newProbes(file *config.File, instance string, now func() decision.Instant, m *metrics.Health, log *slog.Logger,
	deliver func(decision.Observation)) (*probes, error) {
	p := &probes{watchers: map[string]*health.Watcher{}, targets: map[string]*atomic.Pointer[health.Target]{}, instance: instance}
	targets, err := p.resolve(file)
	if err != nil {
		return nil, err
	}
	for _, n := range file.Nodes {
		target := &atomic.Pointer[health.Target]{}
		target.Store(targets[n.Name])
		prober := health.NewProber(now)
		p.probers = append(p.probers, prober)
		p.targets[n.Name] = target
		p.watchers[n.Name] = health.NewWatcher(health.WatcherConfig{
			Node: n.Name, Deliver: deliver, Interval: file.Probe.Interval.Std(), Metrics: m, Log: log,
			Probe: func(ctx context.Context, glance bool) decision.Observation {
				if glance {
					return prober.Glance(ctx, *target.Load())
				}
				return prober.Probe(ctx, *target.Load())
			},
		})
	}
	return p, nil
}

// resolve reads the TLS files and returns how to probe each node.
func (p *probes) resolve(file *config.File) (map[string]*health.Target, error) {
	targets := map[string]*health.Target{}
	cfg := file.Health()
	for _, n := range file.Nodes {
		t, err := cfg.Target(n.Name, n.Address, p.instance)
		if err != nil {
			return nil, err
		}
		targets[n.Name] = &t
	}
	return targets, nil
}

// target returns how a node is probed now.
func (p *probes) target(node string) (health.Target, bool) {
	t, ok := p.targets[node]
	if !ok {
		return health.Target{}, false
	}
	return *t.Load(), true
}

// run returns when every watcher has.
func (p *probes) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, w := range p.watchers {
		g.Go(func() error { return w.Run(ctx) })
	}
	err := g.Wait()
	for _, prober := range p.probers {
		prober.Close()
	}
	return err
}

// retarget makes new targets take effect with the next round.
func (p *probes) retarget(targets map[string]*health.Target) {
	for node, t := range targets {
		p.targets[node].Store(t)
	}
}

// Kick asks for a probe round of the node at once.
func (p *probes) Kick(node string) {
	if w := p.watchers[node]; w != nil {
		w.Kick()
	}
}

// Pace sets the interval between the probe rounds of every node.
func (p *probes) Pace(interval time.Duration) {
	for _, w := range p.watchers {
		w.SetInterval(interval)
	}
}

// proves asks the node on a connection that is opened after the call whether it is, now, the writer that the identity names.
func (p *probes) proves(ctx context.Context, node string, system string, timeline uint32) bool {
	w := p.watchers[node]
	if w == nil {
		return false
	}
	o, err := w.AskNow(ctx)
	if err != nil || o.Fresh.Evidence != decision.Answers || o.Role != decision.RolePrimary {
		return false
	}
	return o.SystemID == decision.Some(system) && o.Timeline == decision.Some(timeline)
}
