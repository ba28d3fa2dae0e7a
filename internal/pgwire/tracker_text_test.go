package pgwire

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// effectOf scans a text in pieces of at most size bytes.
func effectOf(text string, size int) effect {
	var s textScan
	for piece := range slices.Chunk([]byte(text+"\x00"), size) {
		s.feed(piece)
	}
	return s.effect()
}

var texts = []struct {
	text string
	want effect
}{
	{"", effectNone},
	{" \t\r\n\f\v", effectNone},
	{";", effectNone},
	{" ; ;; ", effectNone},
	{"-- COMMIT", effectNone},
	{"/* COMMIT */", effectNone},
	{"/* a /* b */ COMMIT */", effectNone},
	{"/* unterminated COMMIT", effectNone},

	{"BEGIN", effectBegin},
	{"begin;", effectBegin},
	{"  Begin  ", effectBegin},
	{"/* x */ BEGIN -- y", effectBegin},
	{"BEGIN WORK", effectBegin},
	{"BEGIN TRANSACTION", effectBegin},
	{"BEGIN READ ONLY", effectBegin},
	{"BEGIN TRANSACTION READ WRITE", effectBegin},
	{"START TRANSACTION", effectBegin},
	{"START TRANSACTION READ ONLY", effectBegin},
	// These may fail, and then no block is open.
	{"BEGIN ISOLATION LEVEL SERIALIZABLE", effectOther},
	{"BEGIN READ", effectOther},
	{"BEGIN READ ONLY, DEFERRABLE", effectOther},
	{"BEGIN 1", effectOther},
	{"BEGIN 'x'", effectOther},
	{"BEGIN.", effectOther},
	{"BEGIN -", effectOther},
	{"START", effectOther},
	{"START SLAVE", effectOther},
	{"BEGINNING", effectOther},
	{"BEGIN_", effectOther},
	{"BEGIN$", effectOther},
	{"BEGIN\u00e9", effectOther},
	{"(BEGIN", effectOther},

	{"ROLLBACK", effectRollback},
	{"ROLLBACK WORK;", effectRollback},
	{"abort transaction", effectRollback},
	{"ROLLBACK TO s", effectOther},
	{"ROLLBACK TRANSACTION TO SAVEPOINT s", effectOther},
	{"ROLLBACK AND CHAIN", effectCommit},
	{"ROLLBACK PREPARED 'x'", effectCommit},

	{"COMMIT", effectCommit},
	{"commit work", effectCommit},
	{"END", effectCommit},
	{"end transaction;", effectCommit},
	{"\n\tCoMmIt", effectCommit},
	{"-- a comment\nCOMMIT", effectCommit},
	{"-- a comment\rCOMMIT", effectCommit},
	{"/* a */--b\n/**//***//* * / */COMMIT", effectCommit},
	{"/* a /* b */ c */ END", effectCommit},
	{"COMMIT/* at once */", effectCommit},
	{"COMMIT PREPARED 'x'", effectCommit},
	{"COMMIT AND CHAIN", effectCommit},
	{"PREPARE TRANSACTION 'x'", effectCommit},
	{"prepare -- \n transaction 'x'", effectCommit},
	{"PREPARE s AS SELECT 1", effectOther},
	{"PREPARE", effectOther},
	{"PREPARE transactions AS SELECT 1", effectOther},
	{"COMMITS", effectOther},
	{"COMMITTED", effectOther},
	{"ENDE", effectOther},
	{"_COMMIT", effectOther},
	{"1COMMIT", effectOther},
	{"\"COMMIT\"", effectOther},
	{"'COMMIT'", effectOther},
	{"/COMMIT", effectOther},
	{"- COMMIT", effectOther},

	{"SELECT 1", effectOther},
	{"SELECT commit FROM t", effectOther},
	{"SELECT 1;", effectOther},
	{"SELECT 1; SELECT 2", effectOther},
	{"SET synchronous_commit = off", effectOther},
	{"COPY t FROM STDIN", effectOther},
	{"INSERT INTO t VALUES ('commit')", effectOther},
	{"SELECT 1 - 2; SELECT 3 / 4", effectOther},
	{"BEGIN; INSERT INTO t VALUES (1)", effectOther},

	{"SELECT 1; COMMIT", effectCommit},
	{"INSERT INTO t VALUES (1);COMMIT;", effectCommit},
	{"BEGIN; INSERT INTO t VALUES (1); COMMIT", effectCommit},
	{"ROLLBACK; INSERT INTO t VALUES (1)", effectCommit},
	{"INSERT INTO t VALUES (1); ROLLBACK", effectCommit},
	{"SELECT 1;;; end", effectCommit},
	{"BEGIN;BEGIN", effectCommit},
	// What cannot be told apart without a lexer counts as a commit.
	{"SELECT 'a;commit'", effectCommit},
	{"SELECT '; /* '; COMMIT", effectCommit},
	{"SELECT '; -- '; COMMIT", effectCommit},
	{"SELECT 1; -- done", effectCommit},
	{"CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN 1; END $$", effectCommit},
	{"BEGIN; -- in front of no literal\nSELECT 1", effectOther},
}

func TestTextsHaveTheirEffect(t *testing.T) {
	for _, c := range texts {
		for size := range len(c.text) + 1 {
			if got := effectOf(c.text, size+1); got != c.want {
				t.Errorf("%q in pieces of %d: %d, want %d", c.text, size+1, got, c.want)
			}
		}
	}
}

func TestCommentsNestedTooDeepAreDoubted(t *testing.T) {
	deep := strings.Repeat("/*", 300) + strings.Repeat("*/", 300) + "SELECT 1"
	if got := effectOf(deep, 7); got != effectCommit {
		t.Errorf("effect %d", got)
	}
	if got := effectOf(strings.Repeat("/*", 255)+strings.Repeat("*/", 255)+"BEGIN", 7); got != effectBegin {
		t.Errorf("effect %d", got)
	}
}

func TestTheScanOfATextIsBounded(t *testing.T) {
	for text, want := range map[string]effect{
		strings.Repeat(" ", 1000) + "BEGIN":                  effectBegin,
		strings.Repeat(" ", 1<<20) + "BEGIN":                 effectCommit,
		"/*" + strings.Repeat("x", 1<<20) + "*/SELECT 1":     effectCommit,
		strings.Repeat("x", 1<<20):                           effectCommit,
		strings.Repeat("SELECT 1;", 1<<16):                   effectCommit,
		"SELECT '" + strings.Repeat("x", 1<<20) + "'":        effectOther,
		"SELECT '" + strings.Repeat("x", 1<<20) + "';COMMIT": effectCommit,
	} {
		if got := effectOf(text, 4096); got != want {
			t.Errorf("%.20q (%d bytes): %d, want %d", text, len(text), got, want)
		}
	}
}

// TestNoCommitIsOverlooked puts statements together whose real boundaries are known, with all that can hide them from a scan.
func TestNoCommitIsOverlooked(t *testing.T) {
	harmless := []string{"SELECT 1", "SELECT 'a;b'", "SELECT ';/*'", "SELECT '--;'", "SELECT $$;-- /* $$", "SELECT $x$ ' /* ;$x$", "SELECT E'\\';/*'",
		"INSERT INTO t VALUES (';', \"--\")", "SELECT 1 /* ; ' */", "SELECT 1 -- ; $$ \n", "UPDATE t SET x = x / 2 - 1", "SELECT '\u00e9;'", ""}
	ending := []string{"COMMIT", "END", "commit work", "PREPARE TRANSACTION 'x;'", "/* x */ COMMIT", "-- x\n END"}
	gaps := []string{"", " ", "\n", "\t \r"}
	for seed := range modelSeeds(t) {
		rng := rand.New(rand.NewPCG(seed, 4))
		var parts []string
		commits := false
		for range 1 + rng.IntN(5) {
			part := harmless[rng.IntN(len(harmless))]
			if rng.IntN(6) == 0 {
				part, commits = ending[rng.IntN(len(ending))], true
			}
			parts = append(parts, gaps[rng.IntN(len(gaps))]+part)
		}
		text := strings.Join(parts, ";")
		got := effectOf(text, 1+rng.IntN(9))
		if commits && got != effectCommit {
			t.Fatalf("seed %d: %q has effect %d", seed, text, got)
		}
		if got == effectBegin || got == effectRollback || got == effectNone && strings.ContainsAny(text, "SIU") {
			t.Fatalf("seed %d: %q is taken for something harmless: %d", seed, text, got)
		}
	}
}

func FuzzTextScan(f *testing.F) {
	for _, c := range texts {
		f.Add([]byte(c.text), uint8(3))
	}
	f.Fuzz(func(t *testing.T, text []byte, size uint8) {
		whole := effectOf(string(text), len(text)+1)
		if split := effectOf(string(text), int(size)+1); split != whole {
			t.Errorf("whole: %d, in pieces of %d: %d", whole, int(size)+1, split)
		}
		// Behind any text that is no open comment, a statement that ends the transaction is found.
		if !strings.Contains(string(text), "/*") && !strings.Contains(string(text), "--") {
			if got := effectOf(string(text)+";COMMIT", 1<<20); got != effectCommit {
				t.Errorf("COMMIT is overlooked: %d", got)
			}
		}
	})
}
