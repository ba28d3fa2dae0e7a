package rig

import (
	"fmt"
	"os"
)

// PID is the process id of the proxy, valid until Stop or Kill.
func (p *Proxy) PID() int { return p.cmd.Process.Pid }

// Signal sends the proxy a signal, such as SIGHUP.
func (p *Proxy) Signal(sig os.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("signal proxy: %w", err)
	}
	return nil
}
