//go:build unix

package control

import (
	"os/exec"
	"syscall"
)

// inOwnGroup gives the program a process group of its own and has a kill reach all of it: children that ignore a polite signal too.
func inOwnGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
