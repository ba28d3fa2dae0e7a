package main

import (
	"slices"
	"testing"
)

// moving turns the run into an undisturbed switchover of two sessions that move.
func moving(r *Run) {
	switchover(r)
	r.Movable = true
	r.Ops = slices.DeleteFunc(r.Ops, func(op Op) bool { return op.Outcome != Acknowledged })
	for i := range r.Ops {
		r.Ops[i].Session, r.Ops[i].Process = r.Ops[i].Client, map[string]uint32{"a": 100, "b": 200}[r.Ops[i].Node]+uint32(r.Ops[i].Client)
	}
}

func TestASwitchoverThatSessionsMoveInIsNotBlamed(t *testing.T) {
	r := clean()
	moving(&r)
	if found := Check(r); len(found) > 0 {
		t.Errorf("blamed for %v", found)
	}
	if n := moved(r); n != 2 {
		t.Errorf("%d sessions moved", n)
	}
}

func TestABrokenPromiseToASessionThatMovesIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		want  string
		spoil func(*Run)
	}{
		"it is told of an error": {"C6", func(r *Run) {
			r.Ops = append(r.Ops, Op{Key: Key{1, 9}, Session: 1, Invoke: 7 * sec, Return: 7 * sec, Outcome: Failed, Node: "a", Err: "08006"})
		}},
		"one session's state answers another":      {"C10", func(r *Run) { r.Mixed = []string{"client 0 was answered ..."} }},
		"it goes on without what it had been told": {"C10", func(r *Run) { delete(r.Rows, Key{0, 2}) }},
		"it does not move":                         {"C10", func(r *Run) { r.Ops[len(r.Ops)-1].Process = 101 }},
		"it hears the old writer after the new one is open": {"C7", func(r *Run) {
			r.Heard = append(r.Heard, Heard{Client: 0, Node: "a", Last: r.Said.Opened + 1})
		}},
	} {
		r := clean()
		moving(&r)
		c.spoil(&r)
		if found := Check(r); !named(found, c.want) {
			t.Errorf("%s: found %v, want %s", name, found, c.want)
		}
	}
}

func TestAWriteIsMadeWhereItsRowSays(t *testing.T) {
	r := Run{Movable: true, Heard: []Heard{{Client: 0, Node: "a", Last: 99 * sec}}, Ops: []Op{
		{Key: Key{0, 1}, Node: "a", Outcome: Acknowledged, Heard: 1 * sec},
		{Key: Key{0, 2}, Node: "a", Outcome: Acknowledged, Heard: 2 * sec},
		{Key: Key{0, 3}, Node: "a", Outcome: Failed, Heard: 3 * sec},
	}}
	attributeTo(&r, map[Key]writer{{0, 1}: {"a", 100}, {0, 2}: {"b", 200}})
	if r.Ops[0].Node != "a" || r.Ops[1].Node != "b" || r.Ops[1].Process != 200 || r.Ops[2].Node != "a" {
		t.Errorf("%+v", r.Ops)
	}
	if want := []Heard{{0, "a", 1 * sec}, {0, "b", 2 * sec}}; !slices.Equal(r.Heard, want) {
		t.Errorf("heard %v, want %v", r.Heard, want)
	}
}

func TestAnAnswerOfAnotherSessionIsNoted(t *testing.T) {
	c := &crowd{}
	op := Op{Key: Key{3, 4}, Session: 7}
	c.note(op, "3/4 of session 7")
	c.note(op, "") // a write that is not answered with anything
	if len(c.mixedUp()) > 0 {
		t.Errorf("blamed for %v", c.mixedUp())
	}
	c.note(op, "3/4 of session 8")
	c.note(op, "5/4 of session 7")
	if len(c.mixedUp()) != 2 || len(c.ops) != 4 {
		t.Errorf("found %v in %d writes", c.mixedUp(), len(c.ops))
	}
}
