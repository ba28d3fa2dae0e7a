package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
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
	home, binary string
	keep         bool
	users        int
	failover     string
	switchovers  int
}

func main() {
	var s settings
	flag.StringVar(&s.home, "home", "", "directory of the unpacked and built Keycloak distribution")
	flag.StringVar(&s.binary, "pgtether", "bin/pgtether", "the pgtether binary")
	flag.BoolVar(&s.keep, "keep", false, "stay up until Ctrl-C")
	flag.IntVar(&s.users, "users", 5, "how many users log in")
	flag.StringVar(&s.failover, "failover", "", "kill the primary under load: async, sync or both")
	flag.IntVar(&s.switchovers, "switchovers", 0, "change the writer this many times under load, as planned")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	do := run
	switch {
	case s.failover != "":
		do = runFailover
	case s.switchovers > 0:
		do = switchOver
	}
	if err := do(ctx, s); err != nil && !(s.keep && errors.Is(err, context.Canceled)) {
		fmt.Fprintf(os.Stderr, "keycloak: %v\n", err)
		stop()
		os.Exit(1)
	}
}

// runFailover does what -failover asks for.
func runFailover(ctx context.Context, s settings) error {
	for _, way := range []struct {
		word        string
		synchronous bool
	}{{"async", false}, {"sync", true}} {
		if s.failover == way.word || s.failover == "both" {
			if err := failOver(ctx, s, way.synchronous); err != nil {
				return err
			}
		}
	}
	return nil
}

// run brings up the pair, the proxy and Keycloak, drives it, and takes everything down again in the opposite order.
func run(ctx context.Context, s settings) (err error) {
	dir, err := os.MkdirTemp("", "pgtether-keycloak-")
	if err != nil {
		return fmt.Errorf("make working directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	began := time.Now()
	say := func(format string, args ...any) {
		fmt.Printf("%6.1fs  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
	pair, err := lab.Start(ctx, lab.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pair.Close()) }()
	say("PostgreSQL %d: primary %s, hot standby %s", pair.Version(), pair.Node(lab.RegionA).Addr(), pair.Node(lab.RegionB).Addr())

	proxy, err := rig.Start(ctx, pair, rig.Options{Binary: s.binary, Dir: filepath.Join(dir, "pgtether")})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, proxy.Stop()) }()
	say("pgtether on %s, its HTTP interface on http://%s", proxy.Listen, proxy.Admin)

	server, err := boot(ctx, s.home, filepath.Join(dir, "keycloak.log"), database{
		url: jdbcURL(proxy.Listen, pair.AppDatabase), user: pair.AppUser, password: pair.AppPassword,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	say("Keycloak is ready after %.1f s; the one change is its JDBC URL:", server.took.Seconds())
	fmt.Printf("           before  %s\n           now     %s\n", jdbcURL(pair.Node(lab.RegionA).Addr(), pair.AppDatabase), jdbcURL(proxy.Listen, pair.AppDatabase))

	if err := useIt(ctx, server, s.users, say); err != nil {
		return err
	}
	if err := showSessions(ctx, proxy); err != nil {
		return err
	}
	if !s.keep {
		return nil
	}
	fmt.Printf("\nIt stays up until Ctrl-C:\n  console   %s/admin (user %s, password %s)\n  status    http://%s/status\n", server.base, adminUser, adminPassword, proxy.Admin)
	<-ctx.Done()
	return nil
}

// jdbcURL is what an operator puts into KC_DB_URL.
func jdbcURL(address, database string) string {
	return "jdbc:postgresql://" + address + "/" + database
}

// useIt does what a realm's administrator and its users do.
func useIt(ctx context.Context, server *server, users int, say func(string, ...any)) error {
	admin, err := newAdmin(ctx, server.base)
	if err != nil {
		return err
	}
	if err := admin.createRealm(ctx, realm); err != nil {
		return err
	}
	if err := admin.createClient(ctx, realm, "app"); err != nil {
		return err
	}
	for i := range users {
		if err := admin.createUser(ctx, realm, userName(i)); err != nil {
			return err
		}
	}
	say("created realm %s, client app and %d users", realm, users)
	for i := range users {
		if err := logInAndOut(ctx, server.base, realm, userName(i)); err != nil {
			return err
		}
	}
	say("%d users logged in, refreshed their tokens and logged out; a refresh after the logout is refused", users)
	return nil
}

func userName(i int) string { return fmt.Sprintf("user-%d", i) }

// showSessions prints what Keycloak's pool looks like from the proxy.
func showSessions(ctx context.Context, proxy *rig.Proxy) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 90*time.Second, errors.New("not seen within 90 s"))
	defer cancel()
	status, err := proxy.Await(ctx, "Keycloak's pool is at rest", func(s rig.Status) bool {
		return s.Writes == "open" && s.Sessions.Open > 0 && s.Sessions.Open == s.Sessions.Idle
	})
	if err != nil {
		return err
	}
	fmt.Printf("\nGET http://%s/status\n  state     %s, writes %s, writer %s\n  sessions  open %d: active %d, idle %d, in transaction %d; held %d\n", proxy.Admin,
		status.State, status.Writes, *status.Writer, status.Sessions.Open, status.Sessions.Active, status.Sessions.Idle,
		status.Sessions.InTransaction, status.Sessions.Held)
	return nil
}
