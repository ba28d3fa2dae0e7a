package tellers

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

func TestWhatWasToldIsHeldAgainstWhatIsThere(t *testing.T) {
	told := []Work{
		{Row: Row{0, 1}, Outcome: Acknowledged}, {Row: Row{0, 2}, Outcome: Failed}, {Row: Row{0, 3}, Outcome: InDoubt},
	}
	for name, c := range map[string]struct {
		there map[Row]int
		found string
	}{
		"all is true":                {map[Row]int{{0, 1}: 1}, "1 acknowledged, 1 failed, 1 in doubt; 0 lost, 0 doubled, 0 failed and there, 0 of nobody"},
		"what was in doubt is there": {map[Row]int{{0, 1}: 1, {0, 3}: 1}, "1 acknowledged, 1 failed, 1 in doubt; 0 lost, 0 doubled, 0 failed and there, 0 of nobody"},
		"a row is lost":              {map[Row]int{}, "1 acknowledged, 1 failed, 1 in doubt; 1 lost, 0 doubled, 0 failed and there, 0 of nobody"},
		"a row is there twice":       {map[Row]int{{0, 1}: 2}, "1 acknowledged, 1 failed, 1 in doubt; 0 lost, 1 doubled, 0 failed and there, 0 of nobody"},
		"a row in doubt twice":       {map[Row]int{{0, 1}: 1, {0, 3}: 2}, "1 acknowledged, 1 failed, 1 in doubt; 0 lost, 1 doubled, 0 failed and there, 0 of nobody"},
		"a failed row is there":      {map[Row]int{{0, 1}: 1, {0, 2}: 1}, "1 acknowledged, 1 failed, 1 in doubt; 0 lost, 0 doubled, 1 failed and there, 0 of nobody"},
		"a row of nobody":            {map[Row]int{{0, 1}: 1, {7, 7}: 1}, "1 acknowledged, 1 failed, 1 in doubt; 0 lost, 0 doubled, 0 failed and there, 1 of nobody"},
	} {
		f := compare(told, c.there)
		if f.String() != c.found {
			t.Errorf("%s: %s, want %s", name, f, c.found)
		}
		if sound := len(f.Lost)+len(f.Doubled)+len(f.Risen)+len(f.Foreign) == 0; f.Sound() != sound {
			t.Errorf("%s: sound %t", name, f.Sound())
		}
	}
	if (Found{Unbalanced: "accounts"}).Sound() {
		t.Error("balances that do not add up are called sound")
	}
}

func TestNothingIsConcludedFromWhatWasNotSaid(t *testing.T) {
	for _, c := range []struct {
		place Place
		err   error
		want  Outcome
	}{
		{AtBoundary, errors.New("reset"), Failed},
		{InTransaction, errors.New("reset"), Failed},
		{AtCommit, errors.New("reset"), InDoubt},
		{AtCommit, &pgconn.PgError{Code: "08006"}, Failed},
		{AtCommit, &pgconn.PgError{Code: "08007"}, InDoubt},
		{AtCommit, &pgconn.PgError{Code: "57P01"}, InDoubt},
		{AtCommit, nil, InDoubt}, // it was warned
	} {
		if got := conclude(c.place, c.err); got != c.want {
			t.Errorf("%v at %s: %s, want %s", c.err, c.place, got, c.want)
		}
	}
}

func TestGapsAreThoseBetweenAcknowledgementsOfOneClient(t *testing.T) {
	c := &Crowd{last: map[int]time.Time{}, began: map[int]time.Time{}}
	at := func(s float64) time.Time { return time.Unix(1000, 0).Add(time.Duration(s * float64(time.Second))) }
	for _, w := range []struct {
		client int
		ended  float64
		what   Outcome
	}{{0, 1, Acknowledged}, {1, 1.5, Acknowledged}, {0, 3, Failed}, {0, 4, Acknowledged}, {1, 2, Acknowledged}} {
		c.Note(Work{Row: Row{w.client, int64(w.ended * 10)}, Began: at(w.ended - 0.1), Ended: at(w.ended), Outcome: w.what})
	}
	if g := c.Longest(at(0), Everyone); g.Client != 0 || g.Length() != 3*time.Second {
		t.Errorf("longest %+v", g)
	}
	if g := c.Longest(at(0), func(n int) bool { return n == 1 }); g.Length() != time.Second/2 {
		t.Errorf("longest of client 1: %+v", g)
	}
	if g := c.Longest(at(5), Everyone); g.Length() != 0 {
		t.Errorf("a gap after the end: %+v", g)
	}
	if g := c.LongestAcross(at(0), at(0.5), Everyone); g.Length() != 0 {
		t.Errorf("a gap that began later: %+v", g)
	}
	if n := c.CommittedWithin(at(0), at(1.6), Everyone); n != 2 {
		t.Errorf("%d clients committed", n)
	}
	if n := c.committedSince(at(1.7)); n != 2 {
		t.Errorf("%d clients committed what they began later", n)
	}
	if n := c.committedSince(at(2)); n != 1 {
		t.Errorf("%d clients committed what they began after the second second", n)
	}
}

func TestASessionIsKeptWhenAnotherProcessAnswersIt(t *testing.T) {
	c := &Crowd{backends: map[Session][]Met{}}
	at := func(s float64) time.Time { return time.Unix(1000, 0).Add(time.Duration(s * float64(time.Second))) }
	for _, m := range []struct {
		session int
		process uint32
		s       float64
	}{
		{0, 100, 1}, {0, 100, 2}, {0, 200, 6}, {0, 100, 1.9}, // kept, and one answer is told late
		{1, 101, 1}, {1, 101, 6}, // stayed
		{2, 102, 1}, // silent
		{3, 103, 6}, // new
	} {
		c.Meet(Session{"x", m.session}, m.process, at(m.s))
	}
	c.Meet(Session{"y", 0}, 300, at(6))
	if k, want := c.Kept("x", at(3), at(5), at(9)), (Kept{Before: 3, Kept: 1, Stayed: 1, Silent: 1, New: 1}); k != want {
		t.Errorf("%+v, want %+v", k, want)
	}
	if k, want := c.Kept("x", at(7), at(8), at(9)), (Kept{Before: 4, Silent: 4}); k != want {
		t.Errorf("afterwards: %+v, want %+v", k, want)
	}
	if !(Kept{Before: 2, Kept: 2}).Whole(2) || (Kept{Before: 2, Kept: 2}).Whole(3) || (Kept{Before: 2, Kept: 2, New: 1}).Whole(2) {
		t.Error("what is whole is not what was there and has moved")
	}
}
