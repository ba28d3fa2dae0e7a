package failover

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/test/rig"
)

// patience ends hangs; it measures nothing. A test has it as a whole, the start of its servers included, on a machine that may be busy.
const patience = 4 * time.Minute

var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "pgtether-failover-")
	if err == nil {
		binary, err = rig.Build(context.Background(), dir)
	}
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	flag.Parse()
	if err := flag.Set("test.parallel", "4"); err != nil { // they mostly wait
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// world is a pair with a proxy in front of it.
type world struct {
	*testing.T
	ctx   context.Context
	lab   *lab.Lab
	a, b  *lab.Node
	proxy *rig.Proxy
	dir   string
	nodes []rig.Node
	extra string
	mode  string
	// config is the text of the configuration file before a test edited it.
	config string
	admin  string // more lines of [admin]
	probe  string // more lines of [probe]
	// listen is where the proxy was first found.
	listen string
}

// settings that make the tests short; what they shorten is said in each test that depends on it.
const quick = `stable_for = "2s"
`

func newPair(t *testing.T, opts lab.Options) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	l, err := lab.Start(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return &world{T: t, ctx: ctx, lab: l, a: l.Node(lab.RegionA), b: l.Node(lab.RegionB), dir: filepath.Join(t.TempDir(), "proxy"), extra: quick}
}

// start starts a proxy; a second call after stop or Kill starts it again on the same state.
func (w *world) start() {
	w.Helper()
	p, err := rig.Start(w.ctx, w.lab, rig.Options{Binary: binary, Dir: w.dir, Listen: w.listen, Nodes: w.nodes, Mode: w.mode, AdminKeys: w.admin, ProbeKeys: w.probe, Extra: w.extra})
	w.must(err)
	w.proxy, w.listen = p, p.Listen // clients find it at the same address after a restart
	w.Cleanup(func() {
		_ = p.Stop() // a test that killed it has said so
	})
}

// startOpen starts a proxy and waits until it has opened the writer of a pair in good order.
func (w *world) startOpen() {
	w.Helper()
	w.start()
	w.await("the pair is ready", func(s rig.Status) bool { return s.State == "STANDBY_READY" })
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) await(what string, holds func(rig.Status) bool) rig.Status {
	w.Helper()
	s, err := w.proxy.Await(w.ctx, what, holds)
	w.must(err)
	return s
}

func (w *world) awaitOpen(node string) rig.Status {
	w.Helper()
	return w.await("writes are open on "+node, func(s rig.Status) bool { return s.Writes == "open" && s.Writer != nil && *s.Writer == node })
}

// runs lets the pair run for a while, until the proxy can say what a crash would cost: it promotes nothing before it has seen two samples of the
// write rate and a position that the standby has.
func (w *world) runs(d time.Duration) {
	w.Helper()
	time.Sleep(d)
	for w.decision().IfPrimaryDies.Lossless == "unknown" {
		time.Sleep(50 * time.Millisecond)
	}
}

// stays fails unless the condition holds for as long as d, looked at again and again.
func (w *world) stays(what string, d time.Duration, holds func(rig.Status) bool) {
	w.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		s, err := w.proxy.Status(w.ctx)
		w.must(err)
		if !holds(s) {
			var why []string
			for _, c := range w.decision().Criteria {
				if c.Verdict != "pass" {
					why = append(why, c.Name+" "+c.Verdict+": "+c.Explanation)
				}
			}
			w.Fatalf("it did not stay so that %s: %+v; %s", what, s, strings.Join(why, "; "))
		}
	}
}

func (w *world) decision() rig.Decision {
	w.Helper()
	d, err := w.proxy.Decision(w.ctx)
	w.must(err)
	return d
}

// login connects as the application does; its error is the server's or the proxy's.
func (w *world) login() (*pgx.Conn, error) {
	c, err := pgx.Connect(w.ctx, w.lab.AppDSNAt(w.proxy.Listen))
	if err == nil {
		w.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			_ = c.Close(ctx)
		})
	}
	return c, err
}

func (w *world) mustLogin() *pgx.Conn {
	w.Helper()
	c, err := w.login()
	w.must(err)
	return c
}

func (w *world) exec(c *pgx.Conn, sql string) {
	w.Helper()
	_, err := c.Exec(w.ctx, sql)
	w.must(err)
}

// serverOf says which of the two nodes a session is on, by its port.
func (w *world) serverOf(c *pgx.Conn) string {
	w.Helper()
	var port string
	w.must(c.QueryRow(w.ctx, "SELECT current_setting('port')").Scan(&port))
	for _, n := range []*lab.Node{w.a, w.b} {
		if filepath.Ext(":"+port) == "" && len(n.Addr()) > len(port) && n.Addr()[len(n.Addr())-len(port)-1:] == ":"+port {
			return n.Name()
		}
	}
	return "unknown port " + port
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

// answer runs one statement in the background; the channel brings its error.
func (w *world) answer(c *pgx.Conn, sql string) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := c.Exec(w.ctx, sql)
		done <- err
	}()
	return done
}
