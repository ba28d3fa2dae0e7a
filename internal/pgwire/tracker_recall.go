package pgwire

import "encoding/binary"

// What the tracker remembers of a session's state, once Remember has been called.
//
// Named and unnamed statements are those of the extended protocol. What a Parse, a Close, a DEALLOCATE or a DISCARD ALL did is taken from the
// answers: each of them is kept until the request that it belongs to is settled, with its place among the answers to that request; what comes
// behind the first error was skipped. The rules are those of tcop/postgres.c and commands/prepare.c, the same from 13 to 18:
//
//   - A Parse without a name drops the unnamed statement before it looks at the text, so one that fails leaves none (exec_parse_message).
//     A Query drops it too, whatever its text is and whether it fails or not (exec_simple_query). DISCARD ALL and DEALLOCATE ALL do not.
//   - A Parse with a name that exists fails and changes nothing (42P05).
//   - Names are cut at 63 bytes, as the keys of the server's table are.
//   - None of this is undone by a rollback.
//
// Where the answers cannot tell, or a bound is passed, Unsure says so. What cannot be seen: a DEALLOCATE or SET that a function created
// elsewhere runs inside.
//
// Unknown is more careful: it says what a session may have that only its server knows, from the moment that a text which may do so is sent.

// Bounds of what is remembered of one session.
const (
	maxNamed     = 1000    // named statements
	maxNamedText = 1 << 20 // bytes of their texts
	maxStatement = 1 << 16 // bytes of a Parse or Query
	maxSettings  = 256
	maxCustom    = 64
)

// Recall is what the wire tells of a session's state.
type Recall struct {
	// Named are the named statements that exist, in the order in which they were prepared.
	Named []ParsedStatement
	// Unkept are the names of those that exist beside them, but whose texts were too long, or too many, to be kept.
	Unkept []string
	// Unnamed is the unnamed statement, nil if there is none.
	Unnamed *ParsedStatement
	// Unsure says what of the above is not certain.
	Unsure Unsure
	// Settings are the parameters that a parsed SET has given a value which nothing has reset since, in the order of the last SET of each.
	Settings []Setting
	// Custom are the names with a dot that SET, RESET or set_config have named, in lower case. If there may be others Unknown holds UnknownCustom.
	Custom []string
	// StringsChanged says that the server may have reported standard_conforming_strings since the login: texts with a backslash in them may have been
	// read otherwise than they would be now.
	StringsChanged bool
	// Unknown says what else the session may have.
	Unknown Unknown
}

// Unsure says what is not certain.
type Unsure struct {
	// Named: other statements may exist than Named and Unkept, or fewer.
	Named bool
	// Unnamed: the unnamed statement may be another one, or none, or one that was not kept.
	Unnamed bool
}

// ParsedStatement is a Parse message.
type ParsedStatement struct {
	Name, Text string
	// Types are the object identifiers of the parameters' types, as far as the client gave them; 0 is a type that it left open.
	Types []uint32
}

// Setting is a SET of literal values: SET Name TO 'value', 'value' does the same.
type Setting struct {
	Name   string   // in lower case
	Values []string // not to be changed
}

// Remember makes the tracker keep what Recall returns. It must come before the first byte. The texts are shared by all sessions.
func (t *Tracker) Remember(texts *Texts) { t.memory = &memory{texts: texts} }

// Forget lets go of what is remembered, at the end of the session, when both copiers are at rest. Recall returns nothing certain from then on.
func (t *Tracker) Forget() { t.memory, t.client.wanted = nil, false }

// Recall returns what the wire tells of the session's state. It may be called only at an idle boundary (see Idle), with both copiers at rest.
func (t *Tracker) Recall() Recall {
	m := t.memory
	if m == nil {
		return Recall{Unsure: Unsure{Named: true, Unnamed: true}, StringsChanged: true, Unknown: UnknownCustom | UnknownOrder}
	}
	m.settle(t)
	if t.broken.Load() != nil || len(m.ops) > 0 {
		m.lose(t.client.requests)
	}
	r := Recall{Unsure: m.unsure, Unknown: m.unknown, StringsChanged: m.strings, Custom: append([]string(nil), m.custom...),
		Settings: append([]Setting(nil), m.settings...)}
	for _, s := range m.named {
		if !s.body.kept() {
			r.Unkept = append(r.Unkept, s.name.raw)
		} else {
			r.Named = append(r.Named, s.body.parsed(s.name.raw))
		}
	}
	switch {
	case m.unnamed == nil:
	case !m.unnamed.kept():
		r.Unsure.Unnamed = true
	default:
		s := m.unnamed.parsed("")
		r.Unnamed = &s
	}
	return r
}

// kept reports whether the text is known.
func (t *sharedText) kept() bool { return t != unkept && t != unclear }

// parsed takes the body of a Parse apart.
func (t *sharedText) parsed(name string) ParsedStatement {
	s := ParsedStatement{Name: name, Text: statementText(t.raw)}
	types := t.raw[min(len(s.Text)+1, len(t.raw)):]
	if len(types) < 2 {
		return s
	}
	n := int(binary.BigEndian.Uint16([]byte(types[:2])))
	for types = types[2:]; n > 0 && len(types) >= 4; n-- {
		s.Types = append(s.Types, binary.BigEndian.Uint32([]byte(types[:4])))
		types = types[4:]
	}
	return s
}

// Unknown is a set of reasons why the wire cannot know a session's whole state.
type Unknown uint32

// The reasons. They are marks of what may be, not of what is.
const (
	UnknownSet        Unknown = 1 << iota // a SET or RESET that is not one of literal values, or says who the session is
	UnknownSetInBlock                     // a SET or RESET in a transaction that may have been rolled back
	UnknownSeveral                        // a SET or RESET among several statements of one text
	UnknownSetConfig                      // set_config
	UnknownCustom                         // a parameter with a dot in its name that is not among Custom
	UnknownListen                         // LISTEN
	UnknownPrepare                        // PREPARE
	UnknownCursor                         // DECLARE
	UnknownLoad                           // LOAD
	UnknownAdvisory                       // advisory locks
	UnknownTemp                           // temporary objects
	UnknownInto                           // SELECT INTO, whose table may be temporary
	UnknownFunction                       // DO, CALL, or a function or procedure created
	UnknownFastpath                       // FunctionCall
	UnknownText                           // a text that is too long, or cannot be read with certainty
	UnknownOrder                          // it is not known which messages the server has worked off
	UnknownOther                          // anything else that may leave something in the session
)

var unknownNames = [...]string{"set_unparsed", "set_in_block", "set_among_several", "set_config", "custom_unknown", "listen", "prepare", "declare",
	"load", "advisory_lock", "temporary", "select_into", "function", "fastpath", "text_unclear", "order_lost", "other"}

// Reasons returns the names of the reasons: a closed list of words in snake_case.
func (u Unknown) Reasons() []string {
	var list []string
	for i, name := range unknownNames {
		if u&(1<<i) != 0 {
			list = append(list, name)
		}
	}
	return list
}
