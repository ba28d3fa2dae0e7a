package proxy

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgtether/pgtether/internal/pgwire"
)

// queueBench runs a hold queue inside a synctest bubble and records who was let go when.
type queueBench struct {
	*holdQueue
	table *table
	stop  func()

	mu       sync.Mutex
	order    []int // who was let go, in the order of the times; of one instant in any order
	at       []time.Duration
	passedAt map[int]time.Duration
	errs     map[int]error
	errsAt   map[int]time.Duration
	tickets  map[int]*ticket
	start    time.Time
	sleepers sync.WaitGroup
}

func newQueueBench(t *testing.T, maxHeld, ceiling int, chance func() float64) *queueBench {
	b := &queueBench{holdQueue: newHoldQueue(maxHeld, ceiling, chance), table: newTable(), start: time.Now(),
		errs: map[int]error{}, errsAt: map[int]time.Duration{}, passedAt: map[int]time.Duration{}, tickets: map[int]*ticket{}}
	ctx, cancel := context.WithCancel(t.Context())
	var loop sync.WaitGroup
	loop.Go(func() { b.run(ctx) })
	b.stop = func() { b.sleepers.Wait(); cancel(); loop.Wait() }
	return b
}

// login waits as login number id, in a goroutine of its own.
func (b *queueBench) login(ctx context.Context, id int, w *waiter) {
	b.sleepers.Go(func() {
		t, err := b.wait(ctx, w)
		b.mu.Lock()
		defer b.mu.Unlock()
		if err != nil {
			b.errs[id], b.errsAt[id] = err, time.Since(b.start)
			return
		}
		b.order, b.at, b.tickets[id] = append(b.order, id), append(b.at, time.Since(b.start)), t
		b.passedAt[id] = b.at[len(b.at)-1]
	})
	synctest.Wait() // so that the next one is behind it
}

func (b *queueBench) openEpoch(t *testing.T, epoch uint64) *openRoute {
	t.Helper()
	r, err := b.table.open(Route{Epoch: epoch, Node: "region-a", Address: "127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	b.open(r)
	synctest.Wait()
	return r
}

func even() float64 { return 0.5 } // no jitter: every interval is 1/rate

func TestALoginPassesAtOnceWhenThereIsARoute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newQueueBench(t, 1, 200, even)
		b.openEpoch(t, 1)
		for id := range 100 {
			b.login(t.Context(), id, &waiter{budget: time.Second})
		}
		b.stop()
		if len(b.order) != 100 || b.at[99] != 0 {
			t.Fatalf("%d of 100 passed, the last after %s", len(b.order), b.at[len(b.at)-1])
		}
	})
}

func TestHeldLoginsAreReleasedInOrderAtAGrowingRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newQueueBench(t, 1000, 200, even)
		for id := range 600 {
			b.login(t.Context(), id, &waiter{budget: time.Minute})
		}
		if b.held() != 600 {
			t.Fatalf("held %d of 600", b.held())
		}
		b.openEpoch(t, 1)
		b.stop()
		if !slices.IsSorted(b.order) || len(b.order) != 600 {
			t.Fatalf("released %d, in order: %v", len(b.order), slices.IsSorted(b.order))
		}
		within := func(d time.Duration) int {
			n, _ := slices.BinarySearch(b.at, d)
			return n
		}
		// The integral of 50*2^t is 72 after one second and 216 after two; from then on 200 a second.
		for _, c := range []struct {
			after     time.Duration
			low, high int
		}{{10 * time.Millisecond, 1, 1}, {time.Second, 65, 80}, {2 * time.Second, 200, 232}, {3 * time.Second, 395, 435}} {
			if n := within(c.after); n < c.low || n > c.high {
				t.Errorf("%d released within %s, want %d to %d", n, c.after, c.low, c.high)
			}
		}
	})
}

func TestJitterSpreadsReleasesAndKeepsTheRate(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 0)).Float64
	now := time.Unix(0, 0)
	p := newPacer(now, 100)
	p.started = now.Add(-time.Hour) // at the ceiling from the start
	var gaps []time.Duration
	last := now
	for range 2000 {
		now = p.due()
		gaps = append(gaps, now.Sub(last))
		last = now
		p.take(now, chance())
	}
	total := now.Sub(time.Unix(0, 0))
	if total < 19*time.Second || total > 21*time.Second {
		t.Errorf("2000 releases at 100/s took %s", total)
	}
	if shortest, longest := slices.Min(gaps[1:]), slices.Max(gaps); longest < 2*shortest {
		t.Errorf("gaps lie between %s and %s: no jitter", shortest, longest)
	}
}

func TestALateReleaseIsNotMadeUpInABurst(t *testing.T) {
	now := time.Unix(0, 0)
	p := newPacer(now, 100)
	p.started = now.Add(-time.Hour)
	now = now.Add(10 * time.Second) // the process was stopped
	burst := 0
	for !now.Before(p.due()) {
		p.take(now, 0.5)
		burst++
	}
	if burst > 7 {
		t.Errorf("%d released at once after a stall, want what is missed in %s at most", burst, releaseCatchUp)
	}
}

func TestLoginsThatCameAfterTheOpenAreNotPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newQueueBench(t, 1000, 200, even)
		for id := range 3 {
			b.login(t.Context(), id, &waiter{budget: time.Minute})
		}
		b.openEpoch(t, 1)
		for id := 3; id < 103; id++ {
			b.login(t.Context(), id, &waiter{budget: time.Minute})
		}
		b.stop()
		if b.passedAt[2] == 0 {
			t.Error("held logins were not paced")
		}
		for id := 3; id < 103; id++ {
			if b.passedAt[id] != b.passedAt[2] {
				t.Fatalf("new login %d went at %s, the last held one at %s", id, b.passedAt[id], b.passedAt[2])
			}
		}
	})
}

func TestABudgetRunsOnlyWhileThereIsNoWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newQueueBench(t, 10, 200, even)
		b.openEpoch(t, 1)
		w := &waiter{budget: 10 * time.Second}
		b.login(t.Context(), 0, w)
		time.Sleep(time.Hour) // a session: its budget does not run
		b.hold(pgwire.Promoting)
		b.login(t.Context(), 1, w)
		time.Sleep(4 * time.Second)
		b.openEpoch(t, 1)
		if w.budget != 6*time.Second {
			t.Errorf("4 s without a writer left %s of 10 s", w.budget)
		}
		b.hold(pgwire.Promoting)
		b.login(t.Context(), 2, w)
		time.Sleep(time.Minute)
		b.stop()
		var none *noWriterError
		if !errors.As(b.errs[2], &none) || none.reason != pgwire.Promoting {
			t.Fatalf("the second hold ended with %v, want promoting", b.errs[2])
		}
		if got, want := b.errsAt[2], time.Hour+10*time.Second; got != want {
			t.Errorf("ended at %s, want %s: the rest of the budget", got, want)
		}
	})
}

func TestHoldEndsWithTheReasonOfTheMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newQueueBench(t, 2, 200, even)
		b.login(t.Context(), 0, &waiter{budget: time.Second})
		b.login(t.Context(), 1, &waiter{budget: 3 * time.Second})
		b.login(t.Context(), 2, &waiter{budget: 3 * time.Second})
		time.Sleep(2 * time.Second)
		b.hold(pgwire.Promoting)
		b.stop()
		if !errors.Is(b.errs[2], errHoldFull) {
			t.Errorf("the third login of a queue of two got %v", b.errs[2])
		}
		for id, want := range []pgwire.Reason{pgwire.NoWriter, pgwire.Promoting} {
			var none *noWriterError
			if !errors.As(b.errs[id], &none) || none.reason != want {
				t.Errorf("login %d ended with %v, want %s", id, b.errs[id], want)
			}
		}
		if b.held() != 0 {
			t.Errorf("%d still held", b.held())
		}
	})
}

func TestAHeldLoginCanBeCalledOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newQueueBench(t, 10, 200, even)
		ctx, cancel := context.WithCancelCause(t.Context())
		b.login(ctx, 0, &waiter{budget: time.Minute})
		b.login(t.Context(), 1, &waiter{budget: time.Minute})
		cancel(errClientGone)
		synctest.Wait()
		if b.held() != 1 {
			t.Errorf("%d held after one of two was called off", b.held())
		}
		b.holdQueue.stop(errShuttingDown)
		b.stop()
		if !errors.Is(b.errs[0], errClientGone) {
			t.Errorf("the client's end gave %v", b.errs[0])
		}
		if !errors.Is(b.errs[1], errShuttingDown) {
			t.Errorf("stop gave %v", b.errs[1])
		}
		if _, err := b.wait(t.Context(), &waiter{budget: time.Minute}); !errors.Is(err, errShuttingDown) {
			t.Errorf("a wait after stop gave %v", err)
		}
	})
}

// A writer that stops answering must not be dialled by everybody who waits for it, and must be found again soon after it is back.
func TestOneScoutAtATimeTriesARouteThatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newQueueBench(t, 100, 200, even)
		b.openEpoch(t, 1)
		first := &waiter{budget: 15 * time.Second}
		b.login(t.Context(), 0, first)
		time.Sleep(3 * time.Second) // the dial times out
		first.budget -= b.tickets[0].failed(false)
		for id := 1; id <= 20; id++ {
			b.login(t.Context(), id, &waiter{budget: 15 * time.Second})
		}
		b.login(t.Context(), 100, first)
		time.Sleep(scoutFirst + time.Millisecond)
		synctest.Wait()
		if want := []int{0, 1}; !slices.Equal(b.order, want) {
			t.Fatalf("let go: %v, want %v: the first who has not tried yet is the only scout", b.order, want)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if len(b.order) != 2 {
			t.Fatalf("a second scout went while the first was under way: %v", b.order)
		}
		b.tickets[1].worked()
		b.stop()
		if len(b.order) != 22 {
			t.Errorf("after the scout came through: %v", b.order)
		}
	})
}

// A login that fails whenever it tries (its role's sessions die, say) must not be the only one that ever tries: the others would wait to the end of
// their budgets for a writer that takes them.
func TestALoginThatAlwaysFailsDoesNotKeepTheOthersWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newQueueBench(t, 100, 200, even)
		b.openEpoch(t, 1)
		doomed := &waiter{budget: 15 * time.Second}
		b.login(t.Context(), 0, doomed)
		doomed.budget -= b.tickets[0].failed(false)
		b.login(t.Context(), 100, doomed)
		b.login(t.Context(), 1, &waiter{budget: 15 * time.Second})
		b.login(t.Context(), 2, &waiter{budget: 15 * time.Second})
		time.Sleep(scoutFirst)
		synctest.Wait()
		if want := []int{0, 1}; !slices.Equal(b.order, want) {
			t.Fatalf("let go: %v, want %v", b.order, want)
		}
		b.tickets[1].worked()
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if len(b.order) != 4 {
			t.Fatalf("let go: %v, want everybody", b.order)
		}
		doomed.budget -= b.tickets[100].failed(true)
		b.login(t.Context(), 200, doomed)
		time.Sleep(scoutFirst)
		synctest.Wait()
		if b.order[len(b.order)-1] != 200 {
			t.Errorf("let go: %v: alone, it tries again", b.order)
		}
		b.stop()
	})
}

// A busy server lets one login wait for too long while it serves others: that is no reason to hold them all.
func TestAFailureBesideSuccessesHoldsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newQueueBench(t, 100, 200, even)
		b.openEpoch(t, 1)
		b.login(t.Context(), 0, &waiter{budget: time.Minute})
		time.Sleep(time.Second)
		b.login(t.Context(), 1, &waiter{budget: time.Minute})
		b.tickets[1].worked()
		time.Sleep(2 * time.Second)
		b.tickets[0].failed(false)
		b.login(t.Context(), 2, &waiter{budget: time.Minute})
		if b.held() != 0 {
			t.Error("held though the route works")
		}
		time.Sleep(time.Second)
		b.tickets[2].worked()
		b.tickets[2].failed(false) // it began after the last success of another
		b.login(t.Context(), 3, &waiter{budget: time.Minute})
		if b.held() != 1 {
			t.Error("not held though the last attempt failed")
		}
		time.Sleep(scoutLast)
		synctest.Wait()
		b.tickets[3].worked()
		b.login(t.Context(), 4, &waiter{budget: time.Minute})
		b.login(t.Context(), 5, &waiter{budget: time.Minute})
		b.tickets[4].worked()
		b.tickets[5].failed(true) // the node has said so itself
		b.login(t.Context(), 6, &waiter{budget: time.Minute})
		if b.held() != 1 {
			t.Error("not held though the node takes no logins")
		}
		b.stop()
	})
}

func TestAScoutThatGivesUpIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newQueueBench(t, 100, 200, even)
		b.openEpoch(t, 1)
		b.login(t.Context(), 0, &waiter{budget: time.Minute})
		b.tickets[0].failed(false)
		for id := 1; id <= 3; id++ {
			b.login(t.Context(), id, &waiter{budget: time.Minute})
		}
		for id := 1; id <= 3; id++ {
			time.Sleep(scoutLast)
			synctest.Wait()
			if len(b.order) != id+1 {
				t.Fatalf("%d were let go, want %d", len(b.order), id+1)
			}
			b.tickets[id].unused() // its client went away before the node answered
		}
		b.stop()
	})
}

func TestATicketOfAnOldRouteSaysNothingAboutTheNewOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newQueueBench(t, 100, 200, even)
		b.openEpoch(t, 1)
		b.login(t.Context(), 0, &waiter{budget: time.Minute})
		b.table.cut(1, pgwire.WriterLost)
		b.close(1)
		b.openEpoch(t, 2)
		b.tickets[0].failed(false)
		b.login(t.Context(), 1, &waiter{budget: time.Minute})
		b.stop()
		if len(b.order) != 2 || b.at[1] != 0 {
			t.Errorf("the old route's failure kept a login from the new one: %v %v", b.order, b.at)
		}
	})
}

func TestAFailedLoginThatComesBackStandsBeforeLaterOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newQueueBench(t, 100, 200, even)
		early := &waiter{budget: time.Minute}
		b.login(t.Context(), 0, early)
		b.openEpoch(t, 1)
		b.tickets[0].failed(false)
		b.table.cut(1, pgwire.WriterLost)
		b.close(1)
		b.login(t.Context(), 1, &waiter{budget: time.Minute})
		b.login(t.Context(), 2, early)
		b.openEpoch(t, 2)
		b.stop()
		if want := []int{0, 2, 1}; !slices.Equal(b.order, want) {
			t.Errorf("order %v, want %v", b.order, want)
		}
	})
}

func TestLoginsAreRefusedAtOnceWhileAnOperatorMustDecide(t *testing.T) {
	q := newHoldQueue(10, 200, func() float64 { return 0 })
	q.hold(pgwire.NoWriter)
	ended := make(chan error, 1)
	go func() {
		_, err := q.wait(context.Background(), &waiter{budget: time.Hour})
		ended <- err
	}()
	for q.held() == 0 {
		time.Sleep(time.Millisecond)
	}
	q.refuse(pgwire.Promoting)
	refused := func(err error) {
		t.Helper()
		var e *noWriterError
		if !errors.As(err, &e) || e.reason != pgwire.Promoting {
			t.Fatalf("got %v, want a refusal for %s", err, pgwire.Promoting)
		}
	}
	refused(<-ended)
	_, err := q.wait(context.Background(), &waiter{budget: time.Hour})
	refused(err)
	q.hold(pgwire.Promoting)
	ctx, cancel := context.WithCancelCause(context.Background())
	go func() {
		_, err := q.wait(ctx, &waiter{budget: time.Hour})
		ended <- err
	}()
	for q.held() == 0 {
		time.Sleep(time.Millisecond)
	}
	over := errors.New("the test is over")
	cancel(over)
	if err := <-ended; !errors.Is(err, over) {
		t.Fatalf("after hold: got %v, want the wait to go on until %v", err, over)
	}
}
