package proxy

import (
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

const (
	// partingLinger bounds the wait for the server's end of file after the client's, when the server owes no answer.
	partingLinger = 10 * time.Second
	// lastWordsLinger bounds the wait for a server's last words after a write to it has failed.
	lastWordsLinger = 2 * time.Second
)

// goRun is one pair on goForwarder, from start to its end: a goroutine per direction. The last of the two to stop reports.
type goRun struct {
	f    *goForwarder
	pair *pair
	done func(result)

	fromClient, fromServer *tap
	// out writes to the client.
	out io.Writer
	// kept are bytes of the server that may be an unasked-for message to keep back; only serverToClient uses it.
	kept []byte
	// turn holds a token when clientToServer, waiting to be parked, should look again.
	turn chan struct{}

	// mu guards what follows, and the pair's tracker. It is taken once for what one read has brought, never during a read or write.
	mu         sync.Mutex
	running    int    // directions that have not stopped
	stopped    bool   // nothing more is taken from the client
	result     result // how the pair ended; end is 0 until then
	wantParked func()
	parked     bool
	keeping    bool // kept is not empty
	halfClosed bool // the client has ended its side
	discarding bool // the client is gone, but what it sent before its Terminate is still served
	torn       bool // a write to the client failed: it may have received a part of a message
	failedBy   error
}

func newGoRun(f *goForwarder, p *pair, done func(result)) *goRun {
	r := &goRun{f: f, pair: p, done: done, turn: make(chan struct{}, 1), running: 2}
	r.fromClient, r.fromServer, r.out = newTap(p.client), newTap(p.backend.conn), p.client
	if plain, ok := p.client.(*net.TCPConn); ok {
		r.out = newQuietWriter(plain)
	}
	return r
}

// clientToServer is the direction towards the server.
func (r *goRun) clientToServer() {
	defer r.leave()
	if b := r.pair.fromClient; len(b) > 0 {
		r.pair.fromClient = nil
		if !r.toServer(b) {
			return
		}
	}
	for {
		b, err := r.fromClient.read()
		ok := len(b) == 0 || r.toServer(b)
		r.fromClient.release()
		if !ok {
			return
		}
		if err != nil {
			r.clientEnded(err)
			return
		}
	}
}

// serverToClient is the direction towards the client.
func (r *goRun) serverToClient() {
	defer r.leave()
	if b := r.pair.fromServer; len(b) > 0 {
		r.pair.fromServer = nil
		if !r.toClient(b) {
			return
		}
	}
	for {
		b, err := r.fromServer.read()
		ok := len(b) == 0 || r.toClient(b)
		r.fromServer.release()
		if !ok {
			return
		}
		if err != nil {
			r.serverEnded(err)
			return
		}
	}
}

// toServer forwards what the client sent. It reports false when the direction is over.
func (r *goRun) toServer(b []byte) bool {
	for {
		n, stopped := r.accountClient(b)
		if n > 0 {
			if err := r.writeServer(b[:n]); err != nil {
				r.serverUnwritable(err)
				return false
			}
			b = b[n:]
		}
		switch {
		case len(b) == 0:
			return true
		case stopped:
			r.pair.fromClient = slices.Clone(b)
			return false
		}
		<-r.turn
	}
}

// accountClient says how many of the client's bytes may be forwarded now, and accounts them.
func (r *goRun) accountClient(b []byte) (n int, stopped bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.pair.tracker
	switch {
	case r.stopped:
		return 0, true
	case t == nil:
		return len(b), false
	case r.wantParked != nil:
		n = t.ClientBoundary(b)
	default:
		n = len(b)
	}
	t.Client(b[:n])
	return n, false
}

func (r *goRun) writeServer(b []byte) error {
	n, err := r.pair.backend.conn.Write(b)
	r.pair.toServer.Add(int64(n))
	r.f.metrics.ClientToServer.Add(uint64(n))
	return err
}

// toClient forwards what the server sent. It reports false when the direction is over.
func (r *goRun) toClient(b []byte) bool {
	if len(r.kept) > 0 {
		return r.sift(b)
	}
	if owed := r.pair.takeOwed(); owed != nil && !r.writeClient(owed) {
		return false
	}
	pass, keep, parked := r.accountServer(b)
	if pass > 0 && !r.writeClient(b[:pass]) {
		return false
	}
	if keep {
		return r.sift(b[pass:])
	}
	return !parked
}

// accountServer accounts what the server sent: pass bytes go to the client, and what follows them may have to be kept back. If the pair was parked
// before it came to that, all of it is handed back.
func (r *goRun) accountServer(b []byte) (pass int, keep, parked bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pair.tracker == nil {
		return len(b), false, false
	}
	if r.parked {
		r.pair.fromServer = slices.Clone(b)
		return 0, false, true
	}
	pass, keep = r.pair.tracker.Server(b)
	r.pair.countRelaxed(r.f.metrics)
	r.keeping = keep
	r.afterServerLocked()
	return pass, keep, r.parked
}

// afterServerLocked draws the conclusions from what the server has just said.
func (r *goRun) afterServerLocked() {
	if r.wantParked != nil {
		r.parkLocked()
		r.takeTurn()
	}
	if r.halfClosed {
		r.lingerLocked()
	}
}

// writeClient writes to the client, unless the pair was cut.
func (r *goRun) writeClient(b []byte) bool {
	if r.isDiscarding() {
		return true
	}
	if !r.pair.backend.toClient.enter() {
		return false
	}
	n, err := r.out.Write(b)
	if n > 0 { // before the gate is left: after a cut nothing is heard that is not recorded
		r.f.heard.now(r.pair.backend.epoch)
	}
	r.pair.backend.toClient.leave()
	r.pair.toClient.Add(int64(n))
	r.f.metrics.ServerToClient.Add(uint64(n))
	if err == nil {
		return true
	}
	r.mu.Lock()
	r.torn = true
	r.mu.Unlock()
	return r.clientLost(err)
}

// leave is the end of one direction. The last one reports, and touches nothing after that.
func (r *goRun) leave() {
	r.mu.Lock()
	r.running--
	last := r.running == 0
	r.mu.Unlock()
	if !last {
		return
	}
	r.f.remove(r.pair)
	r.mu.Lock()
	res, parked := r.result, r.wantParked
	if res.end == 0 && !r.parked {
		res.end = endClientLost
	}
	t := r.pair.tracker
	res.clean = t != nil && !r.torn && t.ServerBoundary()
	r.mu.Unlock()
	if res.end != 0 {
		r.done(res)
		return
	}
	_ = r.pair.clientRaw.SetDeadline(time.Time{})
	_ = r.pair.backend.SetDeadline(time.Time{})
	parked()
}

// end ends the pair, unless it has ended already, and wakes both directions.
func (r *goRun) end(res result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.endLocked(res)
}

func (r *goRun) endLocked(res result) {
	if r.result.end == 0 {
		r.result = res
	}
	r.stopLocked()
	_ = r.pair.backend.SetDeadline(past)
	if res.end == endClientLost {
		_ = r.pair.clientRaw.SetDeadline(past)
	}
}

// stopLocked keeps clientToServer from forwarding more, and wakes both directions if they are reading. A write to the client goes on to its end:
// only a cut interrupts it.
func (r *goRun) stopLocked() {
	r.stopped = true
	r.takeTurn()
	_ = r.pair.clientRaw.SetReadDeadline(past)
	_ = r.pair.backend.SetReadDeadline(past)
}

func (r *goRun) takeTurn() {
	select {
	case r.turn <- struct{}{}:
	default:
	}
}

// clientEnded is what follows the end of the client's stream.
func (r *goRun) clientEnded(err error) {
	switch {
	case isTimeout(err):
		r.woken(err)
	case errors.Is(err, io.EOF):
		r.halfClose()
	default:
		r.clientLost(err)
	}
}

// woken is what follows when the direction was woken from reading: nothing if the pair is over or parked, else its owner gave the client up.
func (r *goRun) woken(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.stopped {
		r.endLocked(result{end: endClientLost, err: err})
	}
}

// halfClose passes the client's end of file on. What the server still owes is delivered; meanwhile it is noticed when the client closes the other
// direction too.
func (r *goRun) halfClose() {
	r.mu.Lock()
	r.halfClosed = true
	r.mu.Unlock()
	closeWrite(r.pair.backend)
	r.mu.Lock()
	r.lingerLocked()
	r.mu.Unlock()
	if err := awaitReset(r.pair.clientRaw); err != nil && !isTimeout(err) {
		r.clientLost(err)
	}
}

// lingerLocked bounds the wait for the server's end of file once it owes nothing.
func (r *goRun) lingerLocked() {
	if t := r.pair.tracker; !r.stopped && t != nil && !t.Running() {
		_ = r.pair.backend.SetReadDeadline(time.Now().Add(partingLinger))
	}
}

// clientLost is what follows when the client can be reached no more. A client that said Terminate is served to the end all the same: then it
// reports true.
func (r *goRun) clientLost(err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.pair.tracker; !r.stopped && t != nil && t.Terminated() {
		r.discarding, r.halfClosed = true, true
		r.lingerLocked()
		return true
	}
	r.endLocked(result{end: endClientLost, err: err})
	return false
}

func (r *goRun) isDiscarding() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.discarding
}

// serverUnwritable is what follows a failed write to the server: what it said before it went away is still delivered.
func (r *goRun) serverUnwritable(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.stopped {
		r.failedBy = err
		_ = r.pair.backend.SetReadDeadline(time.Now().Add(lastWordsLinger))
	}
}

// serverEnded is what follows the end of the server's stream.
func (r *goRun) serverEnded(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.pair.tracker
	owes := t != nil && t.Running()
	switch {
	case r.failedBy != nil && !errors.Is(err, io.EOF):
		r.endLocked(result{end: endServerLost, err: r.failedBy})
	case r.halfClosed && !owes && (isTimeout(err) || errors.Is(err, io.EOF)):
		r.endLocked(result{end: endClient})
	case errors.Is(err, io.EOF):
		r.endLocked(result{end: endServer})
	case r.parked:
	default:
		r.endLocked(result{end: endServerLost, err: err})
	}
}

// park implements the forwarder's park.
func (r *goRun) park(parked func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped || r.wantParked != nil {
		return
	}
	r.wantParked = parked
	r.parkLocked()
	r.takeTurn()
}

// parkLocked parks the pair if it is at an idle boundary.
func (r *goRun) parkLocked() {
	if t := r.pair.tracker; !r.stopped && !r.keeping && t != nil && t.Idle() {
		r.parked = true
		r.stopLocked()
	}
}

// unpark implements the forwarder's unpark.
func (r *goRun) unpark() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wantParked == nil || r.stopped {
		return false
	}
	r.wantParked = nil
	r.takeTurn()
	return true
}

// count adds the pair to the numbers.
func (r *goRun) count(n *Stats) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n.add(r.pair.tracker)
}
