package main

import (
	"context"
	"fmt"

	"github.com/pgtether/pgtether/internal/config"
)

// reload reads the configuration file again. Either every part takes the new one over, or all keep the old one.
func (d *daemon) reload(ctx context.Context) ([]config.Change, []config.Warning, error) {
	changes, warnings, err := d.holder.Reload(func(old, fresh *config.File) error { return d.apply(ctx, old, fresh) })
	for _, w := range warnings {
		d.log.Warn("configuration", "reason", w.String())
	}
	if err != nil {
		d.log.Error("configuration not reloaded, the one before it stays in force", "err", err)
		return nil, warnings, err
	}
	d.log.Info("configuration reloaded", "changes", len(changes))
	for _, c := range changes {
		d.log.Info("configuration changed", "key", c.Key, "old", c.Old, "new", c.New)
	}
	return changes, warnings, nil
}

// apply hands a valid configuration to the parts. What can still fail (files that are gone meanwhile) is tried first.
func (d *daemon) apply(ctx context.Context, old, fresh *config.File) error {
	targets, err := d.probes.resolve(fresh)
	if err != nil {
		return err
	}
	if err := d.server.Reload(fresh.Proxy()); err != nil {
		return fmt.Errorf("data plane: %w", err)
	}
	// Once the engine has it in its hands nobody can take it back: whoever asked for the reload and went away must not have the others keep the old one.
	if err := d.loop.Reconfigure(context.WithoutCancel(ctx), fresh.Decision()); err != nil {
		if back := d.server.Reload(old.Proxy()); back != nil {
			d.log.Error("the data plane keeps the new configuration", "err", back)
		}
		return fmt.Errorf("failover engine: %w", err)
	}
	d.probes.retarget(targets)
	d.level.Set(logLevel(fresh))
	return nil
}
