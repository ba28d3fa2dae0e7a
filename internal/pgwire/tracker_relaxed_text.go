package pgwire

import "bytes"

// commitName is the parameter that says how much a commit waits for.
const commitName = "synchronous_commit"

// mark is what a text may do to the durability of commits.
type mark uint8

const (
	markNone    mark = iota // nothing
	markLocal               // may lower it for the transaction that it runs in
	markSession             // may lower it for longer
)

// nameScan reads the SQL text of one Query or Parse message, in as many pieces as it comes, and finds out whether it may lower
// synchronous_commit. It looks at the whole text, however long, and keeps none of it.
//
// A text that does not hold the name, anywhere and in any case, has no mark. One that does has markSession, but for these, which are one
// statement alone, of plain words without comments (semicolons may follow):
//
//   - SET [SESSION | LOCAL] synchronous_commit {TO | =} {on | true | yes | remote_write | remote_apply | DEFAULT}, the value in single quotes
//     or not, RESET synchronous_commit and SHOW synchronous_commit have none. DEFAULT and RESET go back to what the session began with: its
//     startup packet is looked at by Startup.RelaxesCommits; settings of roles, databases and the server are not a text's doing.
//   - SET LOCAL synchronous_commit {TO | =} any other single word has markLocal.
//
// So set_config, DO, ALTER, PREPARE, a query on pg_settings, several statements in one text and whatever is not understood mark the session.
// What cannot be seen: a name that the text does not spell (a parameter of Bind, escapes as in U&"...", a string put together), what a
// function created elsewhere does inside, and FunctionCall messages, which hold no text.
type nameScan struct {
	word    word // the word being read
	lone    lone
	matched uint8 // letters of the name that the text so far ends with; all of them once it has held the name
	prefix  uint8 // letters of the name that the word being read consists of, or notName
	begun   bool  // a piece has been read letter by letter
	local   bool  // SET LOCAL
	lowers  bool  // the value is none of the high ones
}

// lone is how far the text has come as one of the statements that are understood.
type lone uint8

const (
	loneStart  lone = iota // nothing yet
	loneSet                // SET
	loneScope              // SET LOCAL, SET SESSION
	loneRead               // SHOW, RESET
	loneName               // SET [...] synchronous_commit
	loneTo                 // ... TO, ... =
	loneQuote              // ... TO '
	loneQuoted             // ... TO 'value
	loneValue              // ... TO value
	loneOver               // SHOW synchronous_commit, or a semicolon behind a whole statement
	loneNot                // something else
)

// notName is the prefix of a word that is not the name.
const notName = 0xff

var (
	wordSet, wordReset, wordShow = keyWord("SET"), keyWord("RESET"), keyWord("SHOW")
	wordLocal, wordSession       = keyWord("LOCAL"), keyWord("SESSION")
	wordOn, wordTrue, wordYes    = keyWord("ON"), keyWord("TRUE"), keyWord("YES")
	wordRemoteWrite, wordDefault = keyWord("REMOTE_WRITE"), keyWord("DEFAULT")
	wordRemoteApply              = keyWord("REMOTE_APPLY")
)

// feed reads the next piece of the text, of which last says that none follows. A whole text in one piece is read letter by letter only if it
// holds the name.
func (s *nameScan) feed(b []byte, last bool) {
	if last && !s.begun && !holdsName(b) {
		return
	}
	s.begun = true
	s.search(b, last)
	for i := 0; i < len(b) && s.lone != loneNot; i++ {
		s.step(b[i])
	}
}

// mark of the whole text. The scan must not be fed any more.
func (s *nameScan) mark() mark {
	if s.matched < uint8(len(commitName)) {
		return markNone
	}
	s.endWord()
	switch whole := s.lone == loneValue || s.lone == loneOver; {
	case whole && !s.lowers:
		return markNone
	case whole && s.local:
		return markLocal
	default:
		return markSession
	}
}

// search looks for the name, which may have begun in an earlier piece and may end in a later one.
func (s *nameScan) search(b []byte, last bool) {
	for len(b) > 0 && s.matched > 0 && s.matched < uint8(len(commitName)) {
		s.match(b[0])
		b = b[1:]
	}
	switch {
	case s.matched == uint8(len(commitName)):
	case holdsName(b):
		s.matched = uint8(len(commitName))
	case !last:
		for _, c := range b[max(0, len(b)-len(commitName)+1):] {
			s.match(c)
		}
	}
}

// match takes one letter into matched.
func (s *nameScan) match(c byte) {
	c = lower(c)
	if c != commitName[s.matched] {
		if s.matched == uint8(len("synchronous")) && c == commitName[1] { // its last letter is the name's first, and the only such one
			s.matched = 2
			return
		}
		s.matched = 0
	}
	if c == commitName[s.matched] {
		s.matched++
	}
}

// holdsName reports whether b holds the name. It looks for the letter of the name that SQL holds least.
func holdsName(b []byte) bool {
	return len(b) >= len(commitName) && (holdsNameAround(b, 'y') || holdsNameAround(b, 'Y'))
}

func holdsNameAround(b []byte, y byte) bool {
	ys := b[1 : len(b)-len(commitName)+2]
	for i := 0; ; i++ {
		n := bytes.IndexByte(ys[i:], y)
		if n < 0 {
			return false
		}
		i += n
		if b[i]|0x20 == commitName[0] && isName(b[i:i+len(commitName)]) {
			return true
		}
	}
}

func isName(b []byte) bool {
	for i, c := range b {
		if lower(c) != commitName[i] {
			return false
		}
	}
	return true
}

// lower folds the case of ASCII letters alone, as names of parameters are compared (guc.c, guc_name_compare).
func lower(c byte) byte {
	if c-'A' < 26 {
		c |= 0x20
	}
	return c
}

// step takes one byte into the statement.
func (s *nameScan) step(c byte) {
	if isWordByte(c) {
		s.letter(c)
		return
	}
	s.endWord()
	switch {
	case c == ' ', c == '\t', c == '\n', c == '\r', c == '\f', c == '\v', c == 0:
		if s.lone == loneQuote || s.lone == loneQuoted {
			s.lone = loneNot
		}
	case c == ';' && (s.lone == loneValue || s.lone == loneOver):
		s.lone = loneOver
	case c == '=' && s.lone == loneName:
		s.lone = loneTo
	case c == '\'' && s.lone == loneTo:
		s.lone = loneQuote
	case c == '\'' && s.lone == loneQuoted:
		s.lone = loneValue
	default:
		s.lone = loneNot
	}
}

// letter takes a byte into the word being read.
func (s *nameScan) letter(c byte) {
	if s.word == 0 {
		s.prefix = 0
	}
	s.word = s.word.add(c)
	if s.prefix < uint8(len(commitName)) && lower(c) == commitName[s.prefix] {
		s.prefix++
	} else {
		s.prefix = notName
	}
}

// endWord takes the word that has just ended, if any, into the statement.
func (s *nameScan) endWord() {
	w, isName := s.word, s.prefix == uint8(len(commitName))
	if w == 0 {
		return
	}
	s.word = 0
	next := loneNot
	switch s.lone {
	case loneStart:
		next = loneFirst(w)
	case loneSet:
		if w == wordLocal || w == wordSession {
			s.local, next = w == wordLocal, loneScope
		} else if isName {
			next = loneName
		}
	case loneScope:
		if isName {
			next = loneName
		}
	case loneRead:
		if isName {
			next = loneOver
		}
	case loneName:
		if w == wordTo {
			next = loneTo
		}
	case loneTo:
		s.lowers, next = !isHigh(w), loneValue
	case loneQuote:
		s.lowers, next = !isHigh(w), loneQuoted
	}
	s.lone = next
}

func loneFirst(w word) lone {
	switch w {
	case wordSet:
		return loneSet
	case wordShow, wordReset:
		return loneRead
	}
	return loneNot
}

// isHigh reports whether a commit with this value outlives a crash of the server as well as it does with on: it waits for the flush, and
// for the synchronous standby where there is one.
func isHigh(w word) bool {
	switch w {
	case wordOn, wordTrue, wordYes, wordRemoteWrite, wordRemoteApply, wordDefault:
		return true
	}
	return false
}
