package proxy

import (
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system calls of the event loops. The sockets never block, so that the scheduler need not hear of a call: RawSyscall spares its bookkeeping.

// receive reads what is there, at most len(b) bytes. 0 bytes without an error are the end of the stream.
func receive(fd int32, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// send writes as much of b as the kernel takes, without the signal that a closed connection would raise.
func send(fd int32, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// isLater reports whether the call should be made again when the socket is ready.
func isLater(errno syscall.Errno) bool { return errno == syscall.EAGAIN || errno == syscall.EINTR }

// control changes what an epoll instance is told about a socket.
func control(epoll int, op int, fd int32, event *unix.EpollEvent) error {
	_, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(epoll), uintptr(op), uintptr(fd), uintptr(unsafe.Pointer(event)), 0, 0)
	if errno != 0 {
		return os.NewSyscallError("epoll_ctl", errno)
	}
	return nil
}

// socketError takes the error that a socket has failed with.
func socketError(fd int32) error {
	if code, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR); err == nil && code != 0 {
		return syscall.Errno(code)
	}
	return syscall.EPIPE // somebody has taken it before
}

// duplicate returns another descriptor of the connection's socket.
func duplicate(c *net.TCPConn) (int32, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	var dup int
	var failed error
	if err := raw.Control(func(fd uintptr) { dup, failed = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return -1, err
	}
	if failed != nil {
		return -1, os.NewSyscallError("fcntl", failed)
	}
	return int32(dup), nil
}

// adopt makes a connection of a descriptor, which is closed. If that fails the socket is closed with a reset.
func adopt(fd int32, keepAlive net.KeepAliveConfig) (*net.TCPConn, error) {
	file := os.NewFile(uintptr(fd), "")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		abandon(fd)
		return nil, err
	}
	raw := conn.(*net.TCPConn)
	_ = raw.SetKeepAliveConfig(keepAlive) // FileConn has set its own
	return raw, nil
}

// abandon makes the next close of the socket a reset.
func abandon(fd int32) {
	_ = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}
