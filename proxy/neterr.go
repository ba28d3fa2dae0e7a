package proxy

import (
	"errors"
	"os"
	"syscall"
)

// isReset reports whether the peer has reset the connection, or has closed it so that nothing can be written any more, or is gone.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNABORTED) ||
		errors.Is(err, syscall.ETIMEDOUT)
}

// isTimeout reports whether a deadline of the proxy's own has passed.
func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// isTemporary reports whether accepting may work again later: descriptors or memory are used up, or the client was gone already.
func isTemporary(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EINTR} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
