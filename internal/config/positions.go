package config

import (
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// positions maps the path of every key and table of a document to its line. Elements of arrays carry their index: "node[1].address".
type positions map[string]int

// near returns the line of a path, or of the closest table around it that the document has; 0 when there is none.
func (p positions) near(path string) int {
	for path != "" {
		if line, ok := p[path]; ok {
			return line
		}
		switch i := strings.LastIndexAny(path, ".["); {
		case i < 0:
			path = ""
		default:
			path = path[:i]
		}
	}
	return 0
}

// join appends one key to a path, quoted where TOML would quote it.
func join(path, key string) string {
	key = toml.Key{key}.String()
	if path == "" {
		return key
	}
	return path + "." + key
}

// index appends the index of an array's element to a path.
func index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// withoutIndices is the key as a reader knows it: "node.address" for "node[1].address".
func withoutIndices(path string) string {
	var b strings.Builder
	for path != "" {
		before, rest, found := strings.Cut(path, "[")
		b.WriteString(before)
		if !found {
			break
		}
		_, path, _ = strings.Cut(rest, "]")
	}
	return b.String()
}

// locate finds the line of every key in a document that the TOML decoder has accepted. The decoder itself tells lines only for its own errors,
// and for the last element of an array of tables only.
//
// It relies on the document being valid: on any other input it ends early, and the lines that it did not reach are unknown.
func locate(document string) positions {
	s := &locator{rest: strings.TrimPrefix(document, "\ufeff"), line: 1, found: positions{}, elements: map[string]int{}}
	table := ""
	for {
		s.skipBlank()
		switch {
		case s.rest == "":
			return s.found
		case s.rest[0] == '[':
			table = s.header()
		default:
			if !s.pair(table) {
				return s.found
			}
		}
	}
}

// locator walks over a document.
type locator struct {
	rest  string
	line  int
	found positions
	// elements counts the elements of each array of tables so far.
	elements map[string]int
}

// advance consumes n bytes.
func (s *locator) advance(n int) {
	n = min(n, len(s.rest))
	s.line += strings.Count(s.rest[:n], "\n")
	s.rest = s.rest[n:]
}

// skipBlank consumes white space, line ends and comments.
func (s *locator) skipBlank() {
	for s.rest != "" {
		switch s.rest[0] {
		case ' ', '\t', '\r', '\n':
			s.advance(1)
		case '#':
			s.skipTo("\n")
		default:
			return
		}
	}
}

// skipTo consumes everything before the mark, or everything.
func (s *locator) skipTo(mark string) {
	if i := strings.Index(s.rest, mark); i >= 0 {
		s.advance(i)
		return
	}
	s.advance(len(s.rest))
}

// record keeps the first line of a path.
func (s *locator) record(path string, line int) {
	if _, ok := s.found[path]; !ok {
		s.found[path] = line
	}
}

// header consumes "[a.b]" or "[[a.b]]" and returns the path of the table that it opens.
func (s *locator) header() string {
	line, array := s.line, strings.HasPrefix(s.rest, "[[")
	s.advance(1)
	if array {
		s.advance(1)
	}
	parts := s.key()
	s.advance(1)
	if array {
		s.advance(1)
	}
	path := ""
	for i, part := range parts {
		path = join(path, part)
		if array && i == len(parts)-1 {
			s.elements[path]++
			s.record(path, line)
		}
		if n := s.elements[path]; n > 0 {
			path = index(path, n-1)
		}
		s.record(path, line)
	}
	return path
}

// key consumes a key, which may have several parts, and the blanks around it.
func (s *locator) key() []string {
	var parts []string
	for {
		s.skipBlank()
		parts = append(parts, s.keyPart())
		s.skipBlank()
		if !strings.HasPrefix(s.rest, ".") {
			return parts
		}
		s.advance(1)
	}
}

func (s *locator) keyPart() string {
	if s.rest != "" && (s.rest[0] == '"' || s.rest[0] == '\'') {
		raw := s.rest
		s.skipString()
		raw = raw[:len(raw)-len(s.rest)]
		return unquoteKey(raw)
	}
	end := strings.IndexAny(s.rest, " \t\r\n.=]#\"'")
	if end < 0 {
		end = len(s.rest)
	}
	part := s.rest[:end]
	s.advance(end)
	return part
}

// unquoteKey lets the decoder itself say which key a quoted one is.
func unquoteKey(raw string) string {
	var v map[string]any
	if _, err := toml.Decode(raw+" = 0", &v); err == nil {
		for k := range v {
			return k
		}
	}
	return strings.Trim(raw, `"'`)
}

// pair consumes "key = value" and records where it is; false when there is none.
func (s *locator) pair(table string) bool {
	line, before := s.line, len(s.rest)
	parts := s.key()
	if !strings.HasPrefix(s.rest, "=") || len(s.rest) == before {
		return false
	}
	path := table
	for _, part := range parts {
		path = join(path, part)
		s.record(path, line)
	}
	s.advance(1)
	s.value(path)
	return true
}

// value consumes a value and records the keys inside it.
func (s *locator) value(path string) {
	s.skipBlank()
	if s.rest == "" {
		return
	}
	switch s.rest[0] {
	case '"', '\'':
		s.skipString()
	case '[':
		s.array(path)
	case '{':
		s.inlineTable(path)
	default:
		if i := strings.IndexAny(s.rest, ",]}#\r\n"); i >= 0 {
			s.advance(i)
			return
		}
		s.advance(len(s.rest))
	}
}

func (s *locator) array(path string) {
	s.advance(1)
	for i := 0; ; i++ {
		s.skipBlank()
		if s.rest == "" || s.rest[0] == ']' {
			s.advance(1)
			return
		}
		before := len(s.rest)
		s.record(index(path, i), s.line)
		s.value(index(path, i))
		s.skipBlank()
		if strings.HasPrefix(s.rest, ",") {
			s.advance(1)
		}
		if len(s.rest) == before {
			return
		}
	}
}

func (s *locator) inlineTable(path string) {
	s.advance(1)
	for {
		s.skipBlank()
		if s.rest == "" || s.rest[0] == '}' {
			s.advance(1)
			return
		}
		if !s.pair(path) {
			return
		}
		s.skipBlank()
		if strings.HasPrefix(s.rest, ",") {
			s.advance(1)
		}
	}
}

// skipString consumes a string of any of the four kinds.
func (s *locator) skipString() {
	quote := s.rest[:1]
	if triple := strings.Repeat(quote, 3); strings.HasPrefix(s.rest, triple) {
		s.advance(3)
		s.skipToClosing(triple, quote == `"`)
		// Up to two quotes may stand before the closing three.
		for range 2 {
			if strings.HasPrefix(s.rest, quote) {
				s.advance(1)
			}
		}
		return
	}
	s.advance(1)
	s.skipToClosing(quote, quote == `"`)
}

// skipToClosing consumes everything up to and with the closing mark; a backslash hides the byte after it where escapes are known.
func (s *locator) skipToClosing(mark string, escapes bool) {
	for i := 0; i < len(s.rest); i++ {
		switch {
		case escapes && s.rest[i] == '\\':
			i++
		case strings.HasPrefix(s.rest[i:], mark):
			s.advance(i + len(mark))
			return
		}
	}
	s.advance(len(s.rest))
}
