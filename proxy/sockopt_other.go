//go:build !linux

package proxy

import "syscall"

// controlBackend sets no options: TCP_USER_TIMEOUT is Linux's own. Keepalive alone finds a dead node here.
func controlBackend(_, _ string, _ syscall.RawConn) error { return nil }
