package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

type settings struct {
	binary    string
	seed      uint64
	n         int
	sync      bool
	gray, rto bool
	// planned: switchovers are ordered.
	planned bool
}

func main() {
	var s settings
	flag.StringVar(&s.binary, "pgtether", "bin/pgtether", "the pgtether binary")
	flag.Uint64Var(&s.seed, "seed", 0, "first seed; 0 takes one from the clock")
	flag.IntVar(&s.n, "n", 3, "how many schedules, or how often each fault with -gray")
	flag.BoolVar(&s.sync, "sync", false, "synchronous replication")
	flag.BoolVar(&s.gray, "gray", false, "faults that must not lead to a promotion")
	flag.BoolVar(&s.rto, "rto", false, "kill -9 only, to measure the time to the first acknowledged write")
	flag.BoolVar(&s.planned, "switchovers", false, "switchovers under load, most of them disturbed")
	flag.Parse()
	if s.seed == 0 {
		s.seed = uint64(time.Now().UnixNano()) % 1_000_000
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	bad, err := judge(ctx, s)
	if err != nil {
		fmt.Fprintf(os.Stderr, "faults: %v\n", err)
	}
	if err != nil || bad > 0 {
		stop()
		os.Exit(1)
	}
}

// judge plays what the settings say, prints every run and the figures over all of them, and returns how many broke a promise
// or do not count.
func judge(ctx context.Context, s settings) (bad int, err error) {
	broken, uncounted := 0, 0
	fmt.Printf("seed %d, %d runs, synchronous %t, gray %t\n", s.seed, s.n, s.sync, s.gray)
	var runs []Run
	count := s.n
	if s.gray {
		count *= len(gray)
	}
	for i := range count {
		r, what, err := one(ctx, s, i)
		if err != nil {
			return broken + uncounted, fmt.Errorf("play %s: %w", what, err)
		}
		violations := Check(r)
		told := line(r)
		if r.Planned {
			told = linePlanned(r)
		}
		fmt.Printf("%3d  %-60s %s\n", i+1, what, told)
		for _, v := range violations {
			fmt.Printf("     BROKEN %s\n", v)
		}
		if len(violations) > 0 || s.rto && !r.Promoted {
			fmt.Printf("     %s\n", strings.Join(r.Said.Detail, "\n     "))
		}
		if len(violations) > 0 {
			broken++
		}
		if why := Uncounted(r); why != "" {
			uncounted++
			fmt.Printf("     NOT COUNTED %s\n", why)
			continue
		}
		runs = append(runs, r)
	}
	if s.planned {
		figuresPlanned(runs, broken, uncounted)
	} else {
		figures(runs, broken, uncounted)
	}
	return broken + uncounted, nil
}

// one plays one run.
func one(ctx context.Context, s settings, i int) (Run, string, error) {
	if s.gray {
		g := i % len(gray)
		r, err := playGray(ctx, s.binary, g)
		return r, gray[g].name, err
	}
	if s.planned {
		p := planned(s.seed + uint64(i))
		r, err := playPlanned(ctx, s.binary, p, s.sync)
		return r, p.String(), err
	}
	plan := schedule(s.seed + uint64(i))
	if s.rto {
		plan = Schedule{Seed: plan.Seed, Fault: "kill", BackAfter: stableFor + 4*time.Second}
	}
	what := fmt.Sprintf("seed %d: %s, back after %s", plan.Seed, plan.Fault, plan.BackAfter)
	if plan.RestartAfter > 0 {
		what += fmt.Sprintf(", pgtether restarted after %s", plan.RestartAfter)
	}
	r, err := play(ctx, s.binary, plan, s.sync)
	return r, what, err
}

// line is one run in short.
func line(r Run) string {
	acked := 0
	for _, op := range r.Ops {
		if op.Outcome == Acknowledged {
			acked++
		}
	}
	lost, relaxed := lostRows(r)
	text := fmt.Sprintf("%d acknowledged, %d lost (%d relaxed), first after %s", acked, lost, relaxed, (FirstAck(r) - r.Fault).Round(time.Millisecond))
	if r.Promoted {
		bound := "unknown"
		if r.Said.LossBytes != nil {
			bound = fmt.Sprint(*r.Said.LossBytes)
		}
		text += fmt.Sprintf("; %s to %s, %s, at most %s bytes, overlap %s", r.Said.Kind, r.New, r.Said.Lossless, bound, overlap(r).Round(time.Millisecond))
	}
	return text
}

// figures are those over all runs that count.
func figures(runs []Run, broken, uncounted int) {
	var first []time.Duration
	steps := map[string][]time.Duration{}
	lost, promoted, unwanted := 0, 0, 0
	var worst time.Duration = -time.Hour
	for _, r := range runs {
		n, _ := lostRows(r)
		lost += n
		if r.Gray && r.Promoted {
			unwanted++
		}
		if !r.Promoted || r.Gray {
			continue
		}
		promoted++
		worst = max(worst, overlap(r))
		first = append(first, FirstAck(r)-r.Fault)
		for step, d := range r.Steps {
			steps[step] = append(steps[step], d)
		}
	}
	fmt.Printf("\n%d runs counted, %d not; %d with a broken promise; %d failovers, %d unwanted promotions, %d acknowledged rows lost\n", len(runs), uncounted, broken, promoted, unwanted, lost)
	if promoted == 0 {
		return
	}
	if worst <= 0 {
		fmt.Printf("writer overlap by the byte logs: 0 (the new writer got its first byte at least %s after the old one its last)\n", -worst.Round(time.Millisecond))
	} else {
		fmt.Printf("writer overlap by the byte logs: %s\n", worst)
	}
	show := func(what string, d []time.Duration) {
		fmt.Printf("  %-28s median %7s  p95 %7s  max %7s\n", what, quantile(d, 0.5).Round(time.Millisecond), quantile(d, 0.95).Round(time.Millisecond),
			quantile(d, 1).Round(time.Millisecond))
	}
	show("fault to first acknowledged", first)
	beyond := make([]time.Duration, len(first))
	for i, d := range first {
		beyond[i] = d - stableFor
	}
	show("the same beyond stable_for", beyond)
	var names []string
	for step := range steps {
		names = append(names, step)
	}
	slices.Sort(names)
	for _, step := range names {
		show(strings.ReplaceAll(step, "_", " "), steps[step])
	}
}
