package pgwire

import (
	"fmt"
	"testing"
)

const off = "SET LOCAL synchronous_commit TO OFF"

func TestRelaxedCommitsAreCounted(t *testing.T) {
	for name, script := range relaxedScripts {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{1 << 30, 1, 2, 3, 5, 7, 11} {
				runScriptIn(t, started(), script, size)
			}
		})
	}
}

// relaxedScripts: in the lines "#" is how many commits were counted since the last such line.
var relaxedScripts = map[string]string{
	"an ordinary transaction": `
		> Q BEGIN | Q INSERT | Q COMMIT
		< C:BEGIN ZT C:INSERT_0_1 ZT C:COMMIT ZI
		# 0`,
	"Keycloak's login, then its logout": `
		> P S_1/BEGIN | B /S_1 | E | P /INSERT | B / | D | E | S
		< 1 2 C:BEGIN 1 2 n C:INSERT_0_1 ZT
		> P /` + off + ` | B / | D | E | S
		< 1 2 n C:SET ZT
		# 0
		> P S_2/COMMIT | B /S_2 | E | S
		< 1 2 C:COMMIT
		# 1
		< ZI
		> B /S_1 | E | P /DELETE | B / | D | E | S
		< 2 C:BEGIN 1 2 n C:DELETE_1 ZT
		> B /S_2 | E | S
		< 2 C:COMMIT ZI
		# 0`,
	"the whole login in one write, and another transaction": `
		> Q BEGIN | P /INSERT | B / | E | S | P /` + off + ` | B / | E | S | Q COMMIT | Q BEGIN | Q COMMIT
		< C:BEGIN ZT 1 2 C:INSERT_0_1 ZT 1 2 C:SET ZT C:COMMIT ZI
		# 1
		< C:BEGIN ZT C:COMMIT ZI
		# 0`,
	"two logins in one write": `
		> Q BEGIN | Q ` + off + ` | Q COMMIT | Q BEGIN | Q ` + off + ` | Q COMMIT
		< C:BEGIN ZT C:SET ZT C:COMMIT ZI
		# 1
		< C:BEGIN ZT C:SET ZT C:COMMIT ZI
		# 1
		> Q INSERT
		< C:INSERT_0_1 ZI
		# 0`,
	"a login in one batch": `
		> P /BEGIN | B / | E | P /` + off + ` | B / | E | P /INSERT | B / | E | P /COMMIT | B / | E | S
		< 1 2 C:BEGIN 1 2 C:SET 1 2 C:INSERT_0_1
		# 0
		< 1 2 C:COMMIT ZI
		# 1`,
	"a batch that is a transaction of itself": `
		> P /` + off + ` | B / | E | P /INSERT | B / | E | P /UPDATE | B / | E | S
		< 1 2 C:SET 1 2 C:INSERT_0_1 1 2 C:UPDATE_1 ZI
		# 1
		> Q INSERT
		< C:INSERT_0_1 ZI
		# 0`,
	"one whose rows are not all asked for": `
		> P /` + off + ` | B / | E | P /INSERT RETURNING | B / | E | S
		< 1 2 C:SET 1 2 s ZI
		# 1`,
	"a statement of its own right inside a batch": `
		> Q SET synchronous_commit = off | P /VACUUM | B / | E | P /INSERT | B / | E | S
		< C:SET ZI 1 2 C:VACUUM 1 2 C:INSERT_0_1 ZI
		# 2`,
	"a prepared name": `
		> P S_3/` + off + ` | S
		< 1 ZI
		> Q BEGIN | Q COMMIT
		< C:BEGIN ZT C:COMMIT ZI
		# 0
		> Q BEGIN | B /S_3 | E | S | Q COMMIT
		< C:BEGIN ZT 2 C:SET ZT C:COMMIT ZI
		# 1
		> Q BEGIN | B /S_3 | E | S | Q COMMIT
		< C:BEGIN ZT 2 C:SET ZT C:COMMIT ZI
		# 1
		> Q BEGIN | Q COMMIT
		< C:BEGIN ZT C:COMMIT ZI
		# 0`,
	"a prepared name that may be one of two": `
		> P S_3/` + off + ` | S | P S_3/SELECT 1 | S
		< 1 ZI E ZI
		> Q BEGIN | B /S_3 | E | S | Q COMMIT
		< C:BEGIN ZT 2 C:SET ZT C:COMMIT ZI
		# 1`,
	"a named portal": `
		> Q BEGIN | P /` + off + ` | B p/ | P /SELECT 1 | B / | E | E p | S | Q COMMIT
		< C:BEGIN ZT 1 2 1 2 C:SELECT_1 C:SET ZT C:COMMIT ZI
		# 1`,
	"the unnamed statement is another one": `
		> P /` + off + ` | S | P /SELECT 1 | S | B / | E | S
		< 1 ZI 1 ZI 2 C:SELECT_1 ZI
		# 0`,
	"unless that Parse may have been skipped": `
		> P /` + off + ` | S
		< 1 ZI
		> P x/SELECT bad | P /SELECT 1 | S
		< E ZI
		> Q BEGIN | B / | E | S | Q COMMIT
		< C:BEGIN ZT 2 C:SET ZT C:COMMIT ZI
		# 1`,
	"a session": `
		> Q INSERT
		< C:INSERT_0_1 ZI
		> Q SET synchronous_commit TO OFF
		< C:SET ZI
		# 0
		> Q INSERT | Q BEGIN | Q UPDATE | Q COMMIT
		< C:INSERT_0_1 ZI
		# 1
		< C:BEGIN ZT C:UPDATE_1 ZT
		# 0
		< C:COMMIT ZI
		# 1
		> Q SET synchronous_commit TO ON | Q RESET ALL | Q DELETE
		< C:SET ZI C:RESET ZI C:DELETE_1 ZI
		# 1`,
	"a session is marked by a Parse": `
		> P S_4/SELECT set_config('synchronous_commit', 'off', false) | S
		< 1 ZI
		> Q INSERT
		< C:INSERT_0_1 ZI
		# 1`,
	"SQL's own PREPARE and EXECUTE": `
		> Q PREPARE p AS SELECT set_config('synchronous_commit', 'off', true)
		< C:PREPARE ZI
		# 1
		> Q BEGIN | Q EXECUTE p | Q COMMIT
		< C:BEGIN ZT C:SELECT_1 ZT C:COMMIT ZI
		# 1`,
	"a commit in the middle of a text": `
		> Q SET synchronous_commit = off | Q BEGIN | Q COMMIT; BEGIN
		< C:SET ZI C:BEGIN ZT C:COMMIT
		# 1
		< C:BEGIN ZT
		# 0`,
	"COMMIT AND CHAIN": `
		> Q BEGIN | Q ` + off + ` | Q COMMIT AND CHAIN
		< C:BEGIN ZT C:SET ZT C:COMMIT ZT
		# 1`,
	"a transaction prepared to be committed": `
		> Q BEGIN | Q ` + off + ` | Q PREPARE TRANSACTION 'x' | Q COMMIT PREPARED 'x'
		< C:BEGIN ZT C:SET ZT C:PREPARE_TRANSACTION ZI
		# 1
		< C:COMMIT_PREPARED ZI
		# 0`,
	"one that is rolled back, or fails": `
		> Q BEGIN | Q ` + off + ` | Q ROLLBACK
		< C:BEGIN ZT C:SET ZT C:ROLLBACK ZI
		> Q BEGIN | Q ` + off + ` | Q bad | Q COMMIT
		< C:BEGIN ZT C:SET ZT E ZE C:ROLLBACK ZI
		# 0`,
	"outside a block SET LOCAL lasts no longer than itself": `
		> Q ` + off + `
		< C:SET ZI
		> Q INSERT
		< C:INSERT_0_1 ZI
		# 0`,
	"a block that ended while nothing was marked": `
		> Q BEGIN
		< C:BEGIN ZT
		> P /ROLLBACK | B / | E | H
		< 1 2 C:ROLLBACK
		> P /` + off + ` | B / | E | P /INSERT | B / | E | S
		< 1 2 C:SET 1 2 C:INSERT_0_1 ZI
		# 1`,
	"a mark behind an answer that shares its transaction": `
		> P /INSERT | B / | E | H
		< 1 2 C:INSERT_0_1
		> P /` + off + ` | B / | E | S
		< 1 2
		# 0
		< C:SET
		# 1
		< ZI
		> Q INSERT
		< C:INSERT_0_1 ZI
		# 0`,
	"COPY": `
		> Q SET synchronous_commit = off | Q COPY t FROM STDIN
		< C:SET ZI G
		> d row | c
		< C:COPY_1 ZI
		# 1`,
	"a function call": `
		> Q SET synchronous_commit = off | F
		< C:SET ZI V ZI
		# 1`,
	"a procedure": `
		> Q SET synchronous_commit = off | Q CALL p()
		< C:SET ZI C:CALL ZI
		# 1`,
	"what the client is not told was done": `
		> Q SET synchronous_commit = off | Q
		< C:SET ZI I ZI
		> P /INSERT | S
		< 1 ZI
		> Q bad
		< E ZI
		# 0`,
}

func TestASessionThatBeganRelaxed(t *testing.T) {
	tr := started()
	tr.RelaxSession()
	runScript(t, tr, `
		> Q SET LOCAL synchronous_commit TO OFF
		< C:SET ZI
		> Q INSERT
		< C:INSERT_0_1 ZI
		# 1`)
}

func TestMoreNamesThanAreRememberedAreTakenForRelaxed(t *testing.T) {
	tr := started()
	for i := range maxNamedEnds + 1 {
		tr.Client(clientMsg(fmt.Sprintf("P r%d/%s", i, off)))
	}
	runScript(t, tr, `
		> S
		< ZI
		> Q BEGIN | B /r8 | E | S | Q COMMIT
		< C:BEGIN ZT 2 C:SET ZT C:COMMIT ZI
		# 1
		> Q BEGIN | B /other | E | S | Q COMMIT
		< C:BEGIN ZT 2 C:SELECT_1 ZT C:COMMIT ZI
		# 1
		> Q BEGIN | Q COMMIT
		< C:BEGIN ZT C:COMMIT ZI
		# 0`)
}

// What cannot be followed any more is counted as it is relayed: each request that is unanswered, then each piece.
func TestAStreamThatMakesNoSenseIsCountedBlindly(t *testing.T) {
	tr := started()
	tr.Client(clientMsgs("Q SET synchronous_commit = off|Q INSERT|Q INSERT"))
	tr.Client([]byte("?nonsense"))
	if n := tr.TakeRelaxed(); n != 0 {
		t.Errorf("%d before the server has said anything", n)
	}
	for _, want := range []uint64{3, 1, 1} {
		tr.Server(costServer("CZ"))
		if n := tr.TakeRelaxed(); n != want {
			t.Errorf("%d, want %d", n, want)
		}
	}
	tr = started()
	tr.Client(clientMsgs("Q SET synchronous_commit = off"))
	tr.Server(append(scriptBytes("< C:SET ZI", "<"), "?nonsense"...))
	if n := tr.TakeRelaxed(); n != 1 {
		t.Errorf("%d behind nonsense of the server", n)
	}
	tr = started()
	tr.Client([]byte("?nonsense"))
	tr.Server(costServer("CZ"))
	if n := tr.TakeRelaxed(); n != 0 {
		t.Errorf("%d of a session without a mark", n)
	}
}
