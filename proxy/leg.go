package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
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
	// errNoDescriptor: the client's socket could not be kept.
	errNoDescriptor = errors.New("connection cannot be kept")
	// errTorn: the client may have been sent a part of what it was to be told. Nothing else can be said to it.
	errTorn = errors.New("client was told a part")
	// errShuttingDown: the server is stopping.
	errShuttingDown = errors.New("shutting down")
)

// wordTimeout bounds the proxy's last words to a client: they must not keep a session alive.
const wordTimeout = 2 * time.Second

// readAhead is how much one read takes of what a client says in a login: its messages are small, and each is asked for in several parts.
const readAhead = 512

// clientLeg is one client's connection until it is handed to the forwarder. Its Read is charged to startup_timeout, so that a login pays for
// its own slowness only. One goroutine uses it; interrupt, abort and drop may be called by any.
type clientLeg struct {
	raw *net.TCPConn
	// conn is what the protocol is spoken on: raw, or TLS on top of it.
	conn net.Conn
	// ahead holds bytes that were read before anybody asked for them. room is where a read puts them; it is gone when the login is over.
	ahead []byte
	room  *[readAhead]byte
	// patience is what is left of startup_timeout.
	patience time.Duration
	// ctx is done when the login must end: its cause is one of the errors above.
	ctx    context.Context
	cancel context.CancelCauseFunc

	mu          sync.Mutex
	interrupted error // while set, no deadline can be moved: reads and writes fail at once
	// seat is the login's place on an event loop, which has the socket then; nil: it has none. It changes under mu, by the login.
	seat seat
}

func newClientLeg(raw *net.TCPConn, patience time.Duration) *clientLeg {
	c := &clientLeg{raw: raw, conn: raw, patience: patience}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	return c
}

// noConn stands in the place of a connection whose socket an event loop has: every call fails.
var noConn = new(net.TCPConn)

// newSeatedLeg is newClientLeg for a login on an event loop.
func newSeatedLeg(at seat, patience time.Duration) *clientLeg {
	c := newClientLeg(noConn, patience)
	c.seat, c.conn = at, at.sit(c)
	return c
}

// leave takes the login off its event loop, if it is on one: from then on it may wait for anything.
func (c *clientLeg) leave() {
	if c.seat == nil {
		return
	}
	raw, err := c.seat.leave()
	if err != nil {
		raw = noConn
	}
	c.unseat(raw)
	if err != nil {
		c.abort(fmt.Errorf("%w: %w", errNoDescriptor, err))
	}
}

// unseat says that the login is on no event loop any more, and what its connection is from then on.
func (c *clientLeg) unseat(raw *net.TCPConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seat, c.raw, c.conn = nil, raw, raw
	if c.interrupted != nil {
		_ = raw.SetDeadline(past)
	}
}

// drop ends the connection of a client that has not said yet what it wants: at once, or by its login.
func (c *clientLeg) drop() {
	c.mu.Lock()
	raw, seated := c.raw, c.seat != nil
	c.mu.Unlock()
	if seated {
		c.abort(errStartupTimeout)
		return
	}
	_ = raw.Close()
}

// hasUnread reports whether the client has sent what nobody has read yet.
func (c *clientLeg) hasUnread() bool {
	if len(c.ahead) > 0 {
		return true
	}
	if c.seat != nil {
		return c.seat.hasUnread()
	}
	return hasUnread(c.raw)
}

// Read implements io.Reader. It waits no longer than what is left of startup_timeout.
func (c *clientLeg) Read(p []byte) (int, error) {
	if len(c.ahead) == 0 {
		into := p
		if len(p) < readAhead {
			into = c.spare()
		}
		var n int
		err := c.charge(func() (err error) {
			n, err = c.conn.Read(into)
			return err
		})
		if len(p) >= readAhead || n == 0 {
			return n, err
		}
		c.ahead = into[:n]
	}
	n := copy(p, c.ahead)
	c.ahead = c.ahead[n:]
	return n, nil
}

func (c *clientLeg) spare() []byte {
	if c.room == nil {
		c.room = freeRooms.Get().(*[readAhead]byte)
	}
	return c.room[:]
}

var freeRooms = sync.Pool{New: func() any { return new([readAhead]byte) }}

// takeAhead returns what was read ahead. Nothing is read after that.
func (c *clientLeg) takeAhead() []byte {
	ahead := slices.Clone(c.ahead)
	if c.room != nil {
		clear(c.room[:]) // there may be a password in it
		freeRooms.Put(c.room)
	}
	c.ahead, c.room = nil, nil
	return ahead
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

// Write implements io.Writer for what a login says to its client. A client that does not read is waited for as one that does not speak. When a part of p
// may have been sent the error is errTorn; else none of it was.
func (c *clientLeg) Write(p []byte) (int, error) {
	var n int
	torn := false
	err := c.charge(func() (err error) {
		n, err = c.conn.Write(p)
		_, sealed := c.conn.(*tls.Conn) // which does not say how much of a record was sent, and takes nothing more
		torn = err != nil && (n > 0 || sealed)
		return err
	})
	if torn {
		err = fmt.Errorf("%w: %w", errTorn, err)
	}
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
	if c.seat != nil {
		c.seat.wake()
		return
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
	return c.conn.SetDeadline(time.Time{})
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
