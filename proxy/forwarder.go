package proxy

import (
	"net"
	"sync/atomic"
	"time"

	"github.com/pgtether/pgtether/internal/pgwire"
)

// forwarder carries bytes between the two connections of pairs. There is one contract and there may be several implementations; the conformance
// tests run on each.
//
//   - start takes both connections over and returns at once. Bytes that were read before are forwarded first. Each direction has its own
//     back-pressure and a bounded buffer: a side that does not read stops the other one's sender, and nothing else.
//   - Every started pair ends in exactly one of two ways: done is called with how it ended, or the function given to park is. From then on the
//     forwarder touches neither connection again, and both belong to whoever was called. The calls come on a goroutine that may block.
//   - An end of file in one direction is passed on (half-close), and the other direction runs on until its own end.
//   - park stops the pair at its next idle boundary: no open transaction, no unanswered request, no partial message in either direction. A pair
//     that is idle stops now. Of a client that has sent more than its current transaction the rest is not forwarded but handed back. Opaque pairs
//     are never idle. unpark takes the request back and reports whether it was in time.
//   - cut ends all pairs of epochs <= epoch and all that are started later. When it returns, no byte of theirs will reach a client any more and
//     none will be, or is being, sent to a backend; the backends are closed with a reset. All clients are detached before the first
//     backend is closed.
//   - close ends what the forwarder itself runs. By then every pair has ended or was parked, and none is started any more.
//   - An ErrorResponse or NoticeResponse 57P01 or 57P02 that an idle session did not ask for is not forwarded: the pair ends with endKeptBack.
//
// No lock, allocation or log line per message.
type forwarder interface {
	start(p *pair, done func(result))
	park(p *pair, parked func())
	unpark(p *pair) bool
	cut(epoch uint64, why pgwire.Reason)
	// states counts the pairs at this moment.
	states() Stats
	// heardAge says how long ago a byte of a backend of the epoch was last written to a client; false when none was yet.
	heardAge(epoch uint64) (time.Duration, bool)
	close()
}

// pair is one client tied to one backend. It is set up before start and belongs to the forwarder until done or parked is called. Then client,
// clientRaw and backend.raw may be other objects than before, for the same sockets.
type pair struct {
	// What every message touches comes first, and the size keeps pairs from sharing a cache line.

	backend *backend
	// tracker follows both directions; nil for an opaque pair.
	tracker *pgwire.Tracker
	// toServer and toClient count the bytes that were forwarded.
	toServer, toClient atomic.Int64
	// owed are whole messages that a move has left for the client, ParameterStatus above all. It is told with the answer to its next request, not before:
	// drivers do not expect them while they are idle (pgjdbc's processNotifies).
	owed []byte
	// client is what the protocol is spoken on with the client, clientRaw the connection below it.
	client    net.Conn
	clientRaw *net.TCPConn
	// fromClient and fromServer are bytes that were read but not forwarded: before start by the login, after parked or done by the forwarder.
	fromClient, fromServer []byte
	// closed says, from done on, that the forwarder has closed both connections: both sides had ended theirs, and nobody is left to be told anything.
	closed bool
	// parted may be set: a forwarder that has closed both connections itself calls it before done, where it must not wait, and not done if it returns true.
	parted func(result) bool

	_ [48]byte
}

// takeOwed returns what the client is owed, once: when it has asked something and no message of its server's is cut in two by it. Else it is nil.
func (p *pair) takeOwed() []byte {
	if len(p.owed) == 0 || !p.tracker.Running() || !p.tracker.ServerBoundary() {
		return nil
	}
	owed := p.owed
	p.owed = nil
	return owed
}

// isPlain reports whether nothing but TCP lies between the two ends.
func (p *pair) isPlain() bool {
	return p.client == net.Conn(p.clientRaw) && p.backend.conn == net.Conn(p.backend)
}

// add counts a pair in; t is its tracker.
func (n *Stats) add(t *pgwire.Tracker) {
	n.Open++
	switch {
	case t == nil:
		n.Opaque++
	case t.Running():
		n.Active++
	case t.InTransaction():
		n.InTransaction++
	default:
		n.Idle++
	}
}

// ending says what ended a pair.
type ending uint8

const (
	// endClient: the client ended its side, and the server then its own.
	endClient ending = iota + 1
	// endClientLost: the client reset the connection, or closed it both ways, or was cut off by the proxy.
	endClientLost
	// endServer: the server closed the connection.
	endServer
	// endServerLost: the connection to the server failed.
	endServerLost
	// endCut: the epoch was cut; result.why says why. The backend is closed.
	endCut
	// endKeptBack: the server said 57P01 or 57P02 to an idle session; result.keptBack is the message.
	endKeptBack
)

// result is how a pair ended.
type result struct {
	end ending
	why pgwire.Reason
	// err is what was seen on the connection, for the log.
	err error
	// clean says that the client has received whole messages only, so that a message of the proxy's own can follow.
	clean bool
	// keptBack is the message that was not forwarded, with endKeptBack.
	keptBack []byte
}
