package wire

import "strings"

// simpleScripts are sessions of the simple query protocol.
func simpleScripts() []script {
	return []script{
		{name: "one statement, and the server's process", play: func(r *run) {
			p := r.open("a")
			p.ask("SELECT 1 AS one, 'text' AS two, NULL AS three, pg_backend_pid()")
		}},
		{name: "several statements in one text", play: func(r *run) {
			p := r.open("a")
			p.ask("CREATE TEMP TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, repeat('x', i) FROM generate_series(1, 9) i; SELECT * FROM t; DELETE FROM t WHERE id > 5; TABLE t")
			p.ask("SELECT 1; SELECT 2;; SELECT 3")
		}},
		{name: "an error in the middle of several", play: func(r *run) {
			p := r.open("a")
			p.ask("CREATE TEMP TABLE t (id int); INSERT INTO t VALUES (1)")
			p.ask("INSERT INTO t VALUES (2); SELECT 1/0; INSERT INTO t VALUES (3)")
			p.ask("TABLE t")
		}},
		{name: "nothing to do", play: func(r *run) {
			p := r.open("a")
			p.ask("")
			p.ask(";")
			p.ask("  -- a comment")
			p.ask(";;SELECT 1;;")
		}},
		{name: "transaction blocks, good, failed, chained, saved", play: func(r *run) {
			p := r.open("a")
			for _, sql := range []string{
				"BEGIN", "SELECT 1", "COMMIT", "BEGIN", "SELECT 1/0", "SELECT 1", "COMMIT", "ROLLBACK", "BEGIN; SELECT 1; COMMIT; SELECT 2; BEGIN",
				"COMMIT AND CHAIN", "ROLLBACK AND CHAIN", "SAVEPOINT s", "SELECT 1/0", "ROLLBACK TO s", "SELECT 2", "RELEASE s", "END", "COMMIT",
				"START TRANSACTION READ ONLY", "CREATE TABLE never (i int)", "ABORT", "BEGIN ISOLATION LEVEL SERIALIZABLE", "BEGIN", "END",
			} {
				p.ask(sql)
			}
		}},
		{name: "two-phase commit", play: func(r *run) {
			p := r.open("a")
			p.ask("BEGIN")
			p.ask("CREATE TABLE prepared (i int)")
			p.ask("PREPARE TRANSACTION 'wire'")
			p.ask("COMMIT PREPARED 'wire'")
			p.ask("DROP TABLE prepared")
			p.ask("ROLLBACK PREPARED 'nosuch'")
		}},
		{name: "queries one behind the other in a segment", play: func(r *run) {
			p := r.open("a")
			p.send("SELECT 1", "BEGIN", "SELECT 1/0", "SELECT 2", "ROLLBACK", "SELECT pg_backend_pid()")
			p.ready(6)
		}},
		{name: "notices of every level", play: func(r *run) {
			p := r.open("a")
			p.ask("SET client_min_messages = debug1")
			p.ask("DO $$BEGIN RAISE DEBUG 'd'; RAISE INFO 'i'; RAISE NOTICE 'n %', 1 USING HINT = 'h', DETAIL = 'd', ERRCODE = '01234'; RAISE WARNING 'w'; END$$")
			p.ask("DROP TABLE IF EXISTS nosuch, nosuch2")
			p.ask("COMMIT")
		}},
		{name: "an error with every field", play: func(r *run) {
			p := r.open("a")
			p.ask("CREATE TEMP TABLE t (i int CONSTRAINT positive CHECK (i > 0), j int UNIQUE, k int NOT NULL)")
			p.ask("INSERT INTO t VALUES (0, 1, 1)")
			p.ask("INSERT INTO t VALUES (1, 1, NULL)")
			p.ask("INSERT INTO t VALUES (1, 1, 1), (2, 1, 1)")
			p.ask("SELECT * FROM nosuch")
			p.ask("DO $$BEGIN EXECUTE 'SELECT nosuch'; END$$")
			p.ask("DO $$BEGIN RAISE 'own' USING ERRCODE = 'P1234', COLUMN = 'c', CONSTRAINT = 'k', DATATYPE = 't', TABLE = 'x', SCHEMA = 's'; END$$")
		}},
		{name: "what the server reports is set, reset, and set in a transaction that fails", play: func(r *run) {
			p := r.open("a")
			p.ask("SET application_name = 'wire 2'; SET TimeZone = 'Europe/Berlin'; SET DateStyle = 'SQL, DMY'; SET IntervalStyle = 'iso_8601'")
			p.ask("SELECT timestamptz '2024-05-06 07:08:09+00', interval '1 year 2 days'")
			p.ask("SET client_encoding = 'LATIN1'")
			p.ask("SELECT chr(228) || chr(246)")
			p.ask("BEGIN; SET LOCAL application_name = 'local'; SET standard_conforming_strings = off; SELECT 1/0")
			p.ask("ROLLBACK")
			p.ask("SELECT set_config('application_name', 'by function', false)")
			p.ask("RESET ALL")
			p.ask("DISCARD ALL")
			p.ask("SHOW ALL")
		}},
		{name: "startup parameters of every kind", play: func(r *run) {
			p := r.open("a", "client_encoding", "SQL_ASCII", "DateStyle", "ISO, MDY", "TimeZone", "Asia/Tokyo", "extra_float_digits", "2",
				"options", `-c statement_timeout=9s -c geqo=off -c search_path=wire,pg_temp --work_mem=5MB`, "custom.thing", "äöü")
			p.ask("SELECT current_setting('statement_timeout'), current_setting('geqo'), current_setting('search_path'), current_setting('work_mem'), current_setting('custom.thing')")
		}},
		{name: "every type as text", play: func(r *run) { r.open("a").ask("SELECT ROW(1, NULL)::record, ROW(1, 'x'), " + manyTypes) }},
		{name: "wide, long and many rows", whole: true, play: func(r *run) {
			p := r.open("a")
			p.ask("SELECT " + strings.Repeat("repeat('ä', 5), ", 1599) + "1")
			p.ask("SELECT -i, md5(i::text) FROM generate_series(1, 20000) i")
			p.ask("SELECT repeat('0123456789abcdef', 65536), repeat('x', 100000)")
		}},
		{name: "a row of 16 MiB and a statement of 16 MiB", whole: true, play: func(r *run) {
			p := r.open("a")
			p.ask("SELECT repeat('0123456789abcdef', 1048576) AS large")
			p.ask("SELECT length('" + strings.Repeat("0123456789abcdef", 1<<20) + "')")
			p.ask("SELECT '" + strings.Repeat("0123456789abcdef", 1<<20) + "'")
		}},
		{name: "cursors, also beyond a transaction", play: func(r *run) {
			p := r.open("a")
			p.ask("BEGIN; DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT i FROM generate_series(1, 10) i; FETCH 3 FROM c")
			p.ask("COMMIT")
			p.ask("FETCH LAST FROM c; FETCH PRIOR FROM c; MOVE FIRST IN c; FETCH ALL FROM c; CLOSE c; FETCH c")
		}},
		{name: "explain, show and a DO that takes its time", play: func(r *run) {
			p := r.open("a")
			p.ask("EXPLAIN (COSTS OFF) SELECT * FROM generate_series(1, 3)")
			p.ask("SHOW server_version")
			p.ask("DO $$BEGIN FOR i IN 1..3 LOOP RAISE NOTICE '%', i; PERFORM pg_sleep(0.02); END LOOP; END$$")
		}},
	}
}

// manyTypes is a list of expressions, one of each of PostgreSQL's own types that has an unmistakable value.
const manyTypes = `true, 1::int2, 2::int4, 3::int8, 1.5::float4, 2.5::float8, 'NaN'::float8, '-Infinity'::float4, 123.4500::numeric, 'NaN'::numeric,
 '1.23'::money, 'c'::"char", 'name'::name, 'text'::text, 'vc'::varchar(5), 'bp'::char(5), '\x00ff10'::bytea, date '2024-02-29', 'infinity'::date,
 time '01:02:03.456', timetz '01:02:03+02', timestamp '2024-02-29 12:00', timestamptz '2024-02-29 12:00+00', interval '1 mon 2 days 03:04:05.6',
 '550e8400-e29b-41d4-a716-446655440000'::uuid, '{"a": [1, null]}'::json, '{"a": [1, null]}'::jsonb, '$.a[*]'::jsonpath, '<a>b</a>'::xml,
 '10.0.0.1/8'::inet, '10.0.0.0/8'::cidr, '08:00:2b:01:02:03'::macaddr, '08:00:2b:01:02:03:04:05'::macaddr8, B'101'::bit(3), B'1011'::varbit,
 point '(1,2)', line '{1,2,3}', lseg '[(0,0),(1,1)]', box '(1,1),(0,0)', path '((0,0),(1,1))', polygon '((0,0),(1,1),(1,0))', circle '<(1,2),3>',
 'a & b'::tsquery, 'a:1 b:2'::tsvector, '{1,NULL,3}'::int[], '{{a,b},{c,"d e"}}'::text[], '[0:1]={1,2}'::int[], '[1,5)'::int4range,
 '{[1,2],[4,5]}'::int4multirange, 'empty'::tsrange, '0/16B3748'::pg_lsn, '10:20:10,14'::pg_snapshot, 'int4'::regtype, 'pg_class'::regclass,
 '(0,1)'::tid, 7::oid`
