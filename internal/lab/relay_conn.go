package lab

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// EventKind is what happened on a relay's connection.
type EventKind uint8

const (
	// Opened: the relay has connected to the target; direction is meaningless.
	Opened EventKind = iota
	// Data was read from the sender of the direction.
	Data
	// HalfClosed: the sender of the direction has closed its side.
	HalfClosed
	// Aborted: the connection ended in a reset or by a fault.
	Aborted
)

// Event is one observation of a relay: an independent witness of who sent bytes to whom, and when.
type Event struct {
	Conn      uint64 // counts connections from 1
	Direction Direction
	Kind      EventKind
	// At is when the relay read the bytes from their sender, with Go's monotonic clock.
	At time.Time
	// Bytes are valid during the call only.
	Bytes []byte
}

const (
	chunkBytes  = 32 << 10
	queueChunks = 64 // at most 2 MiB on their way in each direction, enough for a delay not to throttle
)

// chunk is something read from one side and due at the other.
type chunk struct {
	due   time.Time
	bytes []byte
	end   error // io.EOF or what reading failed with; then the last chunk of its direction
}

// relayConn is one connection through a relay.
type relayConn struct {
	relay  *Relay
	id     uint64
	client *net.TCPConn
	target *net.TCPConn // set once, by pass, under mu

	mu    sync.Mutex
	ended bool
	// gone is closed when the connection has ended in both directions or was reset.
	gone chan struct{}
}

// pass carries both directions until they have ended.
func (c *relayConn) pass(target *net.TCPConn) {
	c.mu.Lock()
	c.target = target
	ended := c.ended
	c.mu.Unlock()
	if ended { // reset while we dialled
		abort(target)
		return
	}
	c.tell(ToTarget, Opened, nil)
	var directions sync.WaitGroup
	directions.Go(func() { c.carry(ToTarget, c.client, target) })
	directions.Go(func() { c.carry(FromTarget, target, c.client) })
	directions.Wait()
	c.finish(false)
}

// carry moves bytes one way: a reader stamps them, the caller delivers them when they are due and the way is open.
func (c *relayConn) carry(d Direction, from, to *net.TCPConn) {
	queue := make(chan chunk, queueChunks) // closed by the reader after its last chunk
	var reader sync.WaitGroup
	reader.Go(func() { c.read(d, from, queue) })
	defer reader.Wait()
	for next := range queue {
		if !c.awaitDue(next.due) || !c.relay.awaitOpen(c.gone, d) {
			break
		}
		if err := deliver(next, to); err != nil {
			// Not known to the sender before it could have been on a real network.
			if c.relay.awaitOpen(c.gone, ToTarget, FromTarget) {
				c.tell(d, Aborted, nil)
				c.reset()
			}
			break
		}
	}
	for range queue { // the reader must not hang on a full queue; it ends with the connection
	}
}

// read queues what comes from one side. It ends with the side or with the connection.
func (c *relayConn) read(d Direction, from *net.TCPConn, queue chan<- chunk) {
	defer close(queue)
	for {
		buffer := make([]byte, chunkBytes)
		n, err := from.Read(buffer)
		now := time.Now()
		due := now.Add(c.relay.delayOf(d))
		if n > 0 {
			c.tellAt(now, d, Data, buffer[:n])
			if !c.enqueue(queue, chunk{due: due, bytes: buffer[:n]}) {
				return
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				c.tellAt(now, d, HalfClosed, nil)
			}
			c.enqueue(queue, chunk{due: due, end: err})
			return
		}
	}
}

func (c *relayConn) enqueue(queue chan<- chunk, next chunk) bool {
	select {
	case queue <- next:
		return true
	case <-c.gone:
		return false
	}
}

func (c *relayConn) awaitDue(due time.Time) bool {
	wait := time.Until(due)
	if wait <= 0 {
		return true
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.gone:
		return false
	}
}

// deliver writes a chunk, or hands on the end of a direction. Its error means that the whole connection is over.
func deliver(next chunk, to *net.TCPConn) error {
	if next.end == nil {
		_, err := to.Write(next.bytes)
		return err
	}
	if errors.Is(next.end, io.EOF) {
		return to.CloseWrite()
	}
	return next.end
}

// reset ends the connection with RST on both sides.
func (c *relayConn) reset() { c.finish(true) }

func (c *relayConn) finish(abrupt bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.ended = true
	close(c.gone)
	for _, side := range []*net.TCPConn{c.client, c.target} {
		if side == nil {
			continue
		}
		if abrupt {
			abort(side)
		} else {
			side.Close()
		}
	}
}

// abort closes with RST: linger 0 drops what is unsent.
func abort(conn *net.TCPConn) {
	_ = conn.SetLinger(0) // a connection that is already dead needs none
	conn.Close()
}

func (c *relayConn) tell(d Direction, kind EventKind, bytes []byte) {
	c.tellAt(time.Now(), d, kind, bytes)
}

func (c *relayConn) tellAt(at time.Time, d Direction, kind EventKind, bytes []byte) {
	if watch := c.relay.watch.Load(); watch != nil {
		(*watch)(Event{Conn: c.id, Direction: d, Kind: kind, At: at, Bytes: bytes})
	}
}
