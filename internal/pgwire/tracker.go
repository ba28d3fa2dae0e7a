package pgwire

import "sync/atomic"

// Tracker follows one session's byte streams, both directions, and knows where its transactions end.
//
// It walks message headers in place: no byte is copied, no memory allocated per message, bodies are skipped by their length, except for the
// texts of Query and Parse and the names in Parse, Bind and Execute. Reads may be split anywhere.
//
// It rests on the order in which PostgreSQL answers (tcop/postgres.c, PostgresMain; the same from 13 to 18): one ReadyForQuery for each
// Query, FunctionCall and Sync, in the order of the requests, with three exceptions that it accounts for: Syncs swallowed by COPY FROM STDIN,
// what is skipped after an error in the extended protocol, and errors that strike a session between requests. Where the headers alone leave a
// doubt it holds the session busy until a later answer settles it (a COPY FROM STDIN that failed among Syncs, see copyEnds): Idle does not err
// towards true. The one thing it cannot see: an ERROR, not FATAL, that strikes between requests (PostgreSQL raises none but for broken
// notification queues and the like) while the next request is on its way is taken for that request's answer.
//
// With Remember it also keeps what a session's move to another server needs, see Recall. Without it nothing of that costs anything.
//
// Concurrency: Client and ClientBoundary belong to the one goroutine that copies client to server, Server and PassServer to the one that copies
// server to client. The queries (Idle, InDoubt, ...) may be asked from anywhere at any time; their answers are true of a moment within the call.
// There is no lock. The one rule of order: Client must return before the first of its bytes is written to the server.
//
// Idle is a snapshot. It stays true only while no client bytes are forwarded: to park a session, stop both copiers at an idle boundary (see
// ClientBoundary) and ask Idle again when both are at rest.
//
// The zero value is a session whose first ReadyForQuery has not come: it may be fed from the end of the login on (what is relayed before, such as
// ParameterStatus, may be fed too) or be told by Start that it has passed. A Tracker must not be copied once in use.
type Tracker struct {
	// A session's memory is seldom in the processor's caches when its next message comes. What messages touch comes first, in the order that
	// touches the fewest cache lines, and the size keeps trackers from sharing one.

	client clientSide

	// What each side tells the other.
	clientWord atomic.Uint64 // counted requests << clientFlagBits | client flags
	serverWord atomic.Uint64 // settled requests << serverFlagBits | server flags and status
	memory     *memory       // nil: see Remember
	broken     atomic.Pointer[FramingError]
	failed     atomic.Uint64 // the last request answered by an ErrorResponse

	// Places of requests, counted from 1. A request is settled when it is answered or is known never to be.
	doubt  atomic.Uint64 // in doubt until this one is settled
	inside atomic.Uint64 // the last with a statement inside a block
	begun  atomic.Uint64 // the last with a BEGIN

	server serverSide

	unsure  atomic.Uint64 // unsettled requests up to this one may have been swallowed by a COPY that failed
	relaxed atomic.Uint64 // the last with a statement that lowers the durability of its transaction, or wholeSession; 0 is none
	mixed   mixedUnit

	copyEnds copyEnds

	_ [48]byte
}

// Flags of clientWord. A request is a message that asks for a ReadyForQuery: Query, FunctionCall or Sync.
const (
	clientPartial    = 1 << iota // a message is forwarded in part
	clientUnsynced               // extended-protocol messages wait for their Sync
	clientTerminated             // Terminate was sent: the server ends the session, whatever else follows
	clientMuddled                // it will never be known what is answered: the session stays busy, and in doubt
	clientFlagBits   = iota
)

// Flags of serverWord; status is in the bits of statusMask.
const (
	statusNone    = iota // no ReadyForQuery yet
	statusIdle           // 'I'
	statusInBlock        // 'T'
	statusFailed         // 'E'
	statusMask    = 3

	serverPartial   = 4 // a message is relayed in part
	serverAnswering = 8 // a request's answer has begun and its ReadyForQuery has not come
	serverFlagBits  = 4
)

// Start tells that login is over and its ReadyForQuery, which said status ('I' for every server of protocol 3), was relayed without the Tracker.
// It must come before everything else.
func (t *Tracker) Start(status byte) {
	t.server.status = statusOf(status)
	t.publishServer()
}

// Idle reports whether the session is at a transaction boundary with nothing under way: every request is answered, the last ReadyForQuery said
// 'I', no extended-protocol message waits for its Sync, no message is forwarded in part in either direction, and the client has not said
// Terminate. It is false for good once Broken.
func (t *Tracker) Idle() bool {
	return idle(t.serverWord.Load(), t.clientWord.Load()) && t.broken.Load() == nil
}

// idle needs every flag to be clear: the counts are compared with the flags in place.
func idle(server, client uint64) bool {
	return server&(1<<serverFlagBits-1) == statusIdle && client&(1<<clientFlagBits-1) == 0 && server>>serverFlagBits == client>>clientFlagBits
}

// TxStatus returns what the last ReadyForQuery said: 'I', 'T' or 'E'; 0 before the first one.
func (t *Tracker) TxStatus() byte { return "\x00ITE"[t.serverWord.Load()&statusMask] }

// InTransaction reports whether the last ReadyForQuery said that a transaction block is open, failed or not.
func (t *Tracker) InTransaction() bool { return t.serverWord.Load()&statusMask >= statusInBlock }

// Terminated reports whether the client has said Terminate.
func (t *Tracker) Terminated() bool { return t.clientWord.Load()&clientTerminated != 0 }

// Broken returns a *FramingError if either stream has stopped making sense, else nil. From then on nothing is tracked and the session is never
// idle; its bytes may still be relayed, so that the other side gives the answer it would give without a proxy.
func (t *Tracker) Broken() error {
	if err := t.broken.Load(); err != nil {
		return err
	}
	return nil
}

func (t *Tracker) fail(f *frame, fromServer bool, err error) {
	t.broken.CompareAndSwap(nil, &FramingError{FromServer: fromServer, Type: f.typ, Length: f.length, Err: err})
}

func statusOf(b byte) uint8 {
	switch b {
	case 'I':
		return statusIdle
	case 'T':
		return statusInBlock
	case 'E':
		return statusFailed
	}
	return statusNone
}
