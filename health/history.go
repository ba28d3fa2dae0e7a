package health

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/pgtether/pgtether/decision"
)

// ErrHistory is returned for text that is not the history of a timeline.
var ErrHistory = errors.New("not a timeline history")

// ParseHistory reads a timeline history file, as TIMELINE_HISTORY returns it, of the given timeline: its ended ancestors, oldest first.
//
// A line holds the ancestor's number, the position at which it ended, and a reason that nobody reads (timeline.c, readTimeLineHistory).
// Empty lines and comments (#) are skipped. The numbers must grow and stay below the timeline's own, and, what PostgreSQL does not
// check, no ancestor may end before its own parent did.
func ParseHistory(timeline uint32, content string) ([]decision.TimelineSwitch, error) {
	var switches []decision.TimelineSwitch
	number := 0
	for line := range strings.SplitSeq(content, "\n") {
		number++
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if len(fields) < 2 {
			return nil, fmt.Errorf("line %d: no position: %w", number, ErrHistory)
		}
		id, err := strconv.ParseUint(fields[0], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("line %d: timeline %q: %w", number, fields[0], ErrHistory)
		}
		at, err := decision.ParseLSN(fields[1])
		if err != nil {
			return nil, fmt.Errorf("line %d: position %q: %w", number, fields[1], ErrHistory)
		}
		next := decision.TimelineSwitch{Timeline: uint32(id), At: at}
		if next.Timeline == 0 || next.Timeline >= timeline {
			return nil, fmt.Errorf("line %d: timeline %d is no ancestor of %d: %w", number, id, timeline, ErrHistory)
		}
		if n := len(switches); n > 0 && (switches[n-1].Timeline >= next.Timeline || switches[n-1].At > next.At) {
			return nil, fmt.Errorf("line %d: timeline %d at %s after %d at %s: %w",
				number, id, at, switches[n-1].Timeline, switches[n-1].At, ErrHistory)
		}
		switches = append(switches, next)
	}
	return switches, nil
}
