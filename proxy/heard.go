package proxy

import (
	"sync/atomic"
	"time"
)

// heard is when a backend of the newest epoch was last heard by a client: what it acknowledged later, nobody was told.
type heard struct {
	// epoch is the one that at speaks of. Only one epoch is open at a time, so that they change together but for a moment in which the age
	// is too small, which errs towards a greater loss.
	epoch atomic.Uint64
	// at is the time since heardBase, in nanoseconds.
	at atomic.Int64
}

// heardBase makes instants small; its monotonic clock is what counts.
var heardBase = time.Now()

// now records that a byte of the epoch has been written to a client just now.
func (h *heard) now(epoch uint64) { h.note(epoch, int64(time.Since(heardBase))) }

// note is now for who has just looked at the clock.
func (h *heard) note(epoch uint64, at int64) {
	h.at.Store(at)
	if h.epoch.Load() != epoch {
		h.epoch.Store(epoch)
	}
}

// age says how long ago that was; false when it never was for that epoch.
func (h *heard) age(epoch uint64) (time.Duration, bool) {
	if h.epoch.Load() != epoch {
		return 0, false
	}
	return time.Since(heardBase) - time.Duration(h.at.Load()), true
}
