package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/pgtether/pgtether/decision"
	"github.com/pgtether/pgtether/internal/admin"
	"github.com/pgtether/pgtether/internal/config"
	"github.com/pgtether/pgtether/internal/control"
	"github.com/pgtether/pgtether/internal/metrics"
)

// newAdmin builds the admin listener on what the other parts say.
func (d *daemon) newAdmin(file *config.File, clock *control.Clock) *admin.Server {
	return admin.New(admin.Deps{
		Identity: admin.Identity{
			Cluster: file.Cluster.Name, Version: buildVersion(), Instance: d.instance, StateID: d.store.ID(), StartedAt: d.started,
		},
		Token:    func() string { return d.holder.Current().AdminToken().Reveal() },
		Ready:    d.ready,
		Exiting:  d.exiting.Load,
		Status:   func() decision.Status { return d.loop.View().Status },
		Decision: func() decision.Decision { return d.loop.View().Decision },
		WhatIf: func(ctx context.Context, q decision.Question) (decision.Decision, error) {
			a, err := d.loop.WhatIf(ctx, q)
			return a, unavailable(err)
		},
		Command: d.command,
		Plan: func(ctx context.Context, c decision.Switch) ([]decision.PlanStep, decision.Opt[decision.Refusal], error) {
			steps, refusal, err := d.loop.Plan(ctx, c)
			return steps, refusal, unavailable(err)
		},
		Preflight:     d.preflight,
		Unfenceable:   d.unfenceable,
		ListSessions:  d.listSessions,
		Sessions:      d.sessions,
		Events:        d.eventsSince,
		EventsNewest:  d.events.Newest,
		EventsChanged: d.events.Changed,
		Reload:        d.reloadForAdmin,
		Wall:          clock.Wall,
		Metrics:       metrics.Handler(d.registry),
		Log:           d.log,
	})
}

// unavailable translates the control loop's end into the admin listener's words.
func unavailable(err error) error {
	if errors.Is(err, control.ErrStopped) {
		return fmt.Errorf("%w: %w", admin.ErrUnavailable, err)
	}
	return err
}

// command hands an operator's command to the engine.
func (d *daemon) command(ctx context.Context, c decision.Command) (admin.CommandReply, error) {
	r, err := d.loop.Command(ctx, c)
	if err != nil {
		return admin.CommandReply{}, unavailable(err)
	}
	return admin.CommandReply(r), nil
}

// ready says whether logins are accepted that can be served or held.
func (d *daemon) ready() (bool, string) { return readiness(d.exiting.Load(), d.loop.View().Status) }

// readiness is false where every login would be refused: while the process ends, before anything is known, and when a promotion has halted,
// until it ends.
func readiness(exiting bool, s decision.Status) (bool, string) {
	switch {
	case exiting:
		return false, "draining for exit"
	case s.Writes == decision.WritesOpen:
		return true, "logins are served by " + s.Writer.V
	case s.Writes == decision.WritesRefused:
		return false, "logins are refused until an operator decides (pgtether resolve): " + s.Message
	}
	for _, n := range s.Nodes {
		if n.ObservedAge.Known {
			return true, "logins are held: " + s.Message
		}
	}
	return false, "no node has been probed yet"
}

func (d *daemon) sessions() admin.Sessions {
	n := d.server.Stats()
	return admin.Sessions{Open: n.Open, Active: n.Active, Idle: n.Idle, InTransaction: n.InTransaction, Held: n.Held, Opaque: n.Opaque, Movable: d.server.Movable()}
}

func (d *daemon) eventsSince(since uint64, limit int) []admin.Event {
	kept := d.events.Since(since, limit)
	out := make([]admin.Event, len(kept))
	for i, ev := range kept {
		out[i] = admin.Event(ev)
	}
	return out
}

func (d *daemon) reloadForAdmin(ctx context.Context) (admin.Reloaded, error) {
	changes, warnings, err := d.reload(ctx)
	if err != nil {
		return admin.Reloaded{}, unavailable(err)
	}
	r := admin.Reloaded{Changes: make([]string, len(changes)), Warnings: make([]string, len(warnings))}
	for i, c := range changes {
		r.Changes[i] = c.String()
	}
	for i, w := range warnings {
		r.Warnings[i] = w.String()
	}
	return r, nil
}

// gauges is the part of /status that Prometheus sees.
func (d *daemon) gauges() metrics.Snapshot { return snapshot(d.loop.View()) }

// snapshot turns one picture of the engine into gauges. A criterion that an operator overrides does not pass by that.
func snapshot(v control.View) metrics.Snapshot {
	s := metrics.Snapshot{
		State: v.Status.State.String(), Epoch: v.Status.Epoch.V, WritesOpen: v.Status.Writes == decision.WritesOpen,
		LossBytes: gauge(v.Status.CrashLossBytes),
	}
	for _, n := range v.Status.Nodes {
		up := n.Evidence == decision.Answers || n.Evidence == decision.Alive
		s.Nodes = append(s.Nodes, metrics.Node{Name: n.Name, Up: up, Role: n.Role.String(), LagBytes: gauge(n.LagBytes)})
	}
	for _, c := range v.Decision.Criteria {
		pass := c.Verdict == decision.Pass || c.Verdict == decision.NotNeeded
		s.Criteria = append(s.Criteria, metrics.Criterion{Name: c.Name, Node: c.Node, Pass: pass})
	}
	return s
}

// gauge is a gauge's value for a fact that may be unknown.
func gauge(o decision.Opt[uint64]) float64 {
	if v, ok := o.Get(); ok {
		return float64(v)
	}
	return metrics.Unknown()
}
