package continuity

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// ErrTooManyNames is returned by CustomNames; the connection is in order.
var ErrTooManyNames = errors.New("too many names of custom settings")

// customNames finds what is set in the definitions of functions that did not come with the server (SQL and PL bodies, SET clauses). The
// pattern comes as a parameter, so that no setting of the session changes how it is read.
const customNames = `SELECT DISTINCT pg_catalog.lower(m[1]) FROM pg_catalog.pg_proc p,
 LATERAL pg_catalog.regexp_matches(pg_catalog.pg_get_functiondef(p.oid), $1, 'gi') m
 WHERE p.oid OPERATOR(pg_catalog.>=) 16384 AND (p.prokind OPERATOR(pg_catalog.=) 'f' OR p.prokind OPERATOR(pg_catalog.=) 'p')
 AND p.prolang OPERATOR(pg_catalog.<>) 12 AND p.prolang OPERATOR(pg_catalog.<>) 13 LIMIT 1001`

// customPattern is a literal first argument of set_config, quoted once or more, or what SET and RESET name; with a dot in it. It may find more
// than there is (UPDATE t SET a.b = 1), which costs nothing.
const customPattern = `(?:\mset_config\s*\(\s*e?'+|\m(?:re)?set\s+(?:session\s+|local\s+)?)` +
	`("?[^\s'"();,=:.]+"?(?:\."?[^\s'"();,=:.]+"?)+)`

// CustomNames asks the backend behind rw, which is at an idle boundary, for the names of custom settings that the stored functions and
// procedures of its database set by literal names. It is meant to be asked once per database; the names belong into Known.Custom. Errors and
// aside are as with Take.
func CustomNames(rw io.ReadWriter) (names []string, aside []byte, err error) {
	const what = "look for custom settings in functions"
	t := newTalk(rw)
	err = t.ask(what, customNames, []uint32{textType}, func(columns [][]byte) error {
		if len(columns) != 1 {
			return fmt.Errorf("%s: row of %d columns: %w", what, len(columns), ErrStream)
		}
		if len(names) <= maxEntries {
			names = append(names, strings.ReplaceAll(string(columns[0]), `"`, ""))
		}
		return nil
	}, customPattern)
	if err == nil && (len(names) > maxEntries || t.large) {
		err = fmt.Errorf("%s: %w", what, ErrTooManyNames)
	}
	if err != nil {
		names = nil
	}
	return names, t.aside, err
}
