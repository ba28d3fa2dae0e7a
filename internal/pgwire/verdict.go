package pgwire

// verdict is what a text does to its session's state beyond its transaction, as far as the text tells. nil is nothing at all.
type verdict struct {
	unknown Unknown  // what a session that has sent the text may have
	custom  []string // names with a dot
	deeds   []deed   // what running it does; some of them, in this order, if it fails and holds several statements
	several bool     // it holds several statements
}

// alters reports whether running the text does something that its mere sending does not.
func (v *verdict) alters() bool { return v != nil && len(v.deeds) > 0 }

// deed is what running a statement does.
type deed struct {
	kind   deedKind
	name   string   // of a parameter in lower case, or of a prepared statement
	values []string // of a parameter
}

type deedKind uint8

const (
	deedSet           deedKind = iota + 1 // SET name TO values
	deedReset                             // RESET name, SET name TO DEFAULT
	deedResetAll                          // RESET ALL
	deedDiscardAll                        // DISCARD ALL
	deedDeallocate                        // DEALLOCATE name
	deedDeallocateAll                     // DEALLOCATE ALL
	deedUnclear                           // prepared statements may be gone, it is not known which
)

// transactional reports whether a rollback undoes it.
func (k deedKind) transactional() bool { return k <= deedResetAll }

// judge finds the verdict of a whole text.
func judge(text string) *verdict {
	v := &verdict{unknown: spelled(text)}
	var names bool
	if v.custom, names = customNames(text); !names {
		v.unknown |= UnknownCustom
	}
	s := sqlScan{text: text}
	statements, hidden := 0, false
	for more := true; more; {
		start := s.at
		var words statementWords
		words, more = s.statement()
		if words.first.kind == tokenEnd {
			continue
		}
		statements++
		hidden = v.statement(words, text[start:s.at]) || hidden
	}
	if v.several = statements > 1; v.several {
		v.forgetSettings()
	}
	if s.unclear {
		v.unknown |= UnknownText
	}
	if (s.unclear || hidden) && (holdsFold(text, "deallocate") || holdsFold(text, "discard")) {
		v.deeds = append(v.deeds, deed{kind: deedUnclear})
	}
	if v.unknown == 0 && len(v.custom) == 0 && len(v.deeds) == 0 {
		return nil
	}
	return v
}

// forgetSettings takes the settings out of a text of several statements: which of them hold is decided by the statements around them.
func (v *verdict) forgetSettings() {
	var kept []deed
	for _, d := range v.deeds {
		if d.kind.transactional() {
			v.unknown |= UnknownSeveral
		} else {
			kept = append(kept, d)
		}
	}
	v.deeds = kept
}

// spellings are what only needs to be named anywhere in a text, in literals too.
var spellings = []struct {
	word    string
	unknown Unknown
}{
	{"set_config", UnknownSetConfig}, {"setseed", UnknownOther}, {"pg_advisory", UnknownAdvisory}, {"pg_try_advisory", UnknownAdvisory},
	{"pg_temp", UnknownTemp}, {"dblink", UnknownOther},
}

func spelled(text string) (u Unknown) {
	for i := range len(text) {
		switch lower(text[i]) {
		case 's', 'p', 'd':
			for _, s := range spellings {
				if hasPrefixFold(text[i:], s.word) {
					u |= s.unknown
				}
			}
		}
	}
	return u
}

// statementWords are the words of a statement that tell its kind.
type statementWords struct {
	first, second token
	temp          bool // TEMP or TEMPORARY
	into          bool // INTO that belongs to no INSERT and no MERGE
	function      bool // FUNCTION or PROCEDURE
}

// statement reads up to the next semicolon, and reports whether there was one.
func (s *sqlScan) statement() (w statementWords, more bool) {
	var last token
	for n := 0; ; n++ {
		k := s.next()
		switch {
		case k.kind == tokenEnd:
			return w, false
		case k.symbol(';'):
			return w, true
		case n == 0:
			w.first = k
		case n == 1:
			w.second = k
		}
		if k.kind == tokenWord {
			switch {
			case k.is("temp"), k.is("temporary"):
				w.temp = true
			case k.is("into"):
				w.into = w.into || !last.is("insert") && !last.is("merge")
			case n < 4 && (k.is("function") || k.is("procedure")): // CREATE [OR REPLACE] FUNCTION
				w.function = true
			}
		}
		last = k
	}
}

// statement adds a statement of the text, and reports whether it may hide others in a literal.
func (v *verdict) statement(w statementWords, text string) (hides bool) {
	first := toLower(w.first.text)
	if w.first.kind != tokenWord {
		first = w.first.text
	}
	if w.into && first != "insert" && first != "merge" {
		v.unknown |= UnknownInto
	}
	switch first {
	case "set":
		v.settings(parseSet(statementTokens(text)))
	case "reset":
		v.settings(parseReset(statementTokens(text)))
	case "discard":
		if w.second.is("all") {
			v.deeds = append(v.deeds, deed{kind: deedDiscardAll})
		}
	case "deallocate":
		v.deeds = append(v.deeds, parseDeallocate(statementTokens(text)))
	case "create":
		if w.temp {
			v.unknown |= UnknownTemp
		}
		if w.function {
			v.unknown |= UnknownFunction
		}
	case "prepare":
		if !w.second.is("transaction") {
			v.unknown |= UnknownPrepare
		}
	case "do", "call":
		v.unknown |= UnknownFunction
		return true
	case "listen":
		v.unknown |= UnknownListen
	case "declare":
		v.unknown |= UnknownCursor
	case "load":
		v.unknown |= UnknownLoad
	default:
		if !leavesNothing[first] {
			v.unknown |= UnknownOther
		}
	}
	return false
}

// settings adds what a SET or RESET does.
func (v *verdict) settings(deeds []deed, ok bool) {
	if !ok {
		v.unknown |= UnknownSet
	}
	v.deeds = append(v.deeds, deeds...)
}

// leavesNothing are the first words of statements that leave nothing in their session, apart from what the functions do that they call.
var leavesNothing = map[string]bool{"select": true, "insert": true, "update": true, "delete": true, "merge": true, "values": true, "table": true,
	"with": true, "(": true, "begin": true, "start": true, "commit": true, "end": true, "rollback": true, "abort": true, "savepoint": true,
	"release": true, "show": true, "explain": true, "copy": true, "notify": true, "unlisten": true, "lock": true, "truncate": true,
	"vacuum": true, "analyze": true, "analyse": true, "cluster": true, "reindex": true, "refresh": true, "checkpoint": true, "comment": true,
	"grant": true, "revoke": true, "alter": true, "drop": true, "fetch": true, "move": true, "close": true, "execute": true, "import": true,
	"security": true, "reassign": true}
