package rig

import (
	"os/exec"
	"syscall"
)

// StartOwned starts a process in a session of its own, as a service has and as the lab's processes do: Ctrl-C reaches us alone, and the kernel, which shares
// processors between sessions (autogroup), gives it a share that it has not to divide with us. If we are killed, the kernel tells it to end.
func StartOwned(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGTERM}
	return cmd.Start()
}
