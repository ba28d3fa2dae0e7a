package pgwire

import (
	"fmt"
	"testing"
)

func TestNamedStatements(t *testing.T) {
	for name, script := range namedScripts {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{1 << 30, 1, 3} {
				runScriptIn(t, started(), script, size)
			}
		})
	}
}

var namedScripts = map[string]string{
	"pgjdbc executes COMMIT by name": `
		> Q BEGIN
		< C ZT
		> P S_1/COMMIT | B /S_1 | E | S
		= busy block doubt
		< 1 2 C ZI
		= idle
		> Q BEGIN
		< C ZT
		> B /S_1 | E | S
		= busy block doubt
		< 2 C ZI
		= idle`,
	"pgjdbc executes BEGIN and ROLLBACK by name": `
		> P S_1/BEGIN | B /S_1 | E | P /SELECT 1 | B / | D | E | S
		= busy
		< 1 2 C 1 2 T D C ZT
		= busy block
		> P S_2/ROLLBACK | B /S_2 | E | S
		= busy block
		< 1 2 C ZI
		= idle
		> B /S_1 | E | P /INSERT | B / | D | E | S
		= busy
		< 2 C 1 2 n C
		= busy
		< ZT
		= busy block
		> B /S_2 | E | S
		= busy block
		< 2 C ZI
		= idle`,
	"a named BEGIN whose Parse failed is not trusted": `
		> P S_1/BEGIN | S
		< E ZI
		> B /S_1 | E | S
		= busy doubt
		< E ZI
		= idle`,
	"nor one whose Parse is unanswered": `
		> P S_1/BEGIN | S | B /S_1 | E | S
		= busy doubt`,
	"a name that may be one of two is the more doubtful": `
		> P a/SELECT 1 | S | P b/COMMIT | S
		< 1 ZI 1 ZI
		= idle
		> Q BEGIN
		< C ZT
		> P b/SELECT 1 | B /b | E | S
		= busy block doubt`,
	"a Bind by name and one without": `
		> P c/COMMIT | S | Q BEGIN
		< 1 ZI C ZT
		> P /SELECT 1 | B / | E | S
		= busy block
		< 1 2 C ZT
		> B /c | P /SELECT 2 | E | S
		= busy block doubt`,
	"a named portal that may commit": `
		> P /COMMIT | B p/ | S
		= busy
		< 1 2 ZI
		> Q BEGIN
		< C ZT
		> E q | S
		= busy block doubt`,
	"a named portal that cannot": `
		> Q BEGIN | P /SELECT 1 | B p/ | E p | S
		< C ZT 1 2 s ZT
		= busy block
		> E p | S
		= busy block`,
	"the unnamed statement is replaced": `
		> P /COMMIT | S | P /SELECT 1 | S | Q BEGIN
		< 1 ZI 1 ZI C ZT
		> B / | E | S
		= busy block`,
	"unless the Parse may have been skipped": `
		> P /COMMIT | S
		< 1 ZI
		> Q BEGIN
		< C ZT
		> P x/SELECT bad | P /SELECT 1 | S
		< E ZE
		> B / | E | S
		= busy failed doubt`,
	"a BEGIN in the same write as what follows": `
		> Q BEGIN | Q INSERT
		= busy
		< C ZT
		= busy block`,
	"behind an answered BEGIN that opened no block": `
		> Q BEGIN | Q INSERT
		= busy
		< E ZI
		= busy doubt
		< C ZI
		= idle`,
	"a BEGIN that an error may skip": `
		> P /SELECT bad | P /BEGIN | B / | E | S | Q INSERT
		= busy doubt`,
	"a BEGIN by Query that an error may skip": `
		> P /SELECT bad | Q BEGIN
		= busy
		> Q INSERT
		= busy doubt`,
	"a ROLLBACK in the same write as what follows": `
		> Q BEGIN
		< C ZT
		> Q ROLLBACK | Q INSERT
		= busy block doubt
		< C ZI
		= busy doubt
		< C ZI
		= idle`,
	"a COMMIT and the next transaction in one write": `
		> Q BEGIN
		< C ZT
		> Q COMMIT | Q BEGIN | Q INSERT
		= busy block doubt
		< C ZI
		= busy
		< C ZT
		= busy block`,
	"a message in part is not a statement": `
		> Q BEGIN
		< C ZT
		= busy block`,
}

func TestACommitForwardedInPartLeavesNoDoubt(t *testing.T) {
	tr := started()
	commit := msg('Q', "COMMIT\x00")
	for i := range commit[:len(commit)-1] {
		tr.Client(commit[i : i+1])
		if tr.InDoubt() || tr.Idle() {
			t.Fatalf("after %d bytes: in doubt %t, idle %t", i+1, tr.InDoubt(), tr.Idle())
		}
	}
	tr.Client(commit[len(commit)-1:])
	if !tr.InDoubt() {
		t.Error("no doubt")
	}
}

func TestMoreNamesThanAreRememberedAreDoubted(t *testing.T) {
	tr := started()
	for i := range maxNamedEnds + 1 {
		tr.Client(clientMsg(fmt.Sprintf("P c%d/COMMIT", i)))
	}
	runScript(t, tr, `
		> P s/SELECT 1 | S | Q BEGIN
		< 1 ZI C ZT
		> B /c8 | E | S
		= busy block doubt
		< 2 C ZI
		= idle
		> Q BEGIN
		< C ZT
		> B /s | E | S
		= busy block doubt`)
}

func TestMoreBeginsThanAreRememberedAreMerelyDoubted(t *testing.T) {
	tr := started()
	for i := range maxNamedEnds + 1 {
		tr.Client(clientMsg(fmt.Sprintf("P b%d/BEGIN", i)))
	}
	runScript(t, tr, `
		> S
		< ZI
		> B /b0 | E | S
		= busy
		< 2 C ZT
		> Q ROLLBACK
		< C ZI
		> B /b8 | E | S
		= busy doubt
		< 2 C ZT
		> B /other | E | S
		= busy block`)
}
