//go:build linux

package lab_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/pgtether/pgtether/internal/lab"
)

// initdb makes a cluster in the lab's directory with the lab's tools, as somebody else's cluster manager would.
func initdb(t *testing.T, l *lab.Lab, name string) string {
	t.Helper()
	dir := filepath.Join(l.Dir(), name)
	_, err := l.Command(within(t), nil, program(t, l, "initdb"), "--pgdata", dir, "--no-sync", "--locale=C", "--auth=trust")
	must(t, err)
	_, err = l.WriteFile(name+"/postgresql.conf", "unix_socket_directories = ''\nlisten_addresses = '127.0.0.1'\nshared_buffers = 16MB\n")
	must(t, err)
	return dir
}

func program(t *testing.T, l *lab.Lab, name string) string {
	t.Helper()
	path, err := l.Program(name)
	must(t, err)
	return path
}

// spawnServer starts a server that is not a node of the lab and waits until it is ready.
func spawnServer(t *testing.T, l *lab.Lab, name string) *lab.Process {
	t.Helper()
	dir := initdb(t, l, name)
	port, err := lab.FreePort()
	must(t, err)
	p, err := l.Spawn(name, program(t, l, "postgres"), "-D", dir, "-p", strconv.Itoa(port))
	must(t, err)
	waitFor(t, "the server is ready", func() bool {
		content, err := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
		return err == nil && strings.Contains(string(content), "ready")
	})
	return p
}

func TestAnExternalLabStartsNoServerAndLeavesNothingOfThoseThatOthersStart(t *testing.T) {
	ctx, l := start(t, lab.Options{External: true})
	if n := l.Nodes(); len(n) > 0 {
		t.Fatalf("the lab started %d nodes", len(n))
	}
	who, err := l.Command(ctx, []string{"GREETING=hello"}, "/bin/sh", "-c", `echo "$GREETING, $(id -u), ${PGHOST-unset}"`)
	must(t, err)
	if os.Geteuid() == 0 && strings.Contains(who, ", 0,") || !strings.HasPrefix(who, "hello, ") || !strings.HasSuffix(strings.TrimSpace(who), "unset") {
		t.Errorf("a command ran as %q", who)
	}
	p := spawnServer(t, l, "one")
	if pid, err := l.PostmasterIn("one"); err != nil || pid != p.PID() {
		t.Errorf("the server's pid is %d (%v), the process's %d", pid, err, p.PID())
	}
	killed := spawnServer(t, l, "two")
	before := tracesOf(t, l.Dir())
	must(t, killed.Kill9())
	must(t, l.Close())
	must(t, before.left())
	if _, err := l.Spawn("three", "/bin/true"); err == nil {
		t.Error("a closed lab started a program")
	}
}

func TestTheEndOfAMachineTakesItsSharedMemoryAlong(t *testing.T) {
	_, l := start(t, lab.Options{External: true})
	p := spawnServer(t, l, "one")
	before := tracesOf(t, l.Dir())
	must(t, l.Kill9In("one"))
	waitFor(t, "the process is gone", func() bool { return p.PID() == 0 })
	if err := p.Signal(syscall.SIGTERM); err == nil {
		t.Error("a process that has ended took a signal")
	}
	before.dir = filepath.Join(l.Dir(), "one")
	if err := before.left(); err == nil || strings.Contains(err.Error(), "segment") || strings.Contains(err.Error(), "works in") {
		t.Errorf("left is %v, want the directory alone", err)
	}
}

func TestAProgramThatIsMissingIsNamedWithItsRemedy(t *testing.T) {
	_, l := start(t, lab.Options{External: true})
	_, err := l.Program("no-such-manager")
	if err == nil || !strings.Contains(err.Error(), "no-such-manager") || !strings.Contains(err.Error(), "make setup") {
		t.Errorf("the error is %v, want the program and make setup", err)
	}
	if _, err := lab.Start(t.Context(), lab.Options{External: true, Single: true}); err == nil || errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("External and Single together: %v", err)
	}
}
