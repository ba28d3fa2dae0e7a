package pgwire

import "sync/atomic"

// copyEnds tells the server side about the client's last CopyDone and CopyFail messages.
//
// During COPY FROM STDIN the server ignores Sync and Flush (copyfromparse.c, CopyGetData, "for the convenience of client libraries (such as
// libpq)"): libpq sends Execute and Sync before it knows that the statement is a COPY, and another Sync behind CopyDone (PQputCopyEnd), of which
// only the second is answered. So each end of a COPY carries the count of requests before it:
//
//   - The COPY succeeded. Every Sync between the statement and CopyDone was swallowed. In the extended protocol the ReadyForQuery that follows
//     answers the first Sync after CopyDone; in the simple protocol it answers the Query.
//   - The COPY failed in the simple protocol. The ReadyForQuery answers the Query. A Sync sent during the COPY may have been swallowed or not.
//   - The COPY failed in the extended protocol. The server skips to the next Sync it has not yet read. It may have failed before it read
//     anything (a BEFORE STATEMENT trigger) or at any row: the headers do not tell whether the Syncs before CopyDone were swallowed. The session
//     stays busy until they have been answered too, or until something else is: answers come in order, so the first answer to a later
//     request proves that they were swallowed.
//
// A CopyDone that reaches a server that has given up the COPY is ignored (PostgresMain, case 'c'); its entry is known by its count, which lies
// before the requests that are settled by then.
type copyEnds struct {
	count atomic.Uint64 // entries ever written
	entry [copyEndsKept]atomic.Uint64
	used  uint64 // entries the server side is done with
}

const copyEndsKept = 4 // COPYs that a client may complete ahead of the server's answers before certainty is lost

// An entry is requests<<2 | flags.
const (
	copyEndExtended = 1 // the COPY was begun by Execute, as opposed to Query
	copyEndSynced   = 2 // a Sync follows at once
)

func (e *copyEnds) put(requests uint64, extended bool) {
	entry := requests << 2
	if extended {
		entry |= copyEndExtended
	}
	n := e.count.Load()
	e.entry[n%copyEndsKept].Store(entry)
	e.count.Store(n + 1)
}

// synced notes that a Sync follows the last entry.
func (e *copyEnds) synced() {
	last := &e.entry[(e.count.Load()-1)%copyEndsKept]
	last.Store(last.Load() | copyEndSynced)
}

// copyEnd is an entry as the server side reads it.
type copyEnd struct {
	requests         uint64 // sent before it
	extended, synced bool
}

// next returns the end of the COPY that belongs to the first unsettled request, and removes it. It is not ok when the client has not sent one or
// has sent so many that the right one is no longer known.
func (e *copyEnds) next(settled uint64) (end copyEnd, ok bool) {
	count := e.count.Load()
	lost := false
	if count > e.used+copyEndsKept {
		e.used, lost = count-copyEndsKept, true
	}
	for ; e.used < count; e.used++ {
		entry := e.entry[e.used%copyEndsKept].Load()
		if e.count.Load() > e.used+copyEndsKept {
			return copyEnd{}, false // overwritten while it was read
		}
		end = copyEnd{requests: entry >> 2, extended: entry&copyEndExtended != 0, synced: entry&copyEndSynced != 0}
		if end.stale(settled) {
			lost = false // the entries lost are older still
			continue
		}
		if lost {
			return copyEnd{}, false
		}
		e.used++
		return end, true
	}
	return copyEnd{}, false
}

// stale reports whether the end was sent before the first unsettled request, or, where a Query began the COPY, before that Query.
func (c copyEnd) stale(settled uint64) bool {
	if c.extended {
		return c.requests < settled
	}
	return c.requests <= settled
}

// mixedUnit tells the server side about a Query or FunctionCall sent behind extended-protocol messages without a Sync between them. If one of
// those fails the server skips it, and every further one, up to the next Sync (PostgresMain, ignore_till_sync): one ReadyForQuery for all of them.
// One such unit is remembered; of a client that sends another one before the first is answered an error may leave the session busy.
type mixedUnit struct {
	// word is the Query's place among the requests, counted from 1, << mixedReplyBits | answers to the messages before it if all succeed.
	word atomic.Uint64
	// synced is the place of the first Sync behind it, 0 until it is sent.
	synced atomic.Uint64
}

const mixedReplyBits = 20

func (m *mixedUnit) put(requests uint64, replies uint32) {
	m.synced.Store(0)
	m.word.Store((requests+1)<<mixedReplyBits | uint64(min(replies, 1<<mixedReplyBits-1)))
}

func (m *mixedUnit) sync(requests uint64) {
	if m.word.Load() != 0 && m.synced.Load() == 0 {
		m.synced.Store(requests + 1)
	}
}

// fails reports whether an error after so many replies to the first unsettled request makes the server skip to the next Sync.
func (m *mixedUnit) fails(settled, replies uint64) bool {
	word := m.word.Load()
	return word>>mixedReplyBits == settled+1 && replies < word&(1<<mixedReplyBits-1)
}
