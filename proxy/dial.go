package proxy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// backendKeepAlive finds a dead node within about ten seconds.
var backendKeepAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3}

// clientKeepAlive finds a dead client within a minute; drivers often have keepalive off.
var clientKeepAlive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}

// dial connects to a route's node, for a client (nil: for none). The connection is in the table when it is returned: a cut finds it, and wakes the
// client. A cut of the route's epoch, or the end of ctx, ends the dial. The error is a *backendError.
func (s *Server) dial(ctx context.Context, r *openRoute, deadline time.Time, client interrupter) (*backend, error) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	stop := context.AfterFunc(r.ctx, cancel)
	defer stop()
	d := net.Dialer{KeepAliveConfig: backendKeepAlive, Control: controlBackend}
	conn, err := d.DialContext(ctx, "tcp", r.Address)
	if err != nil {
		return nil, r.dialError(err)
	}
	raw, ok := conn.(*net.TCPConn)
	if !ok {
		_ = conn.Close()
		return nil, r.dialError(fmt.Errorf("%T is no TCP connection", conn))
	}
	r.ledTo(raw.RemoteAddr())
	b := newBackend(s.table, r, raw, client)
	if !s.table.add(b) {
		_ = raw.Close()
		return nil, r.dialError(errSevered)
	}
	return b, nil
}

// dialError marks a failure to connect as the node's. A cut of the epoch is what ended whatever was going on.
func (r *openRoute) dialError(err error) error {
	if r.ctx.Err() != nil {
		err = context.Cause(r.ctx)
	}
	return &backendError{addr: r.Address, err: fmt.Errorf("dial: %w", err)}
}

// unmap writes an IPv4 address that came as one of IPv6 as what it is.
func unmap(at netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()) }

// dispose ends a backend connection that is not needed any more, without making anybody wait for it.
func (s *Server) dispose(b *backend, terminate bool) {
	s.sessions.Go(func() { b.part(terminate) })
}
