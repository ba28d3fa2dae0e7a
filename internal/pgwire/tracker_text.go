package pgwire

import "bytes"

// effect is what running a statement does to the transaction, as far as the loss of its answer is concerned.
type effect uint8

const (
	effectNone     effect = iota // no statement at all
	effectBegin                  // opens a block; cannot fail outside a block, for its text is one of a few fixed ones
	effectRollback               // ends a block and keeps nothing
	effectOther                  // any other statement
	effectCommit                 // may make changes durable: COMMIT, END, PREPARE TRANSACTION, or a text that may hold one of them
)

// then is the effect of two statements of one text, the second after the first. What begins or ends a block in the middle of a text counts as
// a commit: the statements around it may be committed without another word.
func (e effect) then(next effect) effect {
	switch {
	case e == effectNone:
		return next
	case next == effectNone:
		return e
	case e == effectOther && next == effectOther:
		return effectOther
	case e == effectBegin && next == effectOther:
		return effectOther // BEGIN; INSERT ...: leaves a block open
	default:
		return effectCommit
	}
}

// word is a key word of up to 12 letters and underscores, five bits each, without regard to case; 0 is no word.
type word uint64

// otherWord is any word that is no key word: it holds a digit, a dollar sign, a letter beyond ASCII, or is too long.
const otherWord = ^word(0)

func keyWord(s string) word {
	var w word
	for i := range len(s) {
		w = w.add(s[i])
	}
	return w
}

func (w word) add(c byte) word {
	letter := (c | 0x20) - 'a'
	switch {
	case w >= 1<<55:
		return otherWord
	case letter < 26:
		return w<<5 | word(letter+1)
	case c == '_':
		return w<<5 | 27
	}
	return otherWord
}

var (
	wordAbort, wordBegin, wordCommit, wordEnd = keyWord("ABORT"), keyWord("BEGIN"), keyWord("COMMIT"), keyWord("END")
	wordPrepare, wordRollback, wordStart      = keyWord("PREPARE"), keyWord("ROLLBACK"), keyWord("START")
	wordTransaction, wordWork, wordTo         = keyWord("TRANSACTION"), keyWord("WORK"), keyWord("TO")
	wordRead, wordOnly, wordWrite             = keyWord("READ"), keyWord("ONLY"), keyWord("WRITE")
)

// phrase is what the words of the current statement amount to so far.
type phrase uint8

const (
	phraseEmpty    phrase = iota // no word yet
	phraseBegin                  // BEGIN
	phraseStart                  // START
	phraseBegun                  // BEGIN WORK, BEGIN TRANSACTION, START TRANSACTION
	phraseRead                   // ... READ
	phraseMode                   // ... READ ONLY, ... READ WRITE
	phrasePrepare                // PREPARE
	phraseRollback               // ROLLBACK [WORK | TRANSACTION], ABORT [...]
	phraseOther                  // anything else: the rest of the statement does not matter
	phraseCommit                 // COMMIT, END, PREPARE TRANSACTION, ROLLBACK AND CHAIN, ...
)

func (p phrase) next(w word) phrase {
	switch p {
	case phraseEmpty:
		return firstWord(w)
	case phraseStart:
		if w == wordTransaction {
			return phraseBegun
		}
	case phraseBegin:
		if w == wordTransaction || w == wordWork {
			return phraseBegun
		}
		if w == wordRead {
			return phraseRead
		}
	case phraseBegun:
		if w == wordRead {
			return phraseRead
		}
	case phraseRead:
		if w == wordOnly || w == wordWrite {
			return phraseMode
		}
	case phrasePrepare:
		if w == wordTransaction {
			return phraseCommit
		}
	case phraseRollback:
		switch w {
		case wordTransaction, wordWork:
			return phraseRollback
		case wordTo:
			return phraseOther // to a savepoint: the block stays open
		}
		return phraseCommit // AND CHAIN, PREPARED: rare, and safe to doubt
	case phraseCommit:
		return phraseCommit
	}
	return phraseOther
}

func firstWord(w word) phrase {
	switch w {
	case wordCommit, wordEnd:
		return phraseCommit
	case wordBegin:
		return phraseBegin
	case wordStart:
		return phraseStart
	case wordPrepare:
		return phrasePrepare
	case wordRollback, wordAbort:
		return phraseRollback
	}
	return phraseOther
}

// effect of a statement that ends here. Fragments such as START or READ alone are syntax errors.
func (p phrase) effect() effect {
	switch p {
	case phraseEmpty:
		return effectNone
	case phraseBegin, phraseBegun, phraseMode:
		return effectBegin
	case phraseRollback:
		return effectRollback
	case phraseCommit:
		return effectCommit
	}
	return effectOther
}

// lexeme is where in the text the next byte is.
type lexeme uint8

const (
	lexGap   lexeme = iota // between the words that open a statement
	lexWord                // inside such a word
	lexDash                // after one '-'
	lexSlash               // after one '/'
	lexLine                // in a comment that ends with the line
	lexBlock               // in a comment between /* and */, which nest
	lexStar                // in such a comment, after a '*'
	lexNest                // in such a comment, after a '/'
	lexBody                // past the words that matter: only a semicolon is looked for
)

// textScan reads the SQL text of one Query or Parse message, in as many pieces as it comes, and finds its effect.
//
// It looks for key words only where a statement can begin: at the start and after every semicolon, be it a real one or one inside a
// literal, a quoted name or a function body (their boundaries depend on settings and encodings that a proxy does not know). So a statement
// is never overlooked, and a literal such as 'a;commit' costs no more than a doubt. Comments are recognised only where no literal can have
// been opened before; elsewhere a comment that could hide a statement makes the text count as a commit.
type textScan struct {
	word    word
	total   effect // of the statements that have ended
	phrase  phrase
	lex     lexeme
	depth   uint8 // of nested comments
	literal bool  // a literal may have been opened before this place
	steps   uint16
}

// maxSteps bounds the bytes of one text that are looked at one by one: comments, white space and the first words of statements.
const maxSteps = 1<<16 - 1

// decided reports that nothing which follows can change the effect.
func (s *textScan) decided() bool { return s.total == effectCommit }

// effect of the whole text. The scan must not be fed any more.
func (s *textScan) effect() effect {
	if s.lex == lexWord {
		s.endWord()
	}
	if s.lex == lexDash || s.lex == lexSlash {
		s.phrase = s.phrase.next(otherWord)
	}
	return s.total.then(s.phrase.effect())
}

func (s *textScan) feed(b []byte) {
	for i := 0; i < len(b) && !s.decided(); {
		if s.lex == lexBody {
			n := bytes.IndexByte(b[i:], ';')
			if n < 0 {
				return
			}
			i += n
		}
		if s.steps++; s.steps == maxSteps {
			s.total = effectCommit
			return
		}
		if s.step(b[i]) {
			i++
		}
	}
}

// step looks at one byte and reports whether it is done with it.
func (s *textScan) step(c byte) bool {
	switch s.lex {
	case lexWord:
		if isWordByte(c) {
			s.word = s.word.add(c)
			return true
		}
		s.endWord()
		return false
	case lexGap, lexBody:
		return s.gap(c)
	case lexDash, lexSlash:
		return s.comment(c)
	case lexLine:
		if c == '\n' || c == '\r' {
			s.lex = lexGap
		}
		return true
	}
	return s.block(c)
}

// gap looks at a byte outside words and comments.
func (s *textScan) gap(c byte) bool {
	switch c {
	case ' ', '\t', '\n', '\r', '\f', '\v', 0: // the NUL ends the text
	case ';':
		s.total = s.total.then(s.phrase.effect())
		s.phrase, s.lex = phraseEmpty, lexGap
	case '-':
		s.lex = lexDash
	case '/':
		s.lex = lexSlash
	default:
		if isWordByte(c) {
			s.word, s.lex = word(0).add(c), lexWord
			return true
		}
		s.leave()
	}
	return true
}

// comment looks at the byte after a '-' or '/'.
func (s *textScan) comment(c byte) bool {
	opens := s.lex == lexDash && c == '-' || s.lex == lexSlash && c == '*'
	switch {
	case !opens: // an operator
		s.leave()
		return false
	case s.literal: // perhaps no comment at all, but what follows could be a statement
		s.total = effectCommit
	case c == '-':
		s.lex = lexLine
	default:
		s.lex, s.depth = lexBlock, 1
	}
	return true
}

// block looks at a byte inside a comment; such comments nest (scan.l, <xc>).
func (s *textScan) block(c byte) bool {
	switch {
	case s.lex == lexStar && c == '/':
		s.lex = lexBlock
		if s.depth--; s.depth == 0 {
			s.lex = lexGap
		}
	case s.lex == lexNest && c == '*':
		s.lex = lexBlock
		if s.depth++; s.depth == 0 { // deeper than it can count
			s.total = effectCommit
		}
	case c == '*':
		s.lex = lexStar
	case c == '/':
		s.lex = lexNest
	default:
		s.lex = lexBlock
	}
	return true
}

// endWord takes the word that has just ended into the phrase.
func (s *textScan) endWord() {
	s.phrase = s.phrase.next(s.word)
	s.word, s.lex = 0, lexGap
	switch s.phrase {
	case phraseOther:
		s.leave()
	case phraseCommit:
		s.total = effectCommit
	}
}

// leave skips to the next semicolon.
func (s *textScan) leave() {
	s.phrase, s.lex, s.literal = s.phrase.next(otherWord), lexBody, true
}

// isWordByte reports whether c continues an identifier or key word (scan.l, ident_cont); every byte of a multibyte character does.
func isWordByte(c byte) bool {
	return c >= 0x80 || c == '_' || c == '$' || c-'0' < 10 || (c|0x20)-'a' < 26
}
