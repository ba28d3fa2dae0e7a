package pgwire

import "bytes"

// clientSide is what the goroutine that copies client to server owns.
type clientSide struct {
	// What the messages of prepared statements touch comes first: it fills one cache line.

	frame frame

	requests uint64 // messages so far that ask for a ReadyForQuery
	unit     uint64 // place, counted from 1, of the request that the last message which was no Sync belongs to
	ends     uint64 // place of the last request that ended a block
	name     uint64 // hash of the name being read
	replies  uint32 // answers to expect for the extended-protocol messages since the last request

	last        lastMessage
	field       uint8 // which part of the body is being read
	named       bool  // the name being read is not empty
	portalNamed bool  // Bind: so was the portal's
	unsynced    bool  // extended-protocol messages since the last request
	copyEnd     bool  // CopyDone or CopyFail came after the last message
	stopped     bool  // nothing is tracked any more
	wanted      bool  // the memory reads the body
	muddled     bool  // it will never be known what is answered: the session stays busy, and in doubt
	terminated  bool
	portal      statement // of the unnamed portal

	portals     statement // of the named portals, whichever it is
	skippable   bool      // a Query or FunctionCall behind such messages since the last Sync: the server may be skipping all of it
	blockBegins bool      // the last statement that began or ended a block was a BEGIN
	beginAlone  bool      // it was a Query that the server cannot skip

	names   *namedEnds // nil until needed
	unnamed unnamedStatement
	text    textScan
	asks    nameScan
}

// lastMessage is the last message but for those that PostgreSQL ignores during COPY FROM STDIN or takes as its data.
type lastMessage uint8

const (
	lastNone     lastMessage = iota
	lastSimple               // Query or FunctionCall
	lastExtended             // Parse, Bind, Describe, Execute, Close
)

// Client accounts bytes that are about to be forwarded from client to server. It must return before they are written.
func (t *Tracker) Client(b []byte) {
	c := &t.client
	f := &c.frame
	for len(b) > 0 && !c.stopped {
		if b = b[f.skip(b, false):]; len(b) == 0 {
			break
		}
		if f.have < headerLength {
			b = b[f.header(b):]
			if f.have < headerLength {
				break
			}
			if !t.clientHeader() {
				break
			}
		}
		n := f.body(b)
		if c.field != fieldSkip {
			t.clientBody(b[:n])
		}
		if c.wanted {
			t.memory.read(b[:n], f)
		}
		b = b[n:]
		if f.rest == 0 {
			t.clientMessage()
			f.have = 0
		}
	}
	t.publishClient()
}

func (t *Tracker) publishClient() {
	c := &t.client
	word := c.requests << clientFlagBits
	if !c.frame.between() {
		word |= clientPartial
	}
	if c.unsynced {
		word |= clientUnsynced
	}
	if c.muddled {
		word |= clientMuddled
	}
	if c.terminated {
		word |= clientTerminated
	}
	t.clientWord.Store(word)
}

// The parts of a body; what they are depends on the message.
const (
	fieldSkip  = iota // nothing of interest, or no more
	fieldFirst        // Parse: statement name; Bind, Execute: portal name
	fieldThen         // Bind: statement name
	fieldText         // Query, Parse: text
)

// clientHeader checks a complete header and prepares for its body.
func (t *Tracker) clientHeader() bool {
	c := &t.client
	f := &c.frame
	c.field = fieldSkip
	switch f.typ {
	case 'Q':
		c.text, c.asks, c.field = textScan{}, nameScan{}, fieldText
	case 'P':
		c.text, c.asks = textScan{}, nameScan{}
		fallthrough
	case 'B', 'E':
		c.name, c.named, c.field = hashSeed, false, fieldFirst
	case 'F', 'S', 'D', 'C', 'H', 'X', 'd', 'c', 'f':
	case 'p': // PasswordMessage and its kin, during the login only
		if t.serverWord.Load()&statusMask != statusNone {
			return t.clientBroken(ErrMessageType)
		}
	default:
		return t.clientBroken(ErrMessageType)
	}
	if !f.validClientLength() {
		return t.clientBroken(ErrMessageLength)
	}
	c.wanted = t.memory != nil && t.memory.wants(f)
	return true
}

func (t *Tracker) clientBroken(err error) bool {
	t.fail(&t.client.frame, false, err)
	t.client.stopped = true
	return false
}

// clientBody reads the names and texts of a body that has come as far as b.
func (t *Tracker) clientBody(b []byte) {
	c := &t.client
	for c.field == fieldFirst || c.field == fieldThen {
		end := bytes.IndexByte(b, 0)
		if end < 0 {
			c.name, c.named = hashName(c.name, b), c.named || len(b) > 0
			return
		}
		c.name, c.named = hashName(c.name, b[:end]), c.named || end > 0
		b = b[end+1:]
		c.endName()
	}
	if c.field != fieldText {
		return
	}
	last := c.frame.rest == 0
	if c.frame.typ == 'P' {
		if end := bytes.IndexByte(b, 0); end >= 0 {
			b, c.field, last = b[:end], fieldSkip, true
		}
	}
	c.asks.feed(b, last)
	if c.frame.typ == 'Q' || c.text.lex != lexBody { // a Parse has one statement (exec_parse_message), whose first words decide
		c.text.feed(b)
	}
}

// endName moves on to the field behind a name.
func (c *clientSide) endName() {
	switch {
	case c.frame.typ == 'P':
		c.field = fieldText
	case c.frame.typ == 'B' && c.field == fieldFirst:
		c.field, c.portalNamed = fieldThen, c.named
		c.name, c.named = hashSeed, false
	default:
		c.field = fieldSkip
	}
}

// clientMessage accounts a message that is about to be forwarded to its last byte. Counting it only now is early enough: the server cannot
// answer it before, and until then clientPartial keeps the session busy.
func (t *Tracker) clientMessage() {
	c := &t.client
	if t.memory != nil {
		t.remembers()
	}
	switch c.frame.typ {
	case 'P':
		t.parsed()
		c.extended(1)
	case 'B':
		t.bound()
		c.extended(1)
	case 'E':
		e := c.executed()
		if e.relaxes {
			t.relaxes(markLocal)
		}
		t.executes(e.effect)
		c.extended(1)
	case 'D', 'C':
		c.extended(1)
	case 'H':
		if c.frame.length != 4 {
			t.malformed()
			c.extended(1) // an answer that never comes: all that the server says of the unit is an error
		}
	case 'Q':
		t.relaxes(c.asks.mark())
		t.executes(c.text.effect())
		t.simple()
	case 'F':
		t.executes(effectOther)
		t.simple()
	case 'S':
		t.sync()
	case 'c', 'f':
		t.endCopy()
	case 'X':
		c.terminated, c.stopped = true, true
	}
}

// extended counts a message of the extended protocol, and how many of the messages that serverMessage counts answer it if it does not fail.
func (c *clientSide) extended(replies uint32) {
	c.unsynced, c.last, c.copyEnd = true, lastExtended, false
	c.unit = c.requests + 1
	c.replies += replies
}

// simple counts a Query or FunctionCall. The server takes it as the end of extended-protocol messages before it, unless one of those fails:
// then it is skipped (PostgresMain, ignore_till_sync), see mixedUnit.
func (t *Tracker) simple() {
	c := &t.client
	if c.unsynced {
		t.mixed.put(c.requests, t.serverWord.Load()>>serverFlagBits, c.replies)
		c.skippable = true
	}
	c.requests++
	c.unit = c.requests
	c.unsynced, c.replies, c.last, c.copyEnd = false, 0, lastSimple, false
}

func (t *Tracker) sync() {
	c := &t.client
	if c.frame.length != 4 { // fails, so that ReadyForQuery is not its only answer
		t.malformed()
		c.unit, c.last, c.copyEnd = c.requests+1, lastSimple, false
	}
	if c.copyEnd {
		t.copyEnds.synced()
		if c.unit <= c.requests && t.unsure.Load() == c.requests && t.serverWord.Load()>>serverFlagBits < c.requests {
			t.unsure.Store(c.requests + 1) // behind Syncs that may have been swallowed, it cannot be told from them
		}
	}
	t.mixed.sync(c.requests)
	c.requests++
	c.unsynced, c.replies, c.skippable = false, 0, false
}

// malformed accounts a Flush or Sync with a body, which fails, unless a COPY swallows it: where something before it is unanswered that may be a
// COPY, nothing will tell the two apart.
func (t *Tracker) malformed() {
	c := &t.client
	c.muddled = c.muddled || c.unsynced || t.serverWord.Load()>>serverFlagBits != c.requests
}

func (t *Tracker) endCopy() {
	c := &t.client
	extended := c.last == lastExtended
	before := c.requests - c.unit
	if extended {
		before++
		c.unsynced = true // a Sync between Execute and CopyDone was swallowed, so the server waits for another one
	}
	t.copyEnds.put(newCopyEnd(c.unit, before, extended))
	c.copyEnd = true
}
