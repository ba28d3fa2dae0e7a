package continuity

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// generator makes random session histories and knows what a proxy would know of them: names of custom settings that texts name, and the
// unnamed statement.
type generator struct {
	r       *rand.Rand
	boss    bool
	custom  map[string]bool
	unnamed *Statement
	unclear map[string]bool // texts of PREPAREs that hold more than one statement, or are hard to read
	count   int
}

// part is one message of a batch.
type part struct {
	kind byte // Q P B D E C S
	name string
	text string
	data []byte
	stmt *Statement
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

func simple(text string) []part { return []part{{kind: 'Q', text: text, data: query(text)}} }

func parse(name, text string, types ...uint32) part {
	s := &Statement{Name: name, Text: text, Types: types}
	return part{kind: 'P', name: name, text: text, data: appendParse(nil, name, text, types), stmt: s}
}

func runPart(name string, parameters ...string) part {
	return part{kind: 'B', name: name, text: "run " + name, data: appendRun(nil, name, parameters...)}
}

func closePart(name string) part {
	return part{kind: 'C', name: name, data: appendStatement(nil, 'C', name)}
}

func syncPart() part { return part{kind: 'S', data: appendSync(nil)} }

// settingValues are settings that every role may set, with what they are set to.
var settingValues = map[string][]string{
	"work_mem": {"'7MB'", "65", "DEFAULT"}, "search_path": {"one", "two, public", `"$user", public`, "''", `'odd "name', public`, "public, pg_catalog", "one, pg_catalog"},
	"datestyle": {"'German'", "'SQL, DMY'", "iso"}, "IntervalStyle": {"iso_8601", "postgres"},
	"TimeZone": {"'Asia/Tokyo'", "-7", "INTERVAL '+05:30' HOUR TO MINUTE", "LOCAL", "UTC"}, "statement_timeout": {"'1h'", "0", "3600000"},
	"lock_timeout": {"'1min'"}, "extra_float_digits": {"-3", "3"}, "bytea_output": {"escape"}, "enable_seqscan": {"off", "on"},
	"random_page_cost": {"1.123456789", "4"}, "default_transaction_isolation": {"serializable", "'repeatable read'"},
	"default_transaction_read_only": {"on", "off"}, "default_transaction_deferrable": {"on"}, "row_security": {"off"},
	"client_min_messages": {"debug1", "error", "notice"}, "standard_conforming_strings": {"off", "on"}, "synchronous_commit": {"off", "local"},
	"application_name": {"'my app'", "'it''s'", "''"}, "client_encoding": {"LATIN1", "SJIS", "UTF8", "SQL_ASCII"},
	"default_text_search_config": {"english", "'pg_catalog.simple'"}, "plpgsql.extra_warnings": {"'all'"}, "transaction_isolation": {"serializable"},
	"lc_monetary": {"'C'"}, "geqo_seed": {"0.123456789"}, "array_nulls": {"off"},
	"transform_null_equals": {"on"}, "plan_cache_mode": {"force_generic_plan"}, "idle_session_timeout": {"'1h'"}, "backslash_quote": {"off"},
	"idle_in_transaction_session_timeout": {"'1h'"}, "vacuum_cost_delay": {"1.5"}, "xmloption": {"document"}, "timezone_abbreviations": {"'Default'"},
}

// superValues are settings that only superusers may set.
var superValues = map[string][]string{
	"session_replication_role": {"replica"}, "log_statement": {"none", "'ddl'"}, "log_min_duration_statement": {"'1h'"}, "deadlock_timeout": {"'5s'"},
	"track_functions": {"'all'"}, "lc_messages": {"'C'"}, "max_stack_depth": {"'1MB'"}, "commit_delay": {"1"},
}

var customNamesOfTexts = []string{"my.x", "my.y", "My.Mixed", "a.b.c", "app.tenant", "do.x", "local.only", "fn.x"}

func (g *generator) setting() (name, value string) {
	table := settingValues
	if g.r.IntN(8) == 0 {
		table = superValues
	}
	names := sortedNames(table)
	name = pick(g.r, names...)
	if strings.Contains(name, ".") {
		g.custom[name] = true
	}
	return name, pick(g.r, table[name]...)
}

func (g *generator) customName() string {
	n := pick(g.r, customNamesOfTexts...)
	g.custom[n] = true
	return n
}

func (g *generator) customValue() string {
	return pick(g.r, "'v1'", "''", "'it''s'", "'{a,\"b\"}'", "'a=b;c'", "'  spaces '", "'$1'", "'NULL'")
}

// set is one statement that changes a setting for the session or the transaction.
func (g *generator) set() string {
	name, value := g.setting()
	switch g.r.IntN(12) {
	case 0, 1:
		return fmt.Sprintf("SET %s = %s", g.customName(), g.customValue())
	case 2:
		return fmt.Sprintf("SELECT set_config('%s', %s, %v)", g.customName(), pick(g.r, g.customValue(), "chr(233)", "chr(26085)", "repeat('x', 3000)"), g.r.IntN(4) == 0)
	case 3:
		return fmt.Sprintf("SELECT set_config('%s', '%s', %v)", name, strings.Trim(strings.ReplaceAll(value, "''", "'"), "'"), g.r.IntN(3) == 0)
	case 4:
		return fmt.Sprintf("SET LOCAL %s TO %s", name, value)
	case 5:
		return "RESET " + pick(g.r, name, g.customName())
	}
	if strings.EqualFold(name, "timezone") {
		return pick(g.r, "SET TIME ZONE ", "SET SESSION TIME ZONE ") + value
	}
	return fmt.Sprintf("%s %s %s %s", pick(g.r, "SET", "set session"), name, pick(g.r, "=", "TO"), value)
}

// identity changes who the session is.
func (g *generator) identity() string {
	if g.boss && g.r.IntN(3) == 0 {
		return pick(g.r, "SET SESSION AUTHORIZATION app", "SET SESSION AUTHORIZATION DEFAULT", "RESET SESSION AUTHORIZATION", `SET SESSION AUTHORIZATION "Odd ""Role"`)
	}
	return pick(g.r, "SET ROLE worker", "SET ROLE worker", `SET ROLE "Odd ""Role"`, "SET ROLE chief", "SET ROLE NONE", "RESET ROLE", "SELECT set_config('role', 'worker', false)")
}

// statementText is what prepared statements say.
func (g *generator) statementText() string {
	return pick(g.r,
		"SELECT v FROM t WHERE id = $1", "SELECT $1::int + 1", "SELECT $1", "SELECT current_setting('work_mem'), $1::text", "SELECT count(*) FROM t",
		"SELECT v FROM one.t WHERE id = $1 AND v <> $2", "UPDATE t SET v = $1 WHERE false", "SELECT id, v FROM two.t", "SELECT ';' || $1",
		"SELECT * FROM public.t ORDER BY 1", "VALUES ($1::date)", "SHOW search_path", "", "SELECT ARRAY[1, $1]", "SELECT current_user, session_user",
		"SELECT set_inside($1)", "SELECT 'h\u00e9' || $1", "SELECT E'a\\\\b' || $1, 'c\\d'")
}

// prepareText is a text with a PREPARE in it.
func (g *generator) prepareText() string {
	g.count++
	name := fmt.Sprintf("q%d", g.r.IntN(4))
	text := pick(g.r,
		"PREPARE %s AS SELECT v FROM t WHERE id = $1", "PREPARE %s (int, text) AS SELECT $1 + 1, $2", "prepare %s as select ';' -- done; really\n",
		"/* a; /* b; */ */ PREPARE %s AS SELECT $$;$$ ;", "PREPARE %s AS SELECT E'it\\'s;' ; ;", `PREPARE "Odd ;%s" AS SELECT 1`,
		"PREPARE %s AS SELECT $x$ ; $y$ ; $x$, $1::int", "\n\tPREPARE %s (numeric) AS VALUES ($1)", "PREPARE %s AS SELECT count(*) FROM one.t WHERE v = $1;")
	if g.r.IntN(10) == 0 {
		text = pick(g.r, "SELECT 1; PREPARE %s AS SELECT 1", "PREPARE %s AS SELECT 1; SELECT 2", "PREPARE %s AS SELECT ';'; SET work_mem = '5MB'",
			"DO $$ BEGIN EXECUTE 'PREPARE %s AS SELECT 1' ; END $$; SELECT 1", "PREPARE %s AS SELECT E'a'\n';b'")
		inner := strings.Contains(text, "EXECUTE")
		text = fmt.Sprintf(text, name)
		if !inner {
			g.unclear[text] = true
		}
		return text
	}
	return fmt.Sprintf(text, name)
}

// extended is a batch of the extended protocol.
func (g *generator) extended() []part {
	name := fmt.Sprintf("S_%d", g.r.IntN(5))
	if g.r.IntN(3) == 0 {
		name = ""
	}
	text := g.statementText()
	if g.r.IntN(5) == 0 {
		text = g.set()
	}
	var types []uint32
	switch g.r.IntN(6) {
	case 0:
		types = []uint32{0}
	case 1:
		types = []uint32{23}
	case 2:
		types = []uint32{705, 25}
	}
	batch := []part{}
	if name != "" && g.r.IntN(2) == 0 {
		batch = append(batch, closePart(name))
	}
	batch = append(batch, parse(name, text, types...))
	switch g.r.IntN(6) {
	case 0, 1:
		batch = append(batch, runPart(name))
	case 2:
		batch = append(batch, runPart(name, "1"))
	case 3:
		batch = append(batch, parse("", "SELEC error"), parse(pick(g.r, "", name), "SELECT 'skipped'"))
	case 4:
		batch = append(batch, runPart(name, "1"), parse(pick(g.r, "", "S_9"), g.statementText()), closePart(pick(g.r, "", "S_3")))
	}
	return append(batch, syncPart())
}

// transaction is a block with settings in it, some of them undone.
func (g *generator) transaction() []part {
	texts := []string{"BEGIN", g.set()}
	for range g.r.IntN(3) {
		texts = append(texts, pick(g.r, "SAVEPOINT s", "ROLLBACK TO s", g.set(), g.set(), "SELECT 1/0", "UPDATE t SET v = v WHERE false",
			"SELECT pg_advisory_xact_lock_shared(2)", "DECLARE x CURSOR FOR SELECT 1", g.identity()))
	}
	texts = append(texts, pick(g.r, "COMMIT", "ROLLBACK", "ROLLBACK", "END"))
	var batch []part
	for _, text := range texts {
		batch = append(batch, simple(text)...)
	}
	return batch
}

// obstacle is something that makes, or undoes, what cannot be moved.
func (g *generator) obstacle() string {
	return pick(g.r, "LISTEN c1", "UNLISTEN *", "CREATE TEMP TABLE tt (a int)", "DROP TABLE IF EXISTS tt", "SELECT 1 AS a INTO TEMP tu", "DROP TABLE IF EXISTS tu",
		"CREATE TEMP TABLE IF NOT EXISTS tc ON COMMIT DROP AS SELECT 1", "CREATE OR REPLACE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
		"DROP FUNCTION IF EXISTS pg_temp.f()", "CREATE TYPE pg_temp.mood AS ENUM ('a')", "DROP TYPE IF EXISTS pg_temp.mood",
		"DECLARE held CURSOR WITH HOLD FOR SELECT 1", "CLOSE ALL", "SELECT pg_advisory_lock_shared(1)", "SELECT pg_advisory_unlock_all()", "DISCARD TEMP",
		"CREATE TEMP VIEW tv AS SELECT 1", "DROP VIEW IF EXISTS tv", "CREATE COLLATION pg_temp.coll FROM \"C\"", "DROP COLLATION IF EXISTS pg_temp.coll")
}

// next is one more thing that the session does.
func (g *generator) next() []part {
	switch n := g.r.IntN(100); {
	case n < 28:
		return simple(g.set())
	case n < 36:
		return simple(g.identity())
	case n < 60:
		return g.extended()
	case n < 70:
		return g.transaction()
	case n < 78:
		return simple(g.prepareText())
	case n < 81:
		return simple(g.obstacle())
	case n < 84:
		g.custom["do.x"] = true
		return simple(pick(g.r, "SELECT set_inside('deep')", "SELECT set_plain('deeper')", "DO $$ BEGIN PERFORM set_config('do.x', 'from do', false); END $$"))
	case n < 87:
		return simple("SET SESSION CHARACTERISTICS AS TRANSACTION " + pick(g.r, "ISOLATION LEVEL SERIALIZABLE", "READ ONLY", "READ WRITE", "DEFERRABLE"))
	case n < 92:
		return simple(pick(g.r, "RESET ALL", "DISCARD PLANS", "DEALLOCATE ALL", "DEALLOCATE q1", "DEALLOCATE \"S_1\"", "DISCARD SEQUENCES", "DISCARD ALL",
			"EXECUTE q1", "EXECUTE q2 (1)"))
	case n < 95:
		return simple(pick(g.r, "COPY t TO STDOUT", "COPY (SELECT 1/0) TO STDOUT", "SELECT 1/0", "SELEC", "", "SELECT nothing FROM nowhere", "SELECT 1; SET work_mem = '9MB'; SELECT 1/0"))
	case n < 97:
		return []part{closePart(fmt.Sprintf("S_%d", g.r.IntN(5))), syncPart()}
	case n < 98:
		return []part{closePart(""), syncPart()}
	}
	name := pick(g.r, "S_0", "S_1")
	return []part{runPart(name, "1"), runPart("", "1"), syncPart()}
}
