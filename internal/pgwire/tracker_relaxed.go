package pgwire

import "math"

// What the tracker knows of relaxed commits: those that may have asked for less than synchronous replication, or for less than a flush.
//
// A session is marked from the moment a text with markSession is sent, be it executed or not, until it ends, and by RelaxSession; a
// transaction is marked by each execution of a text with markLocal, from the moment that is sent until a ReadyForQuery with status 'I'
// settles its request. What is still unanswered from before is marked too.
//
// While a mark holds, each of these counts as one relaxed commit, before its last byte is relayed: the CommandComplete of
// COMMIT, END, PREPARE TRANSACTION or PREPARE, inside a block or not; and outside a block any other answer that a statement has run, but for
// BEGIN, ROLLBACK, SET, RESET and SHOW. Of INSERT, UPDATE, DELETE, MERGE and SELECT, of portals suspended and of function calls that share
// one ReadyForQuery without another answer between them, which share a transaction, only the first counts. Where the first of them were
// answered before the mark held, what follows them counts: SET, RESET, SHOW, an empty statement, or the ReadyForQuery with status 'I'.
//
// So the count is never lower than the number of relaxed commits that the client may have been told of, one for each statement that
// commits: a procedure that commits several times counts as one. It may be higher: a transaction that has written nothing counts, so does one
// that raised the level again, or whose pipeline failed behind its first statement.

// wholeSession is the mark of a session.
const wholeSession = math.MaxUint64

// Tags of CommandComplete, by their first words.
var (
	wordInsert, wordUpdate, wordDelete = keyWord("INSERT"), keyWord("UPDATE"), keyWord("DELETE")
	wordMerge, wordSelect              = keyWord("MERGE"), keyWord("SELECT")
)

// RelaxSession marks the session, because it began with a lower synchronous_commit. It must come before the client's first byte.
func (t *Tracker) RelaxSession() { t.relaxed.Store(wholeSession) }

// TakeRelaxed returns how many more commits may have been relaxed than when it was last called. It belongs to the goroutine that copies server
// to client: what it counts is in what Server has accounted, and nobody has been told of it before that is relayed.
func (t *Tracker) TakeRelaxed() uint64 {
	n := t.server.relaxed
	t.server.relaxed = 0
	return uint64(n)
}

// relaxes notes what a text that is about to be sent does to the commits behind it.
func (t *Tracker) relaxes(m mark) {
	switch m {
	case markSession:
		t.relaxed.Store(wholeSession)
	case markLocal:
		if t.relaxed.Load() != wholeSession {
			t.relaxed.Store(t.client.requests + 1)
		}
	}
}

// isRelaxed reports whether a commit that is answered now may be a relaxed one.
func (t *Tracker) isRelaxed() bool { return t.relaxed.Load() > t.server.over }

// tagging says whether the tag of a CommandComplete is being read: it is if a mark held when it began.
type tagging uint8

const (
	tagUnread tagging = iota
	tagReading
	tagRead // its first word is complete, and enough
)

// readTag takes a piece of the tag.
func (s *serverSide) readTag(b []byte) {
	for _, c := range b {
		if !isWordByte(c) {
			s.tagging = tagRead
			return
		}
		s.tag = s.tag.add(c)
	}
}

// completed accounts a CommandComplete for the count of relaxed commits.
func (t *Tracker) completed() {
	s := &t.server
	if s.tagging == tagUnread {
		s.inBlock, s.missed = false, true // it may have ended the block
		return
	}
	s.tagging = tagUnread
	switch s.tag {
	case wordBegin, wordStart:
		s.inBlock = true
	case wordRollback:
		s.inBlock, s.missed = false, false
	case wordSet, wordReset, wordShow:
		t.commitsMissed()
	case wordCommit, wordPrepare:
		s.relaxed++
		s.inBlock, s.counted, s.missed = false, false, false
	case wordInsert, wordUpdate, wordDelete, wordMerge, wordSelect:
		t.ran()
	default:
		if !s.inBlock {
			s.relaxed++
			s.counted, s.missed = false, false // it may have been a transaction of its own
		}
	}
}

// ran accounts an answer that says that a statement ran, which commits with what shares its ReadyForQuery if it is outside a block.
func (t *Tracker) ran() {
	switch s := &t.server; {
	case !t.isRelaxed():
		s.missed = true
	case !s.inBlock && !s.counted:
		s.relaxed++
		s.counted, s.missed = true, false
	}
}

// commitsMissed accounts an answer that may mean that what was answered before its transaction was marked, with a Flush between the two, is
// committed.
func (t *Tracker) commitsMissed() {
	if s := &t.server; s.missed && !s.inBlock {
		t.ran()
	}
}

// rested accounts a ReadyForQuery for the count of relaxed commits.
func (t *Tracker) rested() {
	s := &t.server
	if s.status == statusIdle {
		t.commitsMissed()
		s.over = s.settled
	}
	s.inBlock, s.counted, s.missed = s.status >= statusInBlock, false, false
}

// untracked accounts bytes that are relayed though the streams make no sense any more: whatever is unanswered, and then each piece of what the
// server says, may be a commit.
func (t *Tracker) untracked() {
	s := &t.server
	if !t.isRelaxed() {
		return
	}
	requests := t.clientWord.Load() >> clientFlagBits
	s.relaxed += uint32(max(1, requests-min(requests, s.settled)))
	s.settled = max(s.settled, requests)
}
