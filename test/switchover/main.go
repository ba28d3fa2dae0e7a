package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/test/rig"
	"github.com/pgtether/pgtether/test/tellers"
)

const (
	// goClients are ours, poolSize is the JDBC pool's.
	goClients, poolSize = 32, 20
	// firstPooled is the number of the pool's first client.
	firstPooled = 1000
	// freshFor is how long before and after a switchover every client must have committed.
	freshFor = 5 * time.Second
)

func main() {
	binary := flag.String("pgtether", "bin/pgtether", "the pgtether binary")
	n := flag.Int("n", 20, "how many switchovers")
	synchronous := flag.Bool("sync", false, "synchronous replication")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	broken, err := play(ctx, *binary, *n, *synchronous)
	if err != nil {
		fmt.Fprintf(os.Stderr, "switchover: %v\n", err)
	}
	if err != nil || broken > 0 {
		stop()
		os.Exit(1)
	}
}

// stage is the pair, the proxy and the clients.
type stage struct {
	pair  *lab.Lab
	proxy *rig.Proxy
	crowd *tellers.Crowd
	pool  *pool
	// stalls are the longest of each switchover, by kind of client.
	stalls map[string][]time.Duration
	broken int
}

// play does n switchovers there and back and returns how many promises were broken.
func play(ctx context.Context, binary string, n int, synchronous bool) (broken int, err error) {
	dir, err := os.MkdirTemp("", "pgtether-switchover-")
	if err != nil {
		return 0, fmt.Errorf("make working directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// A checkpoint after the divergence would remove the log that pg_rewind reads.
	pair, err := lab.Start(ctx, lab.Options{Synchronous: synchronous, Settings: map[string]string{"wal_keep_size": "512MB"}})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, pair.Close()) }()
	proxy, err := rig.Start(ctx, pair, rig.Options{Binary: binary, Dir: filepath.Join(dir, "pgtether"), Mode: "auto", Extra: "anti_flap = \"0s\"\n"})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, proxy.Stop()) }()
	if _, err := proxy.Await(ctx, "the pair is ready", ready); err != nil {
		return 0, err
	}
	s := &stage{pair: pair, proxy: proxy, stalls: map[string][]time.Duration{}}
	if err := tellers.Prepare(ctx, pair.AppDSNAt(proxy.Listen)); err != nil {
		return 0, err
	}
	s.crowd = tellers.Start(ctx, pair.AppDSNAt(proxy.Listen), goClients)
	defer s.crowd.Halt()
	if s.pool, err = startPool(ctx, dir, proxy.Listen, s.crowd, poolSize, firstPooled); err != nil {
		return 0, err
	}
	writer, err := s.thereAndBack(ctx, n)
	err = errors.Join(err, s.pool.halt())
	s.crowd.Halt()
	if err != nil {
		return s.broken, err
	}
	found, err := s.crowd.Verify(ctx, writer.AppDSN())
	if err != nil {
		return s.broken, err
	}
	if !found.Sound() {
		s.breaks("the tables do not hold what was told")
	}
	s.figures(found)
	return s.broken, nil
}

func ready(s rig.Status) bool { return s.State == "STANDBY_READY" }

// breaks says which promise was broken.
func (s *stage) breaks(format string, args ...any) {
	s.broken++
	fmt.Printf("     BROKEN %s\n", fmt.Sprintf(format, args...))
}

// thereAndBack does the switchovers and returns who is the writer in the end.
func (s *stage) thereAndBack(ctx context.Context, n int) (writer *lab.Node, err error) {
	writer, other := s.pair.Node(lab.RegionA), s.pair.Node(lab.RegionB)
	for i := range n {
		if err := s.crowd.Await(ctx, goClients+poolSize, time.Now()); err != nil {
			return writer, err
		}
		limited, cancel := context.WithTimeout(ctx, time.Minute)
		err := s.one(limited, i+1, writer, other)
		if err == nil {
			err = writer.Rewind(limited, other)
		}
		if err == nil {
			_, err = s.proxy.Await(limited, "the old writer is a standby", ready)
		}
		cancel()
		if err != nil {
			return writer, fmt.Errorf("switchover %d to %s: %w", i+1, other.Name(), err)
		}
		writer, other = other, writer
	}
	return writer, nil
}

// one does one switchover, holds it to what is promised, and prints it.
func (s *stage) one(ctx context.Context, number int, from, to *lab.Node) error {
	ordered := time.Now()
	if err := s.proxy.Switch(ctx, to.Name(), ""); err != nil {
		return err
	}
	status, err := s.proxy.Await(ctx, "it is done or undone", func(st rig.Status) bool {
		return st.Writes == "open" && st.State != "PROMOTING" && (st.Writer != nil && *st.Writer == to.Name() || time.Since(ordered) > 20*time.Second)
	})
	if err != nil {
		return err
	}
	opened := time.Now()
	c := status.LastChange
	if c == nil || c.Kind != "switchover" || c.To != to.Name() || c.Lossless != "proven" || c.DataLossBytes == nil || *c.DataLossBytes != 0 {
		return fmt.Errorf("its end is %+v: %s", c, status.Message)
	}
	after, cancel := context.WithTimeout(ctx, freshFor)
	defer cancel()
	if err := s.crowd.Await(after, goClients+poolSize, opened); err != nil {
		s.breaks("not counted: %v", err)
	}
	if n := s.crowd.CommittedWithin(ordered.Add(-freshFor), ordered); n != goClients+poolSize {
		s.breaks("not counted: %d of %d clients committed within %s before it", n, goClients+poolSize, freshFor)
	}
	var took int64
	for _, step := range c.Steps {
		took += step.MS
	}
	fmt.Printf("%3d  %s to %s in %d ms; longest stall: ", number, from.Name(), to.Name(), took)
	s.report(ordered)
	return nil
}

// report prints the stalls and the errors of both kinds of client since the order.
func (s *stage) report(ordered time.Time) {
	pooled := func(client int) bool { return client >= firstPooled }
	ours := func(client int) bool { return !pooled(client) }
	a, b := s.crowd.Longest(ordered, ours).Length(), s.crowd.Longest(ordered, pooled).Length()
	s.stalls["TPC-B"], s.stalls["JDBC"] = append(s.stalls["TPC-B"], a), append(s.stalls["JDBC"], b)
	errs := map[int]int{}
	count := map[bool]int{}
	var odd []tellers.End
	for _, e := range s.crowd.Ends(ordered) {
		count[pooled(e.Client)]++
		// A thread of a pool takes whichever connection is free: how many errors it meets is the pool's doing.
		if errs[e.Client]++; e.Code != "08006" || e.Place != tellers.AtBoundary || errs[e.Client] > 1 && ours(e.Client) {
			odd = append(odd, e)
		}
	}
	fmt.Printf("TPC-B %s, JDBC %s; errors: TPC-B %d, JDBC %d\n", a.Round(time.Millisecond), b.Round(time.Millisecond), count[false], count[true])
	for _, e := range odd {
		s.breaks("client %d was told %s at %s (error %d of it)", e.Client, e.Code, e.Place, errs[e.Client])
	}
	if count[false] != goClients || count[true] > poolSize {
		s.breaks("%d errors for %d sessions of ours, %d for %d of the pool", count[false], goClients, count[true], poolSize)
	}
}

// figures prints what it came to.
func (s *stage) figures(found tellers.Found) {
	fmt.Printf("\n%d switchovers, %d promises broken; %s\n", len(s.stalls["JDBC"]), s.broken, found)
	for _, kind := range []string{"TPC-B", "JDBC"} {
		d := slices.Sorted(slices.Values(s.stalls[kind]))
		if len(d) > 0 {
			fmt.Printf("  longest stall, %-6s median %s, max %s\n", kind, d[len(d)/2].Round(time.Millisecond), d[len(d)-1].Round(time.Millisecond))
		}
	}
}
