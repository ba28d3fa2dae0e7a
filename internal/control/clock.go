package control

import (
	"os"
	"strings"
	"sync"
	"time"

	"github.com/pgtether/pgtether/decision"
)

// Clock tells the time that has passed since it was made, and what that is on the wall. The elapsed time runs on while the machine is
// suspended where the system has such a clock, so that a suspended process finds out how old its knowledge is.
type Clock struct {
	elapsed func() time.Duration
	began   time.Time
}

// NewClock starts a clock.
func NewClock() *Clock { return &Clock{elapsed: sinceNow(), began: time.Now()} }

// Now returns the instant that every event of the engine is stamped with.
func (c *Clock) Now() decision.Instant { return decision.Instant(c.elapsed()) }

// Wall returns what an instant of this run is on the wall. No decision rests on it.
func (c *Clock) Wall(i decision.Instant) time.Time { return c.began.Add(time.Duration(i)) }

// Stamp says when something was written, so that the next run can tell how long ago that was.
type Stamp struct {
	Instant decision.Instant `json:"instant_ns"`
	Wall    time.Time        `json:"wall"`
	// Boot identifies the run of the operating system and BootTime is its age, where the system tells them.
	Boot     string        `json:"boot,omitempty"`
	BootTime time.Duration `json:"boot_time_ns,omitempty"`
}

func (c *Clock) stamp() Stamp {
	s := Stamp{Instant: c.Now(), Wall: time.Now().UTC()}
	s.Boot, s.BootTime = bootAge()
	return s
}

// shift returns what has to be added to instants of the run that made s to bring them onto this clock. trusted is false when only the wall
// clock could tell, or when even that ran backwards: then the result is good enough for display and for nothing else.
func (c *Clock) shift(s Stamp) (d time.Duration, trusted bool) {
	now := c.stamp()
	ago := now.Wall.Sub(s.Wall)
	if s.Boot != "" && s.Boot == now.Boot && now.BootTime >= s.BootTime {
		ago, trusted = now.BootTime-s.BootTime, true
	}
	return time.Duration(now.Instant-s.Instant) - max(ago, 0), trusted
}

// bootID cannot change while the process lives.
var bootID = sync.OnceValue(func() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
})
