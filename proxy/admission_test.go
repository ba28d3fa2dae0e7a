package proxy

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// admit enters and fails the test when that takes more than an instant.
func admit(t *testing.T, a *admission, evicted *atomic.Int32) *place {
	t.Helper()
	p, err := a.enter(t.Context(), 0, func(error) { evicted.Add(1) })
	if err != nil {
		t.Fatalf("no place: %v", err)
	}
	return p
}

func TestTheLoginThatWaitedLongestForItsClientMakesRoom(t *testing.T) {
	a := newAdmission(3)
	var evicted [4]atomic.Int32
	var places [3]*place
	for i := range places {
		places[i] = admit(t, a, &evicted[i])
		places[i].answered()
	}
	places[1].awaitsClient()
	places[0].awaitsClient()
	places[2].awaitsClient()
	places[1].clientSpoke()
	places[1].awaitsClient() // it spoke, so it waits for less long than all others now

	admit(t, a, &evicted[3])
	for i, want := range []int32{1, 0, 0, 0} {
		if got := evicted[i].Load(); got != want {
			t.Errorf("login %d was ended %d times, want %d", i, got, want)
		}
	}
	places[0].leave() // as the ended login does
	places[0].clientSpoke()
	places[0].awaitsClient()
	if a.underWay != 3 || a.silent.Len() != 2 {
		t.Errorf("%d under way, %d silent; want 3 and 2", a.underWay, a.silent.Len())
	}
}

func TestALoginWhoseServerIsWorkingIsNeverEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(1)
		var evicted atomic.Int32
		busy := admit(t, a, &evicted)
		busy.answered()
		_, err := a.enter(t.Context(), 5*time.Second, func(error) {})
		if !errors.Is(err, errHoldFull) || evicted.Load() != 0 {
			t.Fatalf("the second login got %v, the first was ended %d times", err, evicted.Load())
		}
		go func() {
			time.Sleep(time.Second)
			busy.awaitsClient()
		}()
		start := time.Now()
		if _, err := a.enter(t.Context(), 5*time.Second, func(error) {}); err != nil || time.Since(start) != time.Second {
			t.Errorf("entered after %s with %v, want as soon as the first awaits its client", time.Since(start), err)
		}
		if evicted.Load() != 1 {
			t.Errorf("the first was ended %d times", evicted.Load())
		}
	})
}

func TestDialsAtOnceAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(1000)
		var none atomic.Int32
		var places []*place
		for range dialsAtOnce {
			places = append(places, admit(t, a, &none))
		}
		entered := make(chan struct{})
		go func() {
			p, err := a.enter(context.Background(), time.Minute, func(error) {})
			if err == nil {
				p.leave()
			}
			close(entered)
		}()
		synctest.Wait()
		select {
		case <-entered:
			t.Fatal("one more dial than allowed")
		default:
		}
		places[7].answered()
		places[7].answered() // counts once
		<-entered
		if a.dialing != dialsAtOnce-1 {
			t.Errorf("%d dialing, want %d", a.dialing, dialsAtOnce-1)
		}
	})
}

// In a flood the line is served from its end, so that a login that comes now does not stand behind thousands that are too late already.
func TestInAFloodTheNewestIsServedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(1)
		var none atomic.Int32
		holder := admit(t, a, &none)
		var mu sync.Mutex
		var order []int
		var line sync.WaitGroup
		join := func(id int) {
			line.Go(func() {
				p, err := a.enter(context.Background(), time.Minute, func(error) {})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				order = append(order, id)
				mu.Unlock()
				time.Sleep(10 * time.Millisecond)
				p.leave()
			})
			synctest.Wait()
		}
		join(1)
		join(2)
		time.Sleep(overload / 2)
		holder.leave() // calm: first come, first served
		line.Wait()
		holder = admit(t, a, &none)
		for id := 3; id <= 6; id++ {
			join(id)
		}
		time.Sleep(2 * overload)
		join(7)
		holder.leave()
		line.Wait()
		if want := []int{1, 2, 7, 6, 5, 4, 3}; len(order) != len(want) {
			t.Fatalf("served %v, want %v", order, want)
		} else {
			for i := range want {
				if order[i] != want[i] {
					t.Fatalf("served %v, want %v", order, want)
				}
			}
		}
	})
}

func TestALoginInTheLineCanBeCalledOff(t *testing.T) {
	a := newAdmission(1)
	var none atomic.Int32
	holder := admit(t, a, &none)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errClientGone)
	if _, err := a.enter(ctx, time.Minute, func(error) {}); !errors.Is(err, errClientGone) {
		t.Errorf("got %v, want the client's end", err)
	}
	holder.leave()
	holder.leave()
	if a.underWay != 0 || a.dialing != 0 || a.line.Len() != 0 {
		t.Errorf("left over: %d under way, %d dialing, %d in line", a.underWay, a.dialing, a.line.Len())
	}
	admit(t, a, &none)
}

func TestShedEndsTheSilentFirstThenTheFirstInTheLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(2)
		if a.shed() {
			t.Error("shed somebody from nobody")
		}
		var silent, working, late atomic.Int32
		s := admit(t, a, &silent)
		admit(t, a, &working)
		s.awaitsClient()
		if !a.shed() || silent.Load() != 1 || a.underWay != 1 {
			t.Errorf("shed: silent ended %d times, %d under way", silent.Load(), a.underWay)
		}
		admit(t, a, &working)
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() {
			if _, err := a.enter(ctx, time.Minute, func(why error) { late.Add(1); cancel(why) }); !errors.Is(err, errTurnedAway) {
				t.Errorf("the one in the line got %v", err)
			}
		}()
		synctest.Wait()
		if !a.shed() || late.Load() != 1 || working.Load() != 0 {
			t.Errorf("late ended %d times, working %d", late.Load(), working.Load())
		}
		synctest.Wait()
	})
}
