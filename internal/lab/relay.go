package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Direction of bytes through a Relay.
type Direction uint8

const (
	// ToTarget: from the party that connected to the one behind the relay.
	ToTarget Direction = iota
	// FromTarget: the way back.
	FromTarget
)

func (d Direction) String() string {
	if d == ToTarget {
		return "to_target"
	}
	return "from_target"
}

// Relay passes TCP connections on to a target and breaks them on request. Faults apply to connections in progress and to new
// ones until Heal; nothing that was accepted is lost by silence or delay: as in a network that comes back, bytes arrive late, in
// order. What a relay cannot do is stop the kernel from acknowledging to the sender what it took off the wire.
type Relay struct {
	target func() string
	ip     string
	port   int
	lastID atomic.Uint64
	watch  atomic.Pointer[func(Event)]
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // all connections

	door sync.Mutex // held while the way in is changed; guards the next four
	mode doorMode
	ln   *net.TCPListener
	// accepting is closed when the accept loop of ln has ended; nil while there is none.
	accepting chan struct{}
	fillers   []net.Conn

	mu sync.Mutex // guards what follows; never taken before door
	// changed is closed, and replaced, at every change of silent: whoever waits looks again.
	changed chan struct{}
	silent  [2]bool
	delay   [2]time.Duration
	conns   map[*relayConn]struct{}
	own     map[string]bool // local addresses of fillers
	closed  bool
}

// NewRelay listens on a free port of 127.0.0.1 and passes every connection on to the address that target returns at that moment.
func NewRelay(target func() string) (*Relay, error) {
	r := &Relay{target: target, ip: "127.0.0.1", changed: make(chan struct{}), conns: map[*relayConn]struct{}{}, own: map[string]bool{}}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	var err error
	for range 5 { // a free port may be taken before we listen on it
		if r.port, err = freePort(r.ip); err != nil {
			break
		}
		if err = r.listen(); err == nil {
			return r, nil
		}
	}
	r.cancel()
	return nil, fmt.Errorf("start relay: %w", err)
}

// Relay makes a relay that is closed with the lab.
func (l *Lab) Relay(target func() string) (*Relay, error) {
	r, err := NewRelay(target)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.relays = append(l.relays, r)
	return r, nil
}

// Relay makes a relay that leads to this node and is closed with the lab.
func (n *Node) Relay() (*Relay, error) { return n.lab.Relay(n.Addr) }

// Addr is where to connect, the same for the life of the relay.
func (r *Relay) Addr() string { return net.JoinHostPort(r.ip, fmt.Sprint(r.port)) }

// Conns tells how many connections are in progress.
func (r *Relay) Conns() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.conns)
}

// Observe has every event of the relay passed to watch from now on; nil ends that. It is called on the goroutine that read the
// bytes, for several connections at once, before the bytes are passed on.
func (r *Relay) Observe(watch func(Event)) {
	if watch == nil {
		r.watch.Store(nil)
		return
	}
	r.watch.Store(&watch)
}

// Blackhole lets nothing through any more in the given directions, without any for both: no bytes, no end, no reset. New
// connections are accepted by the kernel and stay silent.
func (r *Relay) Blackhole(directions ...Direction) {
	r.change(func() {
		for _, d := range orBoth(directions) {
			r.silent[d] = true
		}
	})
}

// Delay has all bytes arrive d later in the given directions, without any in both; a round trip then takes 2d longer.
func (r *Relay) Delay(d time.Duration, directions ...Direction) {
	r.change(func() {
		for _, direction := range orBoth(directions) {
			r.delay[direction] = d
		}
	})
}

// Refuse closes the listener: new connections are refused at once, those in progress go on.
func (r *Relay) Refuse() error { return r.setDoor(doorClosed) }

// DropConnects leaves new connections without any answer, as when the other machine is gone: connect runs into its timeout.
// Connections in progress go on.
func (r *Relay) DropConnects() error { return r.setDoor(doorSilent) }

// Partition is what a cut cable does: Blackhole in both directions and DropConnects.
func (r *Relay) Partition() error {
	r.Blackhole()
	return r.DropConnects()
}

// Reset ends all connections in progress with RST to both sides, also under silence.
func (r *Relay) Reset() {
	r.mu.Lock()
	conns := make([]*relayConn, 0, len(r.conns))
	for c := range r.conns {
		conns = append(conns, c)
	}
	r.mu.Unlock()
	for _, c := range conns {
		c.reset()
	}
}

// Heal ends every fault. What was held back is delivered.
func (r *Relay) Heal() error {
	err := r.setDoor(doorOpen)
	r.change(func() {
		r.silent = [2]bool{}
		r.delay = [2]time.Duration{}
	})
	return err
}

// Close resets all connections, frees the port and returns when no goroutine of the relay is left.
func (r *Relay) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.cancel()
	err := r.setDoor(doorClosed)
	r.Reset()
	r.wg.Wait()
	return err
}

// change alters the conditions and wakes everybody who waits for them.
func (r *Relay) change(alter func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	alter()
	close(r.changed)
	r.changed = make(chan struct{})
}

func orBoth(directions []Direction) []Direction {
	if len(directions) == 0 {
		return []Direction{ToTarget, FromTarget}
	}
	return directions
}

// awaitOpen waits until none of the directions is silent. It returns false when gone is closed first.
func (r *Relay) awaitOpen(gone <-chan struct{}, directions ...Direction) bool {
	for {
		r.mu.Lock()
		silent := slices.ContainsFunc(directions, func(d Direction) bool { return r.silent[d] })
		changed := r.changed
		r.mu.Unlock()
		if !silent {
			return true
		}
		select {
		case <-changed:
		case <-gone:
			return false
		}
	}
}

func (r *Relay) delayOf(d Direction) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.delay[d]
}

// serve owns one accepted connection until it has ended.
func (r *Relay) serve(client *net.TCPConn) {
	defer r.wg.Done()
	c := &relayConn{relay: r, id: r.lastID.Add(1), client: client, gone: make(chan struct{})}
	if !r.register(c) {
		client.Close()
		return
	}
	defer r.unregister(c)
	if !r.awaitOpen(c.gone, ToTarget, FromTarget) {
		return
	}
	dialer := net.Dialer{Timeout: 10 * time.Second}
	target, err := dialer.DialContext(r.ctx, "tcp", r.target())
	if err != nil {
		c.reset() // the nearest to a refusal that is left, once the kernel has accepted
		return
	}
	c.pass(target.(*net.TCPConn))
}

// register returns false when the connection is not to be served: it is one of our own, or the relay is closed.
func (r *Relay) register(c *relayConn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	peer := c.client.RemoteAddr().String()
	if r.closed || r.own[peer] {
		delete(r.own, peer) // the port may serve somebody else next
		return false
	}
	r.conns[c] = struct{}{}
	return true
}

func (r *Relay) unregister(c *relayConn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, c)
}

// isTimeout tells an accept loop that was called back from one that failed.
func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
