package continuity

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
)

// ErrShape is returned when a statement was prepared on the new backend and has other parameters or columns than on the old one.
var ErrShape = errors.New("parameters or columns differ from those on the old backend")

const (
	setName    = ownPrefix + "set"
	differName = ownPrefix + "differ"
	userName   = ownPrefix + "user"
	touchName  = ownPrefix + "touch"
	textName   = ownPrefix + "text"
	textType   = 25 // OID of text
)

// Replay makes the state again on a fresh backend behind rw that has just said its first ReadyForQuery; told is what its login said (names and
// values of ParameterStatus). It usually takes one round trip.
//
// owed are the ParameterStatus messages that the client must get before its next ReadyForQuery: what it was told on the old backend and is
// different now. After an error that backend is of no use; nothing of it may be shown to the client.
func (s *State) Replay(rw io.ReadWriter, told map[string]string) (owed []byte, err error) {
	t := newTalk(rw)
	shapes := make([]shape, len(s.prepared)+1)
	if err := t.run(s.steps(told["is_superuser"] == "on", shapes)); err != nil {
		return nil, err
	}
	for i := range s.prepared {
		if shapes[i].sum() != s.prepared[i].shape {
			return nil, fmt.Errorf("prepare statement %q: %w", s.prepared[i].name, ErrShape)
		}
	}
	if s.unnamed != nil && shapes[len(s.prepared)].sum() != s.unnamed.shape {
		return nil, fmt.Errorf("prepare the unnamed statement: %w", ErrShape)
	}
	now := maps.Clone(told)
	if now == nil {
		now = map[string]string{}
	}
	maps.Copy(now, t.reported)
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if was, ok := s.told[name]; !ok || was != now[name] {
			owed = appendParameterStatus(owed, name, now[name])
		}
	}
	return owed, nil
}

// steps are the requests, in the order in which nothing gets in the way of anything else:
// the encoding, in which everything that follows is written; what needs the rights of the login; who the session is; the other settings;
// the statements, which are analysed under them; the settings that could disturb that; the unnamed statement, which nothing may follow that replaces it.
func (s *State) steps(loginIsSuperuser bool, shapes []shape) []step {
	const set = `SELECT pg_catalog.set_config($1, $2, false)`
	const differ = set + ` WHERE (pg_catalog.current_setting($1, true) OPERATOR(pg_catalog.=) $2) IS NOT TRUE`
	const user = set + ` WHERE (SESSION_USER::pg_catalog.text OPERATOR(pg_catalog.=) $2) IS NOT TRUE`
	// A custom setting that has been set and reset, or rolled back, is empty and its default: a library that defines it later goes by that.
	const touch = `SELECT pg_catalog.set_config($1, '', false), pg_catalog.set_config($1, NULL, false) WHERE pg_catalog.current_setting($1, true) IS NULL`
	texts := []uint32{textType, textType}
	// Where the login may not set such a thing, the role that the session has taken may.
	early := loginIsSuperuser || s.told["is_superuser"] != "on"
	steps := []step{
		{what: "prepare to set", request: appendParse(nil, setName, set, texts), answers: "1"},
		{what: "prepare to set", request: appendParse(nil, differName, differ, texts), answers: "1"},
		{what: "prepare to set", request: appendParse(nil, userName, user, texts), answers: "1"},
		{what: "prepare to set", request: appendParse(nil, touchName, touch, texts[:1]), answers: "1"},
	}
	encodingName := differName
	if s.encodingSet {
		encodingName = setName
	}
	steps = append(steps, runStep(encodingName, "client_encoding", s.encoding))
	steps = s.setSteps(steps, func(x *setting) bool { return early && x.superuser })
	steps = append(steps, runStep(userName, "session_authorization", s.user), runStep(differName, "role", s.role))
	steps = s.setSteps(steps, func(x *setting) bool { return !early && x.superuser })
	steps = s.setSteps(steps, func(x *setting) bool { return !x.superuser && !late(x.name) })
	for i := range s.prepared {
		steps = append(steps, s.prepared[i].step(&shapes[i]))
	}
	if s.unnamed != nil {
		steps = append(steps, s.unnamed.step(&shapes[len(s.prepared)]))
	}
	steps = s.setSteps(steps, func(x *setting) bool { return !x.superuser && late(x.name) })
	for _, name := range []string{setName, differName, userName, touchName} {
		steps = append(steps, step{what: "end replay", request: appendStatement(nil, 'C', name), answers: "3"})
	}
	return steps
}

// setSteps appends the settings that are chosen. What the login brings anyway is set only where it brought something else.
func (s *State) setSteps(steps []step, chosen func(*setting) bool) []step {
	for i := range s.settings {
		if x := &s.settings[i]; chosen(x) {
			name := setName
			if x.source != fromSession {
				name = differName
			}
			if x.source == fromCustom && x.value == "" {
				steps = append(steps, step{what: fmt.Sprintf("set %q", x.name), request: appendRun(nil, touchName, x.name), answers: "2C"})
			}
			steps = append(steps, runStep(name, x.name, x.value))
		}
	}
	return steps
}

func runStep(statement, name, value string) step {
	return step{what: fmt.Sprintf("set %q", name), request: appendRun(nil, statement, name, value), answers: "2C"}
}

// step prepares the statement and asks for its shape.
func (p *prepared) step(is *shape) step {
	what := fmt.Sprintf("prepare statement %q", p.name)
	if p.name == "" {
		what = "prepare the unnamed statement"
	}
	if !p.sql {
		request := appendStatement(appendParse(nil, p.name, p.text.Value(), p.types), 'D', p.name)
		return step{what: what, request: request, answers: "1ts", shape: is}
	}
	var b bytes.Buffer
	b.Write(appendRun(appendParse(nil, textName, p.text.Value(), nil), textName))
	b.Write(appendStatement(nil, 'C', textName))
	b.Write(appendStatement(nil, 'D', p.name))
	return step{what: what, request: b.Bytes(), answers: "12C3ts", shape: is}
}
