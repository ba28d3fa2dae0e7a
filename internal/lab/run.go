package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"
)

// RunOptions of a lab for a person or a script, see Run.
type RunOptions struct {
	Options
	// Listen and Admin are the proxy's addresses in the configuration that is written; default 127.0.0.1:6432 and
	// 127.0.0.1:7432, or another port when that one is taken.
	Listen, Admin string
	// JSON prints what is there as one line of JSON instead of a page.
	JSON bool
	// Input gives faults, one a line (see Verbs); its end ends nothing. nil: only the control socket takes them.
	Input io.Reader
	// Output gets the page and the answers to Input.
	Output io.Writer
	// Proxy runs pgtether with a configuration file until its context ends; nil: none is run. When it returns earlier, so does
	// Run.
	Proxy func(ctx context.Context, configPath string) error
}

// Run starts a lab, says how to reach everything, carries out faults until ctx ends, and takes all down again. The end of ctx is
// no error. One goroutine may outlive it: the one that reads Input, which only the other end can call back.
func Run(ctx context.Context, o RunOptions) (err error) {
	if o.Output == nil {
		o.Output = io.Discard
	}
	l, err := Start(ctx, o.Options)
	if err != nil {
		if ctx.Err() != nil && !errors.Is(err, errClose) {
			return nil // the person has changed their mind, and nothing is left
		}
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	c := &console{lab: l, relays: map[string]*Relay{}}
	if err := c.prepare(&o); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.quit = cancel
	stop, err := c.listen(ctx)
	if err != nil {
		return err
	}
	defer stop()
	if err := c.info.print(o.Output, o.JSON); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	if o.Input != nil {
		go c.obeyLines(ctx, o.Input, o.Output)
	}
	return runProxy(ctx, cancel, o.Proxy, c.info.Config)
}

// runProxy waits for the end of ctx, and of the proxy if there is one.
func runProxy(ctx context.Context, cancel context.CancelFunc, proxy func(context.Context, string) error, config string) error {
	if proxy == nil {
		<-ctx.Done()
		return nil
	}
	defer cancel()
	err := proxy(ctx, config)
	switch {
	case ctx.Err() != nil && (err == nil || errors.Is(err, ctx.Err())):
		return nil
	case err == nil:
		return nil // it was told to end by a signal that we did not see
	default:
		return fmt.Errorf("run proxy: %w", err)
	}
}

// prepare makes a relay in front of each node, where the proxy connects, so that the way between can be broken, and writes what
// the proxy needs.
func (c *console) prepare(o *RunOptions) error {
	l := c.lab
	if l.ProbeUser == "" {
		return errors.New("there is no probe role: give the path of configs/sql/probe-role.sql")
	}
	for _, n := range l.Nodes() {
		relay, err := n.Relay()
		if err != nil {
			return err
		}
		c.relays[n.name] = relay
	}
	var err error
	if o.Listen, err = takenOrFree(o.Listen, "127.0.0.1:6432"); err != nil {
		return err
	}
	if o.Admin, err = takenOrFree(o.Admin, "127.0.0.1:7432"); err != nil {
		return err
	}
	home := filepath.Join(l.dir, "pgtether")
	if err := os.MkdirAll(filepath.Join(home, "state"), 0o700); err != nil {
		return fmt.Errorf("make directory of the proxy: %w", err)
	}
	c.info = describe(l, c.relays, *o)
	var text strings.Builder
	values := map[string]any{"Info": c.info, "TLS": l.tls, "Home": home, "Listen": o.Listen, "Admin": o.Admin}
	if err := configText.Execute(&text, values); err != nil {
		return fmt.Errorf("fill in configuration: %w", err)
	}
	for path, content := range map[string]string{c.info.Config: text.String(), filepath.Join(home, "probe-password"): l.ProbePassword + "\n"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			return fmt.Errorf("write for the proxy: %w", err)
		}
	}
	return nil
}

// takenOrFree keeps an address that was asked for, and moves the usual one to a free port when it is taken.
func takenOrFree(asked, usual string) (string, error) {
	if asked != "" {
		return asked, nil
	}
	if ln, err := net.Listen("tcp", usual); err == nil {
		return usual, ln.Close()
	}
	host, _, err := net.SplitHostPort(usual)
	if err != nil {
		return "", fmt.Errorf("read address %q: %w", usual, err)
	}
	port, err := freePort(host)
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(host, fmt.Sprint(port)), nil
}

var configText = template.Must(template.New("pgtether.toml").Parse(`# For the lab beside this file. pgtether reaches the nodes through relays, so that faults of the network can be made.
[cluster]
name = "keycloak"

[listen]
address = {{printf "%q" .Listen}}
{{- if .TLS}}{{with $files := .Info.ServerTLS}}
tls = "allow"
tls_cert = {{printf "%q" $files.Cert}}
tls_key = {{printf "%q" $files.Key}}
{{- end}}{{else}}
tls = "disable"
{{- end}}

[admin]
address = {{printf "%q" .Admin}}

[state]
dir = {{printf "%q" (print .Home "/state")}}
{{range .Info.Nodes}}
[[node]]
name = {{printf "%q" .Name}}
address = {{printf "%q" .Relay}}
{{end}}
[backend]
{{- if .TLS}}
tls = "verify-full"
tls_ca = {{printf "%q" .TLS.CAFile}}
{{- else}}
tls = "disable"
{{- end}}

[probe]
user = {{printf "%q" .Info.ProbeUser}}
password_file = {{printf "%q" (print .Home "/probe-password")}}

[failover]
mode = "auto"
`))

// describe collects what Run prints.
func describe(l *Lab, relays map[string]*Relay, o RunOptions) Info {
	info := Info{
		Dir: l.dir, Version: l.Version(), Config: filepath.Join(l.dir, "pgtether", "pgtether.toml"), Socket: l.controlSocket(),
		AppUser: l.AppUser, AppPassword: l.AppPassword, AppDatabase: l.AppDatabase,
		ProbeUser: l.ProbeUser, ProbePassword: l.ProbePassword,
		Listen: reachableAddress(o.Listen), Admin: "http://" + reachableAddress(o.Admin), ProxyRuns: o.Proxy != nil,
	}
	info.AppDSN = l.AppDSNAt(info.Listen)
	info.JDBC = fmt.Sprintf("jdbc:postgresql://%s/%s", info.Listen, l.AppDatabase)
	if l.tls != nil {
		cert, key := l.tls.ServerFiles(RegionA)
		info.ServerTLS = &TLSFiles{CA: l.tls.CAFile, Cert: cert, Key: key}
	}
	for _, n := range l.Nodes() {
		info.Nodes = append(info.Nodes, NodeInfo{
			Name: n.name, Address: n.Addr(), Relay: relays[n.name].Addr(), DataDir: n.dataDir, Log: n.LogFile(),
			SuperDSN: n.SuperDSN("postgres"), AppDSN: n.AppDSN(),
		})
	}
	return info
}

// reachableAddress turns "all addresses" into one that a client on this machine can use.
func reachableAddress(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return listen
}

// took rounds a duration for a person.
func took(since time.Time) time.Duration { return time.Since(since).Round(10 * time.Millisecond) }

func firstOf(words []string, otherwise string) string {
	if len(words) == 0 {
		return otherwise
	}
	return cmp.Or(words[0], otherwise)
}
