package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/test/rig"
)

// The kinds of peers.
const (
	kindPgtether  = "pgtether"
	kindHAProxy   = "haproxy"
	kindPgBouncer = "pgbouncer"
	kindIOCopy    = "iocopy"
	kindDirect    = "direct"
)

// pgtetherBefore is the peer that is another pgtether binary.
const pgtetherBefore = "pgtether-before"

// peer is one way to the server.
type peer struct {
	name, kind string
	address    string // in clear
	// tls is where TLS is taken, "" if nowhere; tlsFirst: without PostgreSQL's SSLRequest before it.
	tls      string
	tlsFirst bool
	pid      int // 0: there is no process in between
	stop     func() error
}

// kindOf is the kind of a peer by its name: pgtether-loops is a pgtether.
func kindOf(name string) string {
	if kind, _, _ := strings.Cut(name, "-"); kind == kindPgtether {
		return kind
	}
	return name
}

// starters start a peer of a kind in front of a server. The peer answers soon afterwards, see awaitLogin.
var starters = map[string]func(ctx context.Context, st *stage, name, server string) (*peer, error){
	kindPgtether: startPgtether, kindHAProxy: startHAProxy, kindPgBouncer: startPgBouncer, kindIOCopy: startIOCopy,
}

// start starts a peer by its name.
func (st *stage) start(ctx context.Context, name, server string) (*peer, error) {
	p := &peer{address: server, stop: func() error { return nil }}
	if start, ok := starters[kindOf(name)]; ok {
		var err error
		if p, err = start(ctx, st, name, server); err != nil {
			return nil, err
		}
	}
	p.name, p.kind = name, kindOf(name)
	return p, nil
}

// loopback returns a free address for each pointer.
func loopback(addresses ...*string) error {
	for _, a := range addresses {
		port, err := lab.FreePort()
		if err != nil {
			return err
		}
		*a = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	}
	return nil
}

// pgtetherOf is which binary a peer is that is a pgtether, and with what in its environment.
func (s settings) pgtetherOf(name string) (binary string, env []string) {
	if name == pgtetherBefore {
		return s.before, nil
	}
	if _, forwarder, ok := strings.Cut(name, "-"); ok {
		env = []string{"PGTETHER_FORWARDER=" + forwarder}
	}
	return s.pgtether, env
}

// startPgtether starts a built binary as a user does. It only follows: with one server there is nothing to fail over to.
func startPgtether(ctx context.Context, st *stage, name, server string) (*peer, error) {
	binary, env := st.set.pgtetherOf(name)
	dir, err := os.MkdirTemp(st.dir, name+"-")
	if err != nil {
		return nil, fmt.Errorf("make directory of pgtether: %w", err)
	}
	p, err := rig.Start(ctx, st.lab, rig.Options{
		Binary: binary, Dir: dir, Env: env, Nodes: []rig.Node{{Name: lab.RegionA, Addr: server}},
		ListenKeys: fmt.Sprintf("tls = \"allow\"\ntls_cert = %q\ntls_key = %q", st.cert, st.key),
		Extra:      "\n[backend]\ntls = \"disable\"\n\n[limits]\nmax_clients = 10000\n",
	})
	if err != nil {
		return nil, err
	}
	return &peer{address: p.Listen, tls: p.Listen, pid: p.PID(), stop: p.Stop}, nil
}

// startHAProxy starts HAProxy in TCP mode with as many threads as it chooses itself. It cannot answer an SSLRequest: TLS has a door of its own.
// It refuses to start with more connections than there are descriptors for.
func startHAProxy(_ context.Context, st *stage, name, server string) (*peer, error) {
	p := &peer{tlsFirst: true}
	if err := loopback(&p.address, &p.tls); err != nil {
		return nil, err
	}
	config, err := st.lab.WriteFile(filepath.Base(st.file(name))+".cfg", fmt.Sprintf(`global
    maxconn %d

defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h

listen clear
    bind %s
    server postgres %s

listen tls
    bind %s ssl crt %s
    server postgres %s
`, min(descriptors()/2, 10_000), p.address, server, p.tls, st.pem, server))
	if err != nil {
		return nil, err
	}
	return p, st.spawn(p, name, st.set.haproxy, "-db", "-f", config)
}

// startPgBouncer starts PgBouncer with session pooling, its passwords in a file, and its defaults in all else that concerns speed.
func startPgBouncer(_ context.Context, st *stage, name, server string) (*peer, error) {
	p := &peer{}
	if err := loopback(&p.address); err != nil {
		return nil, err
	}
	p.tls = p.address
	base := filepath.Base(st.file(name))
	users, err := st.lab.WriteFile(base+".users", fmt.Sprintf("%q %q\n%q \"\"\n", st.lab.AppUser, st.lab.AppPassword, idleUser))
	if err != nil {
		return nil, err
	}
	auth := "scram-sha-256"
	if server != st.node.Addr() {
		auth = "trust" // the server of idle sessions knows no passwords
	}
	host, port := split(server)
	_, listen := split(p.address)
	config, err := st.lab.WriteFile(base+".ini", fmt.Sprintf(`[databases]
* = host=%s port=%s

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %s
unix_socket_dir =
auth_type = %s
auth_file = %s
pool_mode = session
max_client_conn = 10000
default_pool_size = 10000
client_tls_sslmode = allow
client_tls_cert_file = %s
client_tls_key_file = %s
server_tls_sslmode = disable
`, host, port, listen, auth, users, st.cert, st.key))
	if err != nil {
		return nil, err
	}
	return p, st.spawn(p, name, st.set.pgbouncer, config)
}

// spawn starts a program that is not ours as the servers' account; PgBouncer refuses to run as root.
func (st *stage) spawn(p *peer, name, program string, args ...string) error {
	path, err := filepath.Abs(program)
	if err != nil {
		return fmt.Errorf("resolve %s: %w", program, err)
	}
	process, err := st.lab.Spawn(name, path, args...)
	if err != nil {
		return err
	}
	p.pid = process.PID()
	p.stop = func() error { return end(process) }
	return nil
}

// end asks a spawned program to end, waits, and kills it when it takes too long: a program that waits for its clients has none to wait for.
func end(process *lab.Process) error {
	if process.Signal(syscall.SIGTERM) != nil {
		return fmt.Errorf("stop %s: it ended by itself: %s", process.Name, lab.Tail(process.Log, 8))
	}
	for range 500 {
		if process.PID() == 0 {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := process.Kill9(); err != nil && process.PID() != 0 {
		return err
	}
	return nil
}

// startIOCopy starts the simplest proxy that there is, see copyProxy.
func startIOCopy(_ context.Context, _ *stage, _, server string) (*peer, error) {
	p := &peer{}
	if err := loopback(&p.address); err != nil {
		return nil, err
	}
	var err error
	p.pid, p.stop, err = startRole(roleProxy, p.address, server)
	return p, err
}

// startRole starts this program once more, in a role.
func startRole(role string, args ...string) (pid int, stop func() error, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, nil, fmt.Errorf("find this program: %w", err)
	}
	cmd := exec.Command(self, append([]string{role}, args...)...)
	cmd.Stderr = os.Stderr
	if err := rig.StartOwned(cmd); err != nil {
		return 0, nil, fmt.Errorf("start %s: %w", role, err)
	}
	stop = func() error {
		_ = cmd.Process.Kill() // it keeps nothing; the wait tells whether it had ended by itself
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) || exit.Exited() {
			return fmt.Errorf("stop %s: it ended by itself: %w", role, cmp.Or(err, errExitedWell))
		}
		return nil
	}
	return cmd.Process.Pid, stop, nil
}

var errExitedWell = errors.New("exit status 0")
