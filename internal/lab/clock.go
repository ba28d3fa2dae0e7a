package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

var errNoFakeTime = errors.New("libfaketime is not installed: run scripts/setup.sh test")

func (n *Node) clockFile() string { return n.dataDir + ".clock" }

// clockCached is how long a process goes by the clock that it has read. libfaketime reads it in whole seconds, and anew when more of them than
// FAKETIME_CACHE_DURATION have passed. It could read it at each question, but questions are asked in signal handlers too, and a file that is opened
// there crashes a server now and then.
const clockCached = 2100 * time.Millisecond

// StepClock sets the server's wall clock ahead of the machine's by d, or behind it, and returns when all its processes see it, after two seconds:
// one sooner than the other. Their monotonic clock is left alone, as a clock step leaves it. It needs Options.SteppedClocks.
func (n *Node) StepClock(d time.Duration) error {
	if err := n.setClock(d); err != nil {
		return err
	}
	time.Sleep(clockCached)
	return nil
}

func (n *Node) setClock(d time.Duration) error {
	if !n.lab.opts.SteppedClocks {
		return fmt.Errorf("step clock of node %s: the lab has no stepped clocks", n.name)
	}
	// Renamed into place, so that no process reads half of it.
	next := n.clockFile() + ".new"
	if err := os.WriteFile(next, fmt.Appendf(nil, "%+d\n", int64(d/time.Second)), 0o644); err != nil {
		return fmt.Errorf("step clock of node %s: %w", n.name, err)
	}
	if err := os.Rename(next, n.clockFile()); err != nil {
		return fmt.Errorf("step clock of node %s: %w", n.name, err)
	}
	return nil
}

// clockEnvironment leads the server's questions for the time through libfaketime.
func (n *Node) clockEnvironment() ([]string, error) {
	if !n.lab.opts.SteppedClocks {
		return nil, nil
	}
	found, err := filepath.Glob("/usr/lib/*/faketime/libfaketime.so.1")
	if err != nil || len(found) == 0 {
		return nil, errNoFakeTime
	}
	if _, err := os.Stat(n.clockFile()); errors.Is(err, fs.ErrNotExist) {
		if err := n.setClock(0); err != nil {
			return nil, err
		}
	}
	return []string{"LD_PRELOAD=" + found[0], "FAKETIME_TIMESTAMP_FILE=" + n.clockFile(), "FAKETIME_CACHE_DURATION=1", "FAKETIME_DONT_FAKE_MONOTONIC=1",
		"DONT_FAKE_MONOTONIC=1"}, nil
}
