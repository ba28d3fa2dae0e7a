package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// toolEnvironment is what every program of the lab sees: none of the caller's PG* variables, which would redirect psql or
// initdb to somebody's real server.
func (l *Lab) toolEnvironment(extra ...string) []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + l.dir, "LC_ALL=C", "TZ=UTC"}
	return append(env, extra...)
}

// tool describes one run of a PostgreSQL program, as the servers' account.
type tool struct {
	path  string
	args  []string
	env   []string
	stdin string
}

// run executes a tool to its end; its error carries what the program said.
func (l *Lab) run(ctx context.Context, t tool) error {
	_, err := l.output(ctx, t)
	return err
}

// output is run, and returns what the program said also when it ended well.
func (l *Lab) output(ctx context.Context, t tool) (string, error) {
	cmd := exec.CommandContext(ctx, t.path, t.args...)
	cmd.Dir = l.dir // also how the guardian recognises a program that outlived us
	cmd.Env = l.toolEnvironment(t.env...)
	cmd.Stdin = strings.NewReader(t.stdin)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = l.account.processAttributes()
	// The group, because initdb and pg_rewind run servers of their own, and in time for those to remove their shared memory.
	cmd.Cancel = func() error { return sendSignal(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	began := time.Now()
	err := cmd.Run()
	l.opts.Log.Debug("lab ran program", "step", filepath.Base(t.path), "took", time.Since(began), "err", err)
	if err != nil && ctx.Err() != nil { // killed by us: what it said so far explains nothing
		return "", fmt.Errorf("run %s: %w: %w", filepath.Base(t.path), context.Cause(ctx), err)
	}
	if err != nil {
		return "", fmt.Errorf("run %s: %w: %s", filepath.Base(t.path), err, lastLines(said.String(), 8))
	}
	return said.String(), nil
}

// lastLines keeps the end of a program's output, on one line, for an error message.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, " | ")
}
