//go:build unix

package proxy

import (
	"errors"
	"net"
	"syscall"
)

// hasUnread reports whether the kernel holds bytes of the connection that nobody has read yet. It takes none of them and does not wait.
func hasUnread(c *net.TCPConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	found := false
	_ = raw.Control(func(fd uintptr) { found = holdsUnread(int(fd)) })
	return found
}

// holdsUnread is hasUnread for a descriptor.
func holdsUnread(fd int) bool {
	var b [1]byte
	n, _, err := syscall.Recvfrom(fd, b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return err == nil && n > 0
}

// closeWithReset closes a connection at once, and tells the peer by a reset.
func closeWithReset(c *net.TCPConn) {
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { abandon(int(fd)) })
	}
	_ = c.Close()
}

// awaitReset waits until the connection has failed (a reset, or keepalive gave up) and returns that failure. An end of file is no failure:
// the peer may still be reading. It returns the deadline's error when a read deadline passes.
func awaitReset(c *net.TCPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failure error
	err = raw.Read(func(fd uintptr) bool {
		code, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ERROR)
		switch {
		case err != nil:
			failure = err
		case code != 0:
			failure = syscall.Errno(code)
		}
		return failure != nil
	})
	return errors.Join(failure, err)
}
