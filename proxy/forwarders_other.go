//go:build !linux

package proxy

import "github.com/pgtether/pgtether/internal/metrics"

// newForwarder returns the forwarder of this system.
func newForwarder(m *metrics.Proxy) (forwarder, error) { return newGoForwarder(m), nil }
