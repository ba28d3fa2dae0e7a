package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// leaveNoCore keeps what is in memory, keys with which the proxy can log in as its clients, out of core dumps, and out of the reach of other processes
// of the same account (ptrace, /proc/PID/mem). The limit alone does not do: a kernel that pipes cores to a program (systemd-coredump) does not look
// at it. What a hook starts has the limit too, and can be dumped no more than its own program allows.
func leaveNoCore() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("set limit of core dumps: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid core dumps: %w", err)
	}
	return nil
}
