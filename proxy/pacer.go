package proxy

import (
	"math"
	"time"
)

const (
	// releaseStart is the rate at which held logins are let go at first, per second; it doubles each second up to the configured ceiling.
	releaseStart = 50.0
	// releaseCatchUp bounds how far a late release may run behind its schedule without the missed ones being made up in a burst.
	releaseCatchUp = 50 * time.Millisecond
)

// pacer says when the next held login may be let go. It is pure: time and chance are passed in.
type pacer struct {
	started time.Time
	ceiling float64
	next    time.Time
}

// newPacer starts a release at now, with the ceiling in logins per second.
func newPacer(now time.Time, ceiling int) pacer {
	return pacer{started: now, ceiling: float64(ceiling), next: now}
}

// due is when the next one may go.
func (p *pacer) due() time.Time { return p.next }

// take spends the token that is due at now. chance is uniform in [0,1): it spreads the releases, so that clients which were cut at one instant
// do not come back in step.
func (p *pacer) take(now time.Time, chance float64) {
	interval := time.Duration((0.5 + chance) / p.rate(now) * float64(time.Second))
	p.next = p.next.Add(interval)
	if earliest := now.Add(-releaseCatchUp); p.next.Before(earliest) {
		p.next = earliest
	}
}

// rate is the rate at now, in logins per second.
func (p *pacer) rate(now time.Time) float64 {
	seconds := math.Min(now.Sub(p.started).Seconds(), 30) // far beyond any ceiling
	return math.Min(releaseStart*math.Exp2(seconds), p.ceiling)
}
