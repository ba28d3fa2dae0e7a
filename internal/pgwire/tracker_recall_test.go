package pgwire

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

func remembering() *Tracker {
	t := new(Tracker)
	t.Remember(NewTexts())
	t.Start('I')
	return t
}

// told is a Recall in words.
func (r Recall) told() string {
	var list []string
	for _, s := range r.Named {
		list = append(list, s.Name+"="+s.Text)
	}
	for _, name := range r.Unkept {
		list = append(list, name+" unkept")
	}
	if r.Unnamed != nil {
		list = append(list, "unnamed="+r.Unnamed.Text)
	}
	if r.Unsure.Named {
		list = append(list, "unsure")
	}
	if r.Unsure.Unnamed {
		list = append(list, "unnamed?")
	}
	for _, s := range r.Settings {
		list = append(list, "SET "+s.Name+"="+strings.Join(s.Values, "|"))
	}
	for _, name := range r.Custom {
		list = append(list, "custom "+name)
	}
	return strings.Join(append(list, r.Unknown.Reasons()...), "; ")
}

func TestWhatASessionIsRememberedBy(t *testing.T) {
	for name, c := range recallScripts {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{1 << 30, 1, 2, 7} {
				tr := remembering()
				runScriptIn(t, tr, c.script, size)
				if got := tr.Recall().told(); got != c.want {
					t.Errorf("in pieces of %d:\n got %q\nwant %q", size, got, c.want)
				}
			}
		})
	}
}

var recallScripts = map[string]struct{ script, want string }{
	"nothing": {"= idle", ""},

	// Named statements.
	"named statements": {`
		> P a/SELECT 1 | B /a | E | S | P b/SELECT 2 | S
		< 1 2 C ZI 1 ZI`, "a=SELECT 1; b=SELECT 2"},
	"a failed Parse": {`
		> P a/SELECT nosuch | S
		< E ZI`, ""},
	"a Parse behind an error": {`
		> P a/SELECT 1 | P b/SELECT nosuch | P c/SELECT 1 | S | P d/SELECT 1 | S
		< 1 E ZI 1 ZI`, "a=SELECT 1; d=SELECT 1"},
	"a Parse before an error": {`
		> P a/SELECT 1/0 | B /a | D | E | S
		< 1 2 T E ZI`, "a=SELECT 1/0"},
	"a duplicate": {`
		> P a/SELECT 1 | S | P a/SELECT 2 | S
		< 1 ZI E ZI`, "a=SELECT 1"},
	"Close and another": {`
		> P a/SELECT 1 | S | C a | P a/SELECT 2 | S
		< 1 ZI 3 1 ZI`, "a=SELECT 2"},
	"Close behind an error": {`
		> P a/SELECT 1 | S | P /SELECT nosuch | C a | S
		< 1 ZI E ZI`, "a=SELECT 1"},
	"Close that is answered in a unit that fails": {`
		> P a/SELECT 1 | S | C a | P /SELECT nosuch | S
		< 1 ZI 3 E ZI`, ""},
	"an error at the Sync": {`
		> P a/INSERT | B /a | E | S
		< 1 2 C E ZI`, "a=INSERT"},
	"DEALLOCATE": {`
		> P a/SELECT 1 | P b/SELECT 1 | S | Q DEALLOCATE A
		< 1 1 ZI C ZI`, "b=SELECT 1"},
	"a DEALLOCATE that fails": {`
		> P a/SELECT 1 | S | Q DEALLOCATE b
		< 1 ZI E ZI`, "a=SELECT 1"},
	"one of several that fail": {`
		> P a/SELECT 1 | S | Q DEALLOCATE a;SELECT 1/0
		< 1 ZI C E ZI`, "a=SELECT 1; unsure"},
	"one of several": {`
		> P a/SELECT 1 | S | Q DEALLOCATE a;SELECT 1
		< 1 ZI C C ZI`, ""},
	"DEALLOCATE by Execute": {`
		> P a/SELECT 1 | S | P /DEALLOCATE a | B / | D | E | S
		< 1 ZI 1 2 n C ZI`, "unnamed=DEALLOCATE a"},
	"DEALLOCATE that is never executed": {`
		> P a/SELECT 1 | S | P /DEALLOCATE a | B / | D | S
		< 1 ZI 1 2 n ZI`, "a=SELECT 1; unnamed=DEALLOCATE a"},
	"DEALLOCATE by name, again and again": {`
		> P d/DEALLOCATE a | P a/SELECT 1 | S | B /d | E | S | P a/SELECT 2 | S | B /d | E | P a/SELECT 3 | S
		< 1 1 ZI 2 C ZI 1 ZI 2 C 1 ZI`, "d=DEALLOCATE a; a=SELECT 3"},
	"DEALLOCATE of itself through a portal with a name": {`
		> P d/DEALLOCATE d | B p/d | E p | S
		< 1 2 C ZI`, ""},
	"a portal that another Bind has taken": {`
		> P d/DEALLOCATE a | P a/SELECT 1 | B /d | B /a | E | S
		< 1 1 2 2 C ZI`, "d=DEALLOCATE a; a=SELECT 1"},
	"a portal of a block": {`
		> Q BEGIN | P d/DEALLOCATE a | P a/SELECT 1 | B /d | S | E | S | Q COMMIT
		< C ZT 1 1 2 ZT C ZT C ZI`, "d=DEALLOCATE a"},
	"a portal that is executed when all before it is settled": {`
		> Q BEGIN | P d/DEALLOCATE a | P a/SELECT 1 | B /d | S
		< C ZT 1 1 2 ZT
		> P /SELECT 1 | S
		< 1 ZT
		> E | S
		< C ZT
		> Q COMMIT
		< C ZI`, "d=DEALLOCATE a"},
	"so through a portal with a name": {`
		> Q BEGIN | P d/DEALLOCATE a | P a/SELECT 1 | B p/d | S
		< C ZT 1 1 2 ZT
		> P /SELECT 1 | S
		< 1 ZT
		> E p | S
		< C ZT
		> Q COMMIT
		< C ZI`, "d=DEALLOCATE a"},
	"a Query whose commit fails": {`
		> P a/SELECT 1 | S
		< 1 ZI
		> P /INSERT | B / | E | Q DEALLOCATE a
		< 1 2 C E ZI`, "a=SELECT 1; unsure"},
	"DISCARD ALL": {`
		> P a/SELECT 1 | S
		< 1 ZI
		> Q SET x = 1
		< C ZI
		> Q DISCARD ALL
		< C ZI`, ""},
	"DISCARD ALL by Execute": {`
		> P a/SELECT 1 | S | P /DISCARD ALL | B / | E | S
		< 1 ZI 1 2 C ZI`, "unnamed=DISCARD ALL"},
	"certain again": {`
		> P a/SELECT 1 | S | Q DEALLOCATE U&"a" | Q DEALLOCATE ALL | P b/SELECT 1 | S
		< 1 ZI C ZI C ZI 1 ZI`, "b=SELECT 1"},
	"an unclear DEALLOCATE": {`
		> P a/SELECT 1 | S | Q DEALLOCATE U&"a"
		< 1 ZI C ZI`, "a=SELECT 1; unsure"},
	"a Query that is skipped": {`
		> P a/SELECT 1 | P /SELECT nosuch | Q DEALLOCATE ALL | P b/SELECT 1 | S
		< 1 E ZI`, "a=SELECT 1"},
	"a Query that ends a unit": {`
		> P a/SELECT 1 | P /SELECT 1 | Q DEALLOCATE ALL | P b/SELECT 1 | S
		< 1 1 C ZI 1 ZI`, "b=SELECT 1"},
	"a Query that ends a unit and fails": {`
		> P a/SELECT 1 | P /SELECT 1 | Q SELECT 1/0 | P b/SELECT 1 | S
		< 1 1 T E ZI 1 ZI`, "a=SELECT 1; b=SELECT 1"},
	"a COPY between": {`
		> P a/SELECT 1 | P /COPY t FROM STDIN | B / | E | S
		< 1 1 2 G
		> d 1 | c | S
		< C ZI
		> P b/SELECT 1 | S
		< 1 ZI`, "a=SELECT 1; b=SELECT 1; unnamed=COPY t FROM STDIN"},

	// The unnamed statement.
	"the unnamed statement": {`
		> P /SELECT 1 | B / | D | E | S
		< 1 2 T C ZI`, "unnamed=SELECT 1"},
	"one that fails when it runs": {`
		> P /SELECT 1/0 | B / | D | E | S
		< 1 2 T E ZI`, "unnamed=SELECT 1/0"},
	"one that replaces another": {`
		> P /SELECT 1 | S | P /SELECT 2 | S
		< 1 ZI 1 ZI`, "unnamed=SELECT 2"},
	"one that fails leaves none": {`
		> P /SELECT 1 | S | P /SELECT nosuch | S
		< 1 ZI E ZI`, ""},
	"one that is skipped leaves the old one": {`
		> P /SELECT 1 | S | B /x | P /SELECT 2 | S
		< 1 ZI E ZI`, "unnamed=SELECT 1"},
	"a Query drops it": {`
		> P /SELECT 1 | S | Q SELECT 1
		< 1 ZI T D C ZI`, ""},
	"so does one that fails": {`
		> P /SELECT 1 | S | Q SELECT nosuch
		< 1 ZI E ZI`, ""},
	"one that is skipped does not": {`
		> P /SELECT 1 | S | B /x | Q SELECT 1 | S
		< 1 ZI E ZI`, "unnamed=SELECT 1"},
	"Close drops it": {`
		> P /SELECT 1 | S | C  | S
		< 1 ZI 3 ZI`, ""},
	"a function call does not": {`
		> P /SELECT 1 | S | F
		< 1 ZI V ZI`, "unnamed=SELECT 1; fastpath"},

	// Settings.
	"what pgjdbc says": {`
		> P /SET extra_float_digits = 3 | B / | E | S
		< 1 2 C ZI
		> P /SET application_name = 'x' | B / | E | S
		< 1 2 C ZI
		> P /BEGIN | B / | E | P S_1/SELECT $1 | B /S_1 | E | S
		< 1 2 C 1 2 C ZT
		> P /COMMIT | B / | E | S
		< 1 2 C ZI`, "S_1=SELECT $1; unnamed=COMMIT; SET extra_float_digits=3; SET application_name=x"},
	"a SET that fails": {`
		> Q SET x = 1
		< C ZI
		> Q SET x = 2
		< E ZI`, "SET x=1"},
	"the last one counts": {`
		> Q SET x = 1
		< C ZI
		> Q SET y = 1
		< C ZI
		> Q SET z = 1
		< C ZI
		> Q RESET z
		< C ZI
		> Q SET X TO 'a', b
		< C ZI`, "SET y=1; SET x=a|b"},
	"RESET": {`
		> Q SET x = 1
		< C ZI
		> Q SET y = 1
		< C ZI
		> Q RESET x
		< C ZI`, "SET y=1"},
	"a SET behind something unanswered": {`
		> Q SELECT 1 | Q SET x = 1
		< C ZI C ZI`, "set_in_block"},
	"a SET in a block": {`
		> Q BEGIN
		< C ZT
		> Q SET x = 1
		< C ZT
		> Q ROLLBACK
		< C ZI`, "set_in_block"},
	"a SET in a block that begins with it": {`
		> P /BEGIN | B / | E | P /SET x = 1 | B / | E | S
		< 1 2 C 1 2 C ZT
		> Q COMMIT
		< C ZI`, "set_in_block"},
	"a SET that its unit rolls back": {`
		> P /SET x = 1 | B / | E | P /SELECT 1/0 | B / | E | S
		< 1 2 C 1 2 E ZI`, "unnamed=SELECT 1/0"},
	"a SET before a ROLLBACK in its unit": {`
		> P /SET x = 1 | B / | E | P /ROLLBACK | B / | E | S
		< 1 2 C 1 2 C ZI`, "unnamed=ROLLBACK; set_in_block"},
	"a SET before a BEGIN in its unit that is not seen": {`
		> P /SET x = 1 | B / | E | P b/BEGIN | B p/b | E p | S
		< 1 2 C 1 2 C ZT
		> Q ROLLBACK
		< C ZI`, "b=BEGIN; set_in_block"},
	"a SET before a Query in its unit": {`
		> P /SET x = 1 | B / | E | Q ROLLBACK
		< 1 2 C C ZI`, "set_in_block"},
	"SET LOCAL and the like": {`
		> Q BEGIN
		< C ZT
		> Q SET LOCAL x = 1 | Q SET TRANSACTION READ ONLY | Q COMMIT
		< C ZT C ZT C ZI`, ""},
	"custom names": {`
		> Q SET my.Var = 'x' | Q SELECT set_config('a.b', '1', false) | P /SET my.var = 1 | S
		< C ZI C ZI 1 ZI`, "unnamed=SET my.var = 1; SET my.var=x; custom my.var; custom a.b; set_config"},
}

func TestTheTypesOfAParseAreKept(t *testing.T) {
	tr := remembering()
	b := msg('P', "a\x00SELECT $1, $2\x00\x00\x02\x00\x00\x00\x17\x00\x00\x04\x13")
	b = append(b, msg('S', "")...)
	for i := range b {
		tr.Client(b[i : i+1])
	}
	tr.Server(costServer("1Z"))
	if got := fmt.Sprint(tr.Recall().Named); got != "[{a SELECT $1, $2 [23 1043]}]" {
		t.Error(got)
	}
}

func TestARecallWithoutRememberIsOfNothingCertain(t *testing.T) {
	tr := started()
	tr.Client(costRequest)
	tr.Server(costAnswer)
	if got := tr.Recall().told(); got != "unsure; unnamed?; custom_unknown; order_lost" {
		t.Error(got)
	}
	tr = remembering()
	tr.Client(costRequest)
	tr.Server(costAnswer)
	tr.Forget()
	tr.Client(costRequest)
	tr.Server(costAnswer)
	if got := tr.Recall().told(); got != "unsure; unnamed?; custom_unknown; order_lost" {
		t.Error(got)
	}
}

func TestABrokenStreamIsNotCertain(t *testing.T) {
	tr := remembering()
	runScript(t, tr, "> P a/SELECT 1 | S\n< 1 ZI")
	tr.Client(msg('?', ""))
	if r := tr.Recall(); !r.Unsure.Named || !r.Unsure.Unnamed || r.Unknown&UnknownOrder == 0 {
		t.Error(r.told())
	}
}

func TestLongTextsAreNotKept(t *testing.T) {
	long := strings.Repeat("x", maxStatement)
	for name, c := range map[string]struct {
		typ        byte
		body, want string
	}{
		"named":           {'P', "a\x00SELECT '" + long + "'\x00\x00\x00", "a unkept; text_unclear"},
		"unnamed":         {'P', "\x00SELECT '" + long + "'\x00\x00\x00", "unnamed?; text_unclear"},
		"query":           {'Q', "SELECT '" + long + "'\x00", "text_unclear"},
		"set":             {'Q', "SELECT '" + long + "'; seT a.b = 1\x00", "custom_unknown; text_unclear"},
		"deallocate":      {'Q', "SELECT '" + long + "'; deallocatE all\x00", "unsure; text_unclear"},
		"discard at last": {'Q', "SELECT '" + long + "'; discard", "unsure; text_unclear"},
	} {
		for _, size := range []int{1 << 20, 1, 9, 4096} {
			tr := remembering()
			b := append(msg(c.typ, c.body), msg('S', "")...)
			for i := 0; i < len(b); i += size {
				tr.Client(b[i:min(i+size, len(b))])
			}
			tr.Server(costServer(map[byte]string{'P': "1Z", 'Q': "CZZ"}[c.typ]))
			if got := tr.Recall().told(); got != c.want {
				t.Errorf("%s in pieces of %d:\n got %q\nwant %q", name, size, got, c.want)
			}
		}
	}
}

// prepare sends a Parse and its answer.
func prepare(tr *Tracker, name, text string) {
	tr.Client(append(msg('P', name+"\x00"+text+"\x00\x00\x00"), msg('S', "")...))
	tr.Server(costServer("1Z"))
}

func TestWhatASessionIsRememberedByIsBounded(t *testing.T) {
	tr := remembering()
	for i := range maxNamed + 1 {
		prepare(tr, fmt.Sprint("s", i), "SELECT 1")
	}
	if r := tr.Recall(); len(r.Named) != maxNamed || !r.Unsure.Named {
		t.Errorf("%d statements, unsure %+v", len(r.Named), r.Unsure)
	}
	tr = remembering()
	for i := range 40 {
		prepare(tr, fmt.Sprint("s", i), fmt.Sprintf("SELECT '%d%s'", i, strings.Repeat("x", 60000)))
	}
	if r := tr.Recall(); len(r.Named) != 17 || len(r.Unkept) != 23 || r.Unsure.Named {
		t.Errorf("%d statements, %d without text, unsure %+v", len(r.Named), len(r.Unkept), r.Unsure)
	}
	tr = remembering()
	for i := range maxSettings + 1 {
		tr.Client(clientMsgs(fmt.Sprintf("Q SET x%d = 1", i)))
		tr.Server(costServer("CZ"))
	}
	if r := tr.Recall(); len(r.Settings) != maxSettings || r.Unknown != UnknownSet {
		t.Errorf("%d settings, %v", len(r.Settings), r.Unknown.Reasons())
	}
	tr = remembering()
	for i := range maxCustom + 1 {
		tr.Client(clientMsgs(fmt.Sprintf("Q SELECT set_config('a.x%d', '', true)", i)))
		tr.Server(costServer("CZ"))
	}
	if r := tr.Recall(); len(r.Custom) != maxCustom || r.Unknown != UnknownSetConfig|UnknownCustom {
		t.Errorf("%d names, %v", len(r.Custom), r.Unknown.Reasons())
	}
}

func TestMoreThanIsKeptAheadOfTheAnswersIsNotCertain(t *testing.T) {
	tr := remembering()
	n := maxOps + 10
	for range n {
		tr.Client(clientMsgs("P /SELECT 1|S"))
	}
	for range n {
		tr.Server(costServer("1Z"))
	}
	if r := tr.Recall(); !r.Unsure.Named || !r.Unsure.Unnamed {
		t.Error(r.told())
	}
	if cap(tr.memory.ops) > opsKept {
		t.Errorf("room for %d messages is kept", cap(tr.memory.ops))
	}
	prepare(tr, "", "SELECT 2")
	if got := tr.Recall().told(); got != "unnamed=SELECT 2; unsure; order_lost" {
		t.Error(got)
	}

	// Few messages, but long ones.
	tr = remembering()
	for i := range 2 * maxPending / 60000 {
		tr.Client(append(msg('P', fmt.Sprintf("\x00SELECT '%d%s'\x00\x00\x00", i, strings.Repeat("x", 60000))), msg('S', "")...))
	}
	if tr.memory.pending > maxPending+maxStatement {
		t.Errorf("%d bytes wait for answers", tr.memory.pending)
	}
	for range 2 * maxPending / 60000 {
		tr.Server(costServer("1Z"))
	}
	if r := tr.Recall(); !r.Unsure.Unnamed || r.Unnamed == nil || tr.memory.pending != 0 {
		t.Errorf("unsure %+v, %d bytes wait", r.Unsure, tr.memory.pending)
	}

	// Requests that fail ahead of the client's next message.
	tr = remembering()
	for range failuresKept + 1 {
		tr.Client(clientMsgs("P a/SELECT nosuch|S"))
	}
	for range failuresKept + 1 {
		tr.Server(costServer("EZ"))
	}
	if r := tr.Recall(); len(r.Named) != 0 || !r.Unsure.Named {
		t.Error(r.told())
	}
	// Those that nobody asks about are no loss.
	tr = remembering()
	prepare(tr, "a", "SELECT 1")
	for range 3 * failuresKept {
		tr.Client(clientMsgs("B /a|E|S"))
		tr.Server(costServer("2EZ"))
	}
	if got := tr.Recall().told(); got != "a=SELECT 1" {
		t.Error(got)
	}
}

func TestNamesAreCutAsTheServerCutsThem(t *testing.T) {
	tr := remembering()
	long := strings.Repeat("n", maxNameLength)
	prepare(tr, long+"1", "SELECT 1")
	tr.Client(clientMsgs("C " + long + "2|S"))
	tr.Server(costServer("3Z"))
	if got := tr.Recall().told(); got != "" {
		t.Error(got)
	}
}

func TestOneTextIsKeptForAllSessions(t *testing.T) {
	texts := NewTexts()
	trackers := make([]*Tracker, 50)
	var all sync.WaitGroup
	for i := range trackers {
		trackers[i] = new(Tracker)
		trackers[i].Remember(texts)
		trackers[i].Start('I')
		all.Go(func() {
			for j := range 40 {
				prepare(trackers[i], fmt.Sprint("S_", j), fmt.Sprint("SELECT ", j))
			}
		})
	}
	all.Wait()
	if n := texts.Len(); n != 80 {
		t.Errorf("%d texts and names", n)
	}
	for i, s := range trackers[0].memory.named {
		if s != trackers[1].memory.named[i] {
			t.Fatalf("statement %d has two texts", i)
		}
	}
	runtime.GC()
	if n := texts.Len(); n != 80 {
		t.Errorf("%d texts and names are left in use", n)
	}
	for _, tr := range trackers {
		tr.Forget()
	}
	for deadline := time.Now().Add(time.Minute); texts.Len() > 0; time.Sleep(time.Millisecond) {
		if runtime.GC(); time.Now().After(deadline) {
			t.Fatalf("%d texts are held for nobody", texts.Len())
		}
	}
	runtime.KeepAlive(trackers)
}

func TestUnknownHasANameForEachReason(t *testing.T) {
	if n := len((UnknownOther<<1 - 1).Reasons()); n != len(unknownNames) {
		t.Errorf("%d reasons, %d names", n, len(unknownNames))
	}
}
