package pgwire

import "strings"

// tokenKind is what a token of SQL is.
type tokenKind uint8

const (
	tokenEnd     tokenKind = iota // the text is over
	tokenWord                     // a key word or plain identifier; text is as written
	tokenQuoted                   // "an identifier", without its quotes
	tokenString                   // 'a literal' without escapes, without its quotes
	tokenDollar                   // $$a literal$$, without its quotes
	tokenEscaped                  // a literal or identifier that means something else than it spells: E'', U&'', U&"", B'', X''
	tokenNumber                   // digits and what follows them
	tokenSymbol                   // any other byte
)

type token struct {
	kind tokenKind
	text string
}

// is reports whether the token is the key word w, which is in lower case.
func (k token) is(w string) bool { return k.kind == tokenWord && equalFold(k.text, w) }

// symbol reports whether the token is that byte.
func (k token) symbol(c byte) bool { return k.kind == tokenSymbol && k.text[0] == c }

// identifier returns the token as the name that it stands for (scan.l: downcase_identifier); it is not ok if that is not certain.
func (k token) identifier() (name string, ok bool) {
	switch k.kind {
	case tokenWord:
		name = toLower(k.text)
	case tokenQuoted:
		name = k.text
	default:
		return "", false
	}
	return name, len(name) <= maxNameLength
}

// maxNameLength is NAMEDATALEN - 1: longer identifiers and names of statements are cut there.
const maxNameLength = 63

// sqlScan reads a whole SQL text token by token, as scan.l does. In every client encoding that PostgreSQL knows no byte of a multibyte
// character can be taken for a quote, a dollar sign or the beginning of a comment.
type sqlScan struct {
	text string
	at   int
	// unclear: where a literal ends depends on standard_conforming_strings, or it has no end. What follows may be read wrongly.
	unclear bool
}

// next returns the next token.
func (s *sqlScan) next() token {
	s.skipGap()
	if s.at >= len(s.text) {
		return token{}
	}
	start, c := s.at, s.text[s.at]
	switch {
	case c == '\'':
		return token{tokenString, s.quoted('\'', false)}
	case c == '"':
		return token{tokenQuoted, s.quoted('"', false)}
	case c == '$':
		return s.dollar()
	case c-'0' < 10:
		s.word()
		for s.at < len(s.text) && s.text[s.at] == '.' {
			s.at++
			s.word()
		}
		return token{tokenNumber, s.text[start:s.at]}
	case isWordByte(c):
		s.word()
		return s.prefixed(s.text[start:s.at])
	}
	s.at++
	return token{tokenSymbol, s.text[start:s.at]}
}

func (s *sqlScan) word() {
	for s.at < len(s.text) && isWordByte(s.text[s.at]) {
		s.at++
	}
}

// prefixed is a word, or the literal whose prefix it is.
func (s *sqlScan) prefixed(w string) token {
	rest := s.text[s.at:]
	if len(w) != 1 || rest == "" {
		return token{tokenWord, w}
	}
	switch lower(w[0]) {
	case 'e':
		if rest[0] == '\'' {
			return token{tokenEscaped, s.quoted('\'', true)}
		}
	case 'b', 'x':
		if rest[0] == '\'' {
			return token{tokenEscaped, s.quoted('\'', false)}
		}
	case 'n':
		if rest[0] == '\'' {
			return token{tokenString, s.quoted('\'', false)}
		}
	case 'u':
		if len(rest) > 1 && rest[0] == '&' && (rest[1] == '\'' || rest[1] == '"') {
			s.at++
			return token{tokenEscaped, s.quoted(rest[1], false)}
		}
	}
	return token{tokenWord, w}
}

// quoted reads what begins with the quote q here, and returns what it holds.
func (s *sqlScan) quoted(q byte, escapes bool) string {
	s.at++
	start, doubled, slashes := s.at, false, 0
	for ; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; {
		case c == '\\' && q == '\'':
			slashes++
			continue
		case c != q:
		case escapes && slashes%2 == 1:
		case s.at+1 < len(s.text) && s.text[s.at+1] == q:
			s.unclear = s.unclear || slashes%2 == 1
			doubled = true
			s.at++
		default:
			s.unclear = s.unclear || slashes%2 == 1
			inner := s.text[start:s.at]
			s.at++
			if doubled {
				inner = strings.ReplaceAll(inner, string([]byte{q, q}), string(q))
			}
			return inner
		}
		slashes = 0
	}
	s.unclear = true
	return s.text[start:]
}

// dollar reads a literal in dollar quotes, or a lone dollar sign.
func (s *sqlScan) dollar() token {
	end := s.at + 1
	for end < len(s.text) && s.text[end] != '$' && isWordByte(s.text[end]) {
		end++
	}
	if end == len(s.text) || s.text[end] != '$' || s.text[s.at+1]-'0' < 10 {
		s.at++
		return token{tokenSymbol, "$"}
	}
	tag := s.text[s.at : end+1]
	body := s.text[end+1:]
	n := strings.Index(body, tag)
	if n < 0 {
		s.unclear = true
		s.at = len(s.text)
		return token{tokenDollar, body}
	}
	s.at = end + 1 + n + len(tag)
	return token{tokenDollar, body[:n]}
}

// skipGap leaves white space and comments behind.
func (s *sqlScan) skipGap() {
	for s.at < len(s.text) {
		switch c := s.text[s.at]; {
		case isSpace(c):
			s.at++
		case strings.HasPrefix(s.text[s.at:], "--"):
			n := strings.IndexAny(s.text[s.at:], "\n\r")
			if n < 0 {
				s.at = len(s.text)
				return
			}
			s.at += n + 1
		case strings.HasPrefix(s.text[s.at:], "/*"):
			s.skipComment()
		default:
			return
		}
	}
}

// skipComment leaves a comment behind that may hold others.
func (s *sqlScan) skipComment() {
	for depth := 0; s.at < len(s.text); {
		switch rest := s.text[s.at:]; {
		case strings.HasPrefix(rest, "/*"):
			depth++
			s.at += 2
		case strings.HasPrefix(rest, "*/"):
			depth--
			if s.at += 2; depth == 0 {
				return
			}
		default:
			s.at++
		}
	}
}

func isSpace(c byte) bool { return c == ' ' || c-'\t' < 5 } // \t \n \v \f \r

// equalFold compares with w, which is in lower case, without regard to the case of ASCII letters.
func equalFold(s, w string) bool {
	if len(s) != len(w) {
		return false
	}
	for i := range len(w) {
		if lower(s[i]) != w[i] {
			return false
		}
	}
	return true
}

// toLower folds the case of ASCII letters alone.
func toLower(s string) string {
	for i := range len(s) {
		if s[i]-'A' < 26 {
			b := []byte(s)
			for j, c := range b {
				b[j] = lower(c)
			}
			return string(b)
		}
	}
	return s
}

// hasPrefixFold is strings.HasPrefix without regard to the case of ASCII letters; w is in lower case.
func hasPrefixFold(s, w string) bool {
	return len(s) >= len(w) && lower(s[0]) == w[0] && equalFold(s[:len(w)], w)
}

// indexFold is strings.Index without regard to the case of ASCII letters; w is in lower case.
func indexFold(s, w string) int {
	for i := 0; i+len(w) <= len(s); i++ {
		if lower(s[i]) == w[0] && equalFold(s[i:i+len(w)], w) {
			return i
		}
	}
	return -1
}

func holdsFold(s, w string) bool { return indexFold(s, w) >= 0 }
