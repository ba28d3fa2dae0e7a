package main

import (
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const sec = time.Second

// clean is a run in which every promise was kept: two clients, a failover from a to b, one row lost within what was stated.
func clean() Run {
	bound := uint64(1000)
	ack := func(client int, seq int64, node string, at time.Duration) Op {
		session := client
		if node == "b" {
			session += 2
		}
		return Op{Key: Key{client, seq}, Session: session, Invoke: at, Return: at + 10*time.Millisecond, Outcome: Acknowledged, Node: node}
	}
	return Run{
		Ops: []Op{
			ack(0, 1, "a", 1*sec), ack(1, 1, "a", 1*sec), ack(0, 2, "a", 4*sec),
			{Key: Key{1, 2}, Invoke: 5 * sec, Return: 6 * sec, Outcome: Failed, Node: "a", Err: "57P03"},
			{Key: Key{1, 3}, Invoke: 5 * sec, Return: 6 * sec, Outcome: InDoubt, Node: "a"},
			ack(0, 3, "b", 9*sec), ack(1, 4, "b", 9*sec+sec/2),
		},
		Old: "a", New: "b", Promoted: true, Clients: 2, Fault: 5 * sec, Healed: 6 * sec, Limit: 10 * sec,
		Rows:    map[Key]int{{0, 1}: 1, {1, 1}: 1, {1, 3}: 1, {0, 3}: 1, {1, 4}: 1},
		OldRows: map[Key]int{{0, 1}: 1, {1, 1}: 1, {0, 2}: 1},
		Bytes:   map[string]Bytes{"a": {FirstTo: 0, LastTo: 5 * sec, Seen: true}, "b": {FirstTo: 8 * sec, LastTo: 10 * sec, Seen: true}},
		Heard:   []Heard{{0, "a", 4*sec + sec/2}, {1, "a", 6 * sec}, {0, "b", 10 * sec}, {1, "b", 10 * sec}},
		Said:    Said{Opened: 8 * sec, Requested: map[uint64]int{2: 1}, Kind: "failover", Lossless: "bounded", LossBytes: &bound, To: "b"},
	}
}

// keepAll has the row that clean loses arrive.
func keepAll(r *Run) { r.Rows[Key{0, 2}] = 1 }

// switchover turns the run into one in which nothing disturbed a switchover: nothing is lost, and one client was told that its session has ended.
func switchover(r *Run) {
	none := uint64(0)
	keepAll(r)
	r.Planned, r.Said.Kind, r.Said.Lossless, r.Said.LossBytes = true, "switchover", "proven", &none
	r.Ops = slices.Delete(r.Ops, 4, 5) // the write in doubt
	delete(r.Rows, Key{1, 3})
	r.Ops[3].Err = "08006"
}

func TestASwitchoverThatCostsEachSessionOneErrorIsNotBlamed(t *testing.T) {
	r := clean()
	switchover(&r)
	if found := Check(r); len(found) > 0 {
		t.Errorf("blamed for %v", found)
	}
	if longest, errs := stall(r); longest != 8*sec+sec/2 || errs != 1 {
		t.Errorf("longest stall %s, %d errors", longest, errs)
	}
	r.Disturbed, r.Ops[3].Outcome = true, InDoubt
	if found := Check(r); len(found) > 0 {
		t.Errorf("blamed for %v though it was disturbed", found)
	}
}

func TestASwitchoversSeedIsAllThatItDependsOn(t *testing.T) {
	kinds := map[string]int{}
	for seed := range uint64(300) {
		p := planned(seed)
		if p != planned(seed) {
			t.Fatalf("seed %d gives two switchovers", seed)
		}
		kinds[p.Disturbance]++
	}
	for _, d := range disturbances {
		if kinds[d] < 20 {
			t.Errorf("%q is rare: %v", d, kinds)
		}
	}
}

func TestARunCountsOnlyWhenEveryClientHadJustCommitted(t *testing.T) {
	if why := Uncounted(clean()); why != "" {
		t.Errorf("not counted: %s", why)
	}
	for name, spoil := range map[string]func(*Run){
		"a client's last commit is older":        func(r *Run) { r.Fault = 7 * sec },
		"a client's commit came after the fault": func(r *Run) { r.Ops[1].Return = 5*sec + 1 },
		"a client's write failed":                func(r *Run) { r.Ops[1].Outcome = Failed },
		"a client never wrote":                   func(r *Run) { r.Clients = 3 },
	} {
		r := clean()
		spoil(&r)
		if Uncounted(r) == "" {
			t.Errorf("counted although %s", name)
		}
	}
}

func TestWithoutAChangeEveryClientCommitsAfterTheFaultIsHealed(t *testing.T) {
	r := clean()
	r.New, r.Promoted, r.Said, r.OldRows = r.Old, false, Said{}, nil
	keepAll(&r)
	r.Ops[5].Node, r.Ops[6].Node = "a", "a"
	if found := Check(r); len(found) > 0 {
		t.Errorf("blamed for %v", found)
	}
	r.Healed = 9*sec + 1
	if found := Check(r); !named(found, "C9") {
		t.Errorf("found %v, want C9: client 0 began nothing after the fault was healed", found)
	}
}

func TestAnEarHearsServersAndNotPgtether(t *testing.T) {
	message := func(kind byte, body string) []byte {
		return append([]byte{kind, 0, 0, 0, byte(4 + len(body))}, body...)
	}
	farewell := message('E', "SFATAL\x00C08006\x00Mthe writer was lost\x00\x00")
	for name, c := range map[string]struct {
		bytes []byte
		want  time.Duration
	}{
		"an answer":                         {message('C', "INSERT 0 1\x00"), 9 * sec},
		"a message without a body":          {message('2', ""), 9 * sec},
		"a server's error":                  {message('E', "SFATAL\x00C57P01\x00Mend\x00Fpostgres.c\x00L1\x00Rx\x00\x00"), 9 * sec},
		"pgtether's farewell":               {farewell, sec},
		"an answer, then the farewell":      {append(message('C', "INSERT 0 1\x00"), farewell...), 9 * sec},
		"the farewell, then another answer": {append(slices.Clone(farewell), message('Z', "I")...), 9 * sec},
		"a long row":                        {append([]byte{'D', 0, 0, 0x40, 4}, make([]byte, 0x4000)...), 9 * sec},
	} {
		for _, size := range []int{1, 3, len(c.bytes)} {
			e := &ear{}
			e.listen(message('R', "\x00\x00\x00\x00"), sec)
			for chunk := range slices.Chunk(c.bytes, size) {
				e.listen(chunk, 9*sec)
			}
			if e.lastHeard() != c.want || len(e.message) != 0 {
				t.Errorf("%s in reads of %d: last heard at %s, want %s; %d bytes left over", name, size, e.lastHeard(), c.want, len(e.message))
			}
		}
	}
}

func TestARunThatKeptEveryPromiseIsNotBlamed(t *testing.T) {
	if found := Check(clean()); len(found) > 0 {
		t.Errorf("blamed for %v", found)
	}
}

func TestEveryBrokenPromiseIsNamed(t *testing.T) {
	none := uint64(0)
	for name, c := range map[string]struct {
		want  string
		spoil func(*Run)
	}{
		"an acknowledged row is missing with synchronous replication": {"C1", func(r *Run) { r.Sync = true }},
		"a row that failed is there":                                  {"C2", func(r *Run) { r.Rows[Key{1, 2}] = 1 }},
		"a row in doubt is there twice":                               {"C3", func(r *Run) { r.Rows[Key{1, 3}] = 2 }},
		"an acknowledged row is there twice":                          {"C4", func(r *Run) { r.Rows[Key{0, 1}] = 2 }},
		"a row that nobody wrote":                                     {"C4", func(r *Run) { r.Rows[Key{9, 9}] = 1 }},
		"a row that both writers have":                                {"C4", func(r *Run) { r.OldRows[Key{0, 3}] = 1 }},
		"more is lost than was stated":                                {"C5", func(r *Run) { r.Said.LossBytes = &none }},
		"something is lost and the change was called proven":          {"C5", func(r *Run) { r.Said.Lossless = "proven" }},
		"something is lost that had not asked for less":               {"C5", func(r *Run) { r.Said.Lossless = "relaxed" }},
		"something is lost and nothing was said":                      {"C5", func(r *Run) { r.Said.Lossless, r.Said.LossBytes = "", nil }},
		"nothing that is lost was proven without a number":            {"C5", func(r *Run) { keepAll(r); r.Said.Lossless, r.Said.LossBytes = "proven", nil }},
		"proven with something that may be lost":                      {"C5", func(r *Run) { keepAll(r); r.Said.Lossless = "proven" }},
		"bounded by no number":                                        {"C5", func(r *Run) { r.Said.LossBytes = nil }},
		"bounded by no number though nothing is lost":                 {"C5", func(r *Run) { keepAll(r); r.Said.LossBytes = nil }},
		"relaxed without a number though nothing is lost":             {"C5", func(r *Run) { keepAll(r); r.Said.Lossless, r.Said.LossBytes = "relaxed", nil }},
		"a word that nobody knows though nothing is lost":             {"C5", func(r *Run) { keepAll(r); r.Said.Lossless = "hopefully" }},
		"a client heard the old writer after the new one was open":    {"C7", func(r *Run) { r.Heard[1].Last = 8*sec + 1 }},
		"the old writer acknowledged after the new one, and the byte logs saw nothing": {"C7", func(r *Run) {
			r.Bytes = nil
			r.Ops = append(r.Ops, Op{Key: Key{1, 5}, Session: 1, Invoke: 9 * sec, Return: 11 * sec, Outcome: Acknowledged, Node: "a"})
			r.Rows[Key{1, 5}] = 1
		}},
		"the new epoch is opened by no event":                {"C8", func(r *Run) { r.Said.Opened = 0 }},
		"one client commits again only what it began before": {"C9", func(r *Run) { r.Ops[6].Invoke = 8*sec - 1 }},
		"one client commits again only on the old writer": {"C9", func(r *Run) {
			r.Ops[6].Node, r.Ops[6].Invoke, r.Ops[6].Return = "a", 8*sec+1, 8*sec+2
		}},
		"bytes went to both": {"C7", func(r *Run) {
			r.Bytes["a"] = Bytes{LastTo: 8*sec + 1, Seen: true}
		}},
		"the old writer acknowledged after the new one": {"C7", func(r *Run) {
			r.Ops = append(r.Ops, Op{Key: Key{1, 5}, Session: 1, Invoke: 9 * sec, Return: 11 * sec, Outcome: Acknowledged, Node: "a"})
			r.Rows[Key{1, 5}] = 1
		}},
		"two promotions were requested for one epoch": {"C8", func(r *Run) { r.Said.Requested[2] = 2 }},
		"a failover that no event requested":          {"C8", func(r *Run) { r.Said.Requested = nil }},
		"a transition without a reason":               {"C8", func(r *Run) { r.Said.Unexplained = []string{"event 7"} }},
		"nothing is acknowledged any more": {"C9", func(r *Run) {
			r.Ops = r.Ops[:5]
			delete(r.Rows, Key{0, 3})
			delete(r.Rows, Key{1, 4})
		}},
		"it takes too long":               {"C9", func(r *Run) { r.Limit = 3 * sec }},
		"one client never comes back":     {"C9", func(r *Run) { r.Clients = 3 }},
		"a login hangs":                   {"C9", func(r *Run) { r.Hung = 1 }},
		"a switchover that is not proven": {"C5", func(r *Run) { r.Said.Kind = "switchover" }},
		"a switchover that no event requested": {"C8", func(r *Run) {
			switchover(r)
			r.Said.Requested = nil
		}},
		"a client of an undisturbed switchover is told two errors": {"C6", func(r *Run) {
			switchover(r)
			r.Ops = append(r.Ops, Op{Key: Key{1, 9}, Invoke: 7 * sec, Return: 7 * sec, Outcome: Failed, Node: "a", Err: "08006"})
		}},
		"a client of an undisturbed switchover is told that its server is read-only": {"C6", func(r *Run) {
			switchover(r)
			r.Ops[3].Err = "25006"
		}},
		"an undisturbed switchover leaves a row in doubt": {"C6", func(r *Run) {
			switchover(r)
			r.Ops[3].Outcome = InDoubt
		}},
		"an undisturbed switchover is not made": {"C9", func(r *Run) {
			switchover(r)
			r.New, r.Promoted, r.Said, r.OldRows = r.Old, false, Said{}, nil
			r.Ops[4].Node, r.Ops[5].Node = "a", "a"
		}},
		"a promotion that was not called for": {"unwanted promotion", func(r *Run) { r.Gray = true }},
	} {
		r := clean()
		c.spoil(&r)
		found := Check(r)
		if len(found) == 0 || slices.ContainsFunc(found, func(v Violation) bool { return v.Name != c.want || v.Evidence == "" }) {
			t.Errorf("%s: found %v, want %s alone", name, found, c.want)
		}
	}
}

func TestARelaxedRowMayBeLostWhereTheChangeWasCalledSo(t *testing.T) {
	r := clean()
	r.Sync, r.Said.Lossless = true, "relaxed"
	r.Ops[2].Relaxed = true
	if found := Check(r); len(found) > 0 {
		t.Errorf("blamed for %v", found)
	}
}

func TestWhatAServerLosesInItsOwnCrashIsItsOwn(t *testing.T) {
	r := clean()
	r.New, r.Promoted, r.Said, r.OldRows = r.Old, false, Said{}, nil
	r.Ops[2].Relaxed, r.Ops[5].Node, r.Ops[6].Node = true, "a", "a"
	if found := Check(r); len(found) > 0 {
		t.Errorf("blamed for %v", found)
	}
	r.Ops[2].Relaxed = false
	if found := Check(r); !slices.ContainsFunc(found, func(v Violation) bool { return v.Name == "C5" }) {
		t.Errorf("a lost commit that had not asked for less was not found: %v", found)
	}
}

func TestASchedulesSeedIsAllThatItDependsOn(t *testing.T) {
	kinds, restarts, flaps := map[string]int{}, 0, 0
	for seed := range uint64(300) {
		s := schedule(seed)
		if !reflect.DeepEqual(s, schedule(seed)) {
			t.Fatalf("seed %d gives two schedules", seed)
		}
		kinds[s.Fault]++
		if s.RestartAfter > 0 {
			restarts++
		}
		if s.BackAfter < 4*sec {
			flaps++
		}
	}
	for _, fault := range faults {
		if kinds[fault] < 50 {
			t.Errorf("%s is rare: %v", fault, kinds)
		}
	}
	if restarts < 50 || flaps < 20 {
		t.Errorf("%d restarts and %d flaps in 300 schedules", restarts, flaps)
	}
}

func TestOnlyWhatWasSaidIsConcludedFromAnError(t *testing.T) {
	for _, c := range []struct {
		err    error
		warned bool
		want   Outcome
	}{
		{nil, false, Acknowledged},
		{nil, true, InDoubt},
		{&pgconn.PgError{Code: "57P03"}, false, Failed},
		{&pgconn.PgError{Code: "08006"}, false, Failed},
		{&pgconn.PgError{Code: "08007"}, false, InDoubt},
		{&pgconn.PgError{Code: "57P01"}, false, InDoubt},
		{errors.New("connection reset by peer"), false, InDoubt},
	} {
		if got := outcome(c.err, c.warned); got != c.want {
			t.Errorf("%v, warned %v: %s, want %s", c.err, c.warned, got, c.want)
		}
	}
}

func TestQuantilesAreThoseOfTheSortedList(t *testing.T) {
	d := []time.Duration{5, 1, 4, 2, 3}
	if quantile(d, 0.5) != 3 || quantile(d, 1) != 5 || quantile(nil, 0.5) != 0 {
		t.Errorf("median %d, max %d", quantile(d, 0.5), quantile(d, 1))
	}
}
