package proxy

import (
	"maps"
	"net"
	"sync"
)

// roster knows every listener, every login under way and every pinned session, so that a stop reaches all of them.
type roster struct {
	mu        sync.Mutex
	stopping  bool
	listeners map[net.Listener]struct{}
	logins    map[*session]struct{}
	pinned    map[*session]*pair
}

func newRoster() *roster {
	return &roster{listeners: map[net.Listener]struct{}{}, logins: map[*session]struct{}{}, pinned: map[*session]*pair{}}
}

// isStopping reports whether stop was called.
func (r *roster) isStopping() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stopping
}

func (r *roster) addListener(ln net.Listener) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.stopping {
		r.listeners[ln] = struct{}{}
	}
	return !r.stopping
}

func (r *roster) removeListener(ln net.Listener) {
	r.mu.Lock()
	delete(r.listeners, ln)
	r.mu.Unlock()
	_ = ln.Close() // waits for its event loop, if it has one, on which logins are added here
}

// begin counts a connection in, unless the server is stopping: after stop nothing is added to the group that it waits for.
func (r *roster) begin(sessions *sync.WaitGroup) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.stopping {
		sessions.Add(1)
	}
	return !r.stopping
}

// addLogin takes in a login with a complete startup packet.
func (r *roster) addLogin(s *session) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopping {
		return errShuttingDown
	}
	r.logins[s] = struct{}{}
	return nil
}

// pin turns a login into a session. draining says that the session has to be parked at once: the stop did not see it.
func (r *roster) pin(s *session, p *pair) (draining bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.logins, s)
	r.pinned[s] = p
	return r.stopping
}

// remove forgets a login or a session that has ended.
func (r *roster) remove(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.logins, s)
	delete(r.pinned, s)
}

// sessions returns the pinned sessions.
func (r *roster) sessions() map[*session]*pair {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.pinned)
}

// stop keeps everything new out and returns what is there.
func (r *roster) stop() (listeners []net.Listener, logins []*session, pinned map[*session]*pair) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopping = true
	for ln := range r.listeners {
		listeners = append(listeners, ln)
	}
	for s := range r.logins {
		logins = append(logins, s)
	}
	return listeners, logins, maps.Clone(r.pinned)
}
