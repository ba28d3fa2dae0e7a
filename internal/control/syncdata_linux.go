package control

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncData makes a file's content durable, and of what is known about the file what is needed to read it.
func syncData(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); err != unix.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
