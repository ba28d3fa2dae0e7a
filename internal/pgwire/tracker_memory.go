package pgwire

import (
	"bytes"
	"math"
	"sync"
	"sync/atomic"
)

// memory is what a tracker remembers of its session's state. It belongs to the goroutine that copies client to server, but for failures and
// opened.
type memory struct {
	// What every message touches comes first.

	ops     []op // messages whose outcome is not known yet, in the order in which they were sent
	wary    wary
	strings bool // standard_conforming_strings may have been reported; the server side's

	done    int           // ops at the front that are accounted
	pending int           // bytes of texts in ops
	opened  atomic.Uint64 // the last request that left a block open which was not open before; the server side's

	texts    *Texts
	failures failures

	body  []byte // of the message that has been read to its end, as far as it is needed
	piece []byte // of the message that has come in part, or nil
	long  longText

	sessionState
	lostAt uint64 // of what was sent up to this request nothing is certain
}

// reported takes note of a ParameterStatus that may be of standard_conforming_strings: its length, name and value with their zero bytes, fits.
func (t *Tracker) reported(length uint32) {
	const name = len("standard_conforming_strings")
	if on := uint32(4 + name + 1 + len("on") + 1); t.memory != nil && (length == on || length == on+1) {
		t.memory.strings = true
	}
}

// sessionState is what the messages that have been answered have left.
type sessionState struct {
	unnamed *sharedText
	named   []namedText
	bytes   int // of the texts in named
	alter   int // how many of named alter anything

	portal  *sharedText  // what the unnamed portal runs, if that alters anything
	portals []portalText // so for the named ones
	unsure  Unsure

	settings []Setting
	custom   []string
	unknown  Unknown
}

type namedText struct{ name, body *sharedText }

type portalText struct{ name, body *sharedText }

// unkept stands for statements whose texts are not kept, unclear for those of which it is not known what running them does.
var (
	unkept  = &sharedText{}
	unclear = &sharedText{verdict: &verdict{deeds: []deed{{kind: deedUnclear}}}}
)

// op is a message whose outcome matters.
type op struct {
	request uint64      // the place of the request that it belongs to
	replies uint32      // answers to that request before its own
	typ     byte        // of the message
	outside bool        // no block is open before its request, and none begins or ends in it
	mixed   bool        // a Query that commits what extended-protocol messages before it have done
	name    *sharedText // of the statement: Parse, Bind, Close; of the portal: Execute. nil is the unnamed one.
	portal  *sharedText // Bind: the portal's name
	body    *sharedText // Parse
	verdict *verdict    // Query
}

// Bounds of what is sent ahead of the server's answers; beyond them the session's statements are not certain any more.
const (
	maxOps     = 4096
	maxPending = 1 << 20
	opsKept    = 32 // for how many the room is kept
)

// wary says of which messages the outcome matters because of what they may run. It may be too careful until everything is answered.
type wary uint8

const (
	waryUnnamed wary = 1 << iota // Bind of the unnamed statement
	waryNamed                    // Bind of a named one
	waryPortal                   // Execute of the unnamed portal
	waryPortals                  // Execute of a named one
)

// wants reports whether a message's body is to be read, and prepares for it.
func (m *memory) wants(f *frame) bool {
	switch f.typ {
	case 'P', 'Q':
		m.long = longText{is: f.rest > maxStatement}
	case 'C':
	case 'B':
		return m.wary != 0
	case 'E':
		return m.wary&(waryPortal|waryPortals) != 0
	default:
		return false
	}
	return true
}

// read takes a piece of the body.
func (m *memory) read(b []byte, f *frame) {
	limit := maxStatement
	if m.long.is || f.typ != 'P' && f.typ != 'Q' {
		limit = maxNames
	}
	if m.long.is && (f.typ == 'P' || f.typ == 'Q') {
		m.long.feed(b)
	}
	if m.piece == nil && f.rest == 0 {
		m.body = b[:min(len(b), limit)]
		return
	}
	if m.piece == nil {
		m.piece = m.texts.pieces.get()
	}
	m.piece = append(m.piece, b[:min(len(b), limit-len(m.piece))]...)
	m.body = m.piece
}

// maxNames bounds the bytes in which the names of a message other than a short Parse must end.
const maxNames = 1024

// release ends the reading of a message.
func (m *memory) release() {
	m.body = nil
	if m.piece != nil {
		m.texts.pieces.put(m.piece)
		m.piece = nil
	}
}

// remembers takes note of a message that is about to be forwarded to its last byte and has not been counted.
func (t *Tracker) remembers() {
	m, c := t.memory, &t.client
	if len(m.ops) > 0 {
		m.settle(t)
	}
	switch c.frame.typ {
	case 'Q', 'F':
		if c.unsynced {
			m.mixed(t)
		}
	case 'S':
		if request := c.requests + 1; c.ends == request || t.begun.Load() == request {
			m.inBlock(request)
		}
	}
	if c.frame.length != 4 && (c.frame.typ == 'S' || c.frame.typ == 'H') {
		m.lose(forGood) // it fails and has no place among the answers
	}
	if c.frame.typ == 'F' {
		m.unknown |= UnknownFastpath
	}
	if c.wanted {
		m.message(t, op{request: c.requests + 1, replies: c.replies, typ: c.frame.typ})
		m.release()
	}
}

// mixed takes note of a Query or FunctionCall that shares a transaction with extended-protocol messages before it.
func (m *memory) mixed(t *Tracker) {
	m.inBlock(t.client.requests + 1)
	if t.mixed.word.Load()>>mixedReplyBits > t.serverWord.Load()>>serverFlagBits {
		m.lose(forGood) // see mixedUnit
	}
}

// inBlock takes note that a request may roll back a part of what it has done.
func (m *memory) inBlock(request uint64) {
	for i := len(m.ops) - 1; i >= m.done && m.ops[i].request == request; i-- {
		m.ops[i].outside = false
	}
}

// message makes an op of a message.
func (m *memory) message(t *Tracker, o op) {
	switch o.typ {
	case 'P':
		m.parse(t, o)
	case 'Q':
		m.query(t, o)
	case 'B':
		m.bind(o)
	case 'E':
		m.execute(t, o)
	case 'C':
		if name, _, ok := bytes.Cut(m.body[min(1, len(m.body)):], []byte{0}); len(m.body) == 0 || m.body[0] != 'S' {
			return
		} else if !ok {
			m.lose(o.request)
		} else if o.name = m.name(name); o.name != nil || m.unnamed != nil || len(m.ops) > 0 {
			m.push(o)
		}
	}
}

// name returns the one copy of a name; nil is no name.
func (m *memory) name(name []byte) *sharedText {
	if len(name) == 0 {
		return nil
	}
	return m.texts.name(name[:min(len(name), maxNameLength)])
}

func (m *memory) parse(t *Tracker, o op) {
	name, body, ok := bytes.Cut(m.body, []byte{0})
	if !ok {
		if m.long.is { // a message without a name's end fails
			m.lose(o.request)
		}
		return
	}
	o.name = m.name(name)
	if m.long.is {
		m.sent(m.long.verdict())
		o.body = unkept
		if m.long.deallocates {
			o.body = unclear
		}
	} else {
		o.body = m.texts.statement(body)
		m.sent(o.body.verdict)
	}
	if o.body.verdict.alters() {
		if o.name == nil {
			m.wary |= waryUnnamed
		} else {
			m.wary |= waryNamed
		}
	}
	m.push(o)
}

func (m *memory) query(t *Tracker, o op) {
	if m.long.is {
		o.verdict = m.long.verdict()
	} else {
		o.verdict = m.texts.query(m.body)
	}
	m.sent(o.verdict)
	o.outside, o.mixed = t.outside(), t.client.unsynced
	if m.unnamed != nil || m.unsure.Unnamed || len(m.ops) > 0 || o.verdict.alters() {
		m.push(o)
	}
}

func (m *memory) bind(o op) {
	portal, rest, ok := bytes.Cut(m.body, []byte{0})
	name, _, whole := bytes.Cut(rest, []byte{0})
	if !ok || !whole {
		if len(m.body) == maxNames {
			m.lose(o.request)
		}
		return
	}
	runs, replaces := waryNamed, waryPortals
	if len(name) == 0 {
		runs = waryUnnamed
	}
	if len(portal) == 0 {
		replaces = waryPortal
	}
	if m.wary&(runs|replaces) == 0 {
		return
	}
	if m.wary&runs != 0 {
		m.wary |= replaces
	}
	o.name, o.portal = m.name(name), m.name(portal)
	m.push(o)
}

func (m *memory) execute(t *Tracker, o op) {
	name, _, ok := bytes.Cut(m.body, []byte{0})
	switch {
	case !ok:
		if len(m.body) == maxNames {
			m.lose(o.request)
		}
		return
	case len(name) == 0 && m.wary&waryPortal == 0, len(name) > 0 && m.wary&waryPortals == 0:
		return
	}
	o.name, o.outside = m.name(name), t.outside()
	m.push(o)
}

// outside reports whether the message that is read now certainly finds no block open that was open before its request.
func (t *Tracker) outside() bool {
	word := t.serverWord.Load()
	return word>>serverFlagBits == t.client.requests && word&statusMask == statusIdle
}

// sent takes note of what a text may do that has been sent.
func (m *memory) sent(v *verdict) {
	if v == nil {
		return
	}
	m.unknown |= v.unknown
	for _, name := range v.custom {
		m.addCustom(name)
	}
}

// push keeps a message until its outcome is known.
func (m *memory) push(o op) {
	size := 0
	if o.body != nil {
		size = len(o.body.raw)
	}
	if len(m.ops)-m.done >= maxOps || m.pending+size > maxPending {
		m.lose(o.request)
		return
	}
	m.pending += size
	if m.done > 0 && len(m.ops) == cap(m.ops) {
		n := copy(m.ops, m.ops[m.done:])
		clear(m.ops[n:])
		m.ops, m.done = m.ops[:n], 0
	}
	m.ops = append(m.ops, o)
}

// forGood is behind all requests.
const forGood = math.MaxUint64

// lose says that it is not certain what the messages up to the given request have done.
func (m *memory) lose(request uint64) {
	m.lostAt = max(m.lostAt, request)
	m.unsure = Unsure{Named: true, Unnamed: true}
	m.unknown |= UnknownOrder
}

// failures are the requests that an error has ended, as the server side tells them to the client side.
type failures struct {
	count atomic.Uint32 // entries in list, and one if any were lost: 0 is no lock to take
	mu    sync.Mutex
	list  []failure
	lost  uint64 // of the requests up to this one it is not known which have failed
}

// failure is the requests from the first, which failed after so many answers, to the last of those that were skipped with it.
type failure struct {
	first, last uint64
	replies     uint32
}

// failuresKept bounds the requests that fail while messages wait for their outcome.
const failuresKept = 64

func (f *failures) add(one failure) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.list) == failuresKept {
		f.lost = f.list[failuresKept/2-1].last
		f.list = append(f.list[:0], f.list[failuresKept/2:]...)
	}
	f.list = append(f.list, one)
	f.count.Store(1)
}

// outcome is what has become of a message.
type outcome uint8

const (
	outcomeRan     outcome = iota // it has run, and its request has not failed
	outcomeUndone                 // it has run, and its request has failed behind it; of a Query, the first statement has
	outcomeFailed                 // it has failed; of a Query, the first statement has
	outcomeSkipped                // it has not run
	outcomeUnknown
)

// of tells what has become of a message of a settled request.
func (f *failures) of(o *op) outcome {
	if f.count.Load() == 0 {
		return outcomeRan
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if o.request <= f.lost {
		return outcomeUnknown
	}
	for _, one := range f.list {
		if one.first <= o.request && o.request <= one.last {
			switch {
			case o.request > one.first, one.replies < o.replies:
				return outcomeSkipped
			case one.replies == o.replies:
				return outcomeFailed
			}
			return outcomeUndone
		}
	}
	return outcomeRan
}

// forget drops what is known of the requests up to settled.
func (f *failures) forget(settled uint64) {
	if f.count.Load() == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for n < len(f.list) && f.list[n].last <= settled {
		n++
	}
	f.list = append(f.list[:0], f.list[n:]...)
	if len(f.list) == 0 && f.lost <= settled {
		f.count.Store(0)
	}
}
