package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// The bounds of one client and of all together.
const (
	// headerTimeout and readTimeout bound the time for the header and for the whole request, writeTimeout that for an answer or one batch of a
	// stream, idleTimeout that between two requests.
	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	writeTimeout  = 30 * time.Second
	idleTimeout   = time.Minute
	// maxHeaderBytes bounds a request's header; maxBodyBytes its body.
	maxHeaderBytes = 16 << 10
	maxBodyBytes   = 64 << 10
	// maxConnections bounds the connections, so that whoever floods this listener takes no descriptor from the data plane. maxStreams is the part
	// of them that may be streams, so that streams never keep out a status.
	maxConnections = 256
	maxStreams     = 64
)

// Server is the admin listener. New makes it, Serve runs it, Shutdown ends it.
type Server struct {
	deps Deps
	http *http.Server
	// stopping is closed when a shutdown begins: streams end.
	stopping chan struct{}
	// streams holds one token for each stream that is open.
	streams chan struct{}
	refused *quietLog
	now     func() time.Time
	// loopback is set by Serve before the first request: only this machine reaches the listener.
	loopback bool
}

// New returns a server that is not listening yet. Every field of deps is needed.
func New(deps Deps) *Server {
	s := &Server{
		deps: deps, stopping: make(chan struct{}), streams: make(chan struct{}, maxStreams), now: time.Now,
		refused: &quietLog{log: deps.Log, now: time.Now},
	}
	s.http = &http.Server{
		Handler: s, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeaderBytes, ErrorLog: slog.NewLogLogger(deps.Log.Handler(), slog.LevelDebug),
	}
	s.http.RegisterOnShutdown(func() { close(s.stopping) })
	return s
}

// Serve answers until Shutdown; then it returns nil at once, while requests that are under way are still answered. The listener is closed when it
// returns.
func (s *Server) Serve(l net.Listener) error {
	s.loopback = isLoopback(l.Addr())
	if err := s.http.Serve(newLimitListener(l, maxConnections)); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve admin on %s: %w", l.Addr(), err)
	}
	return nil
}

// Shutdown stops listening, ends streams, and waits until every request is answered or ctx ends; then what is left is closed. It is called once,
// and last of all: the status of a draining process is worth most.
func (s *Server) Shutdown(ctx context.Context) error {
	if err := s.http.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("shut down admin: %w", err), s.http.Close())
	}
	return nil
}

// isLoopback reports whether only this machine can reach the address.
func isLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}
