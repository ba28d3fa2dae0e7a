//go:build !linux

package rig

import (
	"os/exec"
	"syscall"
)

// StartOwned starts a process in a group of its own, so that Ctrl-C reaches us alone and we end it in order.
func StartOwned(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd.Start()
}
