package pgwire

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A script is a session in lines:
//
//	> Q BEGIN | P s1/COMMIT | B p1/s1 | E p1 | S     messages of the client, with the texts and names that matter
//	< 1 2 C ZT                                      messages of the server, Z with its status
//	= idle | busy, block | failed, doubt, broken    what the tracker says now: exactly these words
func runScript(t *testing.T, tr *Tracker, script string) {
	t.Helper()
	runScriptIn(t, tr, script, 1<<30)
}

// runScriptIn gives the tracker what a line says in pieces of at most size bytes.
func runScriptIn(t *testing.T, tr *Tracker, script string, size int) {
	t.Helper()
	for n, line := range strings.Split(strings.TrimSpace(script), "\n") {
		kind, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch kind {
		case ">":
			var b []byte
			for _, m := range strings.Split(rest, "|") {
				b = append(b, clientMsg(strings.TrimSpace(m))...)
			}
			for piece := range slices.Chunk(b, size) {
				tr.Client(piece)
			}
		case "<":
			var b []byte
			for _, m := range strings.Fields(rest) {
				b = append(b, serverMsg(m)...)
			}
			for piece := range slices.Chunk(b, size) {
				if pass, stop := tr.Server(piece); stop || pass != len(piece) {
					t.Fatalf("line %d %q: %q was kept back", n+1, line, piece[pass:])
				}
			}
		case "=":
			if got := strings.Join(state(tr), " "); got != rest {
				t.Errorf("line %d: %q, want %q", n+1, got, rest)
			}
		case "#": // relaxed commits since the last such line
			if got := strconv.FormatUint(tr.TakeRelaxed(), 10); got != rest {
				t.Errorf("line %d: %s relaxed, want %s", n+1, got, rest)
			}
		default:
			t.Fatalf("line %d %q", n+1, line)
		}
	}
}

// state says what the tracker says, in words.
func state(tr *Tracker) []string {
	words := []string{"busy"}
	if tr.Idle() {
		words[0] = "idle"
	}
	switch tr.TxStatus() {
	case 'T':
		words = append(words, "block")
	case 'E':
		words = append(words, "failed")
	}
	if tr.InTransaction() != (len(words) > 1) {
		words = append(words, "InTransaction is wrong")
	}
	if tr.InDoubt() {
		words = append(words, "doubt")
	}
	if tr.Broken() != nil {
		words = append(words, "broken")
	}
	return words
}

func clientMsg(s string) []byte {
	typ, arg, _ := strings.Cut(s, " ")
	first, then, _ := strings.Cut(arg, "/")
	switch typ {
	case "Q":
		return msg('Q', arg+"\x00")
	case "P":
		return msg('P', first+"\x00"+then+"\x00\x00\x00")
	case "B":
		return msg('B', first+"\x00"+then+"\x00\x00\x00\x00\x00\x00\x00")
	case "E":
		return msg('E', arg+"\x00\x00\x00\x00\x00")
	case "D", "C":
		return msg(typ[0], "S"+arg+"\x00")
	case "F":
		return msg('F', "\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00")
	case "d", "f":
		return msg(typ[0], arg+"\x00")
	case "S", "H", "c", "X":
		return msg(typ[0], arg)
	}
	panic(fmt.Sprintf("client message %q", s))
}

func serverMsg(s string) []byte {
	switch s[0] {
	case 'Z':
		return msg('Z', s[1:])
	case '1', '2', '3', 'n', 's', 'I', 'c':
		return msg(s[0], "")
	}
	if len(s) > 1 { // a tag
		return msg(s[0], strings.ReplaceAll(s[2:], "_", " ")+"\x00")
	}
	return msg(s[0], "some body\x00")
}

func TestScripts(t *testing.T) {
	for name, script := range scripts {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{1 << 30, 1, 2, 3, 4, 5, 6, 7, 11} {
				runScriptIn(t, started(), script, size)
			}
		})
	}
}

var scripts = map[string]string{
	"a session that has just logged in is idle": `
		= idle`,
	"a query is busy until ReadyForQuery": `
		> Q SELECT 1
		= busy doubt
		< T D
		= busy doubt
		< C
		= busy doubt
		< ZI
		= idle`,
	"inside a block nothing is idle, and nothing in doubt but its end": `
		> Q BEGIN
		= busy
		< C ZT
		= busy block
		> Q INSERT INTO t VALUES (1)
		= busy block
		< C ZT
		= busy block
		> Q commit
		= busy block doubt
		< C
		= busy block doubt
		< ZI
		= idle`,
	"rollback leaves no doubt": `
		> Q BEGIN
		< C ZT
		> Q SELECT bad
		< E ZE
		= busy failed
		> Q ROLLBACK
		= busy failed
		< C ZI
		= idle`,
	"an empty query leaves no doubt": `
		> Q
		= busy
		< I ZI
		= idle`,
	"a function call is a statement": `
		> F
		= busy doubt
		< V ZI
		= idle`,
	"several ReadyForQuery in flight": `
		> Q BEGIN | P /SELECT 1 | B / | D | E | S
		= busy
		< C ZT
		= busy block
		< 1 2 T D C
		= busy block
		< ZT
		= busy block
		> P /COMMIT | B / | E | S
		= busy block doubt
		< 1 2 C ZI
		= idle`,
	"extended messages without a Sync": `
		> P /SELECT 1
		= busy
		> B / | E | H
		= busy doubt
		< 1 2 D C
		= busy doubt
		> S
		= busy doubt
		< ZI
		= idle`,
	"preparing is busy and leaves no doubt": `
		> P s1/SELECT 1 | D s1 | S
		= busy
		< 1 t T ZI
		= idle`,
	"a Flush alone, a Sync alone": `
		> H
		= idle
		> S
		= busy
		< ZI
		= idle`,
	"a Flush with a body is an error that waits for a Sync": `
		> H x
		= busy
		< E
		= busy
		> S
		< ZI
		= idle`,
	"an error in the middle of a pipeline skips to the Sync": `
		> P /SELECT bad | B / | E | P /SELECT 1 | B / | E | S | P /SELECT 1 | B / | E | S
		< E
		= busy doubt
		< ZI
		= busy doubt
		< 1 2 D C ZI
		= idle`,
	"an error at the Sync itself": `
		> P /INSERT | B / | E | S
		< 1 2 C E ZI
		= idle`,
	"a Query ends the extended messages before it": `
		> P /SELECT 1 | B / | E | Q SELECT 2
		< 1 2 D C T D C
		= busy doubt
		< ZI
		= idle`,
	"a Query behind failed extended messages is skipped with them": `
		> P /SELECT bad | Q SELECT 1 | Q SELECT 2
		< E
		= busy doubt
		> S
		< ZI
		= idle`,
	"a Query that fails itself behind extended messages is answered": `
		> P /SELECT 1 | B / | D | E | C s1 | Q SELECT bad | S
		< 1 2 T D C 3 E ZI
		= busy
		< ZI
		= idle`,
	"an answer suspended and resumed": `
		> P /SELECT 1 | B p/ | E p | H
		< 1 2 D s
		> E p | S
		< D C ZI
		= idle`,
	"copy out": `
		> Q COPY t TO STDOUT
		< H d d c
		= busy doubt
		< C ZI
		= idle`,
	"copy in": `
		> Q COPY t FROM STDIN
		< G
		> d row | d row | c
		= busy doubt
		< C ZI
		= idle`,
	"a copy in that the client fails": `
		> Q COPY t FROM STDIN
		< G
		> d row | f no
		< E ZI
		= idle`,
	"a copy in that fails while the client still sends": `
		> Q COPY t FROM STDIN
		< G
		> d row | d bad
		< E ZI
		= idle
		> d row | c
		= idle
		> Q SELECT 1
		= busy doubt
		< C ZI
		= idle`,
	"two copies in one text": `
		> Q COPY t FROM STDIN; COPY t FROM STDIN
		< G
		> d row | c
		< C G
		= busy doubt
		> d row | c
		< C ZI
		= idle`,
	"copy in by libpq's extended protocol: the first Sync is swallowed": `
		> P /COPY t FROM STDIN | B / | D | E | S
		< 1 2 n G
		> d row | d row | c | S
		< C
		= busy doubt
		< ZI
		= idle`,
	"the same, and the client has not sent the second Sync": `
		> P /COPY t FROM STDIN | B / | E | S
		< 1 2 G
		> d row | c
		< C
		= busy doubt
		> S
		= busy doubt
		< ZI
		= idle`,
	"copy in by Flush": `
		> P /COPY t FROM STDIN | B / | E | H
		< 1 2 G
		> d row | c | S
		< C ZI
		= idle`,
	"copies in a pipeline, blind": `
		> P /COPY t FROM STDIN | B / | E | S | d row | c | S
		> Q COPY t FROM STDIN | d row | c
		> P /COPY t FROM STDIN | B / | E | d row | c | S
		< 1 2 G C ZI
		= busy doubt
		< G C ZI
		= busy doubt
		< 1 2 G C ZI
		= idle`,
	"Syncs and Flushes during a copy are swallowed": `
		> Q COPY t FROM STDIN
		< G
		> S | d row | H | S | d row | S | c
		< C ZI
		= idle`,
	"an extended copy that is refused": `
		> P /COPY nosuch FROM STDIN | B / | E | S
		< E ZI
		= idle`,
	"an extended copy that fails before it reads": `
		> P /COPY t FROM STDIN | B / | E | S
		< 1 2 G E ZI
		= idle
		> d row | c | S
		= busy
		< ZI
		= idle`,
	"an extended copy that fails at a row: unsure until another answer": `
		> P /COPY t FROM STDIN | B / | E | S
		< 1 2 G
		> d bad
		< E
		> c | S
		< ZI
		= busy
		> Q SELECT 1
		= busy doubt
		< T
		= busy doubt
		< D C ZI
		= idle`,
	"the same, and the first Sync was answered after all": `
		> P /COPY t FROM STDIN | B / | E | S
		< 1 2 G
		> d row | c | S
		< E ZI
		= busy
		< ZI
		= idle
		> Q SELECT 1
		< C ZI
		= idle`,
	"an extended copy that fails, in a pipeline": `
		> P /COPY t FROM STDIN | B / | E | S | d bad | c | S | Q SELECT 1 | S
		< 1 2 G E ZI
		= busy doubt
		< C
		= busy doubt
		< ZI
		= busy
		< ZI
		= idle`,
	"a refused copy, then one that succeeds": `
		> P /COPY nosuch FROM STDIN | B / | E | S | d row | c | S
		< 1 E ZI ZI
		= idle
		> P /COPY t FROM STDIN | B / | E | S | d row | c | S
		< 1 2 G C ZI
		= idle`,
	"notices, parameters and notifications at any time": `
		> Q SELECT 1
		< N S A T N D C S ZI
		= idle
		< S A
		= idle`,
	"an error that strikes between requests has its own ReadyForQuery": `
		> Q BEGIN
		< C ZT E
		= busy block
		< ZE
		= busy failed`,
	"a ReadyForQuery that answers nothing": `
		< ZI
		= busy broken
		> Q SELECT 1
		= busy doubt broken
		< C ZI
		= busy doubt broken`,
	"Terminate": `
		> X
		= busy
		> Q SELECT 1
		= busy`,
	"an error out of the blue while the client speaks is its answer": `
		> P /SELECT 1
		< E
		= busy`,
}

func TestALoginMayBeFed(t *testing.T) {
	tr := new(Tracker)
	runScript(t, tr, `
		= busy
		< R S S K
		= busy`)
	tr.Client(msg('p', "SCRAM-SHA-256\x00"))
	runScript(t, tr, `
		< R R N S
		= busy
		< ZI
		= idle`)
	tr.Client(msg('p', "no more"))
	if err := tr.Broken(); err == nil {
		t.Error("a password after the login is accepted")
	}
}
