package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Hooks are the operator's own programs. Each is a command line for /bin/sh -c, so that it may hold arguments, quotes and pipes as in a terminal. It
// gets the event as JSON, with a line end, on standard input; its standard output is dropped, and of its standard error only the last line is
// shown, in the log and in the error, so it is not to print a secret. It runs in a process group of its own, which is killed as a whole when the
// time is up; what it leaves running in the background otherwise goes on, and is not waited for.
type Hooks struct {
	// Fence makes sure that the old writer accepts nothing; OnEvent is given every event. Empty: there is none.
	Fence, OnEvent string
	// Timeout is how long a program may run.
	Timeout time.Duration
	// Hidden names variables of the environment that hold our secrets, which no program needs.
	Hidden []string
	// Log tells how long a program took, at debug level; may be nil.
	Log *slog.Logger
}

// Why a program counts as failed, besides its exit code.
var (
	// ErrNoHook: no program is configured.
	ErrNoHook = errors.New("no program is configured")
	// ErrHookLate: it was killed because its time was up.
	ErrHookLate = errors.New("killed, because it took too long")
)

// pipesGrace is how long the pipes of a program that has ended may be held open by what it left in the background.
const pipesGrace = 500 * time.Millisecond

// RunFence runs the fence and waits for its end. Without an error it said, by exit code 0 and in time, that the old writer is fenced; everything else
// means that it is not. The error tells the exit code, or that time was up, and the last line of standard error; it does not hold the command line.
func (h Hooks) RunFence(ctx context.Context, event []byte) error {
	return h.run(ctx, "fence", h.Fence, event)
}

func (h Hooks) run(ctx context.Context, name, command string, event []byte) error {
	if command == "" {
		return fmt.Errorf("run hook %s: %w", name, ErrNoHook)
	}
	began := time.Now()
	limited, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	var said lastLine
	cmd := exec.CommandContext(limited, "/bin/sh", "-c", command)
	cmd.Env = h.environment()
	cmd.Stdin = bytes.NewReader(append(bytes.Clone(event), '\n')) // a program that does not read it all misses nothing
	cmd.Stderr = &said
	cmd.WaitDelay = pipesGrace
	inOwnGroup(cmd)
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // it has ended with exit code 0, and something that it left behind has its pipes
	}
	if h.Log != nil {
		h.Log.Debug("hook has run", "hook", name, "took", time.Since(began), "err", err)
	}
	return h.explain(ctx, limited, name, err, said.text())
}

// explain says in words how a program ended.
func (h Hooks) explain(ctx, limited context.Context, name string, err error, said string) error {
	if err == nil {
		return nil
	}
	if said != "" {
		said = ": " + said
	}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("run hook %s: %w%s", name, context.Cause(ctx), said)
	case limited.Err() != nil:
		return fmt.Errorf("run hook %s: %w (%s)%s", name, ErrHookLate, h.Timeout, said)
	case errors.As(err, &exit) && exit.Exited():
		return fmt.Errorf("run hook %s: exit code %d%s", name, exit.ExitCode(), said)
	default: // a signal, or it could not be started
		return fmt.Errorf("run hook %s: %w%s", name, err, said)
	}
}

// environment is ours without our secrets.
func (h Hooks) environment() []string {
	var kept []string
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		hidden := false
		for _, h := range h.Hidden {
			hidden = hidden || h == name
		}
		if !hidden {
			kept = append(kept, variable)
		}
	}
	return kept
}

const (
	// maxTail is how much of what a program writes is kept to find its last line in.
	maxTail = 4096
	// maxLine bounds that line where it is shown.
	maxLine = 200
)

// lastLine keeps the end of what is written to it, however much that is.
type lastLine struct{ tail []byte }

// Write implements io.Writer.
func (l *lastLine) Write(p []byte) (int, error) {
	l.tail = append(l.tail, p[max(0, len(p)-maxTail):]...)
	l.tail = l.tail[max(0, len(l.tail)-maxTail):]
	return len(p), nil
}

// text is the last line that is not blank, made fit for a log and an API: one line, short, valid UTF-8, nothing that moves a cursor.
func (l *lastLine) text() string {
	lines := strings.FieldsFunc(string(l.tail), func(r rune) bool { return r == '\n' || r == '\r' })
	for i := len(lines) - 1; i >= 0; i-- {
		if line := strings.TrimSpace(lines[i]); line != "" {
			return printableLine(line)
		}
	}
	return ""
}

func printableLine(line string) string {
	var b strings.Builder
	for _, r := range line {
		if b.Len() >= maxLine {
			b.WriteString("...")
			break
		}
		if r == '\uFFFD' || r < ' ' || r >= 0x7f && r < 0xa0 || r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			r = '?'
		}
		b.WriteRune(r)
	}
	return b.String()
}
