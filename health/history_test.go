package health

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pgtether/pgtether/decision"
)

func TestParseHistory(t *testing.T) {
	for _, c := range []struct {
		name     string
		timeline uint32
		content  string
		want     []decision.TimelineSwitch
	}{
		{"as PostgreSQL writes it", 2, "1\t0/348CD98\tno recovery target specified\n", []decision.TimelineSwitch{{Timeline: 1, At: 0x348CD98}}},
		{"several, with empty lines and comments", 5, "# by hand\n1\t0/3000000\tx\n\n2\t0/4000000\ty\n   \n4\t1/0\tbefore 2026-01-01\n",
			[]decision.TimelineSwitch{{Timeline: 1, At: 0x3000000}, {Timeline: 2, At: 0x4000000}, {Timeline: 4, At: 1 << 32}}},
		{"two that forked at the same place", 3, "1\t0/3000000\n2\t0/3000000", []decision.TimelineSwitch{{Timeline: 1, At: 0x3000000}, {Timeline: 2, At: 0x3000000}}},
		{"carriage returns", 2, "1\t0/3000000\tx\r\n", []decision.TimelineSwitch{{Timeline: 1, At: 0x3000000}}},
		{"empty", 2, "", nil},
	} {
		got, err := ParseHistory(c.timeline, c.content)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v; want %v", c.name, got, err, c.want)
		}
	}
}

func TestParseHistoryRefuses(t *testing.T) {
	for _, c := range []struct{ name, content, err string }{
		{"no position", "1\n", "line 1: no position: not a timeline history"},
		{"no number", "one\t0/1\n", `line 1: timeline "one": not a timeline history`},
		{"a negative number", "-1\t0/1\n", `line 1: timeline "-1": not a timeline history`},
		{"timeline 0", "0\t0/1\n", "line 1: timeline 0 is no ancestor of 3: not a timeline history"},
		{"itself", "3\t0/1\n", "line 1: timeline 3 is no ancestor of 3: not a timeline history"},
		{"a descendant", "1\t0/1\n4\t0/2\n", "line 2: timeline 4 is no ancestor of 3: not a timeline history"},
		{"the same twice", "1\t0/1\n1\t0/2\n", "line 2: timeline 1 at 0/2 after 1 at 0/1: not a timeline history"},
		{"the wrong order", "2\t0/1\n1\t0/2\n", "line 2: timeline 1 at 0/2 after 2 at 0/1: not a timeline history"},
		{"ends before it began", "1\t0/9\n2\t0/8\n", "line 2: timeline 2 at 0/8 after 1 at 0/9: not a timeline history"},
		{"no WAL position", "1\tnowhere\n", `line 1: position "nowhere": not a timeline history`},
	} {
		got, err := ParseHistory(3, c.content)
		if err == nil || !errors.Is(err, ErrHistory) || err.Error() != c.err || got != nil {
			t.Errorf("%s: %v, error %q, want %q", c.name, got, err, c.err)
		}
	}
}

// FuzzParseHistory: what is accepted is ordered and reads the same when written as PostgreSQL writes it.
func FuzzParseHistory(f *testing.F) {
	f.Add(uint32(2), "1\t0/348CD98\tno recovery target specified\n")
	f.Add(uint32(9), "# x\n1 0/1\n3 0/2 reason\n")
	f.Add(uint32(0), "1\t0/1")
	f.Fuzz(func(t *testing.T, timeline uint32, content string) {
		switches, err := ParseHistory(timeline, content)
		if err != nil {
			if !errors.Is(err, ErrHistory) {
				t.Errorf("error %v is not classified", err)
			}
			return
		}
		var b strings.Builder
		last := decision.TimelineSwitch{}
		for _, s := range switches {
			if s.Timeline <= last.Timeline || s.Timeline >= timeline || s.At < last.At {
				t.Fatalf("%v is out of order", switches)
			}
			last = s
			fmt.Fprintf(&b, "%d\t%s\treason\n", s.Timeline, s.At)
		}
		again, err := ParseHistory(timeline, b.String())
		if err != nil || !slices.Equal(again, switches) {
			t.Errorf("%v read again is %v, %v", switches, again, err)
		}
	})
}
