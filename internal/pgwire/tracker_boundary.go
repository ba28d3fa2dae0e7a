package pgwire

// ClientBoundary returns how many of b, the next bytes from the client, may still be forwarded while a session is being parked, so that it gets to
// an idle boundary or stays at one. It accounts nothing: what is forwarded goes through Client first, as always.
//
// May pass: the rest of a message already begun, and of a unit of work already begun: up to its Sync, its CopyDone, or the request that it
// ends with. Inside a transaction block one request more may pass whenever everything before it is answered, so that the block can end.
// What cannot begin any work (CopyData, Flush, Sync, Terminate, ...) passes while the session is busy. At an idle boundary nothing passes.
//
// The bytes held back stay with the caller, who asks again whenever the server side has accounted something: an answer may have opened a block or
// have begun a COPY.
func (t *Tracker) ClientBoundary(b []byte) int {
	c := &t.client
	if c.stopped || t.broken.Load() != nil {
		return len(b) // the server will end this session, whatever is sent
	}
	f := c.frame
	unit := clientUnit{requests: c.requests, unsynced: c.unsynced, last: c.last}
	n := 0
	for n < len(b) {
		if f.between() && !t.mayBegin(b[n], unit) {
			break
		}
		if f.have < headerLength {
			n += f.header(b[n:])
			if f.have < headerLength {
				break
			}
			if !f.validClientLength() {
				return len(b)
			}
		}
		n += f.body(b[n:])
		if f.rest == 0 {
			f.have = 0
			unit.pass(f.typ)
		}
	}
	return n
}

// clientUnit is the part of clientSide that decides what may still be forwarded.
type clientUnit struct {
	requests uint64
	unsynced bool
	last     lastMessage
}

// pass is what clientMessage will do with a message.
func (u *clientUnit) pass(typ byte) {
	switch typ {
	case 'P', 'B', 'D', 'E', 'C':
		u.unsynced, u.last = true, lastExtended
	case 'Q', 'F':
		u.requests++
		u.unsynced, u.last = false, lastSimple
	case 'S':
		u.requests++
		u.unsynced = false
	case 'c', 'f':
		u.unsynced = u.unsynced || u.last == lastExtended
	}
}

// mayBegin reports whether a message of that type may be forwarded behind unit.
func (t *Tracker) mayBegin(typ byte, unit clientUnit) bool {
	server := t.serverWord.Load()
	answered := unit.requests == server>>serverFlagBits
	if server&statusMask == statusNone ||
		answered && !unit.unsynced && server&(statusMask|serverAnswering) == statusIdle {
		return false
	}
	switch typ {
	case 'd', 'c', 'f', 'S', 'H', 'X':
		return true
	}
	// Where a doubt is left about the requests before, only an answer to another one ends it.
	return unit.unsynced || answered || unit.requests == t.unsure.Load()
}
