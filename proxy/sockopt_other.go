//go:build !linux

package proxy

import "syscall"

// controlBackend sets no options: TCP_USER_TIMEOUT is Linux's own. Keepalive alone finds a dead node here.
func controlBackend(_, _ string, _ syscall.RawConn) error { return nil }

// abandon makes the last close of the socket a reset.
func abandon(fd int) {
	_ = syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
}

// receive reads what is there, at most len(b) bytes. 0 bytes without an error are the end of the stream.
func receive(fd int32, b []byte) (int, syscall.Errno) { return counted(syscall.Read(int(fd), b)) }

// send writes as much of b as the kernel takes.
func send(fd int32, b []byte) (int, syscall.Errno) { return counted(syscall.Write(int(fd), b)) }

func counted(n int, err error) (int, syscall.Errno) {
	if errno, ok := err.(syscall.Errno); ok {
		return 0, errno
	}
	return max(n, 0), 0
}
