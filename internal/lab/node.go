package lab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// patience bounds every wait whose context has no deadline. It is generous on purpose: it ends hangs, it measures nothing.
const patience = 60 * time.Second

// Node is one PostgreSQL server of a lab. Its methods may be called from any goroutine; those that start, stop or rebuild
// the server wait for each other.
type Node struct {
	lab  *Lab
	name string
	ip   string
	port int
	// fixedPort: the caller chose the port; another one would not do.
	fixedPort bool
	dataDir   string
	// synchronousWith is the node that this one's synchronous_standby_names names under Options.Synchronous.
	synchronousWith string
	// upstream leads other nodes' replication to this one when Options.RelayReplication is set; else nil.
	upstream *Relay

	lifecycle sync.Mutex // held by Start, Stop, Rebuild and the like

	mu      sync.Mutex // guards what follows
	pm      *postmaster
	changed map[string]string // settings given after the start
	closed  bool              // no further start
}

// Name of the node, also its cluster_name and so its application_name in pg_stat_replication.
func (n *Node) Name() string { return n.name }

// Addr is the node's own "ip:port", the same through every restart.
func (n *Node) Addr() string { return net.JoinHostPort(n.ip, strconv.Itoa(n.port)) }

// DataDir is the node's data directory; it belongs to the servers' account.
func (n *Node) DataDir() string { return n.dataDir }

// LogFile is where the server writes its log.
func (n *Node) LogFile() string { return n.dataDir + ".log" }

// ReplicationRelay stands between this node and the standbys that stream from it. It is nil without Options.RelayReplication.
func (n *Node) ReplicationRelay() *Relay { return n.upstream }

// SuperDSN is a URL that logs in as superuser to a database, past every line of Options.HBA and without TLS.
func (n *Node) SuperDSN(database string) string {
	return n.lab.dsn(n.Addr(), superuser, n.lab.superPassword, database, url.Values{"sslmode": {"disable"}})
}

// AppDSN is a URL that logs in as the application.
func (n *Node) AppDSN() string { return n.lab.AppDSNAt(n.Addr()) }

// ProbeDSN is a URL that logs in as the probe role to a database.
func (n *Node) ProbeDSN(database string) string {
	return n.lab.dsn(n.Addr(), n.lab.ProbeUser, n.lab.ProbePassword, database, n.lab.sslmode())
}

// Running tells whether the postmaster lives, frozen or not.
func (n *Node) Running() bool { return n.postmaster().running() }

// PID of the postmaster, or 0.
func (n *Node) PID() int {
	if pm := n.postmaster(); pm.running() {
		return pm.pid
	}
	return 0
}

// Processes lists all processes of the server: the postmaster while it lives, and its children even when it does not.
func (n *Node) Processes() []int { return processesIn(n.dataDir) }

func (n *Node) postmaster() *postmaster {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.pm
}

// Start starts a server that is down and returns when it accepts connections. What a killed postmaster left running is ended
// first, as a DBA would: PostgreSQL refuses to start beside it.
func (n *Node) Start(ctx context.Context) error {
	n.lifecycle.Lock()
	defer n.lifecycle.Unlock()
	return n.start(ctx)
}

func (n *Node) start(ctx context.Context) error {
	if n.Running() {
		return fmt.Errorf("start node %s: it is running", n.name)
	}
	if err := n.endAll(); err != nil {
		return fmt.Errorf("start node %s: %w", n.name, err)
	}
	if err := n.writeConfig(); err != nil {
		return fmt.Errorf("start node %s: %w", n.name, err)
	}
	log, err := os.OpenFile(n.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open log of node %s: %w", n.name, err)
	}
	defer log.Close()
	cmd := exec.Command(n.lab.install.program("postgres"), "-D", n.dataDir)
	cmd.Dir = n.dataDir
	clock, err := n.clockEnvironment()
	if err != nil {
		return fmt.Errorf("start node %s: %w", n.name, err)
	}
	cmd.Env = n.lab.toolEnvironment(clock...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = n.lab.account.serverAttributes()
	pm, err := n.launch(cmd)
	if err != nil {
		return fmt.Errorf("start node %s: %w", n.name, err)
	}
	if err := n.awaitReady(ctx, pm); err != nil {
		return errors.Join(fmt.Errorf("start node %s: %w", n.name, err), n.endAll())
	}
	return nil
}

// launch starts the process, unless the lab is being closed: no server may appear behind Close.
func (n *Node) launch(cmd *exec.Cmd) (*postmaster, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, errors.New("the lab is closed")
	}
	pm, err := startPostmaster(cmd)
	if err == nil {
		n.pm = pm
	}
	return pm, err
}

// awaitReady reads postmaster.pid, as pg_ctl does: its 8th line turns to "ready" when connections are accepted.
func (n *Node) awaitReady(ctx context.Context, pm *postmaster) error {
	return await(ctx, func(context.Context) error {
		if !pm.running() {
			return final(fmt.Errorf("server ended (%s): %s", pm.ended, n.logTail()))
		}
		f, err := readPIDFile(n.dataDir)
		if err != nil {
			return err
		}
		if f.pid != pm.pid || f.status != "ready" {
			return fmt.Errorf("server is not ready but %q: %s", f.status, n.logTail())
		}
		return nil
	})
}

func (n *Node) logTail() string {
	content, err := os.ReadFile(n.LogFile())
	if err != nil {
		return "no log"
	}
	return lastLines(string(content), 6)
}

// StopMode is how a server is asked to end, as pg_ctl -m.
type StopMode string

const (
	// Smart waits for all sessions to end; it may wait for ever.
	Smart StopMode = "smart"
	// Fast ends sessions, ships all WAL to the standbys and writes a shutdown checkpoint.
	Fast StopMode = "fast"
	// Immediate ends without a checkpoint; the next start runs crash recovery.
	Immediate StopMode = "immediate"
)

// Stop asks the server to end and waits until its processes are gone. A frozen server answers only once it is thawed. When ctx ends
// first the request stands.
func (n *Node) Stop(ctx context.Context, mode StopMode) error {
	n.lifecycle.Lock()
	defer n.lifecycle.Unlock()
	return n.stop(ctx, mode)
}

func (n *Node) stop(ctx context.Context, mode StopMode) error {
	signals := map[StopMode]syscall.Signal{Smart: syscall.SIGTERM, Fast: syscall.SIGINT, Immediate: syscall.SIGQUIT}
	sig, ok := signals[mode]
	if !ok {
		return fmt.Errorf("stop node %s: unknown mode %q", n.name, mode)
	}
	pm := n.postmaster()
	if !pm.running() {
		return fmt.Errorf("stop node %s: it is not running", n.name)
	}
	if err := sendSignal(pm.pid, sig); err != nil {
		return fmt.Errorf("stop node %s: %w", n.name, err)
	}
	ctx, cancel := withPatience(ctx)
	defer cancel()
	select {
	case <-pm.done:
	case <-ctx.Done():
		return fmt.Errorf("stop node %s (%s): %w", n.name, mode, context.Cause(ctx))
	}
	return n.awaitGone(ctx)
}

func (n *Node) awaitGone(ctx context.Context) error {
	return await(ctx, func(context.Context) error {
		if left := n.Processes(); len(left) > 0 {
			return fmt.Errorf("processes %v of node %s are still there", left, n.name)
		}
		return nil
	})
}

// Configure changes postgresql.conf for this and later starts and reloads a running server. Parameters that need a restart
// take effect at the next one.
func (n *Node) Configure(settings map[string]string) error {
	if err := validateSettings(n.name, settings); err != nil {
		return fmt.Errorf("configure node %s: %w", n.name, err)
	}
	n.lifecycle.Lock()
	defer n.lifecycle.Unlock()
	n.mu.Lock()
	if n.changed == nil {
		n.changed = map[string]string{}
	}
	maps.Copy(n.changed, settings)
	n.mu.Unlock()
	if err := n.writeConfig(); err != nil {
		return fmt.Errorf("configure node %s: %w", n.name, err)
	}
	if pm := n.postmaster(); pm.running() {
		return sendSignal(pm.pid, syscall.SIGHUP)
	}
	return nil
}

// Exec runs SQL as superuser in a database, on a connection of its own. It is for tests and faults, not for work. Several
// statements separated by semicolons run as one implicit transaction.
func (n *Node) Exec(ctx context.Context, database, sql string) error {
	return n.withSuper(ctx, database, func(ctx context.Context, c *pgx.Conn) error {
		return c.PgConn().Exec(ctx, sql).Close()
	})
}

// QueryText returns the first column of the first row, as text, of SQL run as superuser; NULL is "".
func (n *Node) QueryText(ctx context.Context, database, sql string) (string, error) {
	var text string
	err := n.withSuper(ctx, database, func(ctx context.Context, c *pgx.Conn) error {
		results, err := c.PgConn().Exec(ctx, sql).ReadAll()
		if err != nil {
			return err
		}
		if last := len(results) - 1; last >= 0 && len(results[last].Rows) > 0 {
			text = string(results[last].Rows[0][0])
		}
		return nil
	})
	return text, err
}

func (n *Node) withSuper(ctx context.Context, database string, do func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := withPatience(ctx)
	defer cancel()
	config, err := pgx.ParseConfig(n.SuperDSN(database))
	if err != nil {
		return fmt.Errorf("log in to node %s as superuser: %w", n.name, err)
	}
	// pgx adds what the caller's PG* variables say, which is meant for other servers.
	clear(config.RuntimeParams)
	config.ValidateConnect = nil
	c, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("log in to node %s as superuser: %w", n.name, err)
	}
	defer c.Close(context.WithoutCancel(ctx))
	if err := do(ctx, c); err != nil {
		return fmt.Errorf("run SQL on node %s: %w", n.name, err)
	}
	return nil
}
