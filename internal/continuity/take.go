package continuity

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
	"unique"
)

// Take asks the backend behind rw, which is at an idle boundary, for the session's state.
//
// Without an error there is either a state or an Obstacle, and the session can go on as before, on that backend. An Obstacle may come with the
// Refusal that is its reason. Any other error means that nothing is known of the connection any more.
//
// aside are whole messages of the server's that were meant for the client and must be passed on to it, whatever else came of it: warnings,
// notifications, changes of parameters, the error that ended the session. It takes one round trip, and another one if there are
// prepared statements, a temporary schema, or an unnamed statement.
func Take(rw io.ReadWriter, known Known) (state *State, obstacle Obstacle, aside []byte, err error) {
	t := newTalk(rw)
	state, obstacle, err = t.take(known)
	if obstacle != "" || err != nil {
		state = nil
	}
	return state, obstacle, t.aside, err
}

func (t *talk) take(known Known) (*State, Obstacle, error) {
	got := &taken{state: &State{told: map[string]string{}}, names: map[string]bool{}, strings: known.StringsChanged}
	if len(known.Custom) > maxEntries {
		return nil, TooMuchState, nil
	}
	if obstacle, err := t.inventory(known, got); obstacle != "" || err != nil {
		return nil, obstacle, err
	}
	s := got.state
	if got.temp && got.obstacle != InRecovery {
		switch full, err := t.tempObjects(); {
		case err != nil:
			return nil, unreadable(err), err
		case full:
			return nil, TempObjects, nil
		}
	}
	s.learn(t.reported)
	switch {
	case got.obstacle != "":
		return nil, got.obstacle, nil
	case t.large || got.bytes > maxState || len(s.settings) > maxEntries || len(s.prepared) > maxEntries:
		return nil, TooMuchState, nil
	case known.CustomUnknown:
		return nil, CustomUnknown, nil
	case !s.clear(got.strings):
		return nil, PreparedUnclear, nil
	}
	if err := t.describe(s.prepared); err != nil {
		if refusal(err) != nil {
			return nil, PreparedInvalid, err
		}
		return nil, "", err
	}
	obstacle, err := t.takeUnnamed(got, known)
	if obstacle == "" && err == nil && s.size() > maxState {
		obstacle = TooMuchState
	}
	return s, obstacle, err
}

// unreadable is the obstacle for an error: one that the server gave, or none.
func unreadable(err error) Obstacle {
	if refusal(err) != nil {
		return StateUnreadable
	}
	return ""
}

// inventory asks the great question.
func (t *talk) inventory(known Known, got *taken) (Obstacle, error) {
	custom := make([]string, 0, len(known.Custom))
	for _, n := range known.Custom {
		if n = strings.ToLower(n); !slices.Contains(custom, n) && !strings.Contains(n, "\x00") {
			custom = append(custom, n)
		}
	}
	err := t.ask("read state of session", inventory, []uint32{textArray, textArray}, got.row, arrayLiteral(reportedNames()), arrayLiteral(custom))
	if err != nil {
		return unreadable(err), err
	}
	if got.state.user == "" {
		return "", fmt.Errorf("read state of session: no facts in the answer: %w", ErrStream)
	}
	return "", nil
}

// ask runs one statement and forgets it, whatever happens. It has a name, for the client's unnamed statement must survive.
func (t *talk) ask(what, text string, types []uint32, row func([][]byte) error, parameters ...string) error {
	request := appendRun(appendParse(nil, takeName, text, types), takeName, parameters...)
	question := []step{{what: what, request: appendStatement(request, 'C', takeName), answers: "12C3", row: row}}
	err := t.run(question)
	if refusal(err) != nil && question[0].got > 0 {
		forget := step{what: what, request: appendStatement(nil, 'C', takeName), answers: "3"}
		if err := t.run([]step{forget}); err != nil {
			return err
		}
	}
	return err
}

// tempObjects asks whether anything lies in the session's temporary schema: what depends on it is what PostgreSQL removes at the end.
func (t *talk) tempObjects() (full bool, err error) {
	const question = `SELECT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.refclassid OPERATOR(pg_catalog.=) 2615
 AND d.refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())::pg_catalog.text`
	err = t.ask("look for temporary objects", question, nil, func(columns [][]byte) error {
		full = len(columns) != 1 || string(columns[0]) != "false"
		return nil
	})
	return full, err
}

// learn settles what the client has been told, and the encoding. What the server reported during the conversation is newer than its rows.
func (s *State) learn(reported map[string]string) {
	for name, value := range reported {
		s.told[name] = value
	}
	s.encoding = s.told["client_encoding"]
}

// clear reports whether every prepared statement can be made again from its text, and would mean the same. What a backslash means depends on
// standard_conforming_strings at the time of the Parse, and whether it is taken on the encoding.
func (s *State) clear(stringsSet bool) bool {
	doubt := stringsSet || trailing(s.encoding)
	for i := range s.prepared {
		p := &s.prepared[i]
		text := p.text.Value()
		if strings.HasPrefix(p.name, ownPrefix) || doubt && strings.Contains(text, `\`) {
			return false
		}
		if p.sql && (trailing(s.encoding) && !ascii(text) || !singlePrepare(text)) {
			return false
		}
	}
	return true
}

// describe asks for the shape of every statement. The old backend refuses where it could not run one either.
func (t *talk) describe(all []prepared) error {
	steps := make([]step, len(all))
	shapes := make([]shape, len(all))
	for i := range all {
		name := all[i].name
		steps[i] = step{what: fmt.Sprintf("describe statement %q", name), request: appendStatement(nil, 'D', name), answers: "ts", shape: &shapes[i]}
	}
	if err := t.run(steps); err != nil {
		return err
	}
	for i := range all {
		all[i].shape = shapes[i].sum()
	}
	return nil
}

// takeUnnamed settles the unnamed statement. Where the wire knows that there is none nobody is asked, for the server would log the error.
func (t *talk) takeUnnamed(got *taken, known Known) (Obstacle, error) {
	if known.Unnamed == nil && !known.UnnamedUnsure {
		return "", nil
	}
	var is shape
	err := t.run([]step{{what: "describe the unnamed statement", request: appendStatement(nil, 'D', ""), answers: "ts", shape: &is}})
	if refusal(err) != nil { // there is none, or it could not be run any more
		return "", nil
	}
	if err != nil {
		return "", err
	}
	u := known.Unnamed
	if known.UnnamedUnsure || u == nil {
		return UnnamedUnknown, nil
	}
	doubtful := (got.strings || trailing(got.state.encoding)) && strings.Contains(u.Text, `\`) || got.state.encodingSet && !ascii(u.Text)
	if doubtful || !declares(u.Types, is.types) {
		return UnnamedUnknown, nil
	}
	got.state.unnamed = &prepared{text: unique.Make(u.Text), types: slices.Clone(u.Types), shape: is.sum()}
	return "", nil
}

// declares reports whether a statement whose Parse named the types may have the parameters of a ParameterDescription.
func declares(types []uint32, description []byte) bool {
	const unknown = 705
	if len(description) != 2+4*int(binary.BigEndian.Uint16(append(slices.Clone(description), 0, 0))) || len(description) < 2+4*len(types) {
		return false
	}
	for i, want := range types {
		if is := binary.BigEndian.Uint32(description[2+4*i:]); want != 0 && want != unknown && want != is {
			return false
		}
	}
	return true
}
