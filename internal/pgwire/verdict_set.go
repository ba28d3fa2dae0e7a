package pgwire

import "strings"

// maxSetTokens bounds the statements that are parsed as SET, RESET and DEALLOCATE.
const maxSetTokens = 200

// maxValues bounds the bytes of the name and values of a parsed SET.
const maxValues = 4096

// statementTokens returns the tokens of one statement without its semicolon.
func statementTokens(text string) []token {
	s := sqlScan{text: text}
	var list []token
	for len(list) <= maxSetTokens {
		k := s.next()
		if k.kind == tokenEnd || k.symbol(';') {
			break
		}
		list = append(list, k)
	}
	return list
}

// words reports whether the list begins with these key words, and returns what follows.
func words(list []token, expected ...string) ([]token, bool) {
	if len(list) < len(expected) {
		return list, false
	}
	for i, w := range expected {
		if !list[i].is(w) {
			return list, false
		}
	}
	return list[len(expected):], true
}

// parseSet reads a SET. It is not ok if that may leave something in the session that the deeds do not tell.
func parseSet(list []token) (deeds []deed, ok bool) {
	if len(list) > maxSetTokens {
		return nil, false
	}
	list = list[1:]
	if rest, ok := words(list, "session", "characteristics", "as", "transaction"); ok {
		return parseCharacteristics(rest)
	}
	local := false
	if rest, ok := words(list, "local"); ok {
		list, local = rest, true
	} else if rest, ok := words(list, "session"); ok && len(rest) > 0 && !rest[0].symbol('=') && !rest[0].is("to") {
		list = rest
	}
	d, ok := parseSetting(list)
	switch {
	case local, d.kind == 0 && ok: // over with the transaction
		return nil, true
	case !ok:
		return nil, false
	}
	return []deed{d}, true
}

// parseSetting reads what follows SET [SESSION | LOCAL]. A deed of kind 0 is one of a transaction alone.
func parseSetting(list []token) (d deed, ok bool) {
	for _, w := range []string{"transaction", "constraints"} {
		if rest, ok := words(list, w); ok && len(rest) > 0 && !rest[0].symbol('=') && !rest[0].is("to") {
			return deed{}, true
		}
	}
	if rest, ok := words(list, "time", "zone"); ok {
		if _, local := words(rest, "local"); local && len(rest) == 1 {
			return deed{kind: deedReset, name: "timezone"}, true
		}
		return parseValues("timezone", rest, 1)
	}
	if rest, ok := words(list, "names"); ok && (len(rest) == 0 || !rest[0].symbol('=') && !rest[0].is("to")) {
		if len(rest) == 0 {
			return deed{kind: deedReset, name: "client_encoding"}, true
		}
		return parseValues("client_encoding", rest, 1)
	}
	if rest, ok := words(list, "schema"); ok && len(rest) == 1 && rest[0].kind == tokenString {
		return parseValues("search_path", rest, 1)
	}
	name, list, ok := parameterName(list)
	if !ok || len(list) == 0 || !list[0].symbol('=') && !list[0].is("to") {
		return deed{}, false
	}
	if strings.HasPrefix(name, "transaction_") {
		return deed{}, true
	}
	if isIdentity(name) {
		return deed{}, false
	}
	return parseValues(name, list[1:], maxSetTokens)
}

// isIdentity reports whether a parameter is none that a value describes: it decides who the session is, or advances a generator.
func isIdentity(name string) bool {
	return name == "role" || name == "session_authorization" || name == "seed"
}

// parameterName reads a name, with dots or without, and returns what follows it.
func parameterName(list []token) (name string, rest []token, ok bool) {
	for {
		if len(list) == 0 {
			return "", nil, false
		}
		part, ok := list[0].identifier()
		if !ok {
			return "", nil, false
		}
		name += toLower(part)
		if list = list[1:]; len(list) == 0 || !list[0].symbol('.') {
			return name, list, true
		}
		name, list = name+".", list[1:]
	}
}

// parseValues reads a list of up to limit literals, or DEFAULT.
func parseValues(name string, list []token, limit int) (d deed, ok bool) {
	if len(list) == 1 && list[0].is("default") {
		return deed{kind: deedReset, name: name}, true
	}
	d = deed{kind: deedSet, name: strings.Clone(name)}
	size := len(name)
	for len(d.values) < limit {
		sign := ""
		if len(list) > 1 && (list[0].symbol('-') || list[0].symbol('+')) && list[1].kind == tokenNumber {
			if list[0].symbol('-') {
				sign = "-"
			}
			list = list[1:]
		}
		if len(list) == 0 {
			return deed{}, false
		}
		value := list[0].text
		switch list[0].kind {
		case tokenWord, tokenQuoted:
			if value, ok = list[0].identifier(); !ok || list[0].is("default") {
				return deed{}, false
			}
		case tokenString, tokenDollar, tokenNumber:
		default:
			return deed{}, false
		}
		if size += len(value); size > maxValues {
			return deed{}, false
		}
		d.values = append(d.values, strings.Clone(sign+value))
		if list = list[1:]; len(list) == 0 {
			return d, true
		}
		if !list[0].symbol(',') {
			return deed{}, false
		}
		list = list[1:]
	}
	return deed{}, false
}

// parseCharacteristics reads the modes of SET SESSION CHARACTERISTICS AS TRANSACTION.
func parseCharacteristics(list []token) (deeds []deed, ok bool) {
	add := func(name, value string) {
		deeds = append(deeds, deed{kind: deedSet, name: "default_transaction_" + name, values: []string{value}})
	}
	for len(list) > 0 {
		if len(deeds) > 0 && list[0].symbol(',') {
			list = list[1:]
		}
		found := false
		for _, mode := range transactionModes {
			if rest, ok := words(list, mode.words...); ok {
				add(mode.name, mode.value)
				list, found = rest, true
				break
			}
		}
		if !found {
			return nil, false
		}
	}
	return deeds, len(deeds) > 0
}

var transactionModes = []struct {
	words       []string
	name, value string
}{
	{[]string{"isolation", "level", "serializable"}, "isolation", "serializable"},
	{[]string{"isolation", "level", "repeatable", "read"}, "isolation", "repeatable read"},
	{[]string{"isolation", "level", "read", "committed"}, "isolation", "read committed"},
	{[]string{"isolation", "level", "read", "uncommitted"}, "isolation", "read uncommitted"},
	{[]string{"read", "only"}, "read_only", "on"},
	{[]string{"read", "write"}, "read_only", "off"},
	{[]string{"deferrable"}, "deferrable", "on"},
	{[]string{"not", "deferrable"}, "deferrable", "off"},
}

// parseReset reads a RESET; it is not ok as parseSet is not.
func parseReset(list []token) (deeds []deed, ok bool) {
	list = list[1:]
	if rest, ok := words(list, "all"); ok && len(rest) == 0 {
		return []deed{{kind: deedResetAll}}, true
	}
	if rest, ok := words(list, "time", "zone"); ok && len(rest) == 0 {
		return []deed{{kind: deedReset, name: "timezone"}}, true
	}
	if rest, ok := words(list, "transaction", "isolation", "level"); ok && len(rest) == 0 {
		return nil, true
	}
	name, rest, ok := parameterName(list)
	if !ok || len(rest) > 0 || isIdentity(name) {
		return nil, false
	}
	return []deed{{kind: deedReset, name: name}}, true
}

// parseDeallocate reads a DEALLOCATE.
func parseDeallocate(list []token) deed {
	list = list[1:]
	if len(list) == 2 && list[0].is("prepare") {
		list = list[1:]
	}
	if len(list) != 1 {
		return deed{kind: deedUnclear}
	}
	if list[0].is("all") {
		return deed{kind: deedDeallocateAll}
	}
	name, ok := list[0].identifier()
	if !ok {
		return deed{kind: deedUnclear}
	}
	return deed{kind: deedDeallocate, name: strings.Clone(name)}
}
