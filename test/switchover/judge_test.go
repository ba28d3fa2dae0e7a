package main

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/pgtether/pgtether/test/tellers"
)

// staged is a judge of one client of ours and one of the pool, each of which committed within 5 s before and after a switchover.
func staged(moving bool) (*judge, change) {
	j := newJudge(tellers.Start(context.Background(), "", 0), settings{moving: moving, pool: 1})
	j.kinds[0].size = 1
	now := time.Now()
	c := change{number: 1, ordered: now.Add(-2 * time.Second), opened: now.Add(-time.Second)}
	j.began = now.Add(-time.Minute)
	for _, client := range []int{0, firstOf(jdbc)} {
		for seq, ended := range []time.Time{c.ordered.Add(-time.Second), c.opened.Add(time.Second / 2)} {
			j.crowd.Note(tellers.Work{Row: tellers.Row{Client: client, Seq: int64(seq)}, Began: ended, Ended: ended, Outcome: tellers.Acknowledged})
		}
	}
	return j, c
}

// meets notes which processes answered a session before and after.
func (j *judge) meets(kind string, c change, before, after uint32) {
	j.crowd.Meet(tellers.Session{Kind: kind}, before, c.ordered.Add(-time.Second))
	j.crowd.Meet(tellers.Session{Kind: kind}, after, c.opened.Add(time.Second/2))
}

func TestWhereSessionsMoveNoErrorIsAllowedAndEverySessionMustBeKept(t *testing.T) {
	for name, c := range map[string]struct {
		after  uint32 // who answers the pool's session afterwards
		error  bool
		broken int
	}{
		"all moved":               {200, false, 0},
		"one stayed where it was": {100, false, 1},
		"somebody was told":       {200, true, 1},
		"both":                    {100, true, 2},
	} {
		j, change := staged(true)
		j.meets("", change, 10, 20)
		j.meets(jdbc, change, 100, c.after)
		if c.error {
			j.crowd.NoteEnd(tellers.End{Client: firstOf(jdbc), At: change.opened.Add(-time.Millisecond), Code: "08006", Place: tellers.AtBoundary})
		}
		j.now(change)
		j.sum(tellers.Found{})
		if j.broken != c.broken {
			t.Errorf("%s: %d promises broken, want %d", name, j.broken, c.broken)
		}
		if kept := c.after == 200; j.allKept(change) != kept {
			t.Errorf("%s: all kept %t", name, !kept)
		}
	}
}

func TestWhereSessionsEndEachEndsOnceAtItsBoundary(t *testing.T) {
	boundary := tellers.End{Code: "08006", Place: tellers.AtBoundary}
	for name, c := range map[string]struct {
		ends   []tellers.End
		broken int
	}{
		"once":           {[]tellers.End{boundary}, 0},
		"never":          {nil, 1},
		"twice":          {[]tellers.End{boundary, boundary}, 2},
		"in the middle":  {[]tellers.End{{Code: "08006", Place: tellers.InTransaction}}, 1},
		"with something": {[]tellers.End{{Code: "57P01", Place: tellers.AtBoundary}}, 1},
	} {
		j, change := staged(false)
		for _, e := range c.ends {
			e.At = change.opened
			j.crowd.NoteEnd(e)
		}
		j.now(change)
		j.sum(tellers.Found{})
		if j.broken != c.broken {
			t.Errorf("%s: %d promises broken, want %d", name, j.broken, c.broken)
		}
	}
}

func TestASwitchoverThatAClientDidNotSeeIsNotCounted(t *testing.T) {
	j, c := staged(false)
	c.opened = time.Now()
	j.crowd.NoteEnd(tellers.End{Code: "08006", Place: tellers.AtBoundary, At: c.opened})
	j.now(c)
	if j.broken != 2 {
		t.Errorf("%d promises broken, want one for each kind of client", j.broken)
	}
}

func TestTheJudgeBreaksOnTablesThatDoNotHoldWhatWasTold(t *testing.T) {
	j, _ := staged(true)
	j.sum(tellers.Found{Lost: []tellers.Row{{Client: 1, Seq: 1}}})
	if j.broken != 1 {
		t.Errorf("%d promises broken", j.broken)
	}
}

func TestAFewSwitchoversMayBeUndoneAndNotMany(t *testing.T) {
	for undone, broken := range map[int]int{0: 0, 1: 0, 2: 1} {
		j, c := staged(true)
		j.changes = slices.Repeat([]change{c}, 5)
		for range undone {
			j.undone(c, "a probe was late")
		}
		j.sum(tellers.Found{})
		if j.broken != broken {
			t.Errorf("%d of 5 undone: %d promises broken, want %d", undone, j.broken, broken)
		}
	}
}
