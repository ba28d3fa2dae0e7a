package proxy

import (
	"syscall"
	"time"
	"unsafe"

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

// abandon ends a connection with a reset: what the kernel has not sent yet is dropped. To close the socket would do that only where nobody else holds
// it, and a child that is just being started holds all there are until its program runs; so it is disconnected (connect(2), AF_UNSPEC), and what
// cannot be is reset when it is closed for the last time.
func abandon(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	none := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	_, _, _ = unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&none)), unsafe.Sizeof(none))
}
