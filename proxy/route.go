package proxy

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/pgtether/pgtether/internal/pgwire"
)

// Route names the writer of one epoch.
type Route struct {
	// Epoch is greater than every epoch that was opened or cut before.
	Epoch uint64
	// Node is the configured name, Address its host:port.
	Node, Address string
}

// openRoute is a Route while logins may use it. It never changes but for its count; a login compares pointers to see whether its route is still the open one.
type openRoute struct {
	Route
	// ctx is done when the epoch has been cut; its cause is a *cutError.
	ctx    context.Context
	cancel context.CancelCauseFunc
	// relaxed is counted by its sessions, also after the cut.
	relaxed relaxedCommits
	// literal is the node's address when that needs no resolving; else resolved is where its name led last.
	literal  netip.AddrPort
	resolved atomic.Pointer[resolution]
}

func newRoute(r Route) *openRoute {
	o := &openRoute{Route: r}
	o.ctx, o.cancel = context.WithCancelCause(context.Background())
	if at, err := netip.ParseAddrPort(r.Address); err == nil && at.Addr().Zone() == "" {
		o.literal = unmap(at)
	}
	return o
}

// cutError is why a route, and everything on it, ended.
type cutError struct {
	epoch uint64
	why   pgwire.Reason
}

func (e *cutError) Error() string { return fmt.Sprintf("epoch %d was cut: %s", e.epoch, e.why) }

// table holds the one open route and every backend connection that is alive.
//
// Invariant: each backend connection in it has an epoch > floor, and no connection that is not in it is ever written to.
type table struct {
	mu    sync.Mutex
	floor uint64 // the highest epoch that was cut
	route *openRoute
	last  *openRoute // the newest that was opened, cut or not
	alive map[*backend]struct{}
}

func newTable() *table { return &table{alive: make(map[*backend]struct{})} }

// errEpoch is returned for a route whose epoch does not grow.
type errEpoch struct{ epoch, floor uint64 }

func (e errEpoch) Error() string {
	return fmt.Sprintf("open epoch %d: epochs up to %d were cut or replaced", e.epoch, e.floor)
}

// open makes r the route. The caller has cut every older epoch. Opening the open epoch again gives back the same route.
func (t *table) open(r Route) (*openRoute, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.route != nil && t.route.Route == r {
		return t.route, nil
	}
	if r.Epoch <= t.floor || t.route != nil {
		return nil, errEpoch{epoch: r.Epoch, floor: max(t.floor, t.epochLocked())}
	}
	t.route = newRoute(r)
	t.last = t.route
	return t.route, nil
}

func (t *table) epochLocked() uint64 {
	if t.route == nil {
		return 0
	}
	return t.route.Epoch
}

// current returns the open route, nil when there is none.
func (t *table) current() *openRoute {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.route
}

// newest returns the route of the newest epoch that was opened, be it cut since or not; nil when there was none.
func (t *table) newest() *openRoute {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last
}

// isOpen reports whether the epoch's route is the open one.
func (t *table) isOpen(epoch uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.route != nil && t.route.Epoch == epoch
}

// add takes a new backend connection in, unless its epoch has been cut since it was dialled.
func (t *table) add(b *backend) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if b.epoch <= t.floor {
		return false
	}
	t.alive[b] = struct{}{}
	return true
}

// remove forgets a backend connection that has been closed.
func (t *table) remove(b *backend) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.alive, b)
}

// cut makes epoch the floor: from here on no connection of it can be added. It ends the route of a cut epoch.
func (t *table) cut(epoch uint64, why pgwire.Reason) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.floor = max(t.floor, epoch)
	if t.route != nil && t.route.Epoch <= epoch {
		t.route.cancel(&cutError{epoch: t.route.Epoch, why: why})
		t.route = nil
	}
}

// upTo lists the living backend connections of epochs <= epoch.
func (t *table) upTo(epoch uint64) []*backend {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []*backend
	for b := range t.alive {
		if b.epoch <= epoch {
			list = append(list, b)
		}
	}
	return list
}

// sever closes backend connections for good. When it returns nothing that any of them said can reach a client any more, and no byte is, or
// will be, sent on any of them. All clients are detached before the first backend is closed: what a dying writer acknowledges in between
// is not passed on.
func sever(list []*backend) {
	for _, b := range list {
		b.detach()
	}
	for _, b := range list {
		b.toClient.wait()
	}
	for _, b := range list {
		b.reset()
	}
}
