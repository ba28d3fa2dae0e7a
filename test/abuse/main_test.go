package abuse

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/test/rig"
)

// patience ends hangs; it measures nothing.
const patience = 30 * time.Second

// Roles of every server here, by how pg_hba.conf lets them in.
const (
	trusted   = "trusted"   // without a password
	cleartext = "cleartext" // with a password in clear
	hashed    = "hashed"    // with MD5
	tlsOnly   = "tls_only"  // without a password, over TLS alone
	password  = "correct-horse-battery"
)

var (
	// program is the path of pgtether.
	program string
	// inClear is a server without TLS, encrypted one with it, whose authentication_timeout is short.
	inClear, encrypted *lab.Lab
)

// authenticationTimeout is that of the server with TLS.
const authenticationTimeout = 5 * time.Second

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		code = 1
	}
	os.Exit(code)
}

// run starts what all tests share, runs them, and sees to it that nothing is left.
func run(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "pgtether-abuse-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := startAll(dir); err != nil {
		return 1, errors.Join(err, closeAll())
	}
	// These tests wait for other processes more than they compute.
	flag.Parse()
	if err := flag.Set("test.parallel", "6"); err != nil {
		return 1, errors.Join(err, closeAll())
	}
	code = m.Run()
	client.CloseIdleConnections()
	if err = closeAll(); err == nil && code == 0 {
		err = goleak.Find()
	}
	return code, err
}

func startAll(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var built, first, second error
	var g sync.WaitGroup
	g.Go(func() { program, built = rig.Build(ctx, dir) })
	g.Go(func() { inClear, first = startServer(ctx, lab.Options{}) })
	g.Go(func() {
		short := fmt.Sprint(authenticationTimeout.Milliseconds()) + "ms"
		encrypted, second = startServer(ctx, lab.Options{TLS: lab.TLSShared, Settings: map[string]string{"authentication_timeout": short}})
	})
	g.Wait()
	return errors.Join(built, first, second)
}

func closeAll() error {
	var errs []error
	for _, l := range []*lab.Lab{inClear, encrypted} {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	return errors.Join(errs...)
}

// startServer starts one primary with the roles.
func startServer(ctx context.Context, o lab.Options) (*lab.Lab, error) {
	o.Single, o.MaxConnections = true, 500
	o.HBA = []string{
		"host all " + trusted + " 127.0.0.0/8 trust",
		"host all " + cleartext + " 127.0.0.0/8 password",
		"host all " + hashed + " 127.0.0.0/8 md5",
		"hostssl all " + tlsOnly + " 127.0.0.0/8 trust",
		"host all " + tlsOnly + " 127.0.0.0/8 reject",
	}
	l, err := lab.Start(ctx, o)
	if err != nil {
		return nil, err
	}
	n := l.Node(lab.RegionA)
	for _, sql := range []string{
		"CREATE ROLE " + trusted + " LOGIN", "CREATE ROLE " + tlsOnly + " LOGIN",
		"CREATE ROLE " + cleartext + " LOGIN PASSWORD '" + password + "'",
		"SET password_encryption = 'md5'; CREATE ROLE " + hashed + " LOGIN PASSWORD '" + password + "'",
	} {
		if err := n.Exec(ctx, "postgres", sql); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	return l, nil
}

// front is a proxy and the two ways to the server behind it.
type front struct {
	*rig.Proxy
	lab             *lab.Lab
	direct, through *side
	// hello is how an honest client begins.
	hello  []step
	before footprint
	// alike are counters that are added to another one, because a client cannot tell the two apart.
	alike map[string]string
	// calm is how long a driver's login takes while nothing else is going on here, at best.
	calm time.Duration
}

// startFront puts a proxy in front of a server, waits until it is open, and takes its measure once it has served a client.
func startFront(t *testing.T, l *lab.Lab, o rig.Options) *front {
	t.Helper()
	o.Binary, o.Dir = program, filepath.Join(t.TempDir(), "proxy")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p, err := rig.Start(ctx, l, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	})
	if _, err := p.Await(ctx, "the writer is open", func(s rig.Status) bool { return s.Writes == "open" }); err != nil {
		t.Fatal(err)
	}
	f := &front{Proxy: p, lab: l,
		direct: &side{name: "PostgreSQL", addr: l.Node(lab.RegionA).Addr()}, through: &side{name: "pgtether", addr: p.Listen}}
	if strings.Contains(o.ListenKeys, "passthrough") {
		f.alike = sessionsOver
	}
	if l.TLS() != nil {
		f.direct.tls = &tls.Config{RootCAs: l.TLS().Pool(), ServerName: "127.0.0.1"}
		f.through.tls, f.hello = f.direct.tls, []step{send(sslRequest), answer, encrypt(nil)}
	}
	before := scrape(t, p)
	for _, s := range []*side{f.direct, f.through} {
		s.keepVictim(t, f.hello)
	}
	f.calm = patience
	for range 3 {
		f.honest(t)
		began := time.Now()
		f.driver(t)
		f.calm = min(f.calm, time.Since(began))
	}
	f.awaitCounts(t, before, counts{"logins pinned": 8, "sessions client": 7})
	f.awaitCancels(t)
	f.before = footprintOf(t, p)
	return f
}

// awaitCancels waits until the proxy knows enough about the writer to let cancel requests through.
func (f *front) awaitCancels(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		before := scrape(t, f.Proxy)
		f.through.perform([]step{cancel(key.request)})
		if scrape(t, f.Proxy).since(before)["cancels forwarded"] == 1 {
			return
		}
		if time.Now().After(end) {
			t.Fatal("no cancel request is let through")
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// keepVictim opens a session whose key scripts may misuse; it must have survived that in the end. Another one has ended.
func (s *side) keepVictim(t *testing.T, hello []step) {
	t.Helper()
	gone := s.dial(t)
	for _, do := range slices.Concat(hello, []step{in, leave, hear(0)}) {
		do(gone)
	}
	victim := s.dial(t)
	for _, do := range append(slices.Clone(hello), in) {
		do(victim)
	}
	victim.heard = nil
	s.spent, s.victim = gone.key, victim.key
	t.Cleanup(func() {
		defer victim.raw.Close()
		_ = victim.raw.SetDeadline(time.Now().Add(patience))
		for _, do := range []step{send(query("SELECT 1")), hear('Z'), leave, hear(0)} {
			do(victim)
		}
		if got := victim.transcript(); got != "T D C ZI closed" {
			t.Errorf("a session on %s that had done nothing wrong got %q", s.name, got)
		}
	})
}

// honest logs in through the proxy as a client that does nothing wrong, and leaves.
func (f *front) honest(t testing.TB) {
	t.Helper()
	got := f.through.perform(slices.Concat(f.hello, []step{in, send(query("SELECT 1")), hear('Z'), leave}))
	if got != "in T D C ZI closed" && got != "S TLS in T D C ZI closed" {
		t.Fatalf("an honest client got %q", got)
	}
}

// honestCounts is what an honest client adds to the counters.
var honestCounts = counts{"logins pinned": 1, "sessions client": 1}

// driver does the same with a driver and a password.
func (f *front) driver(t testing.TB) {
	t.Helper()
	if err := f.tryDriver(); err != nil {
		t.Fatalf("an honest driver: %v", err)
	}
}

// tryDriver is one attempt of a driver.
func (f *front) tryDriver() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := pgx.Connect(ctx, f.lab.AppDSNAt(f.Listen))
	if err != nil {
		return err
	}
	var one int
	if err := errors.Join(c.QueryRow(ctx, "SELECT 1").Scan(&one), c.Close(ctx)); err != nil || one != 1 {
		return fmt.Errorf("it got %d: %w", one, err)
	}
	return nil
}
