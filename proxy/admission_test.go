package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgtether/pgtether/internal/pgwire"
)

// admit enters and fails the test when that takes more than an instant.
func admit(t *testing.T, a *admission, evicted *atomic.Int32) *place {
	t.Helper()
	p, err := a.enter(t.Context(), 0, func(error) { evicted.Add(1) }, func() {})
	if err != nil {
		t.Fatalf("no place: %v", err)
	}
	return p
}

func TestTheLoginThatWaitedLongestForItsClientMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(3)
		var evicted [4]atomic.Int32
		var places [3]*place
		for i := range places {
			places[i] = admit(t, a, &evicted[i])
			places[i].answered()
		}
		for _, i := range []int{1, 0, 2} {
			places[i].awaitsClient()
			time.Sleep(time.Millisecond)
		}
		places[1].clientSpoke()
		places[1].awaitsClient() // it has spoken, so it is not the first to go though it came first

		start := time.Now()
		p, err := a.enter(t.Context(), time.Minute, func(error) { evicted[3].Add(1) }, func() {})
		if err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(start); waited > grace {
			t.Errorf("waited %s for room", waited)
		}
		synctest.Wait() // whoever made the room for it may still be about to say so
		for i, want := range []int32{1, 0, 0, 0} {
			if got := evicted[i].Load(); got != want {
				t.Errorf("login %d was ended %d times, want %d", i, got, want)
			}
		}
		places[0].leave() // as the ended login does
		places[0].clientSpoke()
		places[0].awaitsClient()
		if a.underWay != 3 || a.silent.Len()+a.spoken.Len() != 2 {
			t.Errorf("%d under way, %d silent; want 3 and 2", a.underWay, a.silent.Len()+a.spoken.Len())
		}
		p.leave()
	})
}

// A client that answers within the grace is never ended, however many others come.
func TestAnAnswerWithinTheGraceIsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(5)
		var honest, others atomic.Int32
		first := admit(t, a, &honest)
		first.answered()
		first.awaitsClient()
		var crowd sync.WaitGroup
		for range 50 {
			crowd.Go(func() {
				p, err := a.enter(context.Background(), 10*time.Second, func(error) { others.Add(1) }, func() {})
				if err == nil {
					p.answered()
					p.awaitsClient()
					time.Sleep(10 * time.Second)
					p.leave()
				}
			})
		}
		time.Sleep(grace - time.Millisecond)
		first.clientSpoke()
		if honest.Load() != 0 {
			t.Error("ended within its grace")
		}
		crowd.Wait()
		if others.Load() < 40 {
			t.Errorf("%d silent ones made room for others, want most of 50", others.Load())
		}
		first.leave()
	})
}

// A client that has answered once is given more time for its next answer, but not for ever.
func TestAClientThatHasAnsweredIsGivenLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(2)
		var spoken, busy atomic.Int32
		p := admit(t, a, &spoken)
		p.answered()
		p.awaitsClient()
		p.clientSpoke()
		p.awaitsClient()
		admit(t, a, &busy).answered()
		start := time.Now()
		if _, err := a.enter(t.Context(), time.Minute, func(error) {}, func() {}); err != nil || time.Since(start) != graceSpoken {
			t.Errorf("entered after %s with %v, want after %s", time.Since(start), err, graceSpoken)
		}
		if spoken.Load() != 1 || busy.Load() != 0 {
			t.Errorf("ended: %d that had spoken, %d whose server works", spoken.Load(), busy.Load())
		}
	})
}

// A server with fewer connections than logins may be under way is full: fewer are let in for a moment, and silent ones go at once.
func TestAFullServerSqueezesTheSilentOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(100)
		if a.serverFull() {
			t.Error("hope where nobody is silent")
		}
		var evicted atomic.Int32
		for range 20 {
			p := admit(t, a, &evicted)
			p.answered()
			p.awaitsClient()
		}
		time.Sleep(grace)
		turned := admit(t, a, &evicted)
		if !a.serverFull() {
			t.Fatal("no hope though 20 are silent")
		}
		turned.leave()
		admit(t, a, &evicted).answered()
		if n := evicted.Load(); n != 6 {
			t.Errorf("%d of 20 made room, want those above three quarters of 21", n)
		}
		if a.limitLocked() != 15 {
			t.Errorf("limit %d, want 15", a.limitLocked())
		}
		time.Sleep(2 * time.Second)
		if a.limitLocked() != 60 {
			t.Errorf("limit %d after two seconds, want 60", a.limitLocked())
		}
		time.Sleep(time.Second)
		if a.limitLocked() != 100 {
			t.Errorf("limit %d after three seconds, want the configured one", a.limitLocked())
		}
	})
}

func TestALoginWhoseServerIsWorkingIsNeverEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(1)
		var evicted atomic.Int32
		busy := admit(t, a, &evicted)
		busy.answered()
		_, err := a.enter(t.Context(), 5*time.Second, func(error) {}, func() {})
		if !errors.Is(err, errHoldFull) || evicted.Load() != 0 {
			t.Fatalf("the second login got %v, the first was ended %d times", err, evicted.Load())
		}
		go func() {
			time.Sleep(time.Second)
			busy.awaitsClient()
		}()
		start := time.Now()
		if _, err := a.enter(t.Context(), 5*time.Second, func(error) {}, func() {}); err != nil || time.Since(start) != time.Second+grace {
			t.Errorf("entered after %s with %v, want when the first has waited for its client for longer than its grace", time.Since(start), err)
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
			p, err := a.enter(context.Background(), time.Minute, func(error) {}, func() {})
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
				p, err := a.enter(context.Background(), time.Minute, func(error) {}, func() {})
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
	if _, err := a.enter(ctx, time.Minute, func(error) {}, func() {}); !errors.Is(err, errClientGone) {
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
		if a.shed() {
			t.Error("shed a login within its grace")
		}
		time.Sleep(grace)
		if !a.shed() || silent.Load() != 1 || a.underWay != 1 {
			t.Errorf("shed: silent ended %d times, %d under way", silent.Load(), a.underWay)
		}
		admit(t, a, &working)
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() {
			if _, err := a.enter(ctx, time.Minute, func(why error) { late.Add(1); cancel(why) }, func() {}); !errors.Is(err, errTurnedAway) {
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

// Whoever ends a login does so a moment after its place was given away. A client that answers in that moment comes too late: the login is over, and
// no session is counted out later.
func TestAnAnswerToALoginThatHasMadeRoomIsTooLate(t *testing.T) {
	h := newHarness(t, testConfig(), Deps{})
	client, conn := tcpPair(t)
	defer client.Close()
	cfg := h.cfg.Load()
	s := h.newSession(cfg, newClientLeg(conn, patience), netip.MustParseAddrPort("127.0.0.1:5"))
	if err := s.enter(); err != nil {
		t.Fatal(err)
	}
	h.admission.configure(1)
	chosen, answered, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var err error
	s.place, err = h.admission.enter(t.Context(), 0, func(why error) {
		close(chosen)
		<-answered
		s.evict(why)
		close(ended)
	}, func() {})
	if err != nil {
		t.Fatal(err)
	}
	s.place.answered()
	result := make(chan error, 1)
	go func() {
		_, err := (&exchange{s: s}).ask()
		result <- err
	}()
	next := make(chan error, 1)
	go func() {
		_, err := h.admission.enter(t.Context(), patience, func(error) {}, func() {})
		next <- err
	}()
	<-chosen
	if _, err := client.Write(authFrame('p', []byte("secret\x00"))); err != nil {
		t.Fatal(err)
	}
	if err := <-result; !errors.Is(err, errEvicted) {
		t.Errorf("the answer came in time: %v", err)
	} else {
		s.over(err)
	}
	close(answered)
	<-ended
	if err := <-next; err != nil {
		t.Error(err)
	}
	if h.clients() != 0 || h.underWay() != 1 {
		t.Errorf("%d clients are counted and %d logins are under way, want none and the next one", h.clients(), h.underWay())
	}
}

// hold.login is for the time without a writer. In the line there is one, and it serves others.
func TestTheWaitInTheLineIsNotChargedToTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newQueueBench(t, 10, 200, even)
		b.openEpoch(t, 1)
		cfg := testConfig()
		s := &session{cfg: &settings{Config: cfg}, client: newClientLeg(noConn, time.Minute)}
		s.srv = &Server{hold: b.holdQueue, admission: newAdmission(1), log: slog.New(slog.DiscardHandler), failures: newLimiter[string](1, 1)}
		near, far := net.Pipe()
		defer near.Close()
		defer far.Close()
		s.client.conn, s.client.ahead = near, []byte("x") // what has spoken already is not watched
		holder, err := s.srv.admission.enter(t.Context(), 0, func(error) {}, func() {})
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(5*time.Second, holder.leave)
		var began, failed time.Time
		start := time.Now()
		err = s.untilPinned(func(*ticket) error {
			began = time.Now()
			time.Sleep(time.Second)
			failed = time.Now()
			b.hold(pgwire.NoWriter) // from here on it waits, to the end of its budget
			return &againError{errors.New("dial: timeout")}
		})
		if none := new(noWriterError); !errors.As(err, &none) || began.Sub(start) != 5*time.Second {
			t.Fatalf("got %v, after %s in the line", err, began.Sub(start))
		}
		if left, want := time.Since(failed), cfg.Hold.Login-time.Second; left != want {
			t.Errorf("after 5 s in the line and 1 s of a dial %s of the budget were left, want %s", left, want)
		}
		b.stop()
	})
}
