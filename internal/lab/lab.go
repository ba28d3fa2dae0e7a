package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	dirPrefix       = "pgtether-lab-"
	superuser       = "postgres"
	replicationRole = "replicator"
)

// nodeName keeps names fit for a directory, a slot and an application_name.
var nodeName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,40}$`)

// Lab is a running pair (or more, or less) of PostgreSQL servers.
type Lab struct {
	// AppUser, AppPassword and AppDatabase are the application's login and its database.
	AppUser, AppPassword, AppDatabase string
	// ProbeUser and ProbePassword are the login of pgtether's probes; empty when there is no probe role.
	ProbeUser, ProbePassword string

	opts          Options
	dir           string
	install       installation
	account       account
	guardian      *guardian
	tls           *TLS
	superPassword string
	replPassword  string

	mu      sync.Mutex // guards the following fields
	nodes   []*Node
	relays  []*Relay
	spawned []*Process
	closed  bool // no process is spawned any more

	closeOnce sync.Once
	closeErr  error
}

// Start starts a lab and returns when the standby streams. Whatever it had started is gone when it returns an error.
func Start(ctx context.Context, opts Options) (*Lab, error) {
	if !supported {
		return nil, fmt.Errorf("start lab: %w: it needs Linux", errors.ErrUnsupported)
	}
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, fmt.Errorf("start lab: %w", err)
	}
	l := &Lab{
		AppUser: opts.AppUser, AppPassword: opts.AppPassword, AppDatabase: opts.AppDatabase,
		opts: opts, superPassword: randomSecret(), replPassword: randomSecret(),
	}
	if err := l.bootstrap(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start lab: %w", err), l.Close())
	}
	return l, nil
}

// bootstrap brings everything up in order.
func (l *Lab) bootstrap(ctx context.Context) error {
	began := time.Now()
	for _, step := range []func(context.Context) error{
		l.prepareInstallation, l.prepareDir, l.relocateInstallation, l.prepareTLS, l.startPrimary, l.startStandby,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	l.opts.Log.Debug("lab started", "took", time.Since(began))
	return nil
}

func (l *Lab) prepareInstallation(ctx context.Context) (err error) {
	if l.account, err = serverAccount(); err != nil {
		return err
	}
	l.install, err = findInstallation(ctx, l.opts.BinDir)
	return err
}

// prepareDir makes the temporary directory and puts the guardian beside it before anything is in it.
func (l *Lab) prepareDir(context.Context) error {
	dir, err := os.MkdirTemp(l.opts.Dir, dirPrefix)
	if err != nil {
		return fmt.Errorf("make directory of the lab: %w", err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return fmt.Errorf("resolve directory of the lab: %w", err)
	}
	if l.dir, err = filepath.EvalSymlinks(dir); err != nil { // /proc shows the real path
		return fmt.Errorf("resolve directory of the lab: %w", err)
	}
	if l.guardian, err = startGuardian(l.dir); err != nil {
		return err
	}
	if err := l.account.own(l.dir); err != nil {
		return err
	}
	if !l.reachable(l.dir) {
		return fmt.Errorf("account %s, which runs the servers, may not enter %s: choose another directory (TMPDIR)", l.account.name, l.dir)
	}
	if !l.opts.Archive {
		return nil
	}
	archive := filepath.Join(l.dir, "archive")
	if err := os.Mkdir(archive, 0o700); err != nil {
		return fmt.Errorf("make archive: %w", err)
	}
	return l.account.own(archive)
}

// Dir is the lab's temporary directory.
func (l *Lab) Dir() string { return l.dir }

// Version is the major version of the servers, such as 15.
func (l *Lab) Version() int { return l.install.major }

// Node returns the node of that name, or nil.
func (l *Lab) Node(name string) *Node {
	for _, n := range l.Nodes() {
		if n.name == name {
			return n
		}
	}
	return nil
}

// Nodes returns all nodes in the order in which they were made.
func (l *Lab) Nodes() []*Node {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.nodes)
}

// Primary returns the first running node that is not in recovery, or nil. A frozen node does not count.
func (l *Lab) Primary(ctx context.Context) *Node {
	for _, n := range l.Nodes() {
		if l.isPrimary(ctx, n) {
			return n
		}
	}
	return nil
}

func (l *Lab) isPrimary(ctx context.Context, n *Node) bool {
	if !n.Running() || processState(n.PID()) == 'T' {
		return false
	}
	in, err := n.QueryText(ctx, "postgres", "SELECT pg_is_in_recovery()")
	return err == nil && in == "f"
}

// TLS returns the certificates in use, or nil without Options.TLS.
func (l *Lab) TLS() *TLS { return l.tls }

// AppDSNAt is the application's URL for any "host:port", a proxy's for instance.
func (l *Lab) AppDSNAt(address string) string {
	return l.dsn(address, l.AppUser, l.AppPassword, l.AppDatabase, l.sslmode())
}

func (l *Lab) sslmode() url.Values {
	if l.tls == nil {
		return url.Values{"sslmode": {"disable"}}
	}
	return url.Values{"sslmode": {"verify-ca"}, "sslrootcert": {l.tls.CAFile}}
}

func (l *Lab) dsn(address, user, password, database string, query url.Values) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(user, password), Host: address, Path: "/" + database, RawQuery: query.Encode()}
	return u.String()
}

// newNode registers a node with a place and an address, and nothing in it.
func (l *Lab) newNode(name, address string) (*Node, error) {
	if !nodeName.MatchString(name) {
		return nil, fmt.Errorf("make node %q: the name is to be of a-z, 0-9 and '-'", name)
	}
	ip, port, err := splitAddress(cmp.Or(address, "127.0.0.1"))
	if err != nil {
		return nil, fmt.Errorf("address node %s: %w", name, err)
	}
	fixed := port != 0
	if !fixed {
		if port, err = freePort(ip); err != nil {
			return nil, err
		}
	}
	if l.Node(name) != nil {
		return nil, fmt.Errorf("make node %q: the name is taken", name)
	}
	n := &Node{lab: l, name: name, ip: ip, port: port, fixedPort: fixed, dataDir: filepath.Join(l.dir, name)}
	if l.opts.RelayReplication {
		if n.upstream, err = l.Relay(n.Addr); err != nil {
			return nil, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nodes = append(l.nodes, n)
	return n, nil
}

// errClose marks that something may have been left behind.
var errClose = errors.New("close lab")

// Close ends all servers and relays and removes the directory. It may be called more than once, in any state of the servers.
func (l *Lab) Close() error {
	l.closeOnce.Do(func() { l.closeErr = l.close() })
	return l.closeErr
}

func (l *Lab) close() error {
	var errs []error
	l.mu.Lock()
	relays := slices.Clone(l.relays)
	l.mu.Unlock()
	for _, r := range relays {
		errs = append(errs, r.Close())
	}
	l.endSpawned()
	nodes := l.Nodes()
	ended := make(chan error, len(nodes))
	for _, n := range nodes {
		go func() { ended <- n.shutdown() }()
	}
	for range nodes {
		errs = append(errs, <-ended)
	}
	if l.dir != "" {
		errs = append(errs, l.sweep(), os.RemoveAll(l.dir))
	}
	if l.guardian != nil {
		errs = append(errs, l.guardian.dismiss())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w: %w", errClose, err)
	}
	return nil
}

// sweep ends programs that worked for us and outlived their caller.
func (l *Lab) sweep() error {
	return await(context.Background(), func(context.Context) error {
		left := processesIn(l.dir)
		for _, pid := range left {
			_ = sendSignal(pid, syscall.SIGKILL) // who is gone already is what we want
		}
		if len(left) > 0 {
			return fmt.Errorf("processes %v are still there", left)
		}
		return nil
	})
}

// shutdown ends a node for good. An immediate stop lets the postmaster remove its shared memory; one that cannot be stopped that
// way in a few seconds (frozen, hung) is killed.
func (n *Node) shutdown() error {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	if n.Running() {
		_ = n.Thaw() // the kill below does not depend on it
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		_ = n.stop(ctx, Immediate)
	}
	return n.endAll()
}
