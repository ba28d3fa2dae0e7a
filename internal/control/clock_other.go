//go:build !linux

package control

import "time"

func sinceNow() func() time.Duration {
	start := time.Now()
	return func() time.Duration { return time.Since(start) }
}

func bootAge() (string, time.Duration) { return "", 0 }
