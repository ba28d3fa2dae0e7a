package abuse

import (
	"fmt"
	"slices"
	"strings"
)

// inSession is what a client does once it is logged in.
func inSession(name, want string, count counts, steps ...step) input {
	return input{name: name, does: append([]step{in}, steps...), want: "in " + want, counts: count}
}

// unknownTypes are messages of a type that no client may send. PostgreSQL knows it by the first byte.
func unknownTypes() []input {
	var all []input
	for _, typ := range []byte{0, 1, 'A', 'G', 'K', 'N', 'R', 'T', 'V', 'W', 'Z', 'a', 'g', 'p', 'q', 's', 'v', 'x', '1', ' ', 0x16, 0x7f, 0x80, 0xff} {
		all = append(all, inSession(fmt.Sprintf("a message of type %q", typ), "FATAL/08P01 closed", endedByServer, send(msg(typ, "abc\x00"))))
	}
	return append(all,
		inSession("a second startup packet", "FATAL/08P01 closed", endedByServer, send(loginAs(trusted))),
		inSession("an SSLRequest", "FATAL/08P01 closed", endedByServer, send(sslRequest)),
		inSession("a CancelRequest", "FATAL/08P01 closed", endedByServer, send(key{1, "abcd"}.request())),
		inSession("HTTP", "FATAL/08P01 closed", endedByServer, send("GET / HTTP/1.1\r\n\r\n")),
		inSession("a ClientHello", "FATAL/08P01 closed", endedByServer, send(clientHello(3))),
		inSession("an unknown type behind a query", "T D C ZI FATAL/08P01 closed", endedByServer, send(query("SELECT 1"), msg('~', ""))),
		inSession("an unknown type inside a transaction", "C ZT FATAL/08P01 closed", endedByServer, send(query("BEGIN")), hear('Z'), send(msg('~', ""))),
		inSession("an unknown type during COPY", "C ZT C ZT G ERROR/08P01 FATAL/08P01 closed", endedByServer,
			send(query("BEGIN")), hear('Z'), send(query("CREATE TEMP TABLE t (a text)")), hear('Z'), send(query("COPY t FROM STDIN")), hear('G'), send(msg('~', ""))),
	)
}

// lostWriter is what is counted for a session whose server was lost.
var lostWriter = counts{"logins pinned": 1, "sessions writer_lost": 1, "refusals writer_lost": 1}

// impossibleLengths are messages of known types with lengths that they cannot have. PostgreSQL closes without a word.
func impossibleLengths() []input {
	var all []input
	for _, typ := range []byte("QPBDECHSFXdcf") {
		for _, length := range []struct {
			name string
			n    int64
		}{{"0", 0}, {"3", 3}, {"-1", -1}, {"2 GiB", 1 << 31}} {
			all = append(all, inSession(fmt.Sprintf("%c of length %s", typ, length.name), "closed", endedByServer, send(lying(typ, length.n, "abc\x00"))))
		}
	}
	tooLong := func(typ byte, n int64) input {
		in := inSession(fmt.Sprintf("%c of length %d", typ, n), "FATAL/08006 closed", lostWriter, send(lying(typ, n, "abc\x00")))
		in.differs, in.postgres = tooLongForServer, "in closed"
		return in
	}
	for _, typ := range []byte("QPBFd") {
		all = append(all, tooLong(typ, 0x3fffffff)) // PQ_LARGE_MESSAGE_LIMIT is one less
	}
	for _, typ := range []byte("DECHXScf") { // PQ_SMALL_MESSAGE_LIMIT
		all = append(all,
			inSession(fmt.Sprintf("%c of length 10001", typ), "closed", endedByServer, send(lying(typ, 10001, "abc\x00"))),
			inSession(fmt.Sprintf("%c of length 10000, of which 4 bytes come", typ), "closed", leftIt, send(lying(typ, 10000, "abc\x00")), halfClose))
	}
	return all
}

// unfinished are messages whose client goes away in the middle.
func unfinished() []input {
	var all []input
	for _, m := range []struct{ name, message string }{
		{"a query", query("SELECT pg_sleep(60)")}, {"a Parse", parse("a", "SELECT 1")}, {"a Bind", bind("", "a")}, {"a Sync", syncMsg}, {"a Terminate", terminate},
	} {
		for _, n := range slices.Compact([]int{1, 2, 4, len(m.message) - 1}) {
			all = append(all, inSession(nth(n, m.name), "closed", leftIt, send(m.message[:n]), halfClose))
		}
	}
	for _, typ := range []byte("QPBFd") {
		all = append(all, inSession(fmt.Sprintf("%c of the longest length, of which 64 KiB come", typ), "closed", leftIt,
			send(lying(typ, 0x3ffffffe, strings.Repeat("x", 64<<10))), halfClose))
	}
	return append(all,
		inSession("nothing", "closed", leftIt, halfClose),
		inSession("a Terminate with a body", "closed", leftIt, send(msg('X', "bye"))),
		inSession("messages after a Terminate", "closed", leftIt, send(terminate, query("SELECT 1"), msg('~', ""))),
	)
}

// confused are whole messages that make no sense. The server says so, and the session goes on.
func confused() []input {
	goesOn := func(name, want string, messages ...string) input {
		return inSession(name, want+" closed", leftIt, send(messages...), send(terminate))
	}
	const bad = "ERROR/08P01 ZI"
	return []input{
		goesOn("a query without its zero byte", bad, msg('Q', "SELECT 1")),
		goesOn("a query with a zero byte inside", bad, msg('Q', "SELECT 1\x00 + 1\x00")),
		goesOn("a query without a body", bad, msg('Q', "")),
		goesOn("an empty query", "I ZI", query("")),
		goesOn("a query that is no UTF-8", "ERROR/22021 ZI", query("SELECT '\xff\xfe'")),
		goesOn("a query of 8 MiB of nothing", "T D C ZI", query("SELECT 1 "+strings.Repeat(" ", 8<<20))),
		goesOn("a Parse without a body", bad, msg('P', ""), syncMsg),
		goesOn("a Parse without a count", bad, msg('P', "a\x00SELECT 1\x00"), syncMsg),
		goesOn("a Parse of -1 types", bad, msg('P', "a\x00SELECT 1\x00"+short(0xffff)), syncMsg),
		goesOn("a Parse that promises 1000 types", bad, msg('P', "a\x00SELECT 1\x00"+short(1000)), syncMsg),
		goesOn("a Parse of two statements", "ERROR/42601 ZI", parse("a", "SELECT 1; SELECT 2"), syncMsg),
		goesOn("a Parse of a name that is taken", "1 ERROR/42P05 ZI", parse("a", "SELECT 1"), parse("a", "SELECT 2"), syncMsg),
		goesOn("a Bind of a statement that does not exist", "ERROR/26000 ZI", bind("", "nothing"), syncMsg),
		goesOn("a Bind without a body", bad, msg('B', ""), syncMsg),
		goesOn("a Bind that promises 65535 parameters", "1 "+bad, parse("", "SELECT 1"), msg('B', "\x00\x00"+short(0)+short(0xffff)), syncMsg),
		goesOn("a Bind with a parameter of length -2", "1 "+bad, parse("", "SELECT $1::text"), msg('B', "\x00\x00"+short(0)+short(1)+word(-2)+short(0)), syncMsg),
		goesOn("a Bind with a parameter of 2 GiB - 1", "1 "+bad, parse("", "SELECT $1::text"), msg('B', "\x00\x00"+short(0)+short(1)+word(1<<31-1)+short(0)), syncMsg),
		goesOn("a Bind with more formats than parameters", "1 "+bad, parse("", "SELECT $1::text"), msg('B', "\x00\x00"+short(3)+short(0)+short(0)+short(0)+short(1)+word(1)+"x"+short(0)), syncMsg),
		goesOn("a Bind with a format that does not exist", "1 ERROR/22023 ZI", parse("", "SELECT $1::text"), msg('B', "\x00\x00"+short(1)+short(7)+short(1)+word(1)+"x"+short(0)), syncMsg),
		goesOn("a Bind with bytes to spare", "1 "+bad, parse("", "SELECT 1"), msg('B', "\x00\x00"+short(0)+short(0)+short(0)+"spare"), syncMsg),
		goesOn("a Describe of neither kind", bad, msg('D', "Xa\x00"), syncMsg),
		goesOn("a Describe of what does not exist", "ERROR/26000 ZI", msg('D', "Sa\x00"), syncMsg),
		goesOn("a Close of neither kind", bad, msg('C', "Xa\x00"), syncMsg),
		goesOn("a Close of what does not exist", "3 ZI", msg('C', "Sa\x00"), syncMsg),
		goesOn("an Execute of a portal that does not exist", "ERROR/34000 ZI", execute("nothing"), syncMsg),
		goesOn("an Execute without a count", bad, msg('E', "\x00"), syncMsg),
		goesOn("an Execute of -1 rows", "1 2 D C ZI", parse("", "SELECT 1"), bind("", ""), msg('E', "\x00"+word(-1)), syncMsg),
		goesOn("a Sync with a body", bad, msg('S', "now")),
		goesOn("a Flush with a body", bad, msg('H', "now"), syncMsg),
		goesOn("a FunctionCall of nothing", "ERROR/42883 ZI", msg('F', word(0)+short(0)+short(0)+short(0))),
		goesOn("a FunctionCall without a body", bad, msg('F', "")),
		goesOn("a FunctionCall with an argument of length -7", bad, msg('F', word(1598)+short(0)+short(1)+word(-7)+short(0))),
		goesOn("CopyData outside COPY", "T D C ZI", msg('d', "row\n"), query("SELECT 1")),
		goesOn("CopyDone outside COPY", "T D C ZI", msg('c', ""), query("SELECT 1")),
		goesOn("CopyFail outside COPY", "T D C ZI", msg('f', "why\x00"), query("SELECT 1")),
		goesOn("a Query amid messages without a Sync", "1 T D C ZI", parse("a", "SELECT 1"), query("SELECT 1")),
	}
}

// storms are messages in numbers. Each is answered, in order.
func storms() []input {
	storm := func(name, want string, bytes string) input {
		return inSession(name, want+" closed", leftIt, func(p *peer) { go p.send(bytes) }, hear(0))
	}
	return []input{
		storm("20,000 Syncs", "ZI*20000", strings.Repeat(syncMsg, 20000)+terminate),
		storm("20,000 Flushes and a Sync", "ZI", strings.Repeat(flush, 20000)+syncMsg+terminate),
		storm("5,000 empty queries", strings.TrimSpace(strings.Repeat("I ZI ", 5000)), strings.Repeat(query(""), 5000)+terminate),
		storm("2,000 Parses of the unnamed statement", "1*2000 ZI", strings.Repeat(parse("", "SELECT 1"), 2000)+syncMsg+terminate),
		storm("20,000 messages after an error", "ERROR/26000 ZI", bind("", "nothing")+strings.Repeat(execute(""), 20000)+syncMsg+terminate),
		storm("20,000 CopyData outside COPY", "ZI", strings.Repeat(msg('d', "x"), 20000)+syncMsg+terminate),
		inSession("a query in pieces of a byte", "T D C ZI closed", leftIt, sendSlowly(query("SELECT 1"), 0), send(terminate)),
	}
}
