package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

var (
	// errStartupTimeout: the client's own bytes were awaited for longer than startup_timeout in total.
	errStartupTimeout = errors.New("startup timeout")
	// errClientGone: the client closed its connection or reset it.
	errClientGone = errors.New("client is gone")
	// errEvicted: the login made room for another; it had waited longest for its client.
	errEvicted = errors.New("login was ended to make room")
	// errTurnedAway: the login made room for another while it waited for its turn.
	errTurnedAway = errors.New("login was turned away")
	// errShuttingDown: the server is stopping.
	errShuttingDown = errors.New("shutting down")
)

// wordTimeout bounds the proxy's last words to a client: they must not keep a session alive.
const wordTimeout = 2 * time.Second

// clientLeg is one client's connection until it is handed to the forwarder. Its Read is charged to startup_timeout, so that a login pays for
// its own slowness only. One goroutine uses it; interrupt and abort may be called by any.
type clientLeg struct {
	raw *net.TCPConn
	// conn is what the protocol is spoken on: raw, or TLS on top of it.
	conn net.Conn
	// ahead holds bytes that were read before anybody asked for them.
	ahead []byte
	// patience is what is left of startup_timeout.
	patience time.Duration
	// ctx is done when the login must end: its cause is one of the errors above.
	ctx    context.Context
	cancel context.CancelCauseFunc

	mu          sync.Mutex
	interrupted error // while set, no deadline can be moved: reads and writes fail at once
}

func newClientLeg(raw *net.TCPConn, patience time.Duration) *clientLeg {
	c := &clientLeg{raw: raw, conn: raw, patience: patience}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	return c
}

// Read implements io.Reader. It waits no longer than what is left of startup_timeout.
func (c *clientLeg) Read(p []byte) (int, error) {
	if len(c.ahead) > 0 {
		n := copy(p, c.ahead)
		c.ahead = c.ahead[n:]
		return n, nil
	}
	var n int
	err := c.charge(func() (err error) {
		n, err = c.conn.Read(p)
		return err
	})
	return n, err
}

// charge runs something that waits for the client's bytes, bounded by, and counted against, what is left of startup_timeout.
func (c *clientLeg) charge(wait func() error) error {
	start := time.Now()
	if err := c.setDeadline(start.Add(c.patience)); err != nil {
		return err
	}
	err := wait()
	c.patience -= time.Since(start)
	return c.classify(err)
}

// Write implements io.Writer for what a login says to its client. A client that does not read is waited for as one that does not speak.
func (c *clientLeg) Write(p []byte) (int, error) {
	var n int
	err := c.charge(func() (err error) {
		n, err = c.conn.Write(p)
		return err
	})
	return n, err
}

// classify turns the ways in which a read or write can end into the login's own words.
func (c *clientLeg) classify(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		if cause := c.cause(); cause != nil {
			return cause
		}
		return errStartupTimeout
	case errors.Is(err, io.EOF), isReset(err), errors.Is(err, net.ErrClosed):
		return fmt.Errorf("%w: %w", errClientGone, err)
	default:
		return err
	}
}

// cause is why the leg was interrupted; nil when it was not.
func (c *clientLeg) cause() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.interrupted
}

// setDeadline moves both deadlines unless the leg is interrupted.
func (c *clientLeg) setDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.interrupted != nil {
		return c.interrupted
	}
	return c.conn.SetDeadline(t)
}

// interrupt wakes whoever reads from or writes to the client, and keeps them from starting again until resume.
func (c *clientLeg) interrupt(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.interrupted == nil {
		c.interrupted = cause
	}
	_ = c.raw.SetDeadline(past)
}

// replace implements interrupter.
func (c *clientLeg) replace(raw *net.TCPConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == net.Conn(c.raw) {
		c.conn = raw
	}
	c.raw = raw
	if c.interrupted != nil {
		_ = raw.SetDeadline(past)
	}
}

// abort ends the login for good: an interrupt that resume does not lift.
func (c *clientLeg) abort(cause error) {
	c.cancel(cause)
	c.interrupt(cause)
}

// resume lifts an interrupt, unless the login was aborted: then it returns why.
func (c *clientLeg) resume() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	c.interrupted = nil
	return c.raw.SetDeadline(time.Time{})
}

// watch notices that the client speaks or goes away while nothing is expected from it, and calls noticed (may be nil) when it does. It reads at most
// one byte ahead; a client that is gone aborts the leg with errClientGone. The returned function ends the watch; until it has returned nobody
// else may read, and before the next read comes a resume.
func (c *clientLeg) watch(noticed func()) (stop func()) {
	if len(c.ahead) > 0 || c.setDeadline(time.Time{}) != nil {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		var b [1]byte
		n, err := c.conn.Read(b[:])
		switch {
		case n > 0:
			c.ahead = append(c.ahead, b[0])
		case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
			c.abort(errClientGone)
		default:
			return
		}
		if noticed != nil {
			noticed()
		}
	}()
	return func() {
		_ = c.raw.SetReadDeadline(past)
		<-done
	}
}

// say writes the proxy's own last words, whatever interrupted the leg before, and closes the connection so that they arrive.
func (c *clientLeg) say(words []byte) {
	lastWords(c.conn, c.raw, words)
}

// close drops the connection without a word. What the client has sent already is read first, as PostgreSQL has by then: a close with unread input
// would be a reset.
func (c *clientLeg) close() {
	if c.raw.SetReadDeadline(time.Now().Add(time.Millisecond)) == nil {
		_, _ = io.CopyN(io.Discard, c.raw, 8192)
	}
	_ = c.raw.Close()
}

// lastWords writes words to a client and closes the connection. A close with unread input would be a reset, which can destroy words that are
// still under way, so input is read and dropped for a moment first.
func lastWords(conn net.Conn, raw *net.TCPConn, words []byte) {
	defer func() { _ = raw.Close() }()
	_ = raw.SetDeadline(time.Now().Add(wordTimeout))
	if len(words) > 0 {
		if _, err := conn.Write(words); err != nil {
			return
		}
	}
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		if half.CloseWrite() != nil {
			return
		}
	}
	if conn != net.Conn(raw) {
		_ = raw.CloseWrite()
	}
	_, _ = io.Copy(io.Discard, raw)
}
