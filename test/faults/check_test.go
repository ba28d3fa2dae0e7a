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
		return Op{Key: Key{client, seq}, Invoke: at, Return: at + 10*time.Millisecond, Outcome: Acknowledged, Node: node}
	}
	return Run{
		Ops: []Op{
			ack(0, 1, "a", 1*sec), ack(1, 1, "a", 1*sec), ack(0, 2, "a", 4*sec),
			{Key: Key{1, 2}, Invoke: 5 * sec, Return: 6 * sec, Outcome: Failed, Node: "a", Err: "57P03"},
			{Key: Key{1, 3}, Invoke: 5 * sec, Return: 6 * sec, Outcome: InDoubt, Node: "a"},
			ack(0, 3, "b", 9*sec), ack(1, 4, "b", 9*sec+sec/2),
		},
		Old: "a", New: "b", Promoted: true, Clients: 2, Fault: 5 * sec, Limit: 10 * sec,
		Rows:    map[Key]int{{0, 1}: 1, {1, 1}: 1, {1, 3}: 1, {0, 3}: 1, {1, 4}: 1},
		OldRows: map[Key]int{{0, 1}: 1, {1, 1}: 1, {0, 2}: 1},
		Bytes:   map[string]Bytes{"a": {FirstTo: 0, LastTo: 5 * sec, Seen: true}, "b": {FirstTo: 8 * sec, LastTo: 10 * sec, Seen: true}},
		Said:    Said{Requested: map[uint64]int{2: 1}, Kind: "failover", Lossless: "bounded", LossBytes: &bound, To: "b"},
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
		"bytes went to both": {"C7", func(r *Run) {
			r.Bytes["a"] = Bytes{LastTo: 8*sec + 1, Seen: true}
		}},
		"the old writer acknowledged after the new one": {"C7", func(r *Run) {
			r.Ops = append(r.Ops, Op{Key: Key{1, 5}, Invoke: 9 * sec, Return: 11 * sec, Outcome: Acknowledged, Node: "a"})
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
		"it takes too long":                   {"C9", func(r *Run) { r.Limit = 3 * sec }},
		"one client never comes back":         {"C9", func(r *Run) { r.Clients = 3 }},
		"a login hangs":                       {"C9", func(r *Run) { r.Hung = 1 }},
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
	r.Ops[2].Relaxed = true
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
