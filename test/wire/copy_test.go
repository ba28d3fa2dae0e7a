package wire

import (
	"strings"

	pg "github.com/jackc/pgx/v5/pgproto3"
)

func copyData(s string) *pg.CopyData { return &pg.CopyData{Data: []byte(s)} }

var copyDone = &pg.CopyDone{}

// copyScripts move data by COPY.
func copyScripts() []script {
	return append(copyExtendedScripts(), []script{
		{name: "copy out: text, CSV, binary, nothing", play: func(r *run) {
			p := r.open("a")
			p.ask("COPY (SELECT i, 'a\tb\nä', NULL FROM generate_series(1, 5) i) TO STDOUT")
			p.ask("COPY (SELECT i, 'a,\"b', NULL FROM generate_series(1, 5) i) TO STDOUT (FORMAT csv, HEADER)")
			p.ask("COPY (SELECT i, 2.5::float8, 'x' FROM generate_series(1, 5) i) TO STDOUT (FORMAT binary)")
			p.ask("COPY (SELECT 1 WHERE false) TO STDOUT")
			p.ask("COPY (SELECT 1/0) TO STDOUT")
			p.ask("COPY (SELECT 1/(3-i) FROM generate_series(1, 5) i) TO STDOUT")
			p.ask("SELECT 1; COPY (SELECT 2) TO STDOUT; SELECT 3; COPY (SELECT 4) TO STDOUT")
		}},
		{name: "copy in: text and CSV, in pieces that end anywhere", play: func(r *run) {
			p := copyTable(r)
			p.send("COPY t FROM STDIN")
			p.until("G")
			p.ask(copyData("1\ton"), copyData("e\n2\t\\N"), copyData(""), copyData("\n"), copyData("3\tthree\n\\.\n"), copyDone)
			p.send("COPY t FROM STDIN (FORMAT csv)")
			p.until("G")
			p.ask(copyData("4,\"fo\nur\"\n5,\n"), copyDone)
			p.ask("TABLE t")
		}},
		{name: "copy in: binary, sent along with the statement", play: func(r *run) {
			p := copyTable(r)
			header := "PGCOPY\n\xff\r\n\x00" + strings.Repeat("\x00", 8)
			p.ask("COPY t FROM STDIN (FORMAT binary)", copyData(header), copyData("\x00\x02\x00\x00\x00\x04\x00\x00\x00\x2a\x00\x00\x00\x02xy"), copyData("\xff\xff"), copyDone)
			p.ask("COPY t TO STDOUT (FORMAT binary)")
		}},
		{name: "copy in: the client gives up", play: func(r *run) {
			p := copyTable(r)
			p.send("COPY t FROM STDIN")
			p.until("G")
			p.ask(copyData("1\tone\n"), &pg.CopyFail{Message: "the client's reason"})
			p.ask("TABLE t")
		}},
		{name: "copy in: a bad row, and the client sends on", play: func(r *run) {
			p := copyTable(r)
			p.send("COPY t FROM STDIN")
			p.until("G")
			p.send(copyData("1\tone\n"), copyData("no number\ttwo\n"))
			p.until("E")
			p.ready(1)
			p.send(copyData("3\tthree\n"), copyDone)
			p.ask("TABLE t")
		}},
		{name: "copy in: two in one text, then a statement", play: func(r *run) {
			p := copyTable(r)
			p.send("COPY t FROM STDIN; COPY t FROM STDIN; TABLE t")
			p.until("G")
			p.send(copyData("1\tone\n"), copyDone)
			p.until("G")
			p.ask(copyData("2\ttwo\n"), copyDone)
		}},
		{name: "copy in: Sync and Flush are of no account, a Query is an error", play: func(r *run) {
			p := copyTable(r)
			p.send("COPY t FROM STDIN")
			p.until("G")
			p.ask(syncNow, copyData("1\tone\n"), flush, syncNow, copyDone)
			p.send("COPY t FROM STDIN")
			p.until("G")
			p.send(copyData("2\ttwo\n"), "SELECT 'in the middle of a copy'")
			p.end()
		}},
		{name: "copy data without a copy is ignored", play: func(r *run) {
			p := r.open("a")
			p.send(copyData("1\tone\n"), copyDone, &pg.CopyFail{Message: "no"})
			p.ask("SELECT 1")
		}},
		{name: "copy of 8 MiB both ways", whole: true, play: func(r *run) {
			p := copyTable(r)
			p.send("COPY t FROM STDIN")
			p.until("G")
			row := "7\t" + strings.Repeat("0123456789abcdef", 64) + "\n"
			chunk := copyData(strings.Repeat(row, 64))
			for range 8 << 20 / len(chunk.Data) {
				p.send(chunk)
			}
			p.ask(copyDone)
			p.ask("COPY t TO STDOUT")
		}},
		{name: "a transaction around copies", play: func(r *run) {
			p := copyTable(r)
			p.ask("BEGIN")
			p.send("COPY t FROM STDIN")
			p.until("G")
			p.ask(copyData("1\tone\n"), copyDone)
			p.ask("COPY t TO STDOUT")
			p.send("COPY t FROM STDIN")
			p.until("G")
			p.ask(copyData("bad\n"), copyDone)
			p.ask("COMMIT")
			p.ask("TABLE t")
		}},
	}...)
}

// copyExtendedScripts start a COPY by the extended protocol.
func copyExtendedScripts() []script {
	start := []any{parse("", "COPY t FROM STDIN"), bind("", ""), execute("")}
	return []script{
		{name: "extended copy in as libpq does it: the first Sync is swallowed", play: func(r *run) {
			p := copyTable(r)
			p.send(append(start, syncNow)...)
			p.until("G")
			p.ask(copyData("1\tone\n"), copyDone, syncNow)
			p.ask("TABLE t")
		}},
		{name: "extended copy in with Flush", play: func(r *run) {
			p := copyTable(r)
			p.send(append(start, flush)...)
			p.until("G")
			p.ask(copyData("1\tone\n"), copyDone, syncNow)
			p.ask("TABLE t")
		}},
		{name: "extended copy in that fails, either by the client or by a row", play: func(r *run) {
			p := copyTable(r)
			p.send(append(start, syncNow)...)
			p.until("G")
			p.ask(copyData("1\tone\n"), &pg.CopyFail{Message: "no"}, syncNow)
			p.send(append(start, syncNow)...)
			p.until("G")
			p.ask(copyData("bad\n"), copyDone, syncNow)
			p.ask("TABLE t")
		}},
		{name: "extended copy in, everything sent at once", play: func(r *run) {
			p := copyTable(r)
			p.ask(append(start, copyData("1\tone\n"), copyDone, syncNow)...)
			p.ask("TABLE t")
		}},
		{name: "extended copy out", play: func(r *run) {
			p := r.open("a")
			p.ask(parse("", "COPY (SELECT generate_series(1, 3)) TO STDOUT"), bind("", ""), describe('P', ""), execute(""), syncNow)
		}},
		{name: "extended copies of a table that is not there", play: func(r *run) {
			p := r.open("a")
			p.send(parse("", "COPY nosuch FROM STDIN"), bind("", ""), execute(""), syncNow, copyData("1\n"), copyDone, syncNow)
			p.ready(2)
			p.ask("SELECT 1")
		}},
	}
}

func copyTable(r *run) *peer {
	p := r.open("a")
	p.ask("CREATE TEMP TABLE t (i int, v text)")
	return p
}
