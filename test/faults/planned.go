package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/test/rig"
)

// disturbances are what happens in the middle of a planned switchover; the empty one leaves it alone.
var disturbances = []string{"", "", "kill pgtether", "kill pgtether", "kill the writer", "kill the target", "freeze the writer"}

// Planned is a switchover that is ordered under load. It follows from its seed alone.
type Planned struct {
	Seed uint64
	// OrderAfter is how long after the warm-up it is ordered, DisturbAfter how long after the order it is disturbed.
	OrderAfter, DisturbAfter time.Duration
	Disturbance              string
	// BackAfter is how long after a disturbance the server comes back.
	BackAfter time.Duration
	// Movable: sessions can move. The others end, as all did before.
	Movable bool
}

// planned derives a switchover from a seed.
func planned(seed uint64) Planned {
	r := rand.New(rand.NewPCG(seed, 2))
	p := Planned{Seed: seed, OrderAfter: time.Duration(r.IntN(1500)) * time.Millisecond, Disturbance: disturbances[r.IntN(len(disturbances))]}
	if p.Disturbance != "" {
		p.DisturbAfter = time.Duration(r.IntN(400)) * time.Millisecond
		p.BackAfter = time.Duration(1000+r.IntN(8000)) * time.Millisecond
	}
	if p.Movable = r.IntN(3) > 0; p.Movable && p.Disturbance != "" {
		p.DisturbAfter = time.Duration(r.IntN(1200)) * time.Millisecond // sessions move at its end
	}
	return p
}

// String says what happens.
func (p Planned) String() string {
	text := fmt.Sprintf("seed %d: switchover", p.Seed)
	if p.Movable {
		text += ", sessions move"
	}
	if p.Disturbance != "" {
		text += fmt.Sprintf(", %s after %s", p.Disturbance, p.DisturbAfter)
	}
	if p.Disturbance != "" && p.Disturbance != "kill pgtether" {
		text += fmt.Sprintf(", back after %s", p.BackAfter)
	}
	return text
}

// playPlanned orders one switchover under load, disturbs it, and returns what was recorded.
func playPlanned(ctx context.Context, binary string, p Planned, synchronous bool) (_ Run, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	w, load, err := stage(ctx, binary, lab.Options{Synchronous: synchronous}, p.Movable)
	if err != nil {
		return Run{}, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	defer load.end()
	pause(ctx, p.OrderAfter)
	if err := w.order(ctx); err != nil {
		return Run{}, err
	}
	r := Run{Seed: p.Seed, Sync: synchronous, Old: lab.RegionA, Clients: clients, Limit: firstAckLimit, LoginLimit: loginLimit, Fault: w.clock(),
		Planned: true, Disturbed: p.Disturbance != "", Movable: p.Movable}
	if err := w.disturbPlanned(ctx, p); err != nil {
		return Run{}, err
	}
	if r.New, err = w.settled(ctx); err != nil {
		return Run{}, err
	}
	r.Healed = w.clock()
	load.settle(ctx, w.clock())
	r.Ops, r.Heard, r.Hung = load.end()
	r.Mixed = load.mixedUp()
	return w.collect(ctx, r)
}

// order orders the switchover. One that is refused, because a probe was late just then, is ordered again.
func (w *world) order(ctx context.Context) error {
	for began := time.Now(); ; pause(ctx, 100*time.Millisecond) {
		err := w.proxy.Switch(ctx, lab.RegionB, "")
		if err == nil || time.Since(began) > againLimit || ctx.Err() != nil {
			return err
		}
	}
}

// disturbPlanned does the disturbance and undoes it.
func (w *world) disturbPlanned(ctx context.Context, p Planned) error {
	a, b := w.pair.Node(lab.RegionA), w.pair.Node(lab.RegionB)
	pause(ctx, p.DisturbAfter)
	undo := func(do, back func() error) error {
		if err := do(); err != nil {
			return err
		}
		pause(ctx, p.BackAfter)
		return back()
	}
	switch p.Disturbance {
	case "":
		return nil
	case "kill pgtether":
		w.proxy.Kill()
		return w.startProxy(ctx, "auto")
	case "kill the writer":
		return undo(a.Kill9, func() error { return a.Start(ctx) })
	case "kill the target":
		return undo(b.Kill9, func() error { return b.Start(ctx) })
	case "freeze the writer":
		return undo(a.FreezeAll, a.Thaw)
	}
	return fmt.Errorf("do disturbance %q: %w", p.Disturbance, errors.ErrUnsupported)
}

// settled waits until the order has come to something, a writer is open, and no change is under way; it returns the writer.
func (w *world) settled(ctx context.Context) (string, error) {
	s, err := w.proxy.Await(ctx, "the switchover has ended and a writer is open", func(s rig.Status) bool {
		if s.Writes != "open" || s.State == "PROMOTING" || s.Writer == nil {
			return false
		}
		events, err := w.proxy.Events(ctx)
		if err != nil {
			return false
		}
		ordered := slices.IndexFunc(events, func(e rig.Event) bool { return e.Kind == "command" })
		return slices.ContainsFunc(events[max(ordered, 0):], func(e rig.Event) bool {
			return e.Kind == "undone" || e.Kind == "opened" && e.Epoch != nil && *e.Epoch > 1
		})
	})
	if err != nil {
		return "", err
	}
	return *s.Writer, nil
}

// checkPlanned: a switchover that is completed is proven to have lost nothing, and one that nothing disturbed is completed, leaves nothing in
// doubt, and costs each session one error, which says that the session has ended, or, where sessions move, none.
func checkPlanned(r Run, say sayer) {
	if r.Said.Kind == "switchover" && r.Old != r.New {
		if r.Said.Lossless != "proven" {
			say("C5", "a switchover was completed and called %s", r.Said.Lossless)
		}
		if len(r.Said.Requested) == 0 {
			say("C8", "a switchover was made that no event had requested")
		}
	}
	if !r.Planned || r.Disturbed {
		return
	}
	if r.Old == r.New {
		say("C9", "nothing disturbed the switchover, and it was not completed")
	}
	told := map[int]int{}
	for _, op := range r.Ops {
		if op.Outcome == Acknowledged || op.Return < r.Fault {
			continue
		}
		told[op.Client]++
		switch {
		case r.Movable:
			say("C6", "nothing disturbed the switchover, and client %d, whose session could move, was told: %s", op.Client, op.Err)
		case op.Outcome == InDoubt:
			say("C6", "nothing disturbed the switchover, and row %d of client %d is in doubt: %s", op.Seq, op.Client, op.Err)
		case !strings.Contains(op.Err, "08006"):
			say("C6", "nothing disturbed the switchover, and client %d was told: %s", op.Client, op.Err)
		case told[op.Client] > 1:
			say("C6", "nothing disturbed the switchover, and client %d was told of %d errors", op.Client, told[op.Client])
		}
	}
}

// stall is the longest time between two acknowledgements of one client, the later of which came after the order, and mostErrors the most that
// one client was told after it.
func stall(r Run) (longest time.Duration, mostErrors int) {
	last, errs := map[int]time.Duration{}, map[int]int{}
	ops := slices.Clone(r.Ops)
	slices.SortFunc(ops, func(a, b Op) int { return int(a.Return - b.Return) })
	for _, op := range ops {
		switch {
		case op.Outcome != Acknowledged && op.Return >= r.Fault:
			errs[op.Client]++
			mostErrors = max(mostErrors, errs[op.Client])
		case op.Outcome == Acknowledged:
			if before, known := last[op.Client]; known && op.Return >= r.Fault {
				longest = max(longest, op.Return-before)
			}
			last[op.Client] = op.Return
		}
	}
	return longest, mostErrors
}

// linePlanned is one such run in short.
func linePlanned(r Run) string {
	lost, _ := lostRows(r)
	longest, errs := stall(r)
	text := fmt.Sprintf("%d writes, %d acknowledged rows lost, longest stall %s, at most %d errors per client; ", len(r.Ops), lost, longest.Round(time.Millisecond), errs)
	if r.Movable {
		text += fmt.Sprintf("%d sessions moved; ", moved(r))
	}
	if r.Old == r.New {
		return text + "undone, " + r.New + " serves on"
	}
	return text + fmt.Sprintf("%s to %s, %s, overlap %s", r.Said.Kind, r.New, r.Said.Lossless, overlap(r).Round(time.Millisecond))
}

// figuresPlanned are those over all such runs that count.
func figuresPlanned(runs []Run, broken, uncounted int) {
	kinds, lost, mostErrors := map[string]int{}, 0, 0
	var calm, moving, disturbed []time.Duration
	movable, sessions := 0, 0
	worst := -time.Hour
	for _, r := range runs {
		n, _ := lostRows(r)
		lost += n
		longest, errs := stall(r)
		switch {
		case r.Disturbed:
			disturbed = append(disturbed, longest)
		case r.Movable:
			moving = append(moving, longest)
		default:
			calm, mostErrors = append(calm, longest), max(mostErrors, errs)
		}
		if r.Movable {
			movable, sessions = movable+1, sessions+moved(r)
		}
		if r.Old == r.New {
			kinds["undone"]++
			continue
		}
		kinds[r.Said.Kind]++
		worst = max(worst, overlap(r))
	}
	fmt.Printf("\n%d runs counted, %d not; %d with a broken promise; %d switchovers, %d undone, %d failovers; %d acknowledged rows lost\n", len(runs), uncounted, broken,
		kinds["switchover"], kinds["undone"], kinds["failover"], lost)
	if worst > -time.Hour {
		fmt.Printf("writer overlap by the byte logs: %s (below 0: none)\n", worst.Round(time.Millisecond))
	}
	show := func(what string, d []time.Duration) {
		fmt.Printf("  %-28s median %7s  max %7s of %d\n", what, quantile(d, 0.5).Round(time.Millisecond), quantile(d, 1).Round(time.Millisecond), len(d))
	}
	show("longest stall, sessions end", calm)
	show("the same, sessions move", moving)
	show("longest stall, disturbed", disturbed)
	fmt.Printf("  at most %d errors per client where nothing disturbed it and sessions end; %d runs in which they can move, %d sessions did\n", mostErrors, movable, sessions)
}
