package proxy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// Serve accepts clients until ctx is done, Shutdown is called or the listener fails. Connections that it accepted live on after it has returned,
// until Shutdown. The listener is Serve's from the beginning: it may be closed long before Serve returns.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	ln, err := s.door(ln)
	switch {
	case err != nil && s.roster.isStopping():
		return ErrServerClosed
	case err != nil:
		return err
	}
	if !s.roster.addListener(ln) {
		_ = ln.Close()
		return ErrServerClosed
	}
	defer s.roster.removeListener(ln)
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	err = s.accept(ln)
	switch {
	case s.roster.isStopping():
		return ErrServerClosed
	case ctx.Err() != nil:
		return context.Cause(ctx)
	default:
		return err
	}
}

// door has clients accepted on the event loops, where there are any, see doorkeeper.
func (s *Server) door(ln net.Listener) (net.Listener, error) {
	keeper, ok := s.forwarder.(doorkeeper)
	tcp, isTCP := ln.(*net.TCPListener)
	if !ok || !isTCP {
		return ln, nil
	}
	return keeper.listen(tcp, func(place seat, from netip.AddrPort) {
		if !s.roster.begin(&s.sessions) {
			if raw, err := place.leave(); err == nil {
				_ = raw.Close()
			}
			return
		}
		defer s.sessions.Done()
		s.serveAt(place, from)
	})
}

// accept starts a goroutine for each client that the listener returns.
func (s *Server) accept(ln net.Listener) error {
	var pause time.Duration
	for {
		conn, err := ln.Accept()
		if err != nil {
			if !isTemporary(err) {
				return fmt.Errorf("accept on %s: %w", ln.Addr(), err)
			}
			if pause == 0 {
				s.log.Error("cannot accept clients", "err", err)
			}
			// Descriptors are what lacks as a rule: those who have not sent a startup packet give theirs back first.
			s.pending.drop(16)
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			select {
			case <-time.After(pause):
			case <-s.ctx.Done():
			}
			continue
		}
		if pause != 0 {
			pause = 0
			s.log.Info("accepting clients again")
		}
		raw, ok := conn.(*net.TCPConn)
		if !ok {
			_ = conn.Close()
			return fmt.Errorf("accept on %s: %T is no TCP connection", ln.Addr(), conn)
		}
		_ = raw.SetKeepAliveConfig(clientKeepAlive)
		if !s.roster.begin(&s.sessions) {
			_ = raw.Close()
			continue
		}
		go func() {
			defer s.sessions.Done()
			s.serveConn(raw)
		}()
	}
}
