package follow

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/test/rig"
)

// patience ends hangs; it measures nothing.
const patience = 3 * time.Minute

const superuser, superPassword = "postgres", "super"

// node is one server of a pair that somebody else runs.
type node struct {
	name string
	port int
}

func (n node) addr() string { return "127.0.0.1:" + strconv.Itoa(n.port) }

// dsn logs in as superuser, past the proxy.
func (n node) dsn(database string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(superuser, superPassword), Host: n.addr(), Path: database, RawQuery: "sslmode=disable"}
	return u.String()
}

// world is a pair that somebody else runs, with a proxy in front of it and a load of clients.
type world struct {
	*testing.T
	ctx   context.Context
	lab   *lab.Lab
	a, b  node
	proxy *rig.Proxy
	load  *load
}

// newWorld makes a place for a pair; its servers are started by others.
func newWorld(t *testing.T) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	l, err := lab.Start(ctx, lab.Options{External: true})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, ctx: ctx, lab: l, a: node{name: lab.RegionA}, b: node{name: lab.RegionB}}
	t.Cleanup(func() {
		if t.Failed() {
			w.showLogs()
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, n := range []*node{&w.a, &w.b} {
		n.port = w.freePort()
	}
	return w
}

func (w *world) showLogs() {
	logs, _ := filepath.Glob(filepath.Join(w.lab.Dir(), "*.log")) // the pattern is well formed
	for _, log := range append(logs, filepath.Join(w.lab.Dir(), "proxy", "pgtether.log")) {
		w.Logf("end of %s: %s", filepath.Base(log), lab.Tail(log, 20))
	}
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) freePort() int {
	w.Helper()
	port, err := lab.FreePort()
	w.must(err)
	return port
}

func (w *world) program(name string) string {
	w.Helper()
	path, err := w.lab.Program(name)
	w.must(err)
	return path
}

// write writes a file of the servers' account.
func (w *world) write(name, content string) string {
	w.Helper()
	path, err := w.lab.WriteFile(name, content)
	w.must(err)
	return path
}

// spawn starts a program that stays.
func (w *world) spawn(name, path string, args ...string) *lab.Process {
	w.Helper()
	p, err := w.lab.Spawn(name, path, args...)
	w.must(err)
	return p
}

// run runs a program to its end.
func (w *world) run(path string, args ...string) string {
	w.Helper()
	said, err := w.lab.Command(w.ctx, nil, path, args...)
	w.must(err)
	return said
}

// eventually waits until the condition holds; its error says what was missing.
func (w *world) eventually(what string, holds func() error) {
	w.Helper()
	for {
		err := holds()
		if err == nil {
			return
		}
		select {
		case <-w.ctx.Done():
			w.Fatalf("wait until %s: %v: %v", what, context.Cause(w.ctx), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// withConn runs do on a superuser's connection to a node.
func (w *world) withConn(n node, database string, do func(*pgx.Conn) error) error {
	c, err := pgx.Connect(w.ctx, n.dsn(database))
	if err != nil {
		return fmt.Errorf("log in to %s: %w", n.name, err)
	}
	defer closeConn(c)
	return do(c)
}

// exec runs statements on a node as superuser, past the proxy.
func (w *world) exec(n node, database string, statements ...string) {
	w.Helper()
	w.must(w.withConn(n, database, func(c *pgx.Conn) error {
		for _, sql := range statements {
			if _, err := c.Exec(w.ctx, sql); err != nil {
				return fmt.Errorf("run %q on %s: %w", sql, n.name, err)
			}
		}
		return nil
	}))
}

// streams fails until the standby streams from the primary.
func (w *world) streams(primary, standby node) error {
	return w.withConn(primary, "postgres", func(c *pgx.Conn) error {
		var streaming bool
		err := c.QueryRow(w.ctx, "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE application_name = $1 AND state = 'streaming')", standby.name).Scan(&streaming)
		if err == nil && !streaming {
			err = fmt.Errorf("%s does not stream from %s", standby.name, primary.name)
		}
		return err
	})
}

// createRoles makes on the writer what an application and pgtether need. All that the probe role ever says is in the servers' logs.
func (w *world) createRoles() {
	w.Helper()
	w.must(w.lab.CreateProbeRole(w.ctx, w.a.dsn("postgres")))
	w.exec(w.a, "postgres",
		"ALTER ROLE "+w.lab.ProbeUser+" SET log_statement = 'all'",
		fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s'", w.lab.AppUser, w.lab.AppPassword),
		fmt.Sprintf("CREATE DATABASE %s OWNER %s", w.lab.AppDatabase, w.lab.AppUser))
}

// startProxy puts pgtether in front of the pair, waits until it has opened the writer of a pair in good order, starts the load, and waits
// until it goes and pgtether has seen enough of it to say what a crash would cost.
func (w *world) startProxy(extra string) {
	w.Helper()
	p, err := rig.Start(w.ctx, w.lab, rig.Options{
		Binary: binary, Dir: filepath.Join(w.lab.Dir(), "proxy"), Extra: "stable_for = \"2s\"\n" + extra,
		Nodes: []rig.Node{{Name: w.a.name, Addr: w.a.addr()}, {Name: w.b.name, Addr: w.b.addr()}},
	})
	w.must(err)
	w.proxy = p
	w.Cleanup(func() {
		if err := p.Stop(); err != nil {
			w.Error(err)
		}
	})
	w.awaitState("STANDBY_READY", w.a)
	w.startLoad()
	w.awaitWrites(time.Now())
	w.eventually("pgtether knows what a crash would cost", func() error {
		d, err := p.Decision(w.ctx)
		if err == nil && d.IfPrimaryDies.Lossless == "unknown" {
			err = fmt.Errorf("lossless %s", d.IfPrimaryDies.Lossless)
		}
		return err
	})
}

func (w *world) await(what string, holds func(rig.Status) bool) rig.Status {
	w.Helper()
	s, err := w.proxy.Await(w.ctx, what, holds)
	w.must(err)
	return s
}

// awaitState waits for a state with an open writer.
func (w *world) awaitState(state string, writer node) rig.Status {
	w.Helper()
	return w.await(fmt.Sprintf("it is %s with %s as the writer", state, writer.name), func(s rig.Status) bool {
		return s.State == state && s.Writes == "open" && s.Writer != nil && *s.Writer == writer.name
	})
}

// awaitWriter waits until a node is the open writer.
func (w *world) awaitWriter(n node) rig.Status {
	w.Helper()
	return w.await("writes are open on "+n.name, func(s rig.Status) bool { return s.Writes == "open" && s.Writer != nil && *s.Writer == n.name })
}

// sqlState returns the SQLSTATE of an error, or what the error is instead.
func sqlState(err error) string {
	var pg *pgconn.PgError
	switch {
	case err == nil:
		return "no error"
	case errors.As(err, &pg):
		return pg.Code
	default:
		return "no SQLSTATE: " + err.Error()
	}
}

// closeConn closes a connection that may be broken; a goodbye that cannot be sent is no news.
func closeConn(c *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = c.Close(ctx)
}
