package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/test/rig"
)

// grayFor is how long a fault that is no death lasts: longer than a whole failover would take.
const grayFor = stableFor + 4*time.Second

// gray are faults that must not lead to a promotion. Each returns what ends it.
var gray = []struct {
	name  string
	opts  lab.Options
	fault func(context.Context, *world) (func() error, error)
}{
	{"F02 a child of the server is killed", lab.Options{}, func(ctx context.Context, w *world) (func() error, error) {
		return nil, w.pair.Node(lab.RegionA).Kill9Child("checkpointer")
	}},
	{"F04 the postmaster hangs", lab.Options{}, func(ctx context.Context, w *world) (func() error, error) {
		a := w.pair.Node(lab.RegionA)
		return a.Thaw, a.FreezePostmaster()
	}},
	{"F06 only pgtether cannot see the primary", lab.Options{}, func(ctx context.Context, w *world) (func() error, error) {
		w.relay[lab.RegionA].Blackhole()
		return w.relay[lab.RegionA].Heal, nil
	}},
	{"F12 the primary takes no more connections", lab.Options{MaxConnections: 30}, fillUp},
	{"F13 the probe may not log in", lab.Options{}, func(ctx context.Context, w *world) (func() error, error) {
		a := w.pair.Node(lab.RegionA)
		return func() error { return a.Exec(ctx, "postgres", "ALTER ROLE "+w.pair.ProbeUser+" LOGIN") },
			a.Exec(ctx, "postgres", "ALTER ROLE "+w.pair.ProbeUser+" NOLOGIN")
	}},
	{"F14 the primary crashes and recovers", lab.Options{}, func(ctx context.Context, w *world) (func() error, error) {
		a := w.pair.Node(lab.RegionA)
		return nil, errors.Join(a.Kill9(), a.Start(ctx))
	}},
	{"F24 the receiver of the standby cannot be read, and pgtether cannot see the primary", lab.Options{}, func(ctx context.Context, w *world) (func() error, error) {
		a := w.pair.Node(lab.RegionA)
		err := errors.Join(a.Exec(ctx, "postgres", "REVOKE pg_monitor FROM "+w.pair.ProbeUser), w.pair.Node(lab.RegionB).AwaitCaughtUp(ctx, a))
		w.relay[lab.RegionA].Blackhole()
		return w.relay[lab.RegionA].Heal, err
	}},
	{"pgtether is stopped for a while", lab.Options{}, func(ctx context.Context, w *world) (func() error, error) {
		if err := w.proxy.Signal(syscall.SIGSTOP); err != nil {
			return nil, err
		}
		pause(ctx, stableFor+time.Second)
		return nil, w.proxy.Signal(syscall.SIGCONT)
	}},
	{"the processors are starved", lab.Options{}, func(ctx context.Context, w *world) (func() error, error) {
		ctx, cancel := context.WithTimeout(ctx, grayFor)
		for range 4 * runtime.NumCPU() {
			go func() {
				for ctx.Err() == nil {
				}
			}()
		}
		return func() error { cancel(); return nil }, nil
	}},
}

// fillUp takes every connection that is left.
func fillUp(ctx context.Context, w *world) (func() error, error) {
	var held []*pgx.Conn
	for range 60 {
		c, err := pgx.Connect(ctx, w.pair.Node(lab.RegionA).SuperDSN("postgres"))
		if err != nil {
			break
		}
		held = append(held, c)
	}
	return func() error {
		for _, c := range held {
			_ = c.Close(ctx)
		}
		return nil
	}, nil
}

// playGray does one of them and records whether anything was promoted.
func playGray(ctx context.Context, binary string, i int) (_ Run, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	g := gray[i]
	w, load, err := stage(ctx, binary, g.opts, false)
	if err != nil {
		return Run{}, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	r := Run{Gray: true, Old: lab.RegionA, New: lab.RegionA, Clients: clients, Limit: grayFor + firstAckLimit, LoginLimit: loginLimit, Fault: w.clock()}
	end, err := g.fault(ctx, w)
	if err != nil {
		load.end()
		return Run{}, fmt.Errorf("do %s: %w", g.name, err)
	}
	pause(ctx, grayFor)
	if end != nil {
		err = end()
	}
	r.Healed = w.clock()
	pause(ctx, settle)
	if _, waitErr := w.proxy.Await(ctx, "the writer is open again", func(s rig.Status) bool { return s.Writes == "open" }); waitErr != nil {
		err = errors.Join(err, waitErr)
	}
	load.settle(ctx, r.Healed)
	r.Ops, r.Heard, r.Hung = load.end()
	if err != nil {
		return Run{}, fmt.Errorf("end %s: %w", g.name, err)
	}
	if r, err = w.collect(ctx, r); err != nil {
		return r, err
	}
	recovery, err := w.pair.Node(lab.RegionB).QueryText(ctx, "postgres", "SELECT pg_is_in_recovery()::text")
	r.Promoted = recovery != "true" || len(r.Said.Requested) > 0
	return r, err
}
