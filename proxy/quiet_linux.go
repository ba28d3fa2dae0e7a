package proxy

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What follows never blocks, so that the scheduler need not hear of a call: RawSyscall spares its bookkeeping.

// receive reads what is there, at most len(b) bytes. 0 bytes without an error are the end of the stream.
func receive(fd int32, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// send writes as much of b as the kernel takes, without the signal that a closed connection would raise.
func send(fd int32, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
