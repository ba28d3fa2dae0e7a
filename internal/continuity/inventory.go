package continuity

import (
	"fmt"
	"strconv"
	"strings"
	"unique"
)

// ownPrefix begins the names of the statements that this package prepares for itself; a client's own statement of such a name is not moved.
const ownPrefix = "pgtether."

const textArray = 1009 // OID of text[]

// inventory asks for everything at once, through the functions behind the system views: the views would cost more at their first use than the
// question itself. Values that the login brings are asked for in the form that Replay compares them in. Nothing rests on the search_path, nor on how the session wants literals to be read.
const inventory = `SELECT 'f', pg_catalog.pg_is_in_recovery()::pg_catalog.text, pg_catalog.pg_my_temp_schema()::pg_catalog.text,
 EXISTS (SELECT FROM pg_catalog.pg_listening_channels())::pg_catalog.text,
 EXISTS (SELECT FROM pg_catalog.pg_cursor() c WHERE c.is_holdable)::pg_catalog.text,
 EXISTS (SELECT FROM pg_catalog.pg_lock_status() l WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid())::pg_catalog.text,
 pg_catalog.current_setting('role'), SESSION_USER::pg_catalog.text
UNION ALL (SELECT 's', s.name,
 CASE WHEN s.source OPERATOR(pg_catalog.=) 'session' THEN s.setting ELSE pg_catalog.current_setting(s.name) END,
 s.source, s.context, NULL, NULL, NULL FROM pg_catalog.pg_show_all_settings() s
 WHERE s.source OPERATOR(pg_catalog.=) 'session' OR s.source OPERATOR(pg_catalog.=) 'client'
 OR s.source OPERATOR(pg_catalog.=) 'user' OR s.source OPERATOR(pg_catalog.=) 'database' OR s.source OPERATOR(pg_catalog.=) 'database user'
 OR s.source OPERATOR(pg_catalog.=) 'global' OR pg_catalog.strpos(s.name, '.') OPERATOR(pg_catalog.>) 0 LIMIT 1001)
UNION ALL (SELECT 'p', p.name, p.statement, p.parameter_types::pg_catalog.oid[]::pg_catalog.text, p.from_sql::pg_catalog.text, NULL, NULL, NULL
 FROM pg_catalog.pg_prepared_statement() p WHERE p.name OPERATOR(pg_catalog.<>) 'pgtether.take' LIMIT 1001)
UNION ALL SELECT 't', r, pg_catalog.current_setting(r, true), NULL, NULL, NULL, NULL, NULL FROM pg_catalog.unnest($1) r
UNION ALL SELECT 'c', n, pg_catalog.current_setting(n, true), NULL, NULL, NULL, NULL, NULL FROM pg_catalog.unnest($2) n`

const takeName = ownPrefix + "take"

// taken gathers the rows of the inventory.
type taken struct {
	state    *State
	obstacle Obstacle // the first that a row showed, but for those that need a second look
	temp     bool     // there is a temporary schema; it may be empty
	rows     int
	bytes    int
	strings  bool // standard_conforming_strings is, or was, set by the session
	names    map[string]bool
}

func (t *taken) row(columns [][]byte) error {
	if len(columns) != 8 {
		return fmt.Errorf("read state of session: row of %d columns: %w", len(columns), ErrStream)
	}
	for _, c := range columns {
		t.bytes += len(c)
	}
	if t.rows++; t.bytes > maxState+maxRequest || t.rows > 4*maxEntries { // there is more than may be moved: drop the rest
		t.bytes = maxState + maxRequest + 1
		return nil
	}
	s := t.state
	switch string(columns[0]) {
	case "f":
		return t.facts(columns[1:])
	case "s":
		t.setting(columns[1:])
	case "p":
		return t.prepared(columns[1:])
	case "t":
		if columns[2] != nil {
			s.told[string(columns[1])] = string(columns[2])
		}
	case "c":
		if name := string(columns[1]); columns[2] != nil && !t.names[name] {
			s.settings = append(s.settings, setting{name: name, value: string(columns[2]), source: fromCustom})
		}
	default:
		return fmt.Errorf("read state of session: row of unknown kind: %w", ErrStream)
	}
	return nil
}

// facts takes the row that says what cannot be moved.
func (t *taken) facts(columns [][]byte) error {
	oid, err := strconv.ParseUint(string(columns[1]), 10, 32)
	if err != nil {
		return fmt.Errorf("read state of session: temporary schema: %w", ErrStream)
	}
	t.temp = oid != 0
	for i, o := range []Obstacle{0: InRecovery, 2: Listening, 3: HoldableCursor, 4: AdvisoryLock} {
		if o != "" && t.obstacle == "" && string(columns[i]) != "false" {
			t.obstacle = o
		}
	}
	t.state.role, t.state.user = string(columns[5]), string(columns[6])
	return nil
}

func (t *taken) setting(columns [][]byte) {
	s := setting{name: string(columns[0]), value: string(columns[1]), superuser: string(columns[3]) != "user"}
	switch string(columns[2]) {
	case "session":
	case "client", "user", "database", "database user", "global":
		s.source = fromLogin
	default: // that of a library, which will bring it again
		t.names[strings.ToLower(s.name)] = true
		return
	}
	if s.source == fromSession {
		t.strings = t.strings || s.name == "standard_conforming_strings"
		t.state.encodingSet = t.state.encodingSet || s.name == "client_encoding"
	}
	t.names[strings.ToLower(s.name)] = true
	if fleeting(s.name) || s.source == fromLogin && s.superuser {
		return
	}
	t.state.settings = append(t.state.settings, s)
}

func (t *taken) prepared(columns [][]byte) error {
	types, err := parseOIDs(string(columns[2]))
	if err != nil {
		return err
	}
	t.state.prepared = append(t.state.prepared, prepared{
		name: string(columns[0]), text: unique.Make(string(columns[1])), types: types, sql: string(columns[3]) == "true",
	})
	return nil
}

// parseOIDs reads an array such as {23,25}.
func parseOIDs(s string) ([]uint32, error) {
	inside, ok := strings.CutPrefix(s, "{")
	inside, ok2 := strings.CutSuffix(inside, "}")
	if !ok || !ok2 {
		return nil, fmt.Errorf("read parameter types: %w", ErrStream)
	}
	if inside == "" {
		return nil, nil
	}
	var types []uint32
	for part := range strings.SplitSeq(inside, ",") {
		n, err := strconv.ParseUint(part, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("read parameter types: %w", ErrStream)
		}
		types = append(types, uint32(n))
	}
	return types, nil
}

// arrayLiteral is a text[] as text. The elements are names: the quotes keep everything else in them as it is.
func arrayLiteral(elements []string) string {
	var b strings.Builder
	b.WriteByte('{')
	for i, e := range elements {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('"')
		for j := range len(e) {
			if e[j] == '"' || e[j] == '\\' {
				b.WriteByte('\\')
			}
			b.WriteByte(e[j])
		}
		b.WriteByte('"')
	}
	b.WriteByte('}')
	return b.String()
}
