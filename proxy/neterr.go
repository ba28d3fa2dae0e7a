package proxy

import (
	"errors"
	"syscall"
)

// isReset reports whether the peer has reset the connection, or has closed it so that nothing can be written any more.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNABORTED) ||
		errors.Is(err, syscall.ETIMEDOUT)
}
