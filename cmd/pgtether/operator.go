package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgtether/pgtether/decision"
	"github.com/pgtether/pgtether/health"
	"github.com/pgtether/pgtether/internal/control"
)

// operator does to nodes what the failover engine asks for, with the login of the probes. It satisfies control.Operator.
type operator struct {
	probes *probes
	nodes  health.Operator
	hooks  func() control.Hooks
	// cluster is the configured name, for the operator's own program.
	cluster string
}

// target returns how to reach a node.
func (o *operator) target(node string) (health.Target, error) {
	t, ok := o.probes.target(node)
	if !ok {
		return t, fmt.Errorf("operate on node %s: not configured", node)
	}
	return t, nil
}

// fenceRequest is what hooks.fence reads on its standard input.
type fenceRequest struct {
	Event   string `json:"event"`
	Cluster string `json:"cluster"`
	Epoch   uint64 `json:"epoch"`
	Node    string `json:"node"`
	Address string `json:"address"`
	Target  string `json:"target"`
}

// fenceTimeout bounds the fence by SQL: it waits for sessions to end, and for a parameter to be in force, on a node that may be far away.
const fenceTimeout = 10 * time.Second

// Fence closes the node to writes where it can still be reached, and runs hooks.fence. With a hook its word is the one that counts.
func (o *operator) Fence(ctx context.Context, a decision.Fence) (string, decision.Opt[decision.LSN], error) {
	var bySQL, byHook string
	var sqlErr, hookErr error
	var end decision.Opt[decision.LSN]
	if a.SQL {
		bySQL, end, sqlErr = o.fenceBySQL(ctx, a.Node)
	}
	if a.Hook {
		byHook, hookErr = o.fenceByHook(ctx, a)
	}
	if a.Hook && hookErr != nil || !a.Hook && sqlErr != nil {
		return "", end, errors.Join(hookErr, sqlErr)
	}
	return strings.Join(slices.DeleteFunc([]string{byHook, bySQL}, func(s string) bool { return s == "" }), "; "), end, nil
}

// fenceByHook runs the operator's program.
func (o *operator) fenceByHook(ctx context.Context, a decision.Fence) (string, error) {
	request, err := json.Marshal(fenceRequest{"fence", o.cluster, a.Epoch, a.Node, a.Address, a.Target})
	if err != nil {
		return "", fmt.Errorf("encode request for hooks.fence: %w", err)
	}
	if err := o.hooks().RunFence(ctx, request); err != nil {
		return "", fmt.Errorf("run hooks.fence: %w", err)
	}
	return "hooks.fence exited 0", nil
}

// fenceBySQL makes new transactions read-only, ends the sessions that are there, and says up to where what was committed is on disk.
func (o *operator) fenceBySQL(ctx context.Context, node string) (string, decision.Opt[decision.LSN], error) {
	t, err := o.target(node)
	if err != nil {
		return "", decision.Opt[decision.LSN]{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, fenceTimeout)
	defer cancel()
	report, err := o.nodes.FenceSQL(ctx, t)
	switch {
	case err != nil:
		return "", report.End, fmt.Errorf("fence %s by SQL: %w", node, err)
	case !report.Complete():
		return "", report.End, fmt.Errorf("fence %s by SQL: incomplete: %s", node, report)
	}
	return report.String(), report.End, nil
}

// Promote ends the queries that hold replay back, which would keep the promotion waiting for them, and sends pg_promote once.
func (o *operator) Promote(ctx context.Context, node string) error {
	t, err := o.target(node)
	if err != nil {
		return err
	}
	if _, err := o.nodes.EndReplayConflicts(ctx, t); err != nil && !errors.Is(err, health.ErrNotInRecovery) {
		return fmt.Errorf("end queries that hold replay back on %s: %w", node, err)
	}
	err = o.nodes.Promote(ctx, t)
	if errors.Is(err, health.ErrNotInRecovery) {
		return nil // asked before, or promoted meanwhile: its timeline tells
	}
	return err
}

// Verify empties synchronous_standby_names where it names a standby that is gone, and proves that the node commits.
func (o *operator) Verify(ctx context.Context, a decision.Verify) error {
	t, err := o.target(a.Node)
	if err != nil {
		return err
	}
	if a.EmptySyncNames {
		if _, err := o.nodes.EmptySyncNames(ctx, t); err != nil {
			return fmt.Errorf("empty synchronous_standby_names on %s: %w", a.Node, err)
		}
	}
	return o.nodes.ProveWritable(ctx, t, health.Want{SystemID: a.SystemID, MinTimeline: a.Above + 1})
}

// Unfence makes transactions read-write again.
func (o *operator) Unfence(ctx context.Context, node string) error {
	t, err := o.target(node)
	if err != nil {
		return err
	}
	return o.nodes.UnfenceSQL(ctx, t)
}

// EndConflicts ends the queries that hold replay back.
func (o *operator) EndConflicts(ctx context.Context, node string) error {
	t, err := o.target(node)
	if err != nil {
		return err
	}
	_, err = o.nodes.EndReplayConflicts(ctx, t)
	return err
}

// RestoreSync sets synchronous_standby_names.
func (o *operator) RestoreSync(ctx context.Context, node, names string) error {
	t, err := o.target(node)
	if err != nil {
		return err
	}
	return o.nodes.RestoreSyncNames(ctx, t, names)
}

// Checkpoint makes a checkpoint.
func (o *operator) Checkpoint(ctx context.Context, node string) error {
	t, err := o.target(node)
	if err != nil {
		return err
	}
	return o.nodes.Checkpoint(ctx, t)
}
