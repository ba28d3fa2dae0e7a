package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/test/rig"
)

const (
	// clients write at the same time.
	clients = 6
	// warmUp is how long they write before the fault: the write rate is known then, and the standby has confirmed a position.
	// Every client must have committed within freshFor before the fault.
	warmUp = freshFor
	// settle is how long they write after the new writer is open.
	settle = 2 * time.Second
	// againLimit is how long after that every client is given to commit again.
	againLimit = 10 * time.Second
	// firstAckLimit is how long after the fault the first write may be acknowledged, restarts of pgtether included.
	firstAckLimit = stableFor + 15*time.Second
)

// play runs one schedule and returns what was recorded.
func play(ctx context.Context, binary string, s Schedule, synchronous bool) (_ Run, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	w, load, err := stage(ctx, binary, lab.Options{Synchronous: synchronous}, false)
	if err != nil {
		return Run{}, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	r := Run{Seed: s.Seed, Sync: synchronous, Old: lab.RegionA, Clients: clients, Limit: firstAckLimit, LoginLimit: loginLimit, Fault: w.clock()}
	if err := w.disturb(ctx, s); err != nil {
		load.end()
		return Run{}, err
	}
	r.Healed = w.clock()
	status, err := w.proxy.Await(ctx, "a writer is open", func(s rig.Status) bool { return s.Writes == "open" })
	if err != nil {
		load.end()
		return Run{}, err
	}
	r.New = *status.Writer
	load.settle(ctx, w.clock())
	r.Ops, r.Heard, r.Hung = load.end()
	return w.collect(ctx, r)
}

// stage is a pair in good order behind a pgtether that promotes by itself, with clients that have written for a while.
// movable gives it the role's verifier, so that sessions can move.
func stage(ctx context.Context, binary string, opts lab.Options, movable bool) (*world, *crowd, error) {
	w, err := newWorld(ctx, binary, opts)
	if err != nil {
		return nil, nil, err
	}
	if movable {
		if w.auth, err = rig.Verifiers(ctx, w.pair.Node(lab.RegionA), w.dir, w.pair.AppUser); err != nil {
			return nil, nil, errors.Join(err, w.close())
		}
	}
	if err := w.startProxy(ctx, "auto"); err != nil {
		return nil, nil, errors.Join(err, w.close())
	}
	if _, err := w.proxy.Await(ctx, "the pair is ready", func(s rig.Status) bool { return s.State == "STANDBY_READY" }); err != nil {
		return nil, nil, errors.Join(err, w.close())
	}
	load := startCrowd(ctx, w.pair.AppDSNAt(w.proxy.Listen), clients, w.clock, w.nodeOf)
	pause(ctx, warmUp)
	return w, load, nil
}

// disturb does the fault, restarts pgtether when the schedule says so, and lets the old primary come back. It ends when all of that has happened.
func (w *world) disturb(ctx context.Context, s Schedule) error {
	a := w.pair.Node(lab.RegionA)
	began := time.Now()
	at := func(d time.Duration) { pause(ctx, d-time.Since(began)) }
	var back func() error
	var err error
	switch s.Fault {
	case "kill":
		err, back = a.Kill9(), func() error { return a.Start(ctx) }
	case "freeze":
		err, back = a.FreezeAll(), a.Thaw
	case "blackhole":
		err = errors.Join(w.relay[lab.RegionA].Partition(), a.ReplicationRelay().Partition())
		back = func() error { return errors.Join(w.relay[lab.RegionA].Heal(), a.ReplicationRelay().Heal()) }
	default:
		err = fmt.Errorf("do fault %q: %w", s.Fault, errors.ErrUnsupported)
	}
	if err != nil {
		return err
	}
	restart := func() error {
		at(s.RestartAfter)
		w.proxy.Kill()
		return w.startProxy(ctx, "auto")
	}
	comeBack := func() error {
		at(s.BackAfter)
		return back()
	}
	switch {
	case s.RestartAfter == 0:
		return comeBack()
	case s.RestartAfter < s.BackAfter:
		return errors.Join(restart(), comeBack())
	}
	return errors.Join(comeBack(), restart())
}

// collect reads both servers and what pgtether and the relays have to say.
func (w *world) collect(ctx context.Context, r Run) (Run, error) {
	var err error
	if r.Rows, err = w.rows(ctx, w.pair.Node(r.New)); err != nil {
		return r, err
	}
	if r.New != r.Old {
		r.Promoted = true
		if r.OldRows, err = w.rows(ctx, w.pair.Node(r.Old)); err != nil {
			return r, err
		}
	}
	if err := w.attribute(ctx, &r); err != nil {
		return r, err
	}
	r.Bytes = map[string]Bytes{}
	for name, log := range w.log {
		r.Bytes[name] = log.bytes()
	}
	r.Said, r.Steps, err = w.said(ctx)
	return r, err
}
