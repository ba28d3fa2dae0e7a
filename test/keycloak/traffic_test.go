package main

import (
	"net/http"
	"testing"
	"time"
)

// at is a request that was under way between two milliseconds of the test's own clock.
func at(began, ended int, status int) result {
	return result{began: time.UnixMilli(int64(began)), ended: time.UnixMilli(int64(ended)), what: "login", status: status}
}

func TestAStallIsTheLongestSilenceAndTheSlowestRequestOfItsTime(t *testing.T) {
	from, to := time.UnixMilli(1000), time.UnixMilli(2000)
	for name, c := range map[string]struct {
		results          []result
		silence, slowest int
	}{
		"a request that began before and ended in it":     {[]result{at(700, 1400, http.StatusOK), at(1900, 1950, http.StatusOK)}, 550, 700},
		"one that failed does not break the silence":      {[]result{at(1100, 1200, http.StatusOK), at(1400, 1500, http.StatusInternalServerError)}, 800, 100},
		"the silence goes on until the next is completed": {[]result{at(1100, 1200, http.StatusOK), at(1300, 2600, http.StatusOK)}, 1400, 1300},
		"what was over before or began after is not of it": {[]result{at(100, 900, http.StatusOK), at(1100, 1200, http.StatusOK),
			at(2100, 9000, http.StatusOK)}, 800, 100},
		"nothing at all": {nil, 1000, 0},
	} {
		s := stallWithin(c.results, from, to)
		if silence, slowest := s.silence.Milliseconds(), s.slowest.ended.Sub(s.slowest.began).Milliseconds(); silence != int64(c.silence) || slowest != int64(c.slowest) {
			t.Errorf("%s: silence %d ms, slowest %d ms; want %d and %d", name, silence, slowest, c.silence, c.slowest)
		}
	}
}
