package follow

import (
	"testing"
	"time"

	"github.com/pgtether/pgtether/test/rig"
)

// The judges of these tests must be able to say no.

func TestARowThatTwoWritersCouldHaveAcceptedIsFound(t *testing.T) {
	t.Parallel()
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	const a1, b1, b2 = "00000001 on 1", "00000001 on 2", "00000002 on 2"
	for name, c := range map[string]struct {
		rows []write
		want int
	}{
		"a change":                       {[]write{{1, at(0), at(1), a1, ""}, {2, at(2), at(3), b2, ""}}, 0},
		"an answer that came late":       {[]write{{1, at(0), at(9), a1, ""}, {2, at(2), at(3), b2, ""}}, 0},
		"a row after the change":         {[]write{{2, at(2), at(3), b2, ""}, {3, at(4), at(5), a1, ""}}, 1},
		"two servers on one timeline":    {[]write{{1, at(0), at(1), a1, ""}, {2, at(2), at(3), b1, ""}}, 2},
		"the new one's rows go on after": {[]write{{1, at(0), at(1), a1, ""}, {2, at(2), at(3), b2, ""}, {3, at(4), at(5), b2, ""}}, 0},
	} {
		if got := rivals(c.rows); len(got) != c.want {
			t.Errorf("%s: %q, want %d", name, got, c.want)
		}
	}
}

func TestALostRowIsExcusedOnlyWithinTheLossThatWasTold(t *testing.T) {
	t.Parallel()
	end := "1/10"
	told := &rig.Change{Lossless: "bounded", LossTo: &end}
	for _, c := range []struct {
		at     string
		change *rig.Change
		want   bool
	}{
		{"0/FFFFFFFF", told, true}, {"1/F", told, true}, {"1/10", told, false}, {"2/0", told, false},
		{"0/1", nil, false}, {"0/1", &rig.Change{Lossless: "bounded"}, false}, {"0/1", &rig.Change{Lossless: "proven", LossTo: &end}, false},
	} {
		if got := within(write{at: c.at}, c.change); got != c.want {
			t.Errorf("a row at %s with %+v: %t", c.at, c.change, got)
		}
	}
}

func TestTheCallOfAPromotionIsToldFromTheQuestionWhetherItMayBeMade(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"SELECT pg_promote()": true, "select pg_catalog.pg_promote(false)": true, "SELECT PG_PROMOTE (true, 60)": true,
		"SELECT has_function_privilege('pg_promote(boolean, integer)', 'EXECUTE')": false, "SELECT pg_is_in_recovery()": false,
	} {
		if got := promoteCall.MatchString(text); got != want {
			t.Errorf("%q: %t, want %t", text, got, want)
		}
	}
	log := "2026-01-02 03:04:05.678 UTC [9] pgtether@postgres LOG:  statement: SELECT 1\n\tFROM x\n2026-01-02 03:04:05.679 UTC [9] LOG:  other\n"
	if parts := record.Split(log, -1); len(parts) != 3 {
		t.Errorf("records %q", parts)
	}
}
