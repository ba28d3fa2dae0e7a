package rig

import (
	"os/exec"
	"syscall"
)

// StartOwned starts a process in a group of its own, so that Ctrl-C reaches us alone and we end it in order; if we are killed, the
// kernel tells it to end.
func StartOwned(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	return cmd.Start()
}
