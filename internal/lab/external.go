package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// What a program that is not ours needs of the lab: a directory, an account that is not root, and the promise that nothing of it is left
// when the lab is closed or when we are killed. Data directories belong directly below Dir, where their shared memory is found.

// endPatience is how long a spawned program may take to end in order when the lab is closed.
const endPatience = 10 * time.Second

// Process is a program that Spawn started.
type Process struct {
	pm *postmaster
	// Name is what Spawn was told, Log the file that holds what the program said.
	Name, Log string
}

// PID of the process, or 0 when it has ended.
func (p *Process) PID() int {
	if p.pm.running() {
		return p.pm.pid
	}
	return 0
}

// Signal sends the process a signal; one that has ended is an error.
func (p *Process) Signal(sig syscall.Signal) error {
	if !p.pm.running() {
		return fmt.Errorf("signal %s: it has ended (%s)", p.Name, p.pm.ended)
	}
	if err := sendSignal(p.pm.pid, sig); err != nil {
		return fmt.Errorf("signal %s: %w", p.Name, err)
	}
	return nil
}

// Kill9 ends the process as a crash does and returns when it is gone. Its children live on, as after a crash.
func (p *Process) Kill9() error {
	if err := p.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.pm.done
	return nil
}

// end asks the process to end and waits, not for ever.
func (p *Process) end() {
	if p.Signal(syscall.SIGTERM) != nil {
		return
	}
	select {
	case <-p.pm.done:
	case <-time.After(endPatience):
		_ = sendSignal(p.pm.pid, syscall.SIGKILL)
		<-p.pm.done
	}
}

// Spawn starts a program as the servers' account, in the lab's directory. It is asked to end when the lab is closed, the last one first,
// and the kernel asks it to when we are killed.
func (l *Lab) Spawn(name, path string, args ...string) (*Process, error) {
	p := &Process{Name: name, Log: filepath.Join(l.dir, name+".log")}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open log of %s: %w", name, err)
	}
	defer log.Close()
	cmd := exec.Command(path, args...)
	cmd.Dir, cmd.Env = l.dir, l.toolEnvironment()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = l.account.processAttributes()
	dieWithParent(cmd.SysProcAttr, syscall.SIGTERM)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, fmt.Errorf("start %s: the lab is closed", name)
	}
	if p.pm, err = startPostmaster(cmd); err != nil {
		return nil, err
	}
	l.spawned = append(l.spawned, p)
	return p, nil
}

// endSpawned ends what Spawn started, and removes the shared memory of servers that were killed.
func (l *Lab) endSpawned() {
	l.mu.Lock()
	l.closed = true
	spawned := slices.Clone(l.spawned)
	l.mu.Unlock()
	for _, p := range slices.Backward(spawned) {
		p.end()
	}
	if !l.opts.External || l.dir == "" {
		return
	}
	left, _ := filepath.Glob(filepath.Join(l.dir, "*", "postmaster.pid")) // the pattern is well formed
	for _, file := range left {
		_ = l.Kill9In(filepath.Base(filepath.Dir(file))) // what is left is swept, and told, afterwards
	}
}

// Kill9In kills every process that works in a directory of the lab at once, as the end of a machine does, and removes the shared memory
// that a server there had, as that does too.
func (l *Lab) Kill9In(name string) error {
	dir := filepath.Join(l.dir, name)
	err := await(context.Background(), func(context.Context) error {
		left := processesIn(dir)
		for _, pid := range left {
			_ = sendSignal(pid, syscall.SIGKILL) // who is gone already is what we want
		}
		if len(left) > 0 {
			return fmt.Errorf("processes %v are still there", left)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("kill what works in %s: %w", name, err)
	}
	removeSharedMemory(dir)
	return nil
}

// Command runs a program to its end as the servers' account, in the lab's directory and without the caller's PG* variables, and returns
// what it said. env is added to the environment, each as "NAME=value".
func (l *Lab) Command(ctx context.Context, env []string, path string, args ...string) (string, error) {
	return l.output(ctx, tool{path: path, args: args, env: env})
}

// WriteFile writes a file below the lab's directory that belongs to the servers' account, readable by it alone, and returns its path.
func (l *Lab) WriteFile(name, content string) (string, error) {
	path := filepath.Join(l.dir, name)
	return path, l.account.writeFile(path, []byte(content))
}

// BinDir is where the PostgreSQL programs are.
func (l *Lab) BinDir() string { return l.install.binDir }

// Program finds a program: beside PostgreSQL's own, else in PATH. The error of one that is not there says what installs it.
func (l *Lab) Program(name string) (string, error) {
	if path := l.install.program(name); path != "" {
		return path, nil
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("find %s beside %s or in PATH: %w: run 'make setup'", name, l.install.binDir, errors.Unwrap(err))
	}
	return path, nil
}

// FreePort returns a port of 127.0.0.1 on which nothing listens now.
func FreePort() (int, error) { return freePort("127.0.0.1") }

// Tail is the end of a file that a spawned program or a server writes, on one line.
func Tail(path string, lines int) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return "no " + filepath.Base(path)
	}
	return lastLines(strings.TrimSpace(string(content)), lines)
}

// PostmasterIn returns the pid of the server whose data directory has that name in the lab's directory.
func (l *Lab) PostmasterIn(name string) (int, error) {
	f, err := readPIDFile(filepath.Join(l.dir, name))
	return f.pid, err
}
