//go:build unix

package health

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// readable reports whether bytes, or the end of the stream or an error, wait in the connection's receive buffer. It takes nothing and does
// not block.
func readable(conn net.Conn) bool {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return true
	}
	waiting := true
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		waiting = err != unix.EAGAIN && err != unix.EINTR
	})
	return err != nil || waiting
}
