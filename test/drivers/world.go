package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/test/rig"
)

// The ways to the server.
const (
	wayDirect = "direct"
	// wayTerminated: TLS ends at pgtether, which presents the server's own certificate, and begins again towards the server, also for clients in
	// clear: the server's pg_hba.conf (hostssl, hostnossl) then judges pgtether's connection and not the client's.
	wayTerminated = "terminated"
	// wayPassthrough: sessions in clear are relayed in clear, TLS is handed to the server, as behind a blind relay.
	wayPassthrough = "passthrough"
)

// suite is one driver's tests.
type suite struct {
	name string
	// ways through pgtether on which the suite makes sense.
	ways []string
	// server says what the suite wants of its server; setup runs as superuser in database postgres.
	server func(o options) lab.Options
	setup  []string
	// database and extensions are made for it.
	database   string
	extensions []string
	// run runs it one way; only names the tests to run, nil is all. selects says that it heeds only.
	run     func(ctx context.Context, w *world, way string, only []string) (results, error)
	selects bool
}

// world is a server with proxies in front of it, for one suite.
type world struct {
	options
	suite suite
	lab   *lab.Lab
	node  *lab.Node
	// dir receives what the suite writes.
	dir     string
	proxies map[string]*rig.Proxy
}

func openWorld(ctx context.Context, o options, s suite) (*world, error) {
	l, err := lab.Start(ctx, s.server(o))
	if err != nil {
		return nil, err
	}
	w := &world{options: o, suite: s, lab: l, node: l.Node(lab.RegionA), dir: filepath.Join(o.cache, "work", s.name), proxies: map[string]*rig.Proxy{}}
	if err := errors.Join(os.MkdirAll(w.dir, 0o755), w.prepare(ctx)); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

// prepare makes what the suite expects in the server, and starts the proxies.
func (w *world) prepare(ctx context.Context) error {
	statements := append(w.suite.setup, "CREATE DATABASE "+w.suite.database)
	if err := w.exec(ctx, "postgres", statements); err != nil {
		return err
	}
	var extensions []string
	for _, e := range w.suite.extensions {
		extensions = append(extensions, "CREATE EXTENSION "+e)
	}
	if err := w.exec(ctx, w.suite.database, extensions); err != nil {
		return err
	}
	settings, err := w.setting(ctx, "ssl_cert_file", "ssl_key_file")
	if err != nil {
		return err
	}
	listen := map[string]string{
		wayTerminated:  fmt.Sprintf("tls = \"allow\"\ntls_cert = %q\ntls_key = %q\nreplication = true", settings[0], settings[1]),
		wayPassthrough: "tls = \"passthrough\"\nreplication = true",
	}
	extra := map[string]string{wayPassthrough: "[backend]\ntls = \"disable\"\n"}
	for _, way := range w.suite.ways {
		dir := filepath.Join(w.lab.Dir(), "proxy-"+way)
		p, err := rig.Start(ctx, w.lab, rig.Options{Binary: w.binary, Dir: dir, ListenKeys: listen[way], Extra: extra[way]})
		if err != nil {
			return err
		}
		w.proxies[way] = p
		if _, err := p.Await(ctx, "writes are open", func(s rig.Status) bool { return s.Writes == "open" }); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) exec(ctx context.Context, database string, statements []string) error {
	for _, sql := range statements {
		if err := w.node.Exec(ctx, database, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

func (w *world) setting(ctx context.Context, names ...string) ([]string, error) {
	c, err := pgx.Connect(ctx, w.node.SuperDSN("postgres"))
	if err != nil {
		return nil, err
	}
	defer c.Close(ctx)
	var values []string
	for _, name := range names {
		var v string
		if err := c.QueryRow(ctx, "SELECT current_setting($1)", name).Scan(&v); err != nil {
			return nil, err
		}
		values = append(values, v)
	}
	return values, nil
}

func (w *world) close() error {
	var errs []error
	for _, p := range w.proxies {
		errs = append(errs, p.Stop())
	}
	return errors.Join(append(errs, w.lab.Close())...)
}

// address is where the way begins.
func (w *world) address(way string) (host, port string) {
	addr := w.node.Addr()
	if p, ok := w.proxies[way]; ok {
		addr = p.Listen
	}
	host, port, _ = net.SplitHostPort(addr) // both are ours
	return host, port
}

// superPassword is the password of role postgres.
func (w *world) superPassword() string {
	u, err := url.Parse(w.node.SuperDSN("postgres"))
	if err != nil {
		return ""
	}
	password, _ := u.User.Password()
	return password
}

// command runs a program of the suite with its output in a file of w.dir. That it fails is the suite's ordinary end when a test fails.
func (w *world) command(ctx context.Context, dir, output string, env []string, name string, args ...string) error {
	log, err := os.Create(filepath.Join(w.dir, output))
	if err != nil {
		return fmt.Errorf("make log: %w", err)
	}
	defer log.Close()
	errlog, err := os.Create(filepath.Join(w.dir, output+".err"))
	if err != nil {
		return fmt.Errorf("make log: %w", err)
	}
	defer errlog.Close()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, errlog
	cmd.Env = append(os.Environ(), env...)
	cmd.WaitDelay = 10 * time.Second
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && (!errors.As(err, &exit) || ctx.Err() != nil) {
		return fmt.Errorf("run %s: %w", name, err)
	}
	return nil
}
