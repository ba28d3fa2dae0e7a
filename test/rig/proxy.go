package rig

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/pgtether/pgtether/internal/lab"
)

// startPatience bounds the wait for a proxy to be ready, stopPatience the wait for it to end by itself, askPatience one question or command. They
// end hangs, on a machine that may be busy; they measure nothing.
const startPatience, stopPatience, askPatience = 90 * time.Second, 90 * time.Second, 20 * time.Second

// Proxy is a running `pgtether serve`.
type Proxy struct {
	// Listen and Admin are where it can be reached from this machine; Config is its file, Log what it said.
	Listen, Admin, Config, Log string

	cmd   *exec.Cmd
	ended chan struct{} // closed when the process has been waited for; err is valid then
	err   error
}

// Start writes a configuration for the lab, starts the proxy and returns when it is ready to take logins.
func Start(ctx context.Context, l *lab.Lab, o Options) (*Proxy, error) {
	config, err := writeConfig(&o, l)
	if err != nil {
		return nil, fmt.Errorf("prepare proxy: %w", err)
	}
	p := &Proxy{Listen: reachable(o.Listen), Admin: reachable(o.Admin), Config: config, Log: filepath.Join(o.Dir, "pgtether.log")}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log of the proxy: %w", err)
	}
	defer log.Close()
	p.cmd = exec.Command(o.Binary, "serve", "--config", config)
	p.cmd.Env = append(os.Environ(), o.Env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := StartOwned(p.cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", o.Binary, err)
	}
	p.ended = make(chan struct{})
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	if err := p.awaitReady(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start proxy: %w", err), p.Stop())
	}
	return p, nil
}

// awaitReady asks /readyz until it answers 200.
func (p *Proxy) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startPatience, fmt.Errorf("not ready after %s", startPatience))
	defer cancel()
	for {
		err := p.get(ctx, "/readyz", nil)
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("it ended: %w: %s", p.exit(), p.logTail())
		case <-ctx.Done():
			return fmt.Errorf("%w: %w: %s", context.Cause(ctx), err, p.logTail())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Stop asks the proxy to drain and exit, waits for it, and kills it if it does not. It returns the error of an exit that was
// not clean.
func (p *Proxy) Stop() error {
	// The process may have ended meanwhile; the wait below tells.
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
		if p.err != nil {
			return fmt.Errorf("stop proxy: %w: %s", p.err, p.logTail())
		}
		return nil
	case <-time.After(stopPatience):
		_ = p.cmd.Process.Kill()
		<-p.ended
		return fmt.Errorf("stop proxy: not gone %s after SIGTERM, killed: %s", stopPatience, p.logTail())
	}
}

// Kill ends the proxy as a crash does and waits for it.
func (p *Proxy) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// exit is the error the process ended with, also when it ended cleanly but should not have.
func (p *Proxy) exit() error {
	if p.err != nil {
		return p.err
	}
	return errors.New("exit status 0")
}

// Status is what GET /status says, as far as these programs use it.
type Status struct {
	State  string  `json:"state"`
	Step   string  `json:"step"`
	Epoch  *uint64 `json:"epoch"`
	Writer *string `json:"writer"`
	Writes string  `json:"writes"`
	// StateID names the state that epochs grow in, Message says in one sentence what is going on.
	StateID string `json:"state_id"`
	Message string `json:"message"`
	Nodes   []struct {
		Name       string  `json:"name"`
		Role       string  `json:"role"`
		Quarantine *string `json:"quarantine"`
	} `json:"nodes"`
	Sessions   Sessions `json:"sessions"`
	LastChange *Change  `json:"last_change"`
}

// Quarantine is why a node is kept out, or "" when it is not.
func (s Status) Quarantine(node string) string {
	for _, n := range s.Nodes {
		if n.Name == node && n.Quarantine != nil {
			return *n.Quarantine
		}
	}
	return ""
}

// Sessions are the counts of client sessions.
type Sessions struct {
	Open          int `json:"open"`
	Active        int `json:"active"`
	Idle          int `json:"idle"`
	InTransaction int `json:"in_transaction"`
	Held          int `json:"held"`
}

// Status asks the proxy for its state.
func (p *Proxy) Status(ctx context.Context) (Status, error) {
	var s Status
	err := p.get(ctx, "/status", &s)
	return s, err
}

// Await polls /status until the condition holds, and returns that status.
func (p *Proxy) Await(ctx context.Context, what string, holds func(Status) bool) (Status, error) {
	for {
		s, err := p.Status(ctx)
		if err == nil && holds(s) {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return s, fmt.Errorf("wait until %s (state %s, step %q, writes %s): %w: %s", what, s.State, s.Step, s.Writes, context.Cause(ctx), p.logTail())
		case <-p.ended:
			return s, fmt.Errorf("wait until %s: the proxy ended: %w: %s", what, p.exit(), p.logTail())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// get asks the HTTP interface and decodes the answer into v, unless it is nil.
func (p *Proxy) get(ctx context.Context, path string, v any) error {
	body, err := p.page(ctx, path)
	if err != nil || v == nil {
		return err
	}
	if err := json.Unmarshal([]byte(body), v); err != nil {
		return fmt.Errorf("decode answer to %s: %w", path, err)
	}
	return nil
}

// page is the body of a page that is there.
func (p *Proxy) page(ctx context.Context, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.Admin+path, nil)
	if err != nil {
		return "", fmt.Errorf("ask %s: %w", path, err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", fmt.Errorf("ask %s: %w", path, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return "", fmt.Errorf("read answer to %s: %w", path, err)
	}
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("ask %s: %s: %s", path, res.Status, strings.TrimSpace(string(body)))
	}
	return string(body), nil
}

// logTail is the end of what the proxy said, on one line.
func (p *Proxy) logTail() string {
	content, err := os.ReadFile(p.Log)
	if err != nil {
		return "no log"
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	return strings.Join(lines[max(0, len(lines)-12):], " | ")
}

// reachable turns a wildcard address into one that can be dialled from this machine.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return address
}
