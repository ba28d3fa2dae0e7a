package proxy

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestALimiterAllowsABurstAndThenItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter[string](10, 5)
		count := func(key string, tries int) (allowed int) {
			for range tries {
				if l.allow(key) {
					allowed++
				}
			}
			return allowed
		}
		if n := count("a", 20); n != 5 {
			t.Errorf("%d at once, want 5", n)
		}
		if n := count("b", 1); n != 1 {
			t.Error("one key's events were counted against another")
		}
		time.Sleep(300 * time.Millisecond)
		if n := count("a", 20); n != 3 {
			t.Errorf("%d after 0.3 s at 10/s, want 3", n)
		}
		time.Sleep(time.Hour)
		if n := count("a", 20); n != 5 {
			t.Errorf("%d after an hour, want the burst", n)
		}
	})
}

func TestALimiterForgetsKeysInsteadOfGrowing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter[int](1, 1)
		for k := range 3 * limiterKeysMax {
			if !l.allow(k) {
				t.Fatalf("key %d was refused its first event", k)
			}
			if n := len(l.young) + len(l.aged); n > 2*limiterKeysMax {
				t.Fatalf("%d keys", n)
			}
			if k%100 == 0 && k > 0 && l.allow(0) {
				t.Fatalf("key 0, which keeps coming, was forgotten after %d others", k)
			}
		}
	})
}
