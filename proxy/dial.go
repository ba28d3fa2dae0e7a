package proxy

import (
	"context"
	"fmt"
	"net"
	"time"
)

// backendKeepAlive finds a dead node within about ten seconds.
var backendKeepAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3}

// clientKeepAlive finds a dead client within a minute; drivers often have keepalive off.
var clientKeepAlive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}

// dial connects to a route's node. The connection is in the table when it is returned: a cut finds it. A cut of the route's epoch ends the
// dial; the error is then the *cutError.
type Server struct{ table *table }

func (s *Server) dial(ctx context.Context, r *openRoute, timeout time.Duration) (*backend, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	stop := context.AfterFunc(r.ctx, cancel)
	defer stop()
	d := net.Dialer{KeepAliveConfig: backendKeepAlive, Control: controlBackend}
	conn, err := d.DialContext(ctx, "tcp", r.Address)
	if err != nil {
		if r.ctx.Err() != nil {
			err = context.Cause(r.ctx)
		}
		return nil, fmt.Errorf("dial %s: %w", r.Address, err)
	}
	raw, ok := conn.(*net.TCPConn)
	if !ok {
		_ = conn.Close()
		return nil, fmt.Errorf("dial %s: %T is no TCP connection", r.Address, conn)
	}
	b := newBackend(s.table, r.Route, raw)
	if !s.table.add(b) {
		_ = raw.Close()
		return nil, fmt.Errorf("dial %s: %w", r.Address, context.Cause(r.ctx))
	}
	return b, nil
}
