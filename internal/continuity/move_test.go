package continuity

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/pgtether/pgtether/internal/lab"
)

// moved takes a session's state and replays it on a fresh backend.
func moved(t *testing.T, l *lab.Lab, c *client, user string, known Known) *client {
	t.Helper()
	state, obstacle, err := c.take(t, known)
	if obstacle != "" || err != nil {
		t.Fatalf("obstacle %q, %v", obstacle, err)
	}
	fresh := connect(t, l, user, "")
	owed, err := state.Replay(fresh.conn, fresh.told)
	if err != nil {
		t.Fatal(err)
	}
	fresh.told = c.told
	if err := deliver(fresh.told, owed); err != nil {
		t.Fatal(err)
	}
	return fresh
}

func (c *client) extended(t *testing.T, request []byte) string {
	t.Helper()
	all, err := c.send(appendSync(request), 1)
	if err != nil {
		t.Fatal(err)
	}
	return outcome(all)
}

// leftNothing checks that a session is as before: nothing of ours is prepared, no transaction is open, the unnamed statement answers.
func (c *client) leftNothing(t *testing.T) {
	t.Helper()
	if got := c.extended(t, appendRun(nil, "")); got != "unnamed\n" {
		t.Errorf("the unnamed statement answers %q", got)
	}
	c.run(t, "SET statement_timeout = 0")
	if got := c.try(t, "SELECT name FROM pg_prepared_statements WHERE name LIKE 'pgtether%' AND NOT from_sql"); got != "" {
		t.Errorf("left behind: %q", got)
	}
	if got := c.try(t, "SAVEPOINT s"); !strings.HasPrefix(got, "error 25P01") {
		t.Errorf("a transaction is open: %q", got)
	}
}

func TestEveryObstacleIsNamedAndTheSessionGoesOn(t *testing.T) {
	l := startServer(t)
	big := strings.Repeat("x", 700<<10)
	for _, c := range []struct {
		want  Obstacle
		do    []string
		known Known
	}{
		{TempObjects, []string{"CREATE TEMP TABLE x (a int)"}, Known{}},
		{TempObjects, []string{"CREATE TEMP SEQUENCE x"}, Known{}},
		{TempObjects, []string{"CREATE TEXT SEARCH DICTIONARY pg_temp.d (TEMPLATE = simple)"}, Known{}},
		{TempObjects, []string{"CREATE DOMAIN pg_temp.d AS int"}, Known{}},
		{"", []string{"CREATE TEMP TABLE x (a int)", "DROP TABLE x"}, Known{}},
		{Listening, []string{"LISTEN somebody"}, Known{}},
		{"", []string{"LISTEN somebody", "UNLISTEN *"}, Known{}},
		{HoldableCursor, []string{"DECLARE c CURSOR WITH HOLD FOR SELECT 1"}, Known{}},
		{AdvisoryLock, []string{"SELECT pg_advisory_lock(7, 8)"}, Known{}},
		{"", []string{"SELECT pg_advisory_xact_lock(7, 9)"}, Known{}},
		{CustomUnknown, nil, Known{CustomUnknown: true}},
		{PreparedUnclear, []string{"SELECT 1; PREPARE a AS SELECT 1"}, Known{}},
		{PreparedUnclear, []string{`PREPARE a AS SELECT 'x\d'`, "SET standard_conforming_strings = off"}, Known{}},
		{PreparedUnclear, []string{`PREPARE "pgtether.x" AS SELECT 1`}, Known{}},
		{PreparedInvalid, []string{"CREATE TABLE gone (a int)", "PREPARE a AS SELECT * FROM gone", "DROP TABLE gone"}, Known{}},
		{PreparedInvalid, []string{"CREATE TABLE other (a int)", "PREPARE a AS SELECT * FROM other", "ALTER TABLE other ALTER a TYPE text", "DROP TABLE other"}, Known{}},
		{StateUnreadable, []string{`PREPARE "pgtether.take" AS SELECT 1`}, Known{}},
		{StateUnreadable, []string{"SET my.x = '\u65e5'", "SET client_encoding = LATIN1"}, Known{Custom: []string{"my.x"}}},
		{TooMuchState, []string{"SELECT set_config('my.x' || g, repeat('x', 100000), false) FROM generate_series(1, 50) g"}, manyCustom(50)},
		{TooMuchState, []string{"PREPARE a AS SELECT '" + big + "'", "PREPARE b AS SELECT '" + strings.Repeat(big, 12) + "'"}, Known{}},
		{TooMuchState, []string{"DO $$ BEGIN FOR i IN 1..1001 LOOP EXECUTE 'PREPARE p' || i || ' AS SELECT 1'; END LOOP; END $$"}, Known{}},
	} {
		s := connect(t, l, "app", "")
		s.run(t, c.do...)
		s.extended(t, appendParse(nil, "", "SELECT 'unnamed'", nil))
		_, o, err := s.take(t, c.known)
		if o != c.want {
			t.Errorf("%.100q: obstacle %q, %v; want %q", c.do, o, err, c.want)
		}
		if (err != nil) != (refusal(err) != nil) {
			t.Errorf("%.100q: %v", c.do, err)
		}
		s.leftNothing(t)
	}
	s := connect(t, l, "app", "")
	s.extended(t, appendParse(nil, "", "SELECT 'unnamed'", nil))
	for _, known := range []Known{
		{UnnamedUnsure: true},
		{UnnamedUnsure: true, Unnamed: &Statement{Text: "SELECT 'unnamed'"}},
		{Unnamed: &Statement{Text: "SELECT 'unnamed' WHERE $1", Types: []uint32{16}}},
	} {
		if _, o, err := s.take(t, known); o != UnnamedUnknown || err != nil {
			t.Errorf("%+v: obstacle %q, %v", known, o, err)
		}
	}
	s.leftNothing(t)
}

// TestASessionThatIsTooHastyToBeAsked: a statement_timeout that hits the question itself. The server may be fast enough now and then.
func TestASessionThatIsTooHastyToBeAsked(t *testing.T) {
	l := startServer(t)
	s := connect(t, l, "app", "")
	s.run(t, "SET statement_timeout = 1")
	s.extended(t, appendParse(nil, "", "SELECT 'unnamed'", nil))
	for {
		_, o, err := s.take(t, manyCustom(1000))
		if o == StateUnreadable && refusal(err) != nil && refusal(err).SQLState == "57014" {
			break
		}
		if o != "" || err != nil {
			t.Fatalf("obstacle %q, %v", o, err)
		}
	}
	s.leftNothing(t)
}

func manyCustom(n int) (k Known) {
	for i := range n {
		k.Custom = append(k.Custom, fmt.Sprintf("my.x%d", i+1))
	}
	return k
}

func TestAnInnocentDoubtAboutTheUnnamedStatementIsSettledByTheServer(t *testing.T) {
	l := startServer(t)
	s := connect(t, l, "app", "")
	s.run(t, "SELECT 1") // which drops it
	for _, known := range []Known{{UnnamedUnsure: true}, {Unnamed: &Statement{Text: "SELECT 'stale'"}}} {
		state, o, err := s.take(t, known)
		if o != "" || err != nil || state.unnamed != nil {
			t.Errorf("%+v: obstacle %q, %v", known, o, err)
		}
	}
}

func TestSettingsThatWouldBeInTheWayOfTheirOwnReplay(t *testing.T) {
	l := startServer(t)
	s := connect(t, l, "boss", "")
	s.run(t, "SET log_statement = 'ddl'", "SET quote_all_identifiers = on", "SET transform_null_equals = on", "SET array_nulls = off", "SET bytea_output = escape",
		"SET DateStyle = 'SQL, DMY'", "SET default_transaction_read_only = on", "SET default_transaction_isolation = serializable",
		"SET default_transaction_deferrable = on", "SET statement_timeout = '2s'", "SET lock_timeout = 1", "SET idle_in_transaction_session_timeout = 1",
		"SET client_min_messages = debug5", "SET my.secret = 'a\"b\\c{},''d'", "SET search_path = one, \"two\"", "PREPARE p AS SELECT v FROM t", "SET row_security = off",
		"SET SESSION AUTHORIZATION app", "SET ROLE worker")
	known := Known{Custom: []string{"my.secret", "MY.SECRET", "my.none"}}
	fresh := moved(t, l, s, "boss", known)
	for _, q := range []string{
		"SELECT name, setting, source FROM pg_settings WHERE source = 'session' AND name NOT LIKE 'transaction%' ORDER BY 1", "SHOW my.secret", "SHOW my.none",
		"SELECT session_user, current_user", "EXECUTE p", "SHOW log_statement", "SHOW is_superuser",
	} {
		if want, got := s.try(t, q), fresh.try(t, q); want != got || want == "" {
			t.Errorf("%s: %q; unmoved %q", q, got, want)
		}
	}
}

func TestWhatTheNewBackendCannotGiveEndsTheMoveAndNamesNoValue(t *testing.T) {
	l := startServer(t)
	const secret = "hunter2"
	for _, c := range []struct {
		name string
		do   []string
		then string // between Take and Replay
		want func(error) bool
	}{
		{"a setting that only its superuser role could make", []string{"SET ROLE chief", "SET lc_messages = 'C'", "RESET ROLE", "SET my.x = '" + secret + "'"}, "",
			func(err error) bool {
				return refusal(err) != nil && refusal(err).SQLState == "42501" && strings.Contains(err.Error(), "lc_messages")
			}},
		{"a statement whose table is gone", []string{"CREATE TABLE late (a int)", "PREPARE q AS SELECT '" + secret + "' FROM late"}, "DROP TABLE late",
			func(err error) bool {
				return refusal(err) != nil && refusal(err).SQLState == "42P01" && strings.Contains(err.Error(), `"q"`)
			}},
		{"a statement whose columns are others", []string{"CREATE TABLE later (a int)", "PREPARE q AS SELECT a, '" + secret + "' FROM later"}, "ALTER TABLE later ALTER a TYPE text",
			func(err error) bool { return errors.Is(err, ErrShape) }},
		{"a role that was taken away", []string{"SET my.x = '" + secret + "'", "SET ROLE worker"}, "REVOKE worker FROM app",
			func(err error) bool {
				return refusal(err) != nil && refusal(err).SQLState == "42501" && strings.Contains(err.Error(), "role")
			}},
	} {
		s, boss := connect(t, l, "app", ""), connect(t, l, "boss", "")
		s.run(t, c.do...)
		state, o, err := s.take(t, Known{Custom: []string{"my.x"}})
		if o != "" || err != nil {
			t.Fatalf("%s: obstacle %q, %v", c.name, o, err)
		}
		if c.then != "" {
			boss.run(t, c.then)
		}
		fresh := connect(t, l, "app", "")
		owed, err := state.Replay(fresh.conn, fresh.told)
		if !c.want(err) || owed != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error tells a secret: %v", c.name, err)
		}
	}
}

func TestALargeStateNeverMakesBothSidesWait(t *testing.T) {
	l := startServer(t)
	s := connect(t, l, "app", "")
	var columns []string
	for i := range 200 {
		columns = append(columns, fmt.Sprintf("1 AS a_rather_long_name_of_a_column_%d", i))
	}
	for i := range 400 {
		text := fmt.Sprintf("SELECT %s, %d", strings.Join(columns, ", "), i)
		s.extended(t, appendParse(nil, fmt.Sprintf("S_%d", i), text, nil))
	}
	fresh := moved(t, l, s, "app", Known{})
	if got := fresh.try(t, "SELECT count(*) FROM pg_prepared_statements"); got != "400\n" {
		t.Errorf("%s statements", got)
	}
}

func TestCustomNamesAreThoseOfStoredFunctions(t *testing.T) {
	l := startServer(t)
	s := connect(t, l, "app", "")
	connect(t, l, "boss", "").run(t, `CREATE FUNCTION one.f() RETURNS void LANGUAGE sql SET tenant.clause = 'x' AS $f$ SELECT set_config ( 'Sql.Body', '1', false);SELECT pg_catalog.set_config(E'Escaped.one', '', true) $f$`,
		`CREATE PROCEDURE one.p() LANGUAGE plpgsql AS $f$ BEGIN SET LOCAL "quoted"."name" TO 1; EXECUTE 'SELECT set_config(''in.string'', ''1'', false)'; RESET was.reset; END $f$`,
		`CREATE FUNCTION one.g() RETURNS text RETURN set_config('new.style', 'x', false)`,
		`CREATE FUNCTION one.h(n text) RETURNS text LANGUAGE sql AS $f$ SELECT set_config('computed.' || n, 'x', false) $f$`)
	s.run(t, "SET standard_conforming_strings = off", "SET search_path = ''")
	s.extended(t, appendParse(nil, "", "SELECT 'unnamed'", nil))
	names, aside, err := CustomNames(s.conn)
	if err != nil || len(aside) > 0 {
		t.Fatal(err, aside)
	}
	slices.Sort(names)
	want := []string{"escaped.one", "in.string", "inside.value", "my_fn.other", "new.style", "quoted.name", "sql.body", "tenant.clause", "was.reset"}
	if !slices.Equal(names, want) {
		t.Errorf("names %q\nwant  %q", names, want)
	}
	s.leftNothing(t)
}

func TestWhatTheServerSaysToTheClientMeanwhileIsHandedBack(t *testing.T) {
	l := startServer(t)
	s, boss := connect(t, l, "app", ""), connect(t, l, "boss", "")
	s.run(t, "LISTEN news")
	boss.run(t, "NOTIFY news, 'paper'")
	_, o, aside, err := Take(s.conn, Known{})
	if o != Listening || err != nil || len(aside) < 5 || aside[0] != 'A' || !bytes.Contains(aside, []byte("paper")) {
		t.Errorf("obstacle %q, %v, aside %q", o, err, aside)
	}
	s = connect(t, l, "app", "")
	boss.run(t, fmt.Sprintf("SELECT pg_terminate_backend(%d)", s.pid))
	_, o, aside, err = Take(s.conn, Known{})
	var ended *Ended
	if o != "" || err == nil || errors.As(err, &ended) && (ended.SQLState != "57P01" || aside[0] != 'E') {
		t.Errorf("terminated: obstacle %q, %v, aside %q", o, err, aside)
	}
}

func TestAParameterThatChangesWhileTheSessionIsAskedIsToldAndNotOwed(t *testing.T) {
	l := startServer(t)
	s, boss := connect(t, l, "app", ""), connect(t, l, "boss", "")
	boss.run(t, "ALTER SYSTEM SET IntervalStyle = 'iso_8601'", "SELECT pg_reload_conf()")
	for { // until the signal has reached that backend
		state, o, aside, err := Take(s.conn, Known{})
		if o != "" || err != nil {
			t.Fatalf("obstacle %q, %v", o, err)
		}
		if len(aside) == 0 {
			continue
		}
		if want := appendParameterStatus(nil, "IntervalStyle", "iso_8601"); !bytes.Equal(aside, want) {
			t.Errorf("aside %q; want %q", aside, want)
		}
		fresh := connect(t, l, "app", "")
		if owed, err := state.Replay(fresh.conn, fresh.told); len(owed) > 0 || err != nil {
			t.Errorf("owed %q, %v", owed, err)
		}
		return
	}
}

func TestTheServerIsNotTrusted(t *testing.T) {
	ready := []byte{'Z', 0, 0, 0, 5, 'I'}
	row := func(columns ...string) []byte {
		b := binary.BigEndian.AppendUint16(nil, uint16(len(columns)))
		for _, c := range columns {
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(c))), c...)
		}
		return appendMessage(nil, 'D', b)
	}
	one, two, three, done := appendMessage(nil, '1', nil), appendMessage(nil, '2', nil), appendMessage(nil, '3', nil), appendMessage(nil, 'C', []byte("SELECT 1\x00"))
	for name, said := range map[string][]byte{
		"nothing":                 nil,
		"half a header":           {'1', 0, 0},
		"a length below 4":        {'1', 0, 0, 0, 3},
		"a length beyond all":     {'1', 0xff, 0xff, 0xff, 0xff},
		"a body that never comes": {'1', 0x3f, 0, 0, 0, 1, 2, 3},
		"another message":         slices.Concat(one, appendMessage(nil, 'G', []byte{0, 0, 0})),
		"no facts":                slices.Concat(one, two, done, three, ready),
		"a row of one column":     slices.Concat(one, two, row("f"), done, three, ready),
		"a row that is too short": slices.Concat(one, two, appendMessage(nil, 'D', []byte{0, 8, 0, 0}), done, three, ready),
		"a row of an odd kind":    slices.Concat(one, two, row("z", "", "", "", "", "", "", ""), done, three, ready),
		"odd types":               slices.Concat(one, two, row("p", "a", "SELECT", "{1,x}", "false", "", "", ""), done, three, ready),
		"an open transaction":     slices.Concat(one, two, row("f", "false", "0", "false", "false", "false", "none", "u"), done, three, []byte{'Z', 0, 0, 0, 5, 'T'}),
		"a malformed error":       slices.Concat(one, appendMessage(nil, 'E', []byte{'S'}), ready),
		"a malformed parameter":   slices.Concat(one, appendMessage(nil, 'S', []byte("name")), ready),
	} {
		state, o, _, err := Take(struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(said), io.Discard}, Known{})
		if state != nil || o != "" || err == nil {
			t.Errorf("%s: state %v, obstacle %q, %v", name, state, o, err)
		}
		if _, err := (&State{}).Replay(struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(said), io.Discard}, nil); err == nil {
			t.Errorf("%s: replayed", name)
		}
	}
}

// FuzzTake: whatever a server says, Take returns, and says one thing only.
func FuzzTake(f *testing.F) {
	f.Add([]byte("1\x00\x00\x00\x042\x00\x00\x00\x04C\x00\x00\x00\x05\x003\x00\x00\x00\x04Z\x00\x00\x00\x05I"))
	f.Add([]byte("E\x00\x00\x00\x0eSERROR\x00\x00Z\x00\x00\x00\x05I"))
	f.Fuzz(func(t *testing.T, said []byte) {
		state, o, _, err := Take(struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(said), io.Discard}, Known{UnnamedUnsure: true})
		if (state != nil) == (o != "" || err != nil) {
			t.Errorf("state %v, obstacle %q, %v", state != nil, o, err)
		}
	})
}

// TestTheServerAgreesOnWhatOneStatementIs: of texts put together at random, none that is called a single PREPARE is several to the server.
func TestTheServerAgreesOnWhatOneStatementIs(t *testing.T) {
	l := startServer(t)
	c := connect(t, l, "app", "")
	c.run(t, "SET escape_string_warning = off")
	seed := *seedFlag
	r := rand.New(rand.NewPCG(seed, 1))
	tokens := []string{";", "'", "'", "''", "\"", "\\", "\\'", "$$", "$x$", "$1", "--", "\n", "/*", "*/", " ", "E'", "U&'", "n'", "b'", "a", "1", ",", "x$", "||", "SELECT 1", "\u00e9"}
	certain := 0
	for i := range 20000 {
		text := "PREPARE p AS SELECT "
		for range 1 + r.IntN(9) {
			text += tokens[r.IntN(len(tokens))]
		}
		if !singlePrepare(text) {
			continue
		}
		certain++
		if i%2 == 0 {
			c.run(t, "SET standard_conforming_strings = "+[]string{"on", "off"}[i/2%2])
		}
		if got := c.extended(t, appendParse(nil, "", text, nil)); strings.Contains(got, "multiple commands") {
			t.Errorf("seed %d: %q: %s", seed, text, got)
		}
	}
	if certain < 500 {
		t.Errorf("only %d texts were certain", certain)
	}
}
