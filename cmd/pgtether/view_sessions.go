package main

import (
	"context"
	"slices"
	"time"

	"github.com/pgtether/pgtether/decision"
	"github.com/pgtether/pgtether/health"
	"github.com/pgtether/pgtether/internal/admin"
	"github.com/pgtether/pgtether/proxy"
)

// listSessions lists the sessions, the oldest first, with what the writer says about their transactions if it does so in time.
func (d *daemon) listSessions(ctx context.Context) []admin.Session {
	return d.describeSessions(ctx, d.server.Sessions())
}

func (d *daemon) describeSessions(ctx context.Context, list []proxy.SessionInfo) []admin.Session {
	slices.SortFunc(list, func(a, b proxy.SessionInfo) int { return a.Since.Compare(b.Since) })
	open := d.openTransactions(ctx, list)
	out := make([]admin.Session, len(list))
	for i, s := range list {
		out[i] = admin.Session{ID: s.ID, Client: s.Client, User: s.User, Database: s.Database, State: s.State, Since: s.Since, Node: s.Node, Epoch: s.Epoch,
			PID: s.PID, Immovable: s.Immovable}
		if since, ok := open[s.PID]; ok && s.PID != 0 && s.State != "idle" {
			out[i].InTransaction = decision.Some(since)
		}
	}
	return out
}

// openTransactions asks the node that the sessions are pinned to; nil when there is nothing to ask for, or no answer in time.
func (d *daemon) openTransactions(ctx context.Context, list []proxy.SessionInfo) map[uint32]time.Time {
	i := slices.IndexFunc(list, func(s proxy.SessionInfo) bool { return s.State == "active" || s.State == "in_transaction" })
	if i < 0 {
		return nil
	}
	t, ok := d.probes.target(list[i].Node)
	if !ok {
		return nil
	}
	open, err := d.transactions.of(ctx, t)
	if err != nil {
		d.log.Debug("open transactions not read", "node", list[i].Node, "err", err)
	}
	return open
}

// preflight asks the nodes for what whoever orders a switchover should know.
func (d *daemon) preflight(ctx context.Context, to string) []admin.Finding {
	writer, ok := d.loop.View().Status.Writer.Get()
	if !ok {
		return nil
	}
	from, ok := d.probes.target(writer)
	target, ok2 := d.probes.target(to)
	if !ok || !ok2 {
		return nil
	}
	from.Passing, target.Passing = true, true // we are not another pgtether
	found := health.CheckSwitchover(ctx, from, target, d.holder.Current().Drain.Timeout.Std(), d.holder.Current().Hooks.Fence != "")
	out := make([]admin.Finding, len(found))
	for i, f := range found {
		out[i] = admin.Finding{Severity: string(f.Severity), What: f.What}
		if f.Node != "" {
			out[i].Node = &f.Node
		}
		if f.Hint != "" {
			out[i].Hint = &f.Hint
		}
	}
	return out
}

// unfenceable asks the writer why a fence of it would be incomplete.
func (d *daemon) unfenceable(ctx context.Context) string {
	writer, ok := d.loop.View().Status.Writer.Get()
	if !ok {
		return ""
	}
	t, ok := d.probes.target(writer)
	if !ok {
		return ""
	}
	t.Passing = true
	return health.Unfenceable(ctx, t, d.holder.Current().Hooks.Fence != "")
}
