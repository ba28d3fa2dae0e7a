package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	playRole()
	s, err := parseSettings(os.Args[0], os.Args[1:])
	if err != nil {
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintf(os.Stderr, "peers: %v\n", err)
		stop()
		os.Exit(1)
	}
}

// playRole ends the process when it was started in a role.
func playRole() {
	if len(os.Args) < 2 || roles[os.Args[1]] == nil {
		return
	}
	if err := roles[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
	os.Exit(0)
}

// errFailures: the report is whole, but some measurements in it have failed.
var errFailures = errors.New("some measurements failed; the report lists them")

// run measures what the settings ask for and writes the report, also of a run that was broken off.
func run(ctx context.Context, s settings) error {
	if err := raiseDescriptorLimit(); err != nil {
		return err
	}
	r := &Report{}
	err := measure(ctx, s, r)
	if err != nil {
		r.Head = append(r.Head, [2]string{"broken off", strings.ReplaceAll(err.Error(), "\n", " | ")})
	}
	if len(r.Samples) > 0 {
		err = errors.Join(err, r.write(s.out, s.label))
	}
	if err == nil && len(r.Failures) > 0 {
		err = errFailures
	}
	return err
}

// measure brings everything up, plays the workloads and takes everything down again.
func measure(ctx context.Context, s settings, r *Report) (err error) {
	st, err := setStage(ctx, s)
	if err != nil {
		return fmt.Errorf("set stage: %w", err)
	}
	defer func() { err = errors.Join(err, st.close()) }()
	if r.Head, err = describe(ctx, st); err != nil {
		return err
	}
	for _, line := range r.Head {
		fmt.Printf("%s: %s\n", line[0], line[1])
	}
	for _, w := range s.workloads {
		if err := st.play(ctx, w, r); err != nil {
			return err
		}
	}
	r.Head = append(r.Head, [2]string{"load average at the end", loadAverage()})
	return nil
}

// raiseDescriptorLimit allows us and the programs that we start as many descriptors as the system gives.
func raiseDescriptorLimit() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read limit of descriptors: %w", err)
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("raise limit of descriptors: %w", err)
	}
	return nil
}

// descriptors are how many a process may have, but for some that it needs for itself.
func descriptors() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 1000 // it was read and raised before; whatever this is, it allows that
	}
	return int(min(limit.Cur, 1<<20)) - 300
}
