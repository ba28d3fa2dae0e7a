package proxy

import (
	"errors"
	"io"
	"slices"

	"golang.org/x/sys/unix"
)

// clientLost is what follows when the client can be reached no more. A client that said Terminate is served to the end all the same.
func (r *loopRun) clientLost(err error) {
	if t := r.pair.tracker; t == nil || !t.Terminated() {
		r.end(result{end: endClientLost, err: err})
		return
	}
	r.discarding, r.halfClosed = true, true
	r.empty(&r.toClient)
	r.want(&r.client, 0, false)
	r.linger()
}

// serverUnwritable is what follows a failed write to the server: what it said before it went away is still delivered.
func (r *loopRun) serverUnwritable(err error) {
	r.failedBy = err
	r.empty(&r.toServer)
	r.waitFor(lastWordsLinger)
}

// serverEnded is what follows the end of the server's stream.
func (r *loopRun) serverEnded(err error) {
	t := r.pair.tracker
	owes := t != nil && t.Running()
	switch {
	case r.failedBy != nil && !errors.Is(err, io.EOF):
		r.end(result{end: endServerLost, err: r.failedBy})
	case r.halfClosed && !owes && (isTimeout(err) || errors.Is(err, io.EOF)):
		r.parted = errors.Is(err, io.EOF) && !r.discarding
		r.end(result{end: endClient})
	case errors.Is(err, io.EOF):
		r.parted = !owes && t != nil && t.Terminated() && len(r.kept) == 0 && r.clientIsSilent()
		r.end(result{end: endServer})
	default:
		r.end(result{end: endServerLost, err: err})
	}
}

// clientIsSilent reports whether the client has sent nothing that is unread. One that has said Terminate is not listened to any more.
func (r *loopRun) clientIsSilent() bool {
	n, errno := receive(r.client.fd, r.loop.buffer[:])
	return n == 0 && (errno == 0 || isLater(errno))
}

// severed is what follows when a gate of the backend was found shut: whoever has shut it resets the backend.
func (r *loopRun) severed() { r.end(result{end: endServerLost, err: errSevered}) }

// sift decides about messages of the server's that nobody asked for: one that says that the server is dying, or that this session was ended, is kept
// back; every other is passed on.
func (r *loopRun) sift() {
	for len(r.kept) > 0 {
		if r.catchUp(); len(r.toClient.bytes) > 0 || r.over {
			return
		}
		length, whole := messageLength(r.kept)
		if !whole {
			return
		}
		if length <= siftMax && meansEnd(r.kept[:length]) && r.keepBack(length) {
			return
		}
		length = min(length, len(r.kept))
		words, rest := r.kept[:length], r.kept[length:]
		r.pair.tracker.PassServer(words)
		r.sendClient(words)
		if r.over {
			return
		}
		r.kept = r.relay(rest)
	}
}

// keepBack ends the pair with the message kept back, unless the client has asked something meanwhile: then the message is its answer.
func (r *loopRun) keepBack(length int) bool {
	if r.toServer.cleared > 0 || !r.pair.tracker.Idle() {
		return false
	}
	r.pair.fromServer = slices.Clone(r.kept[length:])
	r.end(result{end: endKeptBack, keptBack: slices.Clone(r.kept[:length])})
	return true
}

// park is the loop's part of the forwarder's park, and implements seat.
func (r *loopRun) park(_ *pair, parked func()) {
	if r.over || r.wantParked != nil {
		return
	}
	r.wantParked = parked
	r.tryPark()
}

// tryPark parks the run if that is wanted and it is at an idle boundary.
func (r *loopRun) tryPark() bool {
	if r.wantParked == nil {
		return false
	}
	r.catchUp()
	t := r.pair.tracker
	if r.over || t == nil || len(r.kept) > 0 || r.toServer.cleared > 0 || len(r.toClient.bytes) > 0 || !t.Idle() {
		return false
	}
	r.end(result{})
	return true
}

// unpark is the loop's part of the forwarder's unpark.
func (r *loopRun) unpark() bool {
	if r.over || r.wantParked == nil {
		return false
	}
	r.wantParked = nil
	r.reconsider()
	r.settle()
	return true
}

// end ends the run, unless it has ended already, and has it reported.
func (r *loopRun) end(res result) {
	if r.catchUp(); r.over { // which may have ended it
		return
	}
	r.letGo(res)
	if r.parted {
		if r.partHere() {
			return
		}
		r.unlist()
	}
	go r.report()
}

// unlist takes the sockets of a run that has ended from the loop's list, because they live on. Where the backend was severed meanwhile its socket is
// whoever's that has severed it, and closed.
func (r *loopRun) unlist() {
	_ = r.loop.watch(r, &r.client, 0, false)
	if gate := &r.pair.backend.toBackend; gate.enter() {
		_ = r.loop.watch(r, &r.server, 0, false)
		gate.leave()
	}
}

// partHere ends a run of which nothing is left but to close its sockets without a goroutine, where that is possible.
func (r *loopRun) partHere() bool {
	if r.pair.parted == nil || !r.part() {
		return false
	}
	r.loop.f.remove(r.pair)
	if !r.pair.parted(r.result) {
		go r.done(r.result)
	}
	return true
}

// letGo ends the run: from then on the loop does not touch the sockets, but to close them if both sides have parted.
func (r *loopRun) letGo(res result) {
	t := r.pair.tracker
	res.clean = t != nil && !r.torn && len(r.toClient.bytes) == 0 && t.ServerBoundary()
	r.over, r.result = true, res
	if s := &r.toServer; s.cleared < len(s.bytes) {
		r.pair.fromClient = slices.Clone(s.bytes[s.cleared:])
	}
	r.empty(&r.toServer)
	r.empty(&r.toClient)
	r.loop.remove(r, r.parted)
	r.out.Store(true)
}

// reset implements keeper.
func (r *loopRun) reset() {
	if !r.out.Load() {
		r.loop.call(func() {
			switch {
			case r.login != nil:
				r.severLogin()
			case r.pair != nil: // else its login has left
				r.end(result{end: endServerLost, err: errSevered})
			}
		})
	}
	if fd := r.server.fd; fd >= 0 {
		r.server.fd = -1
		abandon(int(fd))
		closeDescriptor(fd)
	}
}

// report hands both connections back and tells how the run ended.
func (r *loopRun) report() {
	r.loop.f.remove(r.pair)
	res := r.result
	parked := res.end == 0
	if r.parted && r.part() {
		r.done(res)
		return
	}
	if res.end == endCut {
		r.pair.backend.reset()
	} else if err := r.returnServer(r.pair.backend); err != nil {
		r.pair.backend.reset()
		if parked {
			res.end, res.err = endServerLost, err
		}
	}
	if err := r.returnClient(); err != nil && parked {
		res.end, res.err = endClientLost, err
	}
	if res.end == 0 {
		r.wantParked()
		return
	}
	r.done(res)
}

// part closes both sockets where that is all that is left to do; false when the backend was severed meanwhile. Nothing is unread on either, so
// that neither close is a reset.
func (r *loopRun) part() bool {
	b := r.pair.backend
	if !b.toBackend.enter() {
		return false
	}
	fd := r.server.fd
	r.server.fd = -1
	closeDescriptor(fd)
	b.toBackend.leave()
	b.forsaken()
	closeDescriptor(r.client.fd)
	r.pair.closed = true
	return true
}

// returnServer makes the backend's socket a connection again. It fails when the backend was severed meanwhile.
func (r *loopRun) returnServer(b *backend) error {
	if !b.toBackend.enter() {
		return errSevered
	}
	defer b.toBackend.leave()
	fd := r.server.fd
	r.server.fd = -1
	raw, err := r.loop.f.adopt(fd, backendKeepAlive)
	if err != nil {
		return err
	}
	b.keep(nil, raw)
	return nil
}

// returnClient makes the client's socket a connection again.
func (r *loopRun) returnClient() error {
	raw, err := r.loop.f.adopt(r.client.fd, clientKeepAlive)
	if err != nil {
		return err
	}
	r.pair.client, r.pair.clientRaw = raw, raw
	if b := r.pair.backend; b.client != nil {
		b.client.replace(raw)
	}
	return nil
}

func closeDescriptor(fd int32) { _ = unix.Close(int(fd)) }
