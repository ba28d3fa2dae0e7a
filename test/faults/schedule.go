package main

import (
	"math/rand/v2"
	"time"
)

// Schedule is what happens in one run. It follows from its seed alone.
type Schedule struct {
	Seed  uint64
	Fault string
	// RestartAfter is how long after the fault pgtether is killed and started again; 0 for never.
	RestartAfter time.Duration
	// BackAfter is how long after the fault the old primary comes back, whatever has happened meanwhile.
	BackAfter time.Duration
}

// faults are those of random schedules.
var faults = []string{"kill", "freeze", "blackhole"}

// schedule derives what happens from a seed.
func schedule(seed uint64) Schedule {
	r := rand.New(rand.NewPCG(seed, 1))
	s := Schedule{Seed: seed, Fault: faults[r.IntN(len(faults))], BackAfter: 9*time.Second + time.Duration(r.IntN(3000))*time.Millisecond}
	if r.IntN(3) == 0 {
		s.RestartAfter = time.Duration(1+r.IntN(6000)) * time.Millisecond
	}
	if r.IntN(6) == 0 {
		s.BackAfter = time.Duration(500+r.IntN(3500)) * time.Millisecond // a flap, or a return in the middle of the change
	}
	return s
}
