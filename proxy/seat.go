package proxy

import (
	"net"
	"net/netip"
	"time"
)

// seat is a login's place on an event loop, on which it runs until it is pinned or leaves: there a wait for either side costs no switch of threads. It
// must not wait for anything else: no lock that is held while somebody waits for a loop, no channel, no name, no file. Before that it leaves.
//
// The login itself calls all but wake, and reset of keeper, which any goroutine may. After leave or start it calls nothing but park.
type seat interface {
	keeper
	// sit is called first. It returns the client's connection as long as the login is here.
	sit(leg *clientLeg) net.Conn
	// hasUnread reports whether the kernel holds bytes of the client's.
	hasUnread() bool
	// open gives the backend a socket, and connect connects it.
	open(b *backend, at netip.AddrPort) error
	connect(at netip.AddrPort, deadline time.Time) error
	// wake lets the login notice that its leg was interrupted.
	wake()
	// leave makes ordinary connections of the client's socket, which it returns, and of the backend's, if that is connected and not severed. The login
	// goes on where it is, on a goroutine of its own. With an error the client's socket is closed.
	leave() (*net.TCPConn, error)
	// start has the loop forward between the two from now on, and park stops that at the next boundary. They are as in forwarder, but that park is for
	// the moment after start alone.
	start(p *pair, done func(result))
	park(p *pair, parked func())
}

// resolvedFor is how long the address that a node's name led to may be used without asking again, unless it fails.
const resolvedFor = 5 * time.Second

// resolution is where a name led.
type resolution struct {
	at    netip.AddrPort
	until time.Time
}

// target is the address of the route's node, if it is known without asking anybody. literal says that it is the configured one.
func (r *openRoute) target() (at netip.AddrPort, literal, ok bool) {
	if r.literal.IsValid() {
		return r.literal, true, true
	}
	if last := r.resolved.Load(); last != nil && time.Now().Before(last.until) {
		return last.at, false, true
	}
	return netip.AddrPort{}, false, false
}

// ledTo notes where the name of the route's node has led just now.
func (r *openRoute) ledTo(addr net.Addr) {
	if tcp, ok := addr.(*net.TCPAddr); ok && tcp.Zone == "" && !r.literal.IsValid() {
		r.resolved.Store(&resolution{at: unmap(tcp.AddrPort()), until: time.Now().Add(resolvedFor)})
	}
}

// reach connects to the route's node. It does so without leaving the login's event loop where nothing of the login has to wait for anything but the two
// sockets: TLS with the node computes for too long, and a source of verifiers may have to be asked. The error is a *backendError.
func (s *session) reach(r *openRoute, deadline time.Time) (*backend, error) {
	if place := s.client.seat; place != nil && s.cfg.backendTLS == nil && s.cfg.SCRAM != SCRAMProxy {
		if at, literal, ok := r.target(); ok {
			b, err := s.srv.dialOn(place, r, at, deadline, s.client)
			if err == nil || literal {
				return b, err
			}
			r.resolved.Store(nil)
		}
	}
	s.client.leave()
	return s.srv.dial(s.client.ctx, r, deadline, s.client)
}

// dialOn is dial for a login on an event loop. If it fails the login has left that.
func (s *Server) dialOn(place seat, r *openRoute, at netip.AddrPort, deadline time.Time, leg *clientLeg) (*backend, error) {
	b := newBackend(s.table, r, noConn, leg)
	err := place.open(b, at)
	switch {
	case err != nil:
	case !s.table.add(b): // from here on a cut finds it
		err = errSevered
	default:
		err = place.connect(at, deadline)
	}
	if err == nil {
		return b, nil
	}
	leg.leave()
	b.reset()
	return nil, r.dialError(err)
}

// doorkeeper is a forwarder on whose event loops clients can be accepted and logged in.
type doorkeeper interface {
	// listen serves the clients of a listener, which it closes, on the loops: serve is called for each, on its loop. The Accept of the listener that is
	// returned has to be called all the same, as that of any other: it returns errors, and the first client after one that was temporary.
	listen(ln *net.TCPListener, serve func(place seat, from netip.AddrPort)) (net.Listener, error)
}
