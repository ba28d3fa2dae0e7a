package control

import (
	"testing"
	"time"
)

func TestInstantsOfAnEarlierRunLieInThePast(t *testing.T) {
	c := NewClock()
	s := c.stamp()
	s.Instant = 0
	s.BootTime -= time.Hour
	s.Wall = s.Wall.Add(-time.Hour)
	d, trusted := c.shift(s)
	if !trusted || d > -59*time.Minute || d < -61*time.Minute {
		t.Fatalf("shift by %s, trusted %v; an hour ago was an hour ago", d, trusted)
	}
}

func TestAWallClockThatWasSetBackIsNotBelieved(t *testing.T) {
	c := NewClock()
	s := c.stamp()
	s.Boot = "another boot"
	s.Wall = s.Wall.Add(time.Hour)
	d, trusted := c.shift(s)
	if trusted || d > time.Minute {
		t.Fatalf("shift by %s, trusted %v: nothing was written in the future", d, trusted)
	}
	s.Wall = s.Wall.Add(-3 * time.Hour)
	if d, trusted = c.shift(s); trusted || d > -time.Hour {
		t.Fatalf("shift by %s, trusted %v: the wall clock alone is good for display only", d, trusted)
	}
}

func TestInstantsNeverDecrease(t *testing.T) {
	c := NewClock()
	last := c.Now()
	for range 1000 {
		now := c.Now()
		if now < last {
			t.Fatalf("%d after %d", now, last)
		}
		last = now
	}
}
