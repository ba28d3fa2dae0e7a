package pgwire

import (
	"slices"
	"strings"
)

// maxCustomName bounds a name with dots; longer ones are not kept.
const maxCustomName = 200

// customNames finds the parameters with a dot in their names that a text sets or resets, wherever it says so: in literals, bodies of DO and
// comments too. It finds more than there are (UPDATE ... SET a.b = ...), never fewer, unless it is not complete: a name is put together
// when the text runs.
func customNames(text string) (names []string, complete bool) {
	complete = true
	add := func(name string) {
		name = strings.Clone(toLower(name)) // a small part of a text that need not stay
		if len(name) > maxCustomName || len(names) == maxCustom && !slices.Contains(names, name) {
			complete = false
		} else if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	dynamic := holdsFold(text, "execute")
	for i := 0; i < len(text); {
		n := indexFold(text[i:], "set")
		if n < 0 {
			break
		}
		i += n + len("set")
		if !beginsWord(text[:i-len("set")]) {
			continue
		}
		if len(text)-i >= len("_config") && equalFold(text[i:i+len("_config")], "_config") {
			i += len("_config")
			name, ok := configArgument(text[i:])
			complete = complete && ok
			if name != "" {
				add(name)
			}
			continue
		}
		name, ok := setTarget(text[i:], dynamic)
		complete = complete && ok
		if name != "" {
			add(name)
		}
	}
	return names, complete
}

// beginsWord reports whether SET, RESET or set_config may begin, for RESET in the middle, behind before. An escape (E'\nSET') is no letter.
func beginsWord(before string) bool {
	if n := len(before) - len("re"); n >= 0 && equalFold(before[n:], "re") {
		before = before[:n]
	}
	n := len(before)
	return n == 0 || !isWordByte(before[n-1]) || n > 1 && before[n-2] == '\\'
}

// configArgument reads what follows set_config up to the end of its first argument. The name is empty if it has no dot.
func configArgument(text string) (name string, ok bool) {
	if text = skipSpace(text); text != "" && text[0] == '"' {
		text = skipSpace(text[1:])
	}
	if text == "" || text[0] != '(' {
		return "", text == "" || text[0] != '/' && text[0] != '-' // a comment may stand before the parenthesis
	}
	text = skipSpace(text[1:])
	quote := quoteLength(text)
	if quote == 0 {
		return "", false
	}
	end := quote
	for end < len(text) && (isWordByte(text[end]) && text[end] != '$' || text[end] == '.') {
		end++
	}
	if end+quote > len(text) || text[end:end+quote] != text[:quote] || !endsArgument(text[end+quote:]) {
		return "", false
	}
	return dotted(text[quote:end]), true
}

// endsArgument reports whether nothing is appended to the literal that text follows.
func endsArgument(text string) bool {
	if text = skipSpace(text); len(text) > 2 && text[:2] == "::" { // a cast
		text = text[2:]
		for len(text) > 0 && isWordByte(text[0]) {
			text = text[1:]
		}
		text = skipSpace(text)
	}
	return text != "" && text[0] == ','
}

// quoteLength is the length of the quote that opens a literal here: ', ” and ”” inside literals, $$ or $tag$; 0 if there is none.
func quoteLength(text string) int {
	n := 0
	for n < len(text) && text[n] == '\'' {
		n++
	}
	if n > 0 || text == "" || text[0] != '$' {
		return n
	}
	for n = 1; n < len(text) && isWordByte(text[n]) && text[n] != '$'; n++ {
	}
	if n == len(text) || text[n] != '$' {
		return 0
	}
	return n + 1
}

// setTarget reads what follows SET. The name is empty if it has no dot.
func setTarget(text string, dynamic bool) (name string, ok bool) {
	rest := skipSpace(text)
	if len(rest) == len(text) && rest != "" && rest[0] != '"' && rest[0] != '\'' && rest[0] != '/' && rest[0] != '-' {
		return "", true // another word
	}
	for _, scope := range []string{"local", "session"} {
		if len(rest) > len(scope) && equalFold(rest[:len(scope)], scope) && isSpace(rest[len(scope)]) {
			rest = skipSpace(rest[len(scope):])
		}
	}
	name = ""
	for {
		part, n := namePart(rest)
		if n == 0 {
			// A comment, or a literal that something is appended to, may stand here.
			comment := len(rest) > 1 && (rest[:2] == "/*" || rest[:2] == "--")
			assembled := dynamic && (rest == "" || rest[0] == '\'' || rest[0] == '%' || rest[0] == '$')
			return "", name == "" && !comment && !assembled
		}
		if name += part; len(name) > maxCustomName {
			return "", false
		}
		if rest = skipSpace(rest[n:]); rest == "" || rest[0] != '.' {
			return dotted(name), true
		}
		name, rest = name+".", skipSpace(rest[1:])
	}
}

// namePart reads an identifier, in double quotes or not, and returns how many bytes it takes.
func namePart(text string) (part string, n int) {
	if text == "" || text[0]-'0' < 10 || text[0] == '$' {
		return "", 0
	}
	if text[0] == '"' {
		for n = 1; n < len(text) && text[n] != '"'; n++ {
		}
		if n == len(text) {
			return "", 0
		}
		return text[1:n], n + 1
	}
	for n < len(text) && isWordByte(text[n]) {
		n++
	}
	return text[:n], n
}

// dotted is name, or nothing if it has no dot.
func dotted(name string) string {
	for i := range len(name) {
		if name[i] == '.' {
			return name
		}
	}
	return ""
}

func skipSpace(text string) string {
	for text != "" && isSpace(text[0]) {
		text = text[1:]
	}
	return text
}
