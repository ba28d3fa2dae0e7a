package proxy

import (
	"sync"
	"time"
)

// limiterKeysMax bounds the keys a limiter remembers: they come from the network.
const limiterKeysMax = 4096

// limiter allows each key so many events at once and so many per second after that.
type limiter[K comparable] struct {
	perSecond, burst float64

	mu   sync.Mutex
	keys map[K]bucket
}

// bucket is what a key had left at a moment.
type bucket struct {
	left float64
	at   time.Time
}

func newLimiter[K comparable](perSecond, burst float64) *limiter[K] {
	return &limiter[K]{perSecond: perSecond, burst: burst, keys: map[K]bucket{}}
}

// allow reports whether the key may have one more event now.
func (l *limiter[K]) allow(key K) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	b, known := l.keys[key]
	if !known {
		if len(l.keys) >= limiterKeysMax {
			l.forgetLocked(now)
		}
		b = bucket{left: l.burst, at: now}
	}
	b.left, b.at = l.leftLocked(b, now), now
	allowed := b.left >= 1
	if allowed {
		b.left--
	}
	l.keys[key] = b
	return allowed
}

func (l *limiter[K]) leftLocked(b bucket, now time.Time) float64 {
	return min(l.burst, b.left+now.Sub(b.at).Seconds()*l.perSecond)
}

// forgetLocked makes room: first those that have all of their allowance back, then any.
func (l *limiter[K]) forgetLocked(now time.Time) {
	for k, b := range l.keys {
		if l.leftLocked(b, now) >= l.burst {
			delete(l.keys, k)
		}
	}
	for k := range l.keys {
		if len(l.keys) < limiterKeysMax {
			return
		}
		delete(l.keys, k)
	}
}
