package continuity

import (
	"crypto/sha256"
	"hash"
	"unique"
)

// Bounds of a session's state.
const (
	maxEntries = 1000
	maxState   = 4 << 20
)

// Known is what the caller knows of the session from its byte stream, and the server cannot tell.
type Known struct {
	// Custom are the names of custom settings (with a dot) that the session may have set; see CustomNames for those that stored functions set.
	Custom []string
	// CustomUnknown says that there may be others.
	CustomUnknown bool
	// Unnamed is the Parse message of the unnamed statement; nil: there is none.
	Unnamed *Statement
	// UnnamedUnsure says that Unnamed may be wrong.
	UnnamedUnsure bool
	// StringsChanged says that the server has reported standard_conforming_strings since the login: statements with a backslash in them may
	// have been read otherwise than they would be now.
	StringsChanged bool
}

// Statement is a prepared statement as in a Parse message.
type Statement struct {
	Name, Text string
	// Types of the parameters; 0 leaves the choice to the server.
	Types []uint32
}

// State is what a session has besides its login. It is not changed by Replay.
type State struct {
	told     map[string]string // what the client has been told of parameters
	encoding string            // client_encoding of all strings below
	// encodingSet says that the session itself has set it.
	encodingSet bool
	role        string
	user        string // session_user
	settings    []setting
	prepared    []prepared
	unnamed     *prepared
}

// setting is one configuration parameter and where its value came from.
type setting struct {
	name, value string
	source      source
	superuser   bool // not every role may set it
}

type source uint8

const (
	fromSession source = iota // SET, set_config
	fromLogin                 // startup packet, role or database
	fromCustom                // a custom one, source unknown
)

// prepared is a prepared statement. Many sessions have the same ones, so their texts are kept once.
type prepared struct {
	name  string
	text  unique.Handle[string]
	types []uint32
	sql   bool // made by PREPARE; text is then the whole text that held it
	shape [sha256.Size]byte
}

// shape digests the answers to Describe: types of the parameters, names and types of the result's columns. Two backends of one cluster, or
// of its physical standby, give the same ones for the same statement, to the byte.
type shape struct {
	digest hash.Hash
	types  []byte // body of the ParameterDescription
}

func (s *shape) add(kind byte, body []byte) {
	if s.digest == nil {
		s.digest = sha256.New()
	}
	if kind == 't' {
		s.types = append(s.types[:0], body...)
	}
	_, _ = s.digest.Write([]byte{kind}) // a hash never fails
	_, _ = s.digest.Write(body)
}

func (s *shape) sum() (sum [sha256.Size]byte) {
	if s.digest != nil {
		s.digest.Sum(sum[:0])
	}
	return sum
}

// size is what counts against maxState.
func (s *State) size() int {
	n := 0
	for i := range s.settings {
		n += len(s.settings[i].name) + len(s.settings[i].value)
	}
	for i := range s.prepared {
		n += s.prepared[i].size()
	}
	if s.unnamed != nil {
		n += s.unnamed.size()
	}
	return n
}

func (p *prepared) size() int { return len(p.name) + len(p.text.Value()) + 4*len(p.types) }
