package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// field is one member of a command's body.
type field struct {
	name string
	// want says in words what its value must be.
	want string
	// optional fields may be left out.
	optional bool
	// into points to where the value goes.
	into any
}

// errBody says what is wrong with a body.
type errBody string

func (e errBody) Error() string { return string(e) }

// read reads a whole body, within bounds, and answers when it cannot. The hint says what the command takes.
func (s *Server) read(w http.ResponseWriter, r *http.Request, hint string) (body []byte, ok bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		refuse(w, r, http.StatusRequestEntityTooLarge, "too_large", "the body is larger than 64 KiB", hint)
		return nil, false
	case err != nil:
		refuse(w, r, http.StatusBadRequest, "bad_request", "the body cannot be read", hint)
		return nil, false
	}
	// The request is whole: its deadline must not cut off a command that takes longer. An error means that this writer has no deadlines.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	return body, true
}

// nothing reads the body of a command that takes none, and refuses one that says anything. An empty object says nothing.
func (s *Server) nothing(w http.ResponseWriter, r *http.Request) bool {
	body, ok := s.read(w, r, "this command takes no body")
	if ok && len(bytes.TrimSpace(body)) > 0 && parseObject(body, nil) != nil {
		refuse(w, r, http.StatusBadRequest, "bad_request", "this command takes no body", "send it without one")
		return false
	}
	return ok
}

// object reads the body of a command into its fields, and refuses whatever is not exactly that: a command that is half understood is worse
// than one that is not carried out.
func (s *Server) object(w http.ResponseWriter, r *http.Request, fields []field) bool {
	hint := "send " + example(fields)
	body, ok := s.read(w, r, hint)
	if !ok {
		return false
	}
	if err := parseObject(body, fields); err != nil {
		refuse(w, r, http.StatusBadRequest, "bad_request", err.Error(), hint)
		return false
	}
	return true
}

// example shows what a body looks like.
func example(fields []field) string {
	parts := make([]string, len(fields))
	for i, f := range fields {
		parts[i] = `"` + f.name + `": ` + f.want
		if f.optional {
			parts[i] += " (may be left out)"
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// parseObject reads one JSON object with exactly these fields. Names are compared letter by letter, and none may be there twice: of two
// targets nobody could say which was meant.
func parseObject(body []byte, fields []field) error {
	decoder := json.NewDecoder(bytes.NewReader(body))
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return errBody("the body is not a JSON object")
	}
	var seen []string
	for decoder.More() {
		token, err := decoder.Token()
		name, isName := token.(string)
		if err != nil || !isName {
			return errBody("the body is not well-formed JSON")
		}
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == name })
		switch {
		case i < 0:
			return errBody("there is no field " + shown(name))
		case slices.Contains(seen, name):
			return errBody("the field " + name + " is there more than once")
		}
		seen = append(seen, name)
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return errBody("the body is not well-formed JSON")
		}
		if err := take(value, fields[i].into); err != nil {
			return errBody("the field " + name + " is not " + fields[i].want)
		}
	}
	if _, err := decoder.Token(); err != nil {
		return errBody("the body is not well-formed JSON")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errBody("there is something behind the JSON object")
	}
	for _, f := range fields {
		if !f.optional && !slices.Contains(seen, f.name) {
			return errBody("the field " + f.name + " is missing")
		}
	}
	return nil
}

// maxName bounds a name in a body in bytes, maxNames a list of them: what a command names ends up in events and in the log.
const maxName, maxNames = 100, 100

// take reads one value. Nulls, which the decoder would pass over without a word, are refused at every place.
func take(value json.RawMessage, into any) error {
	if string(value) == "null" {
		return errBody("null")
	}
	switch into := into.(type) {
	case *string:
		if err := json.Unmarshal(value, into); err != nil || len(*into) > maxName {
			return errBody("not a name")
		}
		return nil
	case *[]string:
		var elements []json.RawMessage
		if err := json.Unmarshal(value, &elements); err != nil || len(elements) > maxNames {
			return errBody("not a list of names")
		}
		*into = make([]string, len(elements))
		for i, e := range elements {
			if err := take(e, &(*into)[i]); err != nil {
				return err
			}
		}
		return nil
	default:
		return json.Unmarshal(value, into)
	}
}
