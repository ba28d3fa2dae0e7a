package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// settings are the flags.
type settings struct {
	binary string
	n      int
	sync   bool
	// moving: sessions are to move, not to end.
	moving bool
	// pool and pgbench are how many clients of those kinds there are.
	pool, pgbench int
}

// errEnds is returned for flags that contradict each other.
var errEnds = errors.New("pgbench gives up at its first error: it takes part only where sessions move")

func main() {
	s := settings{moving: true}
	flag.StringVar(&s.binary, "pgtether", "bin/pgtether", "the pgtether binary")
	flag.IntVar(&s.n, "n", 20, "how many switchovers")
	flag.BoolVar(&s.sync, "sync", false, "synchronous replication")
	flag.IntVar(&s.pool, "pool", 20, "connections of the JDBC pool")
	flag.IntVar(&s.pgbench, "pgbench", 0, "clients of pgbench -M prepared")
	flag.Func("continuity", "off: sessions end at a switchover (default on: they move)", func(v string) error {
		if s.moving = v != "off"; v != "on" && v != "off" {
			return errors.New("it is on or off")
		}
		return nil
	})
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	broken, err := 0, errEnds
	if s.moving || s.pgbench == 0 {
		broken, err = play(ctx, s)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "switchover: %v\n", err)
	}
	if err != nil || broken > 0 {
		stop()
		os.Exit(1)
	}
}
