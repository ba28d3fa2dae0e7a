package wire

import (
	"fmt"

	pg "github.com/jackc/pgx/v5/pgproto3"
)

// Short names of the extended protocol's messages.

func parse(name, sql string, types ...uint32) *pg.Parse {
	return &pg.Parse{Name: name, Query: sql, ParameterOIDs: types}
}

func bind(portal, statement string, values ...string) *pg.Bind {
	b := &pg.Bind{DestinationPortal: portal, PreparedStatement: statement}
	for _, v := range values {
		b.Parameters = append(b.Parameters, []byte(v))
	}
	return b
}

func inBinary(b *pg.Bind) *pg.Bind {
	b.ResultFormatCodes = []int16{1}
	return b
}

func execute(portal string, rows ...uint32) *pg.Execute {
	e := &pg.Execute{Portal: portal}
	for _, n := range rows {
		e.MaxRows = n
	}
	return e
}

func describe(kind byte, name string) *pg.Describe { return &pg.Describe{ObjectType: kind, Name: name} }

func closing(kind byte, name string) *pg.Close { return &pg.Close{ObjectType: kind, Name: name} }

var (
	syncNow   = &pg.Sync{}
	flush     = &pg.Flush{}
	terminate = &pg.Terminate{}
)

// extendedScripts are sessions of the extended query protocol.
func extendedScripts() []script {
	return append(pipelineScripts(), []script{
		{name: "unnamed statement and portal", play: func(r *run) {
			p := r.open("a")
			p.ask(parse("", "SELECT $1::int + 1, $2::text, pg_backend_pid()"), bind("", "", "41", "äöü"), describe('P', ""), execute(""), syncNow)
			p.ask(parse("", "SELECT $1"), describe('S', ""), bind("", "", "x"), execute(""), syncNow)
			p.ask(bind("", "", "again"), execute(""), syncNow)
		}},
		{name: "every type as binary, one column at a time", play: func(r *run) {
			p := r.open("a")
			for _, e := range []string{"true", "1::int2", "2::int4", "3::int8", "1.5::float4", "2.5::float8", "123.45::numeric", "'n'::name", "'t'::text", "'\\x00ff'::bytea",
				"date '2024-02-29'", "time '01:02'", "timetz '01:02+02'", "timestamptz '2024-02-29 12:00+00'", "interval '1 mon 2 days 3 sec'",
				"'550e8400-e29b-41d4-a716-446655440000'::uuid", "'{}'::jsonb", "'10.0.0.1/8'::inet", "B'101'", "point '(1,2)'", "'{1,NULL}'::int[]", "'[1,5)'::int4range",
				"ROW(1, 'x')", "NULL::int", "'a:1'::tsvector", "'0/1'::pg_lsn", "'1.23'::money", "pg_backend_pid()"} {
				p.send(parse("", "SELECT "+e), inBinary(bind("", "")), describe('P', ""), execute(""), syncNow)
				p.ready(1)
			}
		}},
		{name: "named statements and portals, described, executed in turns, closed", play: func(r *run) {
			p := r.open("a")
			p.ask("BEGIN")
			p.ask(parse("s1", "SELECT generate_series(1, $1::int)"), parse("s2", "INSERT INTO nosuch2 VALUES ($1)"), syncNow)
			p.ask(parse("s2", "SELECT 's2', $1::bigint"), describe('S', "s1"), describe('S', "s2"), syncNow)
			p.ask("ROLLBACK")
			p.ask("BEGIN")
			p.ask(bind("p1", "s1", "5"), bind("p2", "s1", "3"), execute("p1", 2), execute("p2", 2), execute("p1", 2), execute("p2", 2), execute("p1", 2), syncNow)
			p.ask(execute("p1"), closing('P', "p1"), closing('P', "nosuch"), closing('S', "s1"), describe('P', "p2"), syncNow)
			p.ask(execute("p2"), syncNow)
			p.ask("COMMIT")
		}},
		{name: "row limits, portals across Sync, and what a Sync outside a block does to them", play: func(r *run) {
			p := r.open("a")
			p.ask(parse("", "SELECT i FROM generate_series(1, 7) i"), bind("c", ""), execute("c", 3), execute("c", 3), syncNow)
			p.ask(execute("c", 3), syncNow)
			p.ask("BEGIN")
			p.ask(parse("", "SELECT i FROM generate_series(1, 7) i"), bind("c", ""), execute("c", 3), syncNow)
			p.ask(execute("c", 3), syncNow)
			p.ask("FETCH 1 FROM c")
			p.ask(execute("c", 3), syncNow)
			p.ask(execute("c", 3), syncNow)
			p.ask("END")
		}},
		{name: "Flush instead of Sync", play: func(r *run) {
			p := r.open("a")
			p.send(parse("s", "SELECT $1::int"), describe('S', "s"), flush)
			p.until("T")
			p.send(bind("", "s", "1"), execute(""), flush)
			p.until("C")
			p.send(bind("", "s", "x"), execute(""), flush)
			p.until("E")
			p.send(bind("", "s", "2"), execute(""), flush) // skipped
			p.ask(syncNow)
			p.ask(bind("", "s", "3"), execute(""), syncNow)
		}},
		{name: "statements without rows, and no statement at all", play: func(r *run) {
			p := r.open("a")
			p.ask(parse("", ""), bind("", ""), describe('P', ""), execute(""), syncNow)
			p.ask(parse("", "CREATE TEMP TABLE t (i int)"), describe('S', ""), bind("", ""), describe('P', ""), execute(""), syncNow)
			p.ask(parse("", "INSERT INTO t VALUES ($1), ($2) RETURNING i"), bind("", "", "1", "2"), describe('P', ""), execute("", 1), execute("", 1), syncNow)
			p.ask(parse("", "SELECT 1; SELECT 2"), syncNow)
			p.ask(syncNow)
			p.send(syncNow, syncNow, syncNow)
			p.ready(3)
			p.send(flush)
			p.ask("SELECT 1")
		}},
		{name: "what is not there, or of the wrong kind", play: func(r *run) {
			p := r.open("a")
			p.ask(bind("", "nosuch"), syncNow)
			p.ask(execute("nosuch"), syncNow)
			p.ask(describe('S', "nosuch"), syncNow)
			p.ask(describe('P', "nosuch"), syncNow)
			p.ask(parse("twice", "SELECT 1"), parse("twice", "SELECT 2"), syncNow)
			p.ask(parse("", "SELECT $1::int"), bind("", ""), syncNow)
			p.ask(parse("", "SELECT $1::int"), bind("", "", "1", "2"), syncNow)
			p.ask(parse("", "SELECT $1::int"), bind("", "", "no number"), syncNow)
			p.ask(parse("", "SELECT $1::int", 20), syncNow)
			p.ask(parse("", "SELEC"), syncNow)
		}},
		{name: "a plan whose table changes under it", play: func(r *run) {
			p := r.open("a")
			p.ask("CREATE TEMP TABLE t AS SELECT 1 AS i")
			p.ask(parse("s", "SELECT * FROM t"), bind("", "s"), execute(""), syncNow)
			p.ask("ALTER TABLE t ADD j text")
			p.ask(bind("", "s"), execute(""), syncNow)
			p.ask("DEALLOCATE ALL")
			p.ask(bind("", "s"), execute(""), syncNow)
		}},
		{name: "65,535 parameters, and a parameter of 16 MiB", whole: true, play: func(r *run) {
			p := r.open("a")
			many, types := bind("", ""), make([]uint32, 65535)
			for i := range types {
				types[i] = 23
				many.Parameters = append(many.Parameters, []byte(fmt.Sprint(i)))
			}
			p.ask(parse("", "SELECT $1 + $65535", types...), many, describe('S', ""), execute(""), syncNow)
			large := bind("", "")
			large.Parameters = [][]byte{make([]byte, 16<<20)}
			large.ParameterFormatCodes = []int16{1}
			p.ask(parse("", "SELECT length($1::bytea), md5($1), $1"), inBinary(large), execute(""), syncNow)
		}},
	}...)
}

// pipelineScripts send more before the answer to the first is there.
func pipelineScripts() []script {
	return []script{
		{name: "a pipeline without errors", play: func(r *run) {
			p := r.open("a")
			var unit []any
			for i := range 50 {
				unit = append(unit, parse("", "SELECT $1::int"), bind("", "", fmt.Sprint(i)), describe('P', ""), execute(""), syncNow)
			}
			p.send(unit...)
			p.ready(50)
		}},
		{name: "an error in the middle of a pipeline, between Syncs", play: func(r *run) {
			p := r.open("a")
			p.ask("CREATE TEMP TABLE t (i int)")
			insert := func(v string) []any {
				return []any{parse("", "INSERT INTO t VALUES ($1)"), bind("", "", v), execute("")}
			}
			var unit []any
			for _, v := range []string{"1", "no number", "3"} {
				unit = append(unit, insert(v)...)
			}
			unit = append(unit, syncNow)
			unit = append(append(unit, insert("4")...), syncNow)
			p.send(unit...)
			p.ready(2)
			p.ask("TABLE t")
		}},
		{name: "an error in the middle of a pipeline that opened a block", play: func(r *run) {
			p := r.open("a")
			p.send(parse("", "BEGIN"), bind("", ""), execute(""), syncNow, parse("", "SELECT 1/0"), bind("", ""), execute(""), syncNow,
				parse("", "SELECT 1"), bind("", ""), execute(""), syncNow, parse("", "ROLLBACK"), bind("", ""), execute(""), syncNow, "SELECT 2")
			p.ready(5)
		}},
		{name: "a Query behind messages without a Sync, well and after an error", play: func(r *run) {
			p := r.open("a")
			p.ask(parse("", "SELECT 1"), bind("", ""), execute(""), "SELECT 2")
			p.send(parse("", "SELECT nosuch"), "SELECT 3", "SELECT 4", syncNow)
			p.ready(1)
			p.ask("SELECT 5")
		}},
		{name: "BEGIN as a Query with the first statement behind it, as pgjdbc does", play: func(r *run) {
			p := r.open("a")
			p.send("BEGIN", parse("s", "SELECT $1::int"), describe('S', "s"), bind("", "s", "1"), execute(""), syncNow)
			p.ready(2)
			p.send(parse("", "COMMIT"), bind("", ""), execute("", 1), syncNow)
			p.ready(1)
		}},
		{name: "an implicit block that fails at its Sync", play: func(r *run) {
			p := r.open("a")
			p.ask("CREATE TEMP TABLE t (i int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED)")
			p.ask(parse("", "INSERT INTO t VALUES (1), (1)"), bind("", ""), execute(""), syncNow)
			p.ask(parse("", "INSERT INTO t VALUES (2)"), bind("", ""), execute(""), bind("", ""), execute(""), syncNow)
			p.ask("TABLE t")
		}},
		{name: "more in flight than any buffer holds, both ways", whole: true, play: func(r *run) {
			p := r.open("a")
			done := make(chan struct{})
			const rounds = 300
			large := bind("", "", string(make20k()))
			go func() {
				defer close(done)
				var unit []any
				for range rounds {
					unit = append(unit, parse("", "SELECT repeat($1, 2)"), large, execute(""), syncNow)
				}
				p.send(unit...)
			}()
			p.ready(rounds)
			<-done
		}},
	}
}

func make20k() []byte {
	b := make([]byte, 20_000)
	for i := range b {
		b[i] = 'a' + byte(i%26)
	}
	return b
}
