package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/test/rig"
)

// settings are the command line.
type settings struct {
	binary, listen, admin string
	workers               int
	pause                 time.Duration
}

func main() {
	var s settings
	flag.StringVar(&s.binary, "pgtether", "bin/pgtether", "the pgtether binary")
	flag.StringVar(&s.listen, "listen", "127.0.0.1:6432", "where the proxy listens; another free port is taken when it is in use")
	flag.StringVar(&s.admin, "admin", "127.0.0.1:7432", "where its HTTP interface listens; another free port is taken when it is in use")
	flag.IntVar(&s.workers, "connections", 8, "connections of the workload's pool")
	flag.DurationVar(&s.pause, "pause", 3*time.Second, "how long each state is kept before the story goes on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
		stop()
		os.Exit(1)
	}
}

// run brings up the pair and the proxy, tells the story, and takes everything down again in the opposite order.
func run(ctx context.Context, s settings) (err error) {
	began := time.Now()
	dir, err := os.MkdirTemp("", "pgtether-demo-")
	if err != nil {
		return fmt.Errorf("make working directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	pair, err := lab.Start(ctx, lab.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pair.Close()) }()
	proxy, err := rig.Start(ctx, pair, rig.Options{
		Binary: s.binary, Listen: orFree(s.listen), Admin: orFree(s.admin), Dir: filepath.Join(dir, "pgtether"),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, proxy.Stop()) }()
	if err := awaitOpen(ctx, proxy); err != nil {
		return err
	}
	introduce(pair, proxy, time.Since(began))
	return tell(ctx, s, pair, proxy)
}

// introduce prints what a reader can connect to.
func introduce(pair *lab.Lab, proxy *rig.Proxy, took time.Duration) {
	fmt.Printf("A real PostgreSQL %d pair and pgtether in front of it, ready after %.1f s.\n\n", pair.Version(), took.Seconds())
	for _, n := range pair.Nodes() {
		fmt.Printf("  %-9s %s\n", n.Name(), n.Addr())
	}
	fmt.Printf("  %-9s %s   <- the application connects here\n\n", "pgtether", proxy.Listen)
	fmt.Printf("  JDBC    %s\n", jdbcURL(pair, proxy))
	fmt.Printf("  psql    psql '%s'\n", pair.AppDSNAt(proxy.Listen))
	fmt.Printf("  status  curl -s http://%s/status\n\n", proxy.Admin)
}

// jdbcURL is complete, so that it can be pasted into any JDBC client.
func jdbcURL(pair *lab.Lab, proxy *rig.Proxy) string {
	return fmt.Sprintf("jdbc:postgresql://%s/%s?user=%s&password=%s", proxy.Listen, pair.AppDatabase, pair.AppUser, pair.AppPassword)
}

// awaitOpen waits until logins are served.
func awaitOpen(ctx context.Context, proxy *rig.Proxy) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 90*time.Second, errors.New("not seen within 90 s"))
	defer cancel()
	_, err := proxy.Await(ctx, "the writer is open", func(s rig.Status) bool { return s.Writes == "open" })
	return err
}

// orFree is the address if it is free, else a free port of the same host.
func orFree(address string) string {
	l, err := net.Listen("tcp", address)
	if err == nil {
		defer l.Close()
		return address
	}
	host, _, splitErr := net.SplitHostPort(address)
	if splitErr != nil {
		return address // the rig says what is wrong with it
	}
	return net.JoinHostPort(host, "0")
}
