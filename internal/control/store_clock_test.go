package control

import (
	"testing"
	"time"

	"github.com/pgtether/pgtether/decision"
)

// anti_flap is counted from an instant of the state file. A wall clock that was stepped between two runs must neither let it end early within
// one run of the operating system, nor put it off for longer than it lasts.
func TestTheAgeOfTheLastAutomaticFailoverSurvivesAStepOfTheWallClock(t *testing.T) {
	const age = 5 * time.Minute
	for name, c := range map[string]struct {
		ahead     time.Duration // of the saved wall clock over the one at the restart
		otherBoot bool
	}{
		"set back by an hour":                             {ahead: time.Hour},
		"set forward by an hour":                          {ahead: -time.Hour},
		"set back by an hour while the machine restarted": {ahead: time.Hour, otherBoot: true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s, _ := openStore(t, dir)
			saved := NewClock().stamp()
			if saved.Boot == "" && !c.otherBoot {
				saved.Wall, c.ahead = time.Now(), 0 // this system tells its runs apart by the wall clock alone
			}
			saved.Instant = decision.Instant(time.Hour)
			saved.Wall = saved.Wall.Add(c.ahead)
			if c.otherBoot {
				saved.Boot = "another run of the system"
			}
			rec := record(2)
			rec.LastAutomatic = decision.Some(saved.Instant.Add(-age))
			if err := s.SaveRecord(rec, saved); err != nil {
				t.Fatal(err)
			}
			s.Close()
			clock := NewClock()
			s, rec, _, err := OpenStore(dir, clock)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if got := clock.Now().Sub(rec.LastAutomatic.V); !rec.LastAutomatic.Known || got < age || got > age+time.Minute {
				t.Errorf("the last automatic failover was %s ago, want %s", got, age)
			}
		})
	}
}
