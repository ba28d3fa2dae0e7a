package proxy

import (
	"sync"
	"time"
)

// limiterKeysMax bounds the keys of each generation that a limiter remembers: they come from the network.
const limiterKeysMax = 4096

// limiter allows each key so many events at once and so many per second after that. It forgets keys a generation at a time: one that was not seen
// while limiterKeysMax others came may have its burst again.
type limiter[K comparable] struct {
	perSecond, burst float64

	mu          sync.Mutex
	young, aged map[K]bucket
}

// bucket is what a key had left at a moment.
type bucket struct {
	left float64
	at   time.Time
}

func newLimiter[K comparable](perSecond, burst float64) *limiter[K] {
	return &limiter[K]{perSecond: perSecond, burst: burst, young: map[K]bucket{}}
}

// allow reports whether the key may have one more event now.
func (l *limiter[K]) allow(key K) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	b, known := l.young[key]
	if !known {
		if len(l.young) >= limiterKeysMax {
			l.young, l.aged = map[K]bucket{}, l.young
		}
		if b, known = l.aged[key]; !known {
			b = bucket{left: l.burst, at: now}
		}
	}
	b.left, b.at = min(l.burst, b.left+now.Sub(b.at).Seconds()*l.perSecond), now
	allowed := b.left >= 1
	if allowed {
		b.left--
	}
	l.young[key] = b
	return allowed
}
