package proxy

import (
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The runtime interrupts who keeps a processor for ten milliseconds: a busy loop gives it up before, and so is left alone. On a machine that lets it wait
// for that long itself it cannot, so the best of some attempts counts.
func TestABusyLoopIsNotInterrupted(t *testing.T) {
	r := onLoops(t, 1)().start()
	trip, loop := newRoundTrip(t, r), onlyLoop(r.forwarder)
	signals := func() (n uint64) {
		loop.call(func() { n = loop.signals })
		return n
	}
	const few = 3 // of a dozen in a second, for a loop that leaves it to the runtime
	least := uint64(math.MaxUint64)
	for attempt := 0; attempt < 10 && least > few; attempt++ {
		trip.run()
		before := signals()
		for until := time.Now().Add(time.Second); time.Now().Before(until); {
			trip.run()
		}
		least = min(least, signals()-before)
	}
	if least > few {
		t.Errorf("a busy loop was interrupted %d times in a second", least)
	}
}

// A loop that is never interrupted must not keep others from running: here there is no other processor for them.
func TestALoopThatYieldsLetsThoseRunWhoWaitForItsProcessor(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var ran atomic.Bool
	var others sync.WaitGroup
	others.Go(func() { ran.Store(true) })
	for range 100 {
		yield()
	}
	if !ran.Load() {
		t.Error("the other goroutine did not run")
	}
	others.Wait()
}
