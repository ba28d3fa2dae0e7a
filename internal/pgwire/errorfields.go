package pgwire

import (
	"errors"
	"fmt"
)

// ErrErrorFields is returned for an ErrorResponse or NoticeResponse whose fields cannot be read.
var ErrErrorFields = errors.New("malformed error fields")

// maxErrorFields bounds the fields of one message: the protocol knows fewer than 20.
const maxErrorFields = 64

// ErrorFields are the fields of an ErrorResponse ('E') or NoticeResponse ('N') that decisions rest on. A server may leave any of them out.
type ErrorFields struct {
	// Severity is the untranslated one (V) where the server sent it, else S.
	Severity string
	// SQLState is the five-character code, empty when the server sent none.
	SQLState string
	Message  string
}

// ParseErrorFields parses the body of the message. It shares no memory with body.
func ParseErrorFields(body []byte) (ErrorFields, error) {
	var (
		f         ErrorFields
		localized string
	)
	rest := body
	for range maxErrorFields {
		if len(rest) == 0 {
			return f, fmt.Errorf("parse error of %d bytes: no terminator: %w", len(body), ErrErrorFields)
		}
		kind := rest[0]
		if kind == 0 {
			if len(rest) != 1 {
				return f, fmt.Errorf("parse error: %d bytes after the terminator: %w", len(rest)-1, ErrErrorFields)
			}
			if f.Severity == "" {
				f.Severity = localized
			}
			return f, nil
		}
		text, after, ok := cutString(rest[1:])
		if !ok {
			return f, fmt.Errorf("parse error: field %q has no end: %w", kind, ErrErrorFields)
		}
		switch kind {
		case 'S':
			localized = text
		case 'V':
			f.Severity = text
		case 'C':
			f.SQLState = text
		case 'M':
			f.Message = text
		}
		rest = after
	}
	return f, fmt.Errorf("parse error: more than %d fields: %w", maxErrorFields, ErrErrorFields)
}
