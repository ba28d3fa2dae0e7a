package proxy

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

func TestParkHandsAnIdlePairBackAtOnceAndItCanGoOn(t *testing.T) {
	onEach(t, func(t *testing.T, newRig func(bool) *rig) {
		r := newRig(false).start()
		r.client.write([]byte(simple("one")))
		r.expect(r.server, simple("one"))
		r.server.write([]byte(done + ready))
		r.expect(r.client, done+ready)
		for range 3 {
			r.park()
			r.awaitParked()
			r.client.write([]byte(simple("two")))
			r.server.write([]byte(encode(&pgproto3.NotificationResponse{Channel: "c"})))
			r.start()
			r.expect(r.server, simple("two"))
			r.expect(r.client, encode(&pgproto3.NotificationResponse{Channel: "c"}))
			r.server.write([]byte(done + ready))
			r.expect(r.client, done+ready)
		}
	})
}

func TestParkWaitsForTheEndOfTheTransaction(t *testing.T) {
	onEach(t, func(t *testing.T, newRig func(bool) *rig) {
		r := newRig(false).start()
		r.client.write([]byte(simple("begin")))
		r.expect(r.server, simple("begin"))
		r.server.write([]byte(done + readyInBlock))
		r.expect(r.client, done+readyInBlock)
		r.park()
		r.client.write([]byte(simple("update")))
		r.expect(r.server, simple("update"))
		r.server.write([]byte(done + readyInBlock))
		r.expect(r.client, done+readyInBlock)
		if len(r.parkedAt) > 0 {
			t.Fatal("parked inside a transaction")
		}
		r.client.write([]byte(simple("commit")))
		r.expect(r.server, simple("commit"))
		r.server.write([]byte(done + ready))
		r.expect(r.client, done+ready)
		r.awaitParked()
	})
}

// A client that pipelines has sent its next transaction before this one has ended. None of the next one may reach the server, and none of it may be
// lost.
func TestParkKeepsBackWhatBelongsToTheNextTransaction(t *testing.T) {
	onEach(t, func(t *testing.T, newRig func(bool) *rig) {
		r := newRig(false).start()
		r.client.write([]byte(simple("begin")))
		r.expect(r.server, simple("begin"))
		r.park()
		r.client.write([]byte(simple("commit") + simple("begin again") + simple("more")))
		r.server.write([]byte(done + readyInBlock))
		r.expect(r.client, done+readyInBlock)
		r.expect(r.server, simple("commit"))
		r.server.write([]byte(done + ready))
		r.expect(r.client, done+ready)
		r.awaitParked()
		if got, want := string(r.pair.fromClient), simple("begin again")+simple("more"); got != want {
			t.Errorf("handed back %q, want %q", got, want)
		}
		r.start()
		r.expect(r.server, simple("begin again")+simple("more"))
	})
}

func TestUnparkLetsThePairGoOn(t *testing.T) {
	onEach(t, func(t *testing.T, newRig func(bool) *rig) {
		r := newRig(false).start()
		r.client.write([]byte(simple("begin")))
		r.expect(r.server, simple("begin"))
		r.park()
		r.client.write([]byte(simple("commit") + simple("next")))
		r.server.write([]byte(done + readyInBlock))
		r.expect(r.client, done+readyInBlock)
		if !r.forwarder.unpark(r.pair) {
			t.Fatal("too late to unpark a pair inside a transaction")
		}
		r.expect(r.server, simple("commit")+simple("next"))
		r.server.write([]byte(done + ready + done + ready))
		r.expect(r.client, done+ready+done+ready)
		r.park()
		r.awaitParked()
		if r.forwarder.unpark(r.pair) {
			t.Error("unparked a pair that had been handed back")
		}
	})
}

func TestParkNeverStopsAnOpaquePair(t *testing.T) {
	onEach(t, func(t *testing.T, newRig func(bool) *rig) {
		r := newRig(true).start()
		r.park()
		r.client.write([]byte("any bytes"))
		r.expect(r.server, "any bytes")
		r.server.write([]byte("and back"))
		r.expect(r.client, "and back")
		if len(r.parkedAt) > 0 {
			t.Error("parked an opaque pair")
		}
	})
}

func TestAPairThatEndsWhileItIsToBeParkedEnds(t *testing.T) {
	onEach(t, func(t *testing.T, newRig func(bool) *rig) {
		r := newRig(false).start()
		r.client.write([]byte(simple("begin")))
		r.expect(r.server, simple("begin"))
		r.park()
		_ = r.server.Close()
		r.awaitEnd(endServer)
		if len(r.parkedAt) > 0 {
			t.Error("parked and ended")
		}
	})
}

// Parked again and again at random moments of a stream of pipelined queries, no byte may be lost, doubled or reordered on either side.
func TestParkingLosesNothingAtAnyMoment(t *testing.T) {
	const queries = 300
	onEach(t, func(t *testing.T, newRig func(bool) *rig) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, 0))
		r := newRig(false).start()
		var sent, answers strings.Builder
		for range queries {
			sent.WriteString(simple(strings.Repeat("q", random.IntN(2000))))
			answers.WriteString(done + ready)
		}
		go func() { // the client writes in pieces of any size
			for rest := []byte(sent.String()); len(rest) > 0; {
				n := min(1+random.IntN(5000), len(rest))
				r.client.write(rest[:n])
				rest = rest[n:]
			}
		}()
		go func() { // the server answers each query as it comes
			c := &fakeConn{Conn: r.server.Conn}
			for range queries {
				if _, _, err := c.read(); err != nil {
					t.Errorf("server: %v", err)
					return
				}
				r.server.write([]byte(done + ready))
			}
		}()
		finished := make(chan struct{})
		go func() { defer close(finished); r.expect(r.client, answers.String()) }()
		r.parkUntil(finished, func() {}, func() {})
	})
}

// parkUntil parks the pair and starts it, again and again, until finished is closed; before runs before each request, parked whenever it is parked.
func (r *rig) parkUntil(finished <-chan struct{}, before, parked func()) {
	r.t.Helper()
	for parks := 1; ; parks++ {
		before()
		r.park()
		select {
		case <-r.parkedAt:
			parked()
			r.start()
		case <-time.After(patience):
			<-finished // which has waited no less
			r.t.Fatal("not parked")
		}
		select {
		case <-finished:
			r.t.Logf("parked %d times", parks)
			return
		default:
		}
	}
}

// Parked again and again at random moments while the server says what nobody has asked for, in pieces of any size, no byte may be lost, and the client
// must have whole messages only whenever the pair is parked.
func TestParkingCutsNoMessageOfTheServersInTwo(t *testing.T) {
	const messages = 2000
	onEach(t, func(t *testing.T, newRig func(bool) *rig) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		random, moments := rand.New(rand.NewPCG(seed, 0)), rand.New(rand.NewPCG(seed, 1))
		r := newRig(false).start()
		var said strings.Builder
		for range messages {
			words := strings.Repeat("w", random.IntN(200))
			if random.IntN(4) == 0 {
				said.WriteString(encode(&pgproto3.NoticeResponse{Severity: "NOTICE", Code: "00000", Message: words}))
			} else {
				said.WriteString(encode(&pgproto3.NotificationResponse{Channel: "c", Payload: words}))
			}
		}
		go func() {
			for rest := []byte(said.String()); len(rest) > 0; {
				n := min(1+random.IntN(300), len(rest))
				r.server.write(rest[:n])
				rest = rest[n:]
				time.Sleep(time.Duration(random.IntN(50)) * time.Microsecond)
			}
		}()
		finished := make(chan struct{})
		go func() { defer close(finished); r.expect(r.client, said.String()) }()
		torn := false
		r.parkUntil(finished, func() { time.Sleep(time.Duration(max(0, moments.IntN(200)-100)) * time.Microsecond) }, func() {
			if !torn && !r.pair.tracker.ServerBoundary() {
				torn = true
				t.Error("parked in the middle of a message")
			}
		})
	})
}

// What the server said last has been read, but nobody has looked at it yet when the pair is parked.
func TestAMessageThatMayMeanADyingServerIsKeptBackAlsoWhenThePairParksFirst(t *testing.T) {
	onEach(t, func(t *testing.T, newRig func(bool) *rig) {
		for range 20 {
			r := newRig(false)
			r.pair.fromServer = []byte(terminated)
			r.start()
			r.park()
			var res result
			select {
			case <-r.parkedAt:
				r.start()
				res = r.awaitEnd(endKeptBack)
			case res = <-r.ended:
			}
			if res.end != endKeptBack || string(res.keptBack) != terminated || !res.clean {
				t.Fatalf("ended with %d, kept back %q, clean %v", res.end, res.keptBack, res.clean)
			}
			if n := r.pair.toClient.Load(); n != 0 {
				t.Fatalf("the client got %d bytes", n)
			}
		}
	})
}
