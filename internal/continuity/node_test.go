package continuity

import (
	"context"
	"strings"
	"testing"

	"github.com/pgtether/pgtether/internal/lab"
)

func TestWhatTheClientWasToldOtherwiseIsOwed(t *testing.T) {
	l := startServer(t)
	boss := connect(t, l, "boss", "")
	boss.run(t, "ALTER ROLE app SET work_mem = '5MB'", "ALTER ROLE app SET my.role = 'old'")
	s := connect(t, l, "app", "")
	s.run(t, "SET TimeZone = 'Asia/Tokyo'")
	boss.run(t, "ALTER ROLE app SET work_mem = '8MB'", "ALTER ROLE app SET my.role = 'new'", "ALTER ROLE app SET IntervalStyle = 'iso_8601'",
		"ALTER ROLE app SET TimeZone = 'Europe/Berlin'")
	state, o, err := s.take(t, Known{Custom: []string{"my.role"}})
	if o != "" || err != nil {
		t.Fatalf("obstacle %q, %v", o, err)
	}
	fresh := connect(t, l, "app", "")
	owed, err := state.Replay(fresh.conn, fresh.told)
	if err != nil {
		t.Fatal(err)
	}
	if want := appendParameterStatus(nil, "IntervalStyle", "iso_8601"); string(owed) != string(want) {
		t.Errorf("owed %q; want %q", owed, want)
	}
	for name, want := range map[string]string{"work_mem": "5MB\n", "my.role": "old\n", "TimeZone": "Asia/Tokyo\n"} {
		if got := fresh.try(t, "SHOW "+name); got != want {
			t.Errorf("%s is %q; the old session had %q", name, got, want)
		}
	}
}

// TestAStateIsMadeAgainOnThePromotedStandby: what two nodes of one cluster call a type or a column is the same to the byte.
func TestAStateIsMadeAgainOnThePromotedStandby(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	l := startLab(t, lab.Options{})
	primary, standby := l.Node(lab.RegionA), l.Node(lab.RegionB)
	s := connect(t, l, "app", "")
	s.run(t, "SET search_path = one", "SET my.x = 'kept'", "PREPARE q (int) AS SELECT v FROM t WHERE id = $1")
	s.extended(t, appendParse(nil, "S_1", "SELECT t, v FROM t WHERE id = $1", nil))
	s.extended(t, appendParse(nil, "", "SELECT 'unnamed' || $1", nil))
	state, o, err := s.take(t, Known{Custom: []string{"my.x"}, Unnamed: &Statement{Text: "SELECT 'unnamed' || $1"}})
	if o != "" || err != nil {
		t.Fatalf("obstacle %q, %v", o, err)
	}
	if err := standby.AwaitCaughtUp(ctx, primary); err != nil {
		t.Fatal(err)
	}
	there := connectTo(t, l, standby, "app", "")
	if _, o, err := there.take(t, Known{}); o != InRecovery || err != nil {
		t.Errorf("a standby's session: obstacle %q, %v", o, err)
	}
	if err := standby.Promote(ctx); err != nil {
		t.Fatal(err)
	}
	fresh := connectTo(t, l, standby, "app", "")
	owed, err := state.Replay(fresh.conn, fresh.told)
	if err != nil || len(owed) > 0 {
		t.Fatalf("owed %q, %v", owed, err)
	}
	var got []string
	got = append(got, fresh.extended(t, appendRun(nil, "", "1")), fresh.extended(t, appendRun(nil, "S_1", "1")), fresh.try(t, "EXECUTE q (1)"), fresh.try(t, "SHOW my.x"))
	if want := "unnamed1\n(1,one)|one\none\nkept\n"; strings.Join(got, "") != want {
		t.Errorf("the moved session answers %q; want %q", got, want)
	}
}
