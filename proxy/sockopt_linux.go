package proxy

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// backendUserTimeout bounds how long bytes sent to a node may stay unacknowledged (TCP_USER_TIMEOUT). Without it a statement that was sent
// just before the path broke may be delivered many minutes later.
const backendUserTimeout = 10 * time.Second

// controlBackend sets the options of a socket before it connects to a node.
func controlBackend(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = setUserTimeout(int(fd))
	})
	if err != nil {
		return err
	}
	return failed
}

func setUserTimeout(fd int) error {
	return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(backendUserTimeout.Milliseconds()))
}
