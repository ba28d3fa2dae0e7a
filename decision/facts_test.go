package decision

import (
	"testing"
	"time"
)

func TestWhatAProbeRoundMeans(t *testing.T) {
	alive := func(state string) Attempt { return Attempt{Evidence: Alive, SQLState: state} }
	silent, refused := Attempt{Evidence: Silent}, Attempt{Evidence: Refused}
	for name, c := range map[string]struct {
		fresh, persistent, replication Attempt
		role                           Role
		late                           bool
		want                           class
	}{
		"all well":                                {good, good, good, RolePrimary, false, classPrimary},
		"in recovery":                             {good, good, good, RoleStandby, false, classStandby},
		"only the open connection answers":        {silent, good, silent, RolePrimary, false, classPrimary},
		"the open connection was lost":            {good, silent, good, RolePrimary, false, classPrimary},
		"57P03 while open connections answer":     {alive("57P03"), good, alive("57P03"), RolePrimary, false, classPrimary},
		"all refused":                             {refused, refused, refused, 0, false, classFailing},
		"all silent":                              {silent, silent, silent, 0, false, classFailing},
		"refused and silent":                      {refused, silent, refused, 0, false, classFailing},
		"silent by the prober's own fault":        {silent, silent, silent, 0, true, classUnknown},
		"answers although the prober was late":    {good, good, good, RolePrimary, true, classPrimary},
		"starting up":                             {alive("57P03"), refused, alive("57P03"), 0, false, classStarting},
		"shutting down":                           {alive("57P01"), silent, silent, 0, false, classStarting},
		"crashed":                                 {alive("57P02"), silent, silent, 0, false, classStarting},
		"starting up wins over a wrong password":  {alive("28P01"), alive("57P03"), silent, 0, false, classStarting},
		"too many connections":                    {alive("53300"), silent, alive("53300"), 0, false, classBusy},
		"too many, the replication slot answers":  {alive("53300"), silent, good, 0, false, classBusy},
		"wrong password":                          {alive("28P01"), silent, alive("28P01"), 0, false, classBlind},
		"no such role":                            {alive("28000"), silent, silent, 0, false, classBlind},
		"no such database":                        {alive("3D000"), silent, good, 0, false, classBlind},
		"no privilege":                            {alive("42501"), silent, silent, 0, false, classBlind},
		"database closed":                         {alive("55000"), silent, silent, 0, false, classBlind},
		"an error nobody has thought of":          {alive("XX000"), silent, silent, 0, false, classBusy},
		"only replication refused, rest silent":   {silent, silent, alive("28000"), 0, false, classBusy},
		"nothing was tried":                       {Attempt{}, Attempt{}, Attempt{}, 0, false, classUnknown},
		"another protocol":                        {Attempt{Detail: "HTTP"}, silent, silent, 0, false, classUnknown},
		"replication not configured, rest silent": {silent, silent, Attempt{}, 0, false, classFailing},
	} {
		o := Observation{Fresh: c.fresh, Persistent: c.persistent, Replication: c.replication, Role: c.role, ProberStalled: c.late}
		if got := classify(o); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestOnlySilenceAndRefusalCanBecomeDeath(t *testing.T) {
	// Every SQLSTATE class of PostgreSQL, as the answer on every way in: none of them counts as failing.
	for _, state := range []string{"53300", "53400", "53200", "53100", "57P03", "57P01", "57P02", "57P04", "57014", "28P01", "28000", "3D000", "42501", "55000",
		"25006", "08P01", "0A000", "XX000", "XX001", "XX002", "58030", "40001", ""} {
		a := Attempt{Evidence: Alive, SQLState: state}
		for _, o := range []Observation{
			{Fresh: a, Persistent: a, Replication: a},
			{Fresh: a, Persistent: Attempt{Evidence: Silent}, Replication: Attempt{Evidence: Refused}},
			{Fresh: Attempt{Evidence: Silent}, Persistent: Attempt{Evidence: Refused}, Replication: a},
			{Fresh: Attempt{Evidence: Refused}, Persistent: a, Replication: Attempt{Evidence: Silent}},
		} {
			if classify(o) == classFailing {
				t.Errorf("SQLSTATE %q counts as failing", state)
			}
		}
	}
}

func TestDescentComparesPositionsNotNumbers(t *testing.T) {
	h := func(s ...TimelineSwitch) Opt[[]TimelineSwitch] { return Some(s) }
	tl := func(n uint32) Opt[uint32] { return Some(n) }
	one := Writer{Timeline: 1, History: h()}
	two := Writer{Timeline: 2, History: h(TimelineSwitch{1, 0x300})}
	blind := Writer{Timeline: 2}
	var none Opt[[]TimelineSwitch]
	for name, c := range map[string]struct {
		w    Writer
		tl   Opt[uint32]
		hist Opt[[]TimelineSwitch]
		want Verdict
		fork LSN
	}{
		"timeline 1 on timeline 1":                    {one, tl(1), h(), Pass, 0},
		"timeline 1 needs no history":                 {one, tl(1), none, Pass, 0},
		"timeline 2 from timeline 1":                  {one, tl(2), h(TimelineSwitch{1, 0x300}), Pass, 0x300},
		"timeline 4 by way of 2":                      {one, tl(4), h(TimelineSwitch{1, 0x300}, TimelineSwitch{2, 0x500}), Pass, 0x300},
		"timeline 4 from timeline 2":                  {two, tl(4), h(TimelineSwitch{1, 0x300}, TimelineSwitch{2, 0x500}), Pass, 0x500},
		"timeline 4 from another timeline 2":          {two, tl(4), h(TimelineSwitch{1, 0x299}, TimelineSwitch{2, 0x500}), Fail, 0},
		"timeline 4 past timeline 2":                  {two, tl(4), h(TimelineSwitch{1, 0x300}, TimelineSwitch{3, 0x500}), Fail, 0},
		"timeline 3 whose history was not read":       {two, tl(3), none, Unknown, 0},
		"unknown timeline":                            {two, Opt[uint32]{}, none, Unknown, 0},
		"an older timeline":                           {two, tl(1), h(), Fail, 0},
		"the same timeline":                           {two, tl(2), h(TimelineSwitch{1, 0x300}), Pass, 0},
		"the same number, another history":            {two, tl(2), h(TimelineSwitch{1, 0x301}), Fail, 0},
		"the same number, unread here":                {two, tl(2), none, Unknown, 0},
		"the same number, unread at the adoption":     {blind, tl(2), h(TimelineSwitch{1, 0x300}), Unknown, 0},
		"timeline 3, the epoch's history was unread":  {blind, tl(3), h(TimelineSwitch{1, 0x300}, TimelineSwitch{2, 0x500}), Pass, 0x500},
		"timeline 3 that does not know the epoch's 2": {blind, tl(3), h(TimelineSwitch{1, 0x300}), Fail, 0},
	} {
		v, fork, why := descent(c.w, c.tl, c.hist)
		if v != c.want || fork != c.fork || why == "" {
			t.Errorf("%s: %s at %s (%s), want %s at %s", name, v, fork, why, c.want, c.fork)
		}
	}
	if at := leftAt(two, 1); at != Some(LSN(0x300)) {
		t.Errorf("timeline 1 was left at %v", at)
	}
	if at := leftAt(two, 7); at.Known {
		t.Errorf("timeline 7 was left at %v", at)
	}
}

func TestTheRateIsTheGreatestOfTheLastMinute(t *testing.T) {
	var tr track
	at := Instant(0)
	add := func(d time.Duration, grown LSN) {
		at = at.Add(d)
		tr.add(at, tr.newest+grown)
	}
	tr.add(at, 1000)
	if tr.rate(at).Known {
		t.Error("one sample has a rate")
	}
	add(time.Second, 500)
	add(time.Second, 100)
	if r := tr.rate(at); r != Some(uint64(500)) {
		t.Errorf("the rate is %v, want 500", r)
	}
	// Fast probes do not make bursts: the distance of two samples is about a second.
	for range 10 {
		add(100*time.Millisecond, 10)
	}
	add(time.Millisecond, 400)
	if r := tr.rate(at); r != Some(uint64(500)) {
		t.Errorf("the rate is %v after a burst of probes, want 500", r)
	}
	for range 58 {
		add(time.Second, 1)
	}
	if r := tr.rate(at); r.V < 370 {
		t.Errorf("the rate is %v within the minute", r)
	}
	for range 70 {
		add(time.Second, 1)
	}
	if r := tr.rate(at); r != Some(uint64(1)) {
		t.Errorf("the rate is %v after the minute, want 1", r)
	}
	add(time.Second, 0)
	add(time.Second, 0)
	moved := tr.moved
	add(time.Second, 0)
	if tr.moved != moved {
		t.Error("a position that stands still has moved")
	}
	// Another server, or a rewind: what was before counts no more.
	tr.add(at.Add(time.Second), 5)
	if tr.rate(at).Known || tr.newest != 5 {
		t.Errorf("after a step back the rate is %v", tr.rate(at))
	}
}

func TestARateIsRoundedUp(t *testing.T) {
	var tr track
	tr.add(0, 100)
	tr.add(Instant(3*time.Second), 101)
	if r := tr.rate(Instant(3 * time.Second)); r != Some(uint64(1)) {
		t.Errorf("a byte in three seconds is %v", r)
	}
	if g := grownBy(1, time.Millisecond); g != 1 {
		t.Errorf("a byte per second grows %d in a millisecond", g)
	}
	if g := grownBy(0, time.Hour); g != 0 {
		t.Errorf("nothing grows by %d", g)
	}
}

func TestPositionsPrintAsInPostgreSQL(t *testing.T) {
	for text, want := range map[string]LSN{"0/0": 0, "0/16B3748": 0x16B3748, "1A/FFFFFFFF": 0x1AFFFFFFFF, "FFFFFFFF/FFFFFFFF": 1<<64 - 1} {
		got, err := ParseLSN(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("%s is read as %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "0", "/", "0/", "/0", "x/0", "0/x", "100000000/0", "0/100000000", "-1/0", "0/0/0", " 0/0"} {
		if got, err := ParseLSN(text); err == nil {
			t.Errorf("%q is read as %s", text, got)
		}
	}
}

func FuzzParseLSN(f *testing.F) {
	f.Add("0/16B3748")
	f.Add("ffffffff/0")
	f.Fuzz(func(t *testing.T, s string) {
		l, err := ParseLSN(s)
		if err != nil {
			return
		}
		if back, err := ParseLSN(l.String()); err != nil || back != l {
			t.Errorf("%q is read as %s and that as %s, %v", s, l, back, err)
		}
	})
}

func TestTheListOfCriteriaIsThatOfADecision(t *testing.T) {
	d := pair(t, nil).e.Decide(Question{})
	names, docs := CriterionNames(), CriterionDocs()
	if len(names) != len(d.Criteria) || len(docs) != len(d.Criteria) {
		t.Fatalf("%d names and %d rows for %d criteria", len(names), len(docs), len(d.Criteria))
	}
	for i, c := range d.Criteria {
		if names[i] != c.Name || docs[i].Name != c.Name || docs[i].About == "" || docs[i].Means == "" {
			t.Errorf("%d: %s, %+v, %s", i, names[i], docs[i], c.Name)
		}
	}
}

func TestSizesAreReadable(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 bytes", 1023: "1023 bytes", 1 << 10: "1.0 KiB", 16 << 20: "16.0 MiB", 3 << 29: "1.5 GiB"} {
		if got := sizeText(n); got != want {
			t.Errorf("%d is %s, want %s", n, got, want)
		}
	}
}
