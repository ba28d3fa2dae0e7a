package main

import (
	"strings"
	"testing"
	"time"
)

func set(ids ...int64) map[int64]bool {
	m := map[int64]bool{}
	for _, id := range ids {
		m[id] = true
	}
	return m
}

func TestTheBalanceFindsEveryKindOfHarm(t *testing.T) {
	for name, c := range map[string]struct {
		view     view
		old, now map[int64]bool
		want     string // part of the verdict; "" is a clean one
	}{
		"everything acknowledged is there":      {view: view{acked: []int64{1, 2}}, old: set(1), now: set(1, 2)},
		"a commit in doubt may be there":        {view: view{acked: []int64{1}, doubt: []int64{2}}, old: set(1), now: set(1, 2)},
		"a commit in doubt may be missing":      {view: view{acked: []int64{1}, doubt: []int64{2}}, old: set(1), now: set(1)},
		"a session's end is no harm":            {view: view{acked: []int64{1}, errors: []failure{{during: "transaction", sqlState: "57P01"}}}, now: set(1)},
		"an acknowledged row is missing":        {view: view{acked: []int64{1, 2}}, old: set(1), now: set(1), want: "1 acknowledged rows are missing, the first is 2"},
		"the old primary accepted a row":        {view: view{acked: []int64{1}}, old: set(1, 3), now: set(1), want: "accepted by the old primary"},
		"a client reached a read-only server":   {view: view{acked: []int64{1}, errors: []failure{{during: "transaction", sqlState: "25006"}}}, now: set(1), want: "read-only server"},
		"a login was refused":                   {view: view{acked: []int64{1}, errors: []failure{{during: "login", sqlState: "57P03"}}}, now: set(1), want: "login was refused"},
		"a workload that did nothing shows nil": {view: view{}, want: "nothing was shown"},
	} {
		t.Run(name, func(t *testing.T) {
			err := compare(c.view, c.old, c.now).verdict(c.view)
			switch {
			case c.want == "" && err != nil:
				t.Errorf("verdict %v, want none", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("verdict %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestDoubtfulCommitsThatTookEffectAreCounted(t *testing.T) {
	if r := compare(view{doubt: []int64{1, 2, 3}}, nil, set(1, 3)); r.doubtKept != 2 {
		t.Errorf("%d doubtful commits counted as kept, want 2", r.doubtKept)
	}
}

func TestErrorsAreToldByWhatTheClientSaw(t *testing.T) {
	got := kinds([]failure{{during: "transaction", sqlState: "57P01"}, {during: "commit", sqlState: "08007"}, {during: "transaction", sqlState: "57P01"}})
	if want := " (1 x 08007 during commit, 2 x 57P01 during transaction)"; got != want {
		t.Errorf("kinds %q, want %q", got, want)
	}
	if got := kinds(nil); got != "" {
		t.Errorf("kinds of nothing %q, want none", got)
	}
}

func TestSamplesAreSummedUpByMedianAndLongest(t *testing.T) {
	at := time.Unix(100, 0)
	samples := []sample{{at, 5 * time.Second}, {at.Add(time.Second), time.Second}, {at.Add(2 * time.Second), 2 * time.Second}}
	if m, l := median(samples), longest(samples); m != 2*time.Second || l != 5*time.Second {
		t.Errorf("median %s and longest %s, want 2s and 5s", m, l)
	}
	if late := since(samples, at); len(late) != 2 {
		t.Errorf("%d samples after the first instant, want 2", len(late))
	}
	if median(nil) != 0 || longest(nil) != 0 {
		t.Error("no samples must give 0")
	}
}

func TestAnAddressInUseIsReplacedByAnyFreePort(t *testing.T) {
	if got := orFree("127.0.0.1:0"); got != "127.0.0.1:0" {
		t.Errorf("a free address became %q", got)
	}
	if got := orFree("not an address"); got != "not an address" {
		t.Errorf("nonsense became %q; the error must name what was given", got)
	}
}
