package pgwire

import "sync/atomic"

// copyEnds tells the server side about the client's last CopyDone and CopyFail messages.
//
// During COPY FROM STDIN the server ignores Sync and Flush (copyfromparse.c, CopyGetData, "for the convenience of client libraries (such as
// libpq)"): libpq sends Execute and Sync before it knows that the statement is a COPY, and another Sync behind CopyDone (PQputCopyEnd), of which
// only the second is answered. So each entry names the request that the COPY belongs to (its Query, or the Sync that comes first behind its Execute)
// and counts the Syncs between the statement and the message, and those that follow the message before anything else is asked for:
//
//   - The COPY succeeded. Every Sync between the statement and CopyDone was swallowed. In the extended protocol the ReadyForQuery that follows
//     answers the first Sync after CopyDone; in the simple protocol it answers the Query.
//   - The COPY failed in the simple protocol. The ReadyForQuery answers the Query. A Sync sent during the COPY may have been swallowed or not.
//   - The COPY failed in the extended protocol. The server skips to the next Sync it has not yet read. It may have failed before it read
//     anything (a BEFORE STATEMENT trigger) or at any row: the headers do not tell whether the Syncs before CopyDone were swallowed.
//
// In the last two cases the Syncs up to the last that follows the message are unsure: each is answered by ReadyForQuery alone, or not at all.
// The session stays busy until all of them have been answered, or until anything else is: answers come in order, so they are over then.
//
// A CopyDone that reaches a server that has given up the COPY is ignored (PostgresMain, case 'c'); its entry is known by its request, which is
// settled by then.
type copyEnds struct {
	entry [copyEndsKept]atomic.Uint64
	count atomic.Uint32 // entries ever written, modulo 2^32
	used  uint32        // entries the server side is done with
}

// copyEndsKept bounds the COPYs that a client may complete ahead of the server's answers. Beyond it the session may stay busy for good.
const copyEndsKept = 4

// copyEnd is an entry: request << copyEndBits | Syncs before << copyFollowBits+1 | Syncs behind << 1 | 1 if Execute began the COPY, 0 if Query did.
type copyEnd uint64

const (
	copyFollowBits = 10
	copyEndBits    = 2*copyFollowBits + 1
	maxCopySyncs   = 1<<copyFollowBits - 1
)

// newCopyEnd makes an entry, or one that belongs to no request if it cannot count that far.
func newCopyEnd(request, before uint64, extended bool) copyEnd {
	if before > maxCopySyncs {
		return 0
	}
	end := copyEnd(request<<copyEndBits | before<<(copyFollowBits+1))
	if extended {
		end |= 1
	}
	return end
}

func (c copyEnd) request() uint64 { return uint64(c >> copyEndBits) }
func (c copyEnd) before() uint64  { return uint64(c>>(copyFollowBits+1)) & maxCopySyncs }
func (c copyEnd) behind() uint64  { return uint64(c>>1) & maxCopySyncs }

// answered is the request that the ReadyForQuery answers after the COPY has succeeded.
func (c copyEnd) answered() uint64 { return c.request() + c.before() }

// unsure is the last request of which it is not known, after the COPY has failed, whether it is answered.
func (c copyEnd) unsure() uint64 {
	last := c.request() + c.before() + c.behind()
	if c&1 != 0 {
		last-- // its own request is one of those Syncs
	}
	return last
}

func (e *copyEnds) put(end copyEnd) {
	n := e.count.Load()
	e.entry[n%copyEndsKept].Store(uint64(end))
	e.count.Store(n + 1)
}

// synced notes that a Sync follows the last entry, which must be there.
func (e *copyEnds) synced() {
	last := &e.entry[(e.count.Load()-1)%copyEndsKept]
	if end := copyEnd(last.Load()); end.behind() < maxCopySyncs {
		last.Store(uint64(end + 2))
	}
}

// next returns the end of the COPY that belongs to request, the first unsettled one, and removes it. It is not ok when the client has not sent
// one, or has sent so many that the right one is no longer known.
func (e *copyEnds) next(request uint64) (end copyEnd, ok bool) {
	count := e.count.Load()
	lost := count-e.used > copyEndsKept
	if lost {
		e.used = count - copyEndsKept
	}
	for ; e.used != count; e.used++ {
		end := copyEnd(e.entry[e.used%copyEndsKept].Load())
		if e.count.Load()-e.used > copyEndsKept {
			return 0, false // overwritten while it was read
		}
		if end.request() < request {
			lost = false // those that were lost are older still
			continue
		}
		if lost || end.request() > request {
			return 0, false
		}
		e.used++
		return end, true
	}
	return 0, false
}

// mixedUnit tells the server side about a Query or FunctionCall sent behind extended-protocol messages without a Sync between them. If one of
// those fails the server skips it, and every further one, up to the next Sync (PostgresMain, ignore_till_sync): one ReadyForQuery for all of them.
// One such unit is remembered. A client that sends another one before the first is answered, against the protocol's advice, may find its session
// busy for good after an error.
type mixedUnit struct {
	// word is the Query's place among the requests, counted from 1, << mixedReplyBits | answers to the messages before it if all succeed.
	word atomic.Uint64
	// synced is the place of the first Sync behind it, 0 until it is sent.
	synced atomic.Uint64
}

const mixedReplyBits = 20

func (m *mixedUnit) put(requests, settled uint64, replies uint32) {
	if m.word.Load()>>mixedReplyBits > settled {
		return
	}
	m.synced.Store(0)
	m.word.Store((requests+1)<<mixedReplyBits | uint64(min(replies, 1<<mixedReplyBits-1)))
}

func (m *mixedUnit) sync(requests uint64) {
	if m.word.Load() != 0 && m.synced.Load() == 0 {
		m.synced.Store(requests + 1)
	}
}

// fails reports whether an error after so many replies to request makes the server skip to the next Sync.
func (m *mixedUnit) fails(request uint64, replies uint32) bool {
	word := m.word.Load()
	return word>>mixedReplyBits == request && uint64(replies) < word&(1<<mixedReplyBits-1)
}
