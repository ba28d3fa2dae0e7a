package proxy

import "sync/atomic"

// gate, of which the zero value is open, lets writers through until it is shut, and lets whoever shuts it wait until the last of them has left.
// Passing it costs two atomic additions; it is no lock: writers do not wait for each other, and never for the one who shuts.
//
// Invariant: after shut and then wait have returned, no writer is between enter and leave, and enter returns false for ever.
type gate struct {
	// state counts the writers inside in steps of gateWriter; its lowest bit says that the gate is shut.
	state atomic.Int64
	// left is there when somebody waits. It holds a token when a writer may have been the last one to leave a shut gate.
	left atomic.Pointer[chan struct{}]
}

const (
	gateShut   = 1
	gateWriter = 2
)

// enter reports whether the writer may go on. If so, it must call leave when its write has returned.
func (g *gate) enter() bool {
	if g.state.Add(gateWriter)&gateShut == 0 {
		return true
	}
	g.leave()
	return false
}

// leave ends what enter began.
func (g *gate) leave() {
	if g.state.Add(-gateWriter) != gateShut {
		return
	}
	left := g.left.Load()
	if left == nil { // whoever begins to wait looks at the state after that
		return
	}
	select {
	case *left <- struct{}{}:
	default: // a token is there already; the waiter looks at the state again
	}
}

// shut closes the gate for ever. It may be called more than once, and reports whether this was the first time.
func (g *gate) shut() (first bool) { return g.state.Or(gateShut)&gateShut == 0 }

// wait returns when the gate is shut and nobody is inside. Whoever shuts makes sure that writers cannot block inside (by a deadline in the past).
// Several may wait: a cut waits for a connection that its event loop is closing too.
func (g *gate) wait() {
	if g.state.Load() == gateShut {
		return
	}
	left := make(chan struct{}, 1)
	if !g.left.CompareAndSwap(nil, &left) {
		left = *g.left.Load()
	}
	for g.state.Load() != gateShut {
		<-left
	}
	select { // the token may have been meant for another who waits
	case left <- struct{}{}:
	default:
	}
}
