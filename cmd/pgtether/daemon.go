package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/pgtether/pgtether/decision"
	"github.com/pgtether/pgtether/internal/admin"
	"github.com/pgtether/pgtether/internal/config"
	"github.com/pgtether/pgtether/internal/control"
	"github.com/pgtether/pgtether/internal/metrics"
	"github.com/pgtether/pgtether/internal/pgwire"
	"github.com/pgtether/pgtether/proxy"
)

// shutdownSlack is what an orderly end may take beyond drain.timeout.
const shutdownSlack = 5 * time.Second

// daemon is one running proxy: every part and who ends when.
type daemon struct {
	log      *slog.Logger
	level    *slog.LevelVar
	holder   *config.Holder
	registry *prometheus.Registry
	instance string
	started  time.Time

	store  *control.Store
	events *control.EventLog
	loop   *control.Loop
	feed   *control.EventFeed
	probes *probes
	router *router
	server *proxy.Server
	admin  *admin.Server
	// transactions are shown beside the sessions.
	transactions transactions

	clients, adminSocket net.Listener
	// exiting is set when the process begins to end.
	exiting atomic.Bool
}

// newDaemon opens everything that can fail to open, so that a proxy that starts can serve. Whatever it opened is closed again on error.
func newDaemon(path string, file *config.File, log *slog.Logger, level *slog.LevelVar) (_ *daemon, err error) {
	d := &daemon{log: log, level: level, registry: prometheus.NewRegistry(), instance: newInstance(), started: time.Now()}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	set := metrics.New(d.registry, labels(file))
	d.holder = config.NewHolder(path, file, set.Config.Reloaded)

	clock := control.NewClock()
	rec, last, err := d.openState(file, clock)
	if err != nil {
		return nil, err
	}
	var plain net.ListenConfig // a listener of MPTCP, which is Go's default, is of no use to clients of PostgreSQL, and costs each of them
	plain.SetMultipathTCP(false)
	if d.clients, err = plain.Listen(context.Background(), "tcp", file.Listen.Address); err != nil {
		return nil, fmt.Errorf("open listen.address: %w", err)
	}
	if d.adminSocket, err = net.Listen("tcp", file.Admin.Address); err != nil {
		return nil, fmt.Errorf("open admin.address: %w", err)
	}

	deliver := func(o decision.Observation) { d.loop.Observe(o) }
	if d.probes, err = newProbes(file, d.instance, clock.Now, set.Health, log, deliver); err != nil {
		return nil, err
	}
	d.router = &router{log: log, probes: d.probes, view: func() control.View { return d.loop.View() }}
	verifiers := &verifiers{holder: d.holder, log: log, writer: d.router.writer}
	d.server, err = proxy.New(file.Proxy(), proxy.Deps{
		Metrics: set.Proxy, Log: log, Suspect: d.probes.Kick,
		WriterAlive: d.router.writerAlive, CancelAllowed: d.router.cancelAllowed, Verifier: verifiers.lookup,
	})
	if err != nil {
		return nil, fmt.Errorf("set up the data plane: %w", err)
	}
	d.router.server = d.server
	operator := &operator{probes: d.probes, hooks: d.hooks, cluster: file.Cluster.Name}
	d.loop, err = control.New(control.Config{
		Engine: file.Decision(), Store: d.store, Events: d.events, Router: d.router, Prober: d.probes, Operator: operator, Clock: clock, Log: log,
		Metrics: set.Control, Record: rec, LastKnown: last, Evidence: control.Evidence{Version: buildVersion(), Render: admin.DecisionJSON},
	})
	if err != nil {
		return nil, fmt.Errorf("set up the failover engine: %w", err)
	}
	d.feed = control.NewEventFeed(d.events, d.hooks, func(ev control.Event) []byte { return admin.EventJSON(admin.Event(ev)) }, log)
	set.Control.Attach(d.gauges)
	d.admin = d.newAdmin(file, clock)
	return d, nil
}

// openState takes the state directory and reads what an earlier run left there.
func (d *daemon) openState(file *config.File, clock *control.Clock) (rec decision.Record, last decision.Opt[decision.LastKnown], err error) {
	if d.store, rec, last, err = control.OpenStore(file.State.Dir, clock); err != nil {
		return rec, last, fmt.Errorf("open state: %w", err)
	}
	if why := d.store.Lost(); why != "" {
		d.log.Error("the state of an earlier run is lost: no login is routed until exactly one consistent primary is seen", "reason", why)
	}
	if d.events, err = control.OpenEventLog(file.State.Dir); err != nil {
		return rec, last, fmt.Errorf("open state: %w", err)
	}
	return rec, last, nil
}

// labels are the closed lists of every room.
func labels(file *config.File) metrics.Labels {
	l := metrics.Labels{
		Version: buildVersion(), Revision: buildRevision(), Criteria: decision.CriterionNames(),
		Ends: proxy.Ends(), LoginResults: proxy.LoginResults(), CancelResults: proxy.CancelResults(), MoveResults: proxy.MoveResults(),
	}
	for _, n := range file.Nodes {
		l.Nodes = append(l.Nodes, n.Name)
	}
	for _, s := range decision.States() {
		l.States = append(l.States, s.String())
	}
	for _, s := range timedSteps() {
		l.Steps = append(l.Steps, s.String())
	}
	for _, r := range pgwire.Reasons() {
		l.Reasons = append(l.Reasons, r.String())
	}
	return l
}

// timedSteps are the steps whose time is taken in a change of the writer: all but the one in which nothing is changed, and the one that is
// left at once.
func timedSteps() []decision.Step {
	return slices.DeleteFunc(decision.Steps(), func(s decision.Step) bool { return s == decision.Blocked || s == decision.Checking })
}

// run serves until ctx ends, then stops in order: clients are refused and drained, then the probes, the engine and, last, the admin listener,
// so that a drain can be watched.
func (d *daemon) run(ctx context.Context) error {
	defer d.close()
	back, stopBack := context.WithCancelCause(context.WithoutCancel(ctx)) // ends the parts that outlive the clients
	defer stopBack(nil)
	g, failed := errgroup.WithContext(context.WithoutCancel(ctx))
	g.Go(func() error { return orderly(back, "admin", d.admin.Serve(d.adminSocket)) })
	feed, stopFeed := context.WithCancel(context.WithoutCancel(ctx)) // ends after the loop, whose last events it still gives
	defer stopFeed()
	g.Go(func() error { d.feed.Run(feed); return nil })
	g.Go(func() error {
		defer stopFeed()
		return orderly(back, "control", d.loop.Run(back))
	})
	g.Go(func() error { return orderly(back, "probes", d.probes.run(back)) })
	g.Go(func() error {
		err := d.server.Serve(ctx, d.clients)
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("serve clients: %w", err)
	})
	d.log.Info("serving", "address", d.clients.Addr().String(), "admin", d.adminSocket.Addr().String(), "state_id", d.store.ID())

	select {
	case <-ctx.Done():
	case <-failed.Done():
	}
	limit := d.holder.Current().Drain.Timeout.Std() + shutdownSlack
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	d.exiting.Store(true)
	err := d.server.Shutdown(drain)
	stopBack(errSignal)
	err = errors.Join(err, d.admin.Shutdown(drain))
	return errors.Join(g.Wait(), err)
}

// orderly makes nothing of the error of a part that ended because it was told to.
func orderly(ctx context.Context, part string, err error) error {
	if err == nil || ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("run %s: %w", part, err)
}

// close gives everything back that newDaemon opened. It may be called on a half-made daemon.
func (d *daemon) close() {
	for _, ln := range []net.Listener{d.clients, d.adminSocket} {
		if ln != nil {
			_ = ln.Close() // closed already after an orderly end
		}
	}
	if d.events != nil {
		if err := d.events.Close(); err != nil {
			d.log.Error("events are not on disk", "err", err)
		}
	}
	if d.store != nil {
		d.store.Close()
	}
}

// reloadOnHangup reloads the configuration at each SIGHUP.
func (d *daemon) reloadOnHangup(ctx context.Context) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
			_, _, _ = d.reload(ctx) // it has been logged
		}
	}
}

// hooks are the operator's own programs as they are configured now.
func (d *daemon) hooks() control.Hooks {
	fence, onEvent, timeout := d.holder.Current().HookSettings()
	return control.Hooks{
		Fence: fence, OnEvent: onEvent, Timeout: timeout, Hidden: []string{config.EnvProbePassword, config.EnvToken}, Log: d.log,
	}
}

// newInstance names this process to the nodes and to people.
func newInstance() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "pgtether"
	}
	return instanceOn(host)
}

// instanceOn is short enough for an application_name to hold all of it: what tells two processes apart comes last.
func instanceOn(host string) string {
	var b [3]byte
	rand.Read(b[:])
	return host[:min(len(host), 40)] + "-" + hex.EncodeToString(b[:])
}
