package pgwire

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// told is a verdict in words.
func (v *verdict) told() string {
	if v == nil {
		return ""
	}
	var list []string
	for _, d := range v.deeds {
		kind := [...]string{"", "set", "reset", "reset all", "discard all", "deallocate", "deallocate all", "unclear"}[d.kind]
		list = append(list, strings.TrimSpace(fmt.Sprintf("%s %s %s", kind, d.name, strings.Join(d.values, "|"))))
	}
	for _, name := range v.custom {
		list = append(list, "custom "+name)
	}
	return strings.Join(append(list, v.unknown.Reasons()...), "; ")
}

func TestWhatATextMeansForItsSession(t *testing.T) {
	for text, want := range map[string]string{
		// What a pool, pgjdbc and Keycloak say.
		"":                           "",
		"SELECT 1":                   "",
		"SET extra_float_digits = 3": "set extra_float_digits 3",
		"SET application_name = 'PostgreSQL JDBC Driver'": "set application_name PostgreSQL JDBC Driver",
		"SHOW TRANSACTION ISOLATION LEVEL":                "",
		"BEGIN":                                           "",
		"begin read only;":                                "",
		"COMMIT":                                          "",
		"ROLLBACK TO SAVEPOINT \"x;y\"":                   "",
		"SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED":           "set default_transaction_isolation read committed",
		"SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY, NOT DEFERRABLE":                "set default_transaction_read_only on; set default_transaction_deferrable off",
		"select ue1_0.ID,ue1_0.OFFSET from USER_ENTITY ue1_0 where ue1_0.SET_ID=$1 offset $2": "",
		"INSERT INTO t (a) VALUES ('deallocate all; set x = 1')":                              "",
		"UPDATE t SET a = $1, b = c.d WHERE x = 'it''s'":                                      "",
		"DELETE FROM t -- discard all":                                                        "",
		"insert into t values ($$ x $$), ('\\n')":                                             "",
		"WITH x AS (INSERT INTO t VALUES (1) RETURNING a) SELECT * FROM x":                    "",
		"SELECT temp, temporary FROM weather":                                                 "",
		"CREATE TABLE t (temperature int)":                                                    "",
		"LOCK TABLE DATABASECHANGELOGLOCK; SELECT 1":                                          "",

		// SET.
		"SET a TO b":                                        "set a b",
		"/* c /* d */ */ set Session A\n=\tB ;":             "set a b",
		"SET search_path TO \"$user\", Public, 'My Schema'": "set search_path $user|public|My Schema",
		"SET search_path = \"a\"\"b\", 'it''s', $x$$y$x$":   "set search_path a\"b|it's|$y",
		"SET x = -1.5":                                      "set x -1.5",
		"SET x = +5":                                        "set x 5",
		"SET x TO on":                                       "set x on",
		"SET x TO DEFAULT":                                  "reset x",
		"SET TIME ZONE 'Europe/Berlin'":                     "set timezone Europe/Berlin",
		"SET TIME ZONE LOCAL":                               "reset timezone",
		"SET TIME ZONE INTERVAL '1' HOUR":                   "set_unparsed",
		"SET NAMES 'UTF8'":                                  "set client_encoding UTF8",
		"SET SCHEMA 'a'":                                    "set search_path a",
		"SET LOCAL x = 1":                                   "",
		"SET LOCAL my.X = 1":                                "custom my.x",
		"SET TRANSACTION READ ONLY":                         "",
		"SET SESSION TRANSACTION READ ONLY":                 "",
		"SET transaction_read_only = on":                    "",
		"SET CONSTRAINTS ALL DEFERRED":                      "",
		"SET ROLE x":                                        "set_unparsed",
		"SET SESSION AUTHORIZATION 'x'":                     "set_unparsed",
		"RESET SESSION AUTHORIZATION":                       "set_unparsed",
		"SET role = 'x'":                                    "set_unparsed",
		"RESET role":                                        "set_unparsed",
		"SET x = E'a'":                                      "set_unparsed",
		"SET x = U&'a'":                                     "set_unparsed",
		"SET x = 'a' 'b'":                                   "set_unparsed",
		"SET x = 'a\nb'":                                    "set x a\nb",
		"SET x = 'a\\'":                                     "set x a\\; text_unclear",
		"SET x FROM CURRENT":                                "set_unparsed",
		"SET x = ":                                          "set_unparsed",
		"SET x = 1,":                                        "set_unparsed",
		"SET":                                               "set_unparsed",
		"SET My.Var = 'x'":                                  "set my.var x; custom my.var",
		"SET \"My\" . \"Va r\" = 'x'":                       "set my.va r x; custom my.va r",
		"RESET my.var":                                      "reset my.var; custom my.var",
		"RESET ALL":                                         "reset all",
		"RESET TIME ZONE":                                   "reset timezone",
		"RESET x":                                           "reset x",
		"SET a = 1; SELECT 1":                               "set_among_several",
		"SELECT 1; RESET ALL":                               "set_among_several",
		"SET a = 1;;":                                       "set a 1",

		// Prepared statements.
		"DEALLOCATE a":                                 "deallocate a",
		"deallocate PREPARE \"A b\"":                   "deallocate A b",
		"DEALLOCATE prepare":                           "deallocate prepare",
		"DEALLOCATE ALL":                               "deallocate all",
		"DEALLOCATE PREPARE ALL":                       "deallocate all",
		"DEALLOCATE \"all\"":                           "deallocate all",
		"DEALLOCATE U&\"a\"":                           "unclear",
		"DISCARD ALL":                                  "discard all",
		"DISCARD PLANS":                                "",
		"SELECT 1; DEALLOCATE a; SELECT":               "deallocate a",
		"DO $$ BEGIN EXECUTE 'deallocate all'; END $$": "unclear; function",
		"SELECT 'a\\'; DEALLOCATE ALL --'":             "deallocate all; unclear; text_unclear",
		"PREPARE x AS SELECT 1":                        "prepare",
		"PREPARE TRANSACTION 'x'":                      "",

		// What only the server knows.
		"LISTEN c": "listen",
		"DECLARE c CURSOR WITH HOLD FOR SELECT 1": "declare",
		"LOAD 'x'": "load",
		"CALL p()": "function",
		"CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'": "function",
		"CREATE TEMP TABLE t (a int)":                                           "temporary",
		"CREATE TABLE pg_temp.t (a int)":                                        "temporary",
		"SELECT * INTO t FROM u":                                                "select_into",
		"SELECT * INTO TEMP t FROM u":                                           "select_into",
		"SELECT pg_advisory_lock(1)":                                            "advisory_lock",
		"SELECT PG_TRY_ADVISORY_LOCK(1)":                                        "advisory_lock",
		"SELECT dblink_connect('x')":                                            "other",
		"FROBNICATE":                                                            "other",

		// Names with a dot.
		"SELECT set_config('My.X', '1', false)":                                        "custom my.x; set_config",
		"SELECT set_config('work_mem', '1', false)":                                    "set_config",
		"SELECT pg_catalog.SET_CONFIG ( 'a.b'::text , $1, false)":                      "custom a.b; set_config",
		"SELECT set_config($1, $2, false)":                                             "set_config; custom_unknown",
		"SELECT set_config('a.' || b, $2, false)":                                      "set_config; custom_unknown",
		"SELECT set_config(E'a.b', $2, false)":                                         "set_config; custom_unknown",
		"SELECT set_config/**/('a.b', $2, false)":                                      "set_config; custom_unknown",
		"DO $$ BEGIN PERFORM set_config('a.b', 'x', false); END $$":                    "custom a.b; set_config; function",
		"DO 'BEGIN PERFORM set_config(''a.b'', ''x'', false); END'":                    "custom a.b; set_config; function",
		"DO $a$ BEGIN PERFORM set_config($$a.b$$, $$x$$, false); SET c.d = 1; END $a$": "custom a.b; custom c.d; set_config; function",
		"DO E'BEGIN\\nSET c.d = 1; END'":                                               "custom c.d; function",
		"DO $$ BEGIN EXECUTE 'SET ' || x; END $$":                                      "custom_unknown; function",
		"DO $$ BEGIN EXECUTE format('SET %I = 1', x); END $$":                          "custom_unknown; function",
		"DO $$ BEGIN EXECUTE 'SET my.' || x; END $$":                                   "custom_unknown; function",
		"SELECT 1; SET a.b = 1":                                                        "custom a.b; set_among_several",
		"SET /* x */ a.b = 1":                                                          "set a.b 1; custom_unknown",
	} {
		if got := judge(text).told(); !sameParts(got, want) {
			t.Errorf("%q\n got %q\nwant %q", text, got, want)
		}
	}
}

// sameParts compares without regard to the order of the reasons.
func sameParts(a, b string) bool {
	x, y := strings.Split(a, "; "), strings.Split(b, "; ")
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(x, y)
}

func TestCustomNamesAreBounded(t *testing.T) {
	var text strings.Builder
	for i := range maxCustom + 5 {
		fmt.Fprintf(&text, "SET a.b%d = 1;", i)
	}
	if v := judge(text.String()); len(v.custom) != maxCustom || v.unknown&UnknownCustom == 0 {
		t.Errorf("%d names, %v", len(v.custom), v.unknown.Reasons())
	}
	if v := judge("SET a." + strings.Repeat("b", maxCustomName) + " = 1"); len(v.custom) != 0 || v.unknown&UnknownCustom == 0 {
		t.Errorf("a name of %d bytes is kept", maxCustomName+2)
	}
}

// TestJudgingTakesTimeInProportion judges texts that a scan which goes back would take seconds for.
func TestJudgingTakesTimeInProportion(t *testing.T) {
	for _, part := range []string{"set . ", "set_config('", "set \"", "$a$b", "/*", "--\n", "'\\'", "deallocate ", "set a.b;", "re", "(", "$1", "set set ", "execute set"} {
		text := strings.Repeat(part, maxStatement/len(part))
		began := time.Now()
		judge(text)
		if took := time.Since(began); took > time.Second {
			t.Errorf("%q again and again takes %s", part, took)
		}
	}
}

func TestAParsedSetIsBounded(t *testing.T) {
	for _, text := range []string{"SET x = '" + strings.Repeat("b", maxValues) + "'", "SET x = a" + strings.Repeat(", a", maxSetTokens)} {
		if v := judge(text); len(v.deeds) != 0 || v.unknown != UnknownSet {
			t.Errorf("%.20s: %s", text, v.told())
		}
	}
}

// FuzzJudge gives any text: it never panics, is short with what it keeps, and a text does the same behind a comment.
func FuzzJudge(f *testing.F) {
	for _, text := range []string{"SET a = 'b'", "DEALLOCATE \"x\"", "DO $x$ set_config($$a.b$$, '') $x$", "E'\\'' U&\"a\" $1 $a$ /* /* */ -- x\n", "reset"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v := judge(text)
		if got, want := judge("/* a comment */ "+text).told(), v.told(); got != want {
			t.Fatalf("%q: %q, behind a comment %q", text, want, got)
		}
		if v != nil && len(v.custom) > maxCustom {
			t.Fatalf("%d names", len(v.custom))
		}
	})
}
