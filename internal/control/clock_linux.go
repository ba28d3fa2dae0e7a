package control

import (
	"time"

	"golang.org/x/sys/unix"
)

// boottime is CLOCK_BOOTTIME, which counts through suspend; Go's own monotonic clock stops there.
func boottime() (time.Duration, bool) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0, false
	}
	return time.Duration(ts.Nano()), true
}

func sinceNow() func() time.Duration {
	base, ok := boottime()
	if !ok {
		start := time.Now()
		return func() time.Duration { return time.Since(start) }
	}
	return func() time.Duration {
		now, _ := boottime()
		return now - base
	}
}

func bootAge() (string, time.Duration) {
	age, ok := boottime()
	if !ok {
		return "", 0
	}
	return bootID(), age
}
