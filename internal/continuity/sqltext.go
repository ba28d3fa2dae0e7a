package continuity

import "strings"

// singlePrepare reports whether a text is certainly one single PREPARE statement. The server keeps the whole text that a PREPARE came in; if
// there were other statements in it, they would run again. In every doubt the answer is no. (A wrong yes would still do no harm: the text is
// sent in a Parse message, which takes one statement only.)
//
// How strings were read depends on standard_conforming_strings at that time, so both readings must agree.
func singlePrepare(text string) bool {
	if strings.IndexByte(text, 0) >= 0 {
		return false // no text of a server's holds one
	}
	for _, escapes := range []bool{false, true} {
		l := lexer{text: text, escapes: escapes}
		if !l.single() {
			return false
		}
	}
	return true
}

// lexer reads SQL as scan.l does, as far as the ends of statements are concerned.
type lexer struct {
	text    string
	at      int
	escapes bool // backslashes escape in plain strings too
	unclear bool
}

// single reads the whole text: PREPARE, a name that is not TRANSACTION, anything else, at most semicolons behind it.
func (l *lexer) single() bool {
	if first, ok := l.token(); !ok || !strings.EqualFold(first, "prepare") {
		return false
	}
	if name, ok := l.token(); !ok || name == ";" || strings.EqualFold(name, "transaction") {
		return false
	}
	for ended := false; ; {
		token, ok := l.token()
		switch {
		case l.unclear:
			return false
		case !ok:
			return true
		case token == ";":
			ended = true
		case ended:
			return false
		}
	}
}

// token returns the next word, semicolon, literal or other character; false at the end of the text, or when it is unclear.
func (l *lexer) token() (string, bool) {
	if !l.gap() || l.at >= len(l.text) {
		return "", false
	}
	start := l.at
	c := l.text[l.at]
	ok := true
	switch {
	case c == '\'':
		ok = l.quoted('\'', l.escapes)
	case c == '"':
		ok = l.quoted('"', false)
	case c == '$':
		ok = l.dollar()
	case wordStart(c):
		ok = l.word()
	case c >= '0' && c <= '9':
		l.at++
		for l.at < len(l.text) && wordByte(l.text[l.at]) && l.text[l.at] != '$' {
			l.at++
		}
	case c == 0:
		ok = false
	default:
		l.at++
	}
	if !ok {
		l.unclear = true
		return "", false
	}
	return l.text[start:l.at], true
}

// gap skips white space and comments, which nest; false when one has no end.
func (l *lexer) gap() bool {
	for l.at < len(l.text) {
		rest := l.text[l.at:]
		switch {
		case strings.IndexByte(" \t\n\r\f\v", rest[0]) >= 0:
			l.at++
		case strings.HasPrefix(rest, "--"):
			n := strings.IndexAny(rest, "\n\r")
			if n < 0 {
				n = len(rest)
			}
			l.at += n
		case strings.HasPrefix(rest, "/*"):
			if !l.comment() {
				l.unclear = true
				return false
			}
		default:
			return true
		}
	}
	return true
}

func (l *lexer) comment() bool {
	depth := 0
	for l.at+1 < len(l.text) {
		switch l.text[l.at : l.at+2] {
		case "/*":
			depth++
			l.at += 2
		case "*/":
			depth--
			l.at += 2
		default:
			l.at++
		}
		if depth == 0 {
			return true
		}
	}
	return false
}

// word reads a word, or a string that a letter stands before.
func (l *lexer) word() bool {
	start := l.at
	for l.at < len(l.text) && wordByte(l.text[l.at]) {
		l.at++
	}
	if l.at >= len(l.text) {
		return true
	}
	next := l.text[l.at]
	switch strings.ToLower(l.text[start:l.at]) {
	case "e":
		if next == '\'' {
			return l.quoted('\'', true) && !l.continued()
		}
	case "b", "x":
		if next == '\'' {
			return l.quoted('\'', false)
		}
	case "n":
		if next == '\'' {
			return l.quoted('\'', l.escapes)
		}
	case "u":
		if strings.HasPrefix(l.text[l.at:], "&'") || strings.HasPrefix(l.text[l.at:], `&"`) {
			quote := l.text[l.at+1]
			l.at++
			return l.quoted(quote, false)
		}
	}
	return true
}

// quoted reads to the end of a literal or a quoted name; a doubled quote does not end it.
func (l *lexer) quoted(quote byte, escapes bool) bool {
	for l.at++; l.at < len(l.text); l.at++ {
		switch c := l.text[l.at]; {
		case c == '\\' && escapes:
			l.at++
		case c == quote:
			if l.at+1 < len(l.text) && l.text[l.at+1] == quote {
				l.at++
				continue
			}
			l.at++
			return true
		}
	}
	return false
}

// continued reports whether a string follows the one that has just ended: across a line's end it is a part of it, and escapes like it.
func (l *lexer) continued() bool {
	before := l.at
	ok := l.gap()
	follows := !ok || l.at < len(l.text) && l.text[l.at] == '\''
	l.at = before
	return follows
}

// dollar reads a dollar-quoted string, a parameter such as $1, or a lone dollar sign.
func (l *lexer) dollar() bool {
	end := l.at + 1
	for end < len(l.text) && wordByte(l.text[end]) && l.text[end] != '$' {
		end++
	}
	tag := l.text[l.at:end]
	if len(tag) > 1 && !wordStart(tag[1]) { // a parameter
		l.at = end
		return true
	}
	if end >= len(l.text) || l.text[end] != '$' {
		return false // a syntax error to the server
	}
	tag = l.text[l.at : end+1]
	body := l.text[end+1:]
	n := strings.Index(body, tag)
	if n < 0 {
		return false
	}
	l.at = end + 1 + n + len(tag)
	return true
}

func wordStart(c byte) bool {
	return c >= 0x80 || c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z'
}

func wordByte(c byte) bool { return wordStart(c) || c == '$' || c >= '0' && c <= '9' }
