package decision

import (
	"math"
	"time"
)

const (
	// trackSpan is how far back rates look.
	trackSpan = 60 * time.Second
	// trackEvery is the least distance of two samples: a rate is that of about a second, whatever the pace of the probes.
	trackEvery = 900 * time.Millisecond
	trackSize  = 68
)

// track remembers a position over the last minute, to know how fast it grows. The zero value is ready to use.
type track struct {
	at   [trackSize]Instant
	pos  [trackSize]LSN
	n    int // samples held
	last int // index of the newest sample

	// moved is when the position was last seen to have grown, or when it was first seen.
	moved Instant
	// newest is the last position seen, sampled or not.
	newest LSN
}

// add takes a position that was read at or after the instant. A position that goes backwards starts a new track.
func (t *track) add(at Instant, pos LSN) {
	if t.n > 0 && pos < t.newest {
		*t = track{}
	}
	if t.n == 0 || pos > t.newest {
		t.moved, t.newest = at, pos
	}
	if t.n > 0 && at.Sub(t.at[t.last]) < trackEvery {
		return
	}
	if t.n > 0 {
		t.last = (t.last + 1) % trackSize
	}
	t.n = min(t.n+1, trackSize)
	t.at[t.last], t.pos[t.last] = at, pos
}

// rate returns the greatest growth in bytes per second between two neighbouring samples of the last minute; unknown with fewer than two.
func (t *track) rate(now Instant) Opt[uint64] {
	var best Opt[uint64]
	for k := 0; k+1 < t.n; k++ {
		hi := (t.last - k + trackSize) % trackSize
		lo := (hi - 1 + trackSize) % trackSize
		if now.Sub(t.at[hi]) > trackSpan {
			break
		}
		took := t.at[hi].Sub(t.at[lo])
		r := uint64(math.Ceil(float64(t.pos[hi]-t.pos[lo]) / took.Seconds()))
		best = Some(max(best.V, r))
	}
	return best
}
