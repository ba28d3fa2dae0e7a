package pgwire

import (
	"flag"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"testing"
)

// modelRun is one session: a client, a tracker between, a server, and bytes under way at every place. Its random choices come from one seed.
type modelRun struct {
	t      *testing.T
	seed   uint64
	rng    *rand.Rand
	tr     *Tracker
	server *modelServer
	toSend []byte // what the client has sent and nobody has forwarded
	told   []string

	parked      bool
	asked       bool // the server has asked for data since the unit began
	copies      int  // CopyDone and CopyFail messages that may be under way
	restPoints  int
	unsurePoint int
	looks       int
	recalled    int // times that what the tracker remembers was certain and the truth
	uncertain   int
}

func newModelRun(t *testing.T, seed uint64) *modelRun {
	r := newModelRunFrom(t, rand.NewPCG(seed, 3))
	r.seed = seed
	return r
}

func newModelRunFrom(t *testing.T, source rand.Source) *modelRun {
	return &modelRun{t: t, rng: rand.New(source), tr: remembering(), server: newModelServer()}
}

func (r *modelRun) failf(format string, args ...any) {
	r.t.Helper()
	for _, line := range r.told {
		r.t.Log(line)
	}
	r.t.Logf("seed %d: tracker %s, server %+v", r.seed, state(r.tr), *r.server)
	r.t.Fatalf(format, args...)
}

// forward passes up to n bytes of the client on.
func (r *modelRun) forward(n int) {
	n = min(n, len(r.toSend))
	if r.parked {
		n = r.tr.ClientBoundary(r.toSend[:n])
		if n > 0 && r.server.idle() && r.tr.Idle() {
			r.failf("%q is let through at an idle boundary", r.toSend[:n])
		}
	}
	if n > 0 {
		r.told = append(r.told, fmt.Sprintf("> %q", r.toSend[:n]))
	}
	r.tr.Client(r.toSend[:n])
	r.server.in = append(r.server.in, r.toSend[:n]...)
	r.toSend = r.toSend[n:]
	r.check()
}

// relay passes up to n bytes of the server on.
func (r *modelRun) relay(n int) {
	for n > 0 && len(r.server.out) > 0 {
		next := &r.server.out[0]
		k := min(n, len(next.raw))
		r.told = append(r.told, fmt.Sprintf("< %q", next.raw[:k]))
		pass, stop := r.tr.Server(next.raw[:k])
		if stop {
			if !next.async {
				r.failf("an answer %q was kept back", next.raw)
			}
			r.tr.PassServer(next.raw[pass:k])
		} else if pass != k {
			r.failf("%d of %d bytes passed", pass, k)
		}
		n -= k
		if next.raw = next.raw[k:]; len(next.raw) == 0 {
			r.server.out = r.server.out[1:]
		}
		r.check()
	}
}

// step lets one party do something; false if none can.
func (r *modelRun) step() bool {
	sent, read := len(r.toSend), len(r.server.in)
	switch r.rng.IntN(3) {
	case 0:
		r.forward(1 + r.rng.IntN(1+len(r.toSend)))
	case 1:
		r.server.step()
		r.check()
	case 2:
		n := 0
		for _, a := range r.server.out {
			n += len(a.raw)
			r.asked = r.asked || a.raw[0] == 'G'
		}
		if n > 0 {
			r.relay(n)
			return true
		}
	}
	return sent != len(r.toSend) || read != len(r.server.in)
}

// settle lets everybody work until nothing moves any more.
func (r *modelRun) settle() {
	for moved := true; moved; {
		for idle := 0; idle < 40; idle++ {
			if r.step() {
				idle = 0
			}
		}
		// No chance: whoever was not asked may still have something to do.
		sent := len(r.toSend)
		r.forward(sent)
		moved = sent != len(r.toSend) || r.server.step() || len(r.server.out) > 0
	}
}

// check compares what the tracker says with the truth. It may be busy without need, never idle, and in doubt without need, never certain.
func (r *modelRun) check() {
	r.t.Helper()
	if r.tr.Idle() && !r.server.idle() {
		r.failf("idle, and the server is not")
	}
	if r.looks++; r.tr.Idle() && r.looks%3 == 0 {
		r.recall()
	}
	if !r.tr.InDoubt() && r.server.inDoubt() {
		r.failf("no doubt, and there is one")
	}
}

// recall compares what the tracker remembers with the server's statements. It may be unsure without need, never wrong.
func (r *modelRun) recall() {
	r.t.Helper()
	got := r.tr.Recall()
	if got.Unsure != (Unsure{}) {
		r.uncertain++
	} else {
		r.recalled++
	}
	text, exists := r.server.statements[""]
	if !got.Unsure.Unnamed && (exists != (got.Unnamed != nil) || exists && got.Unnamed.Text != text) {
		r.failf("the unnamed statement is remembered as %+v", got.Unnamed)
	}
	if got.Unsure.Named {
		return
	}
	named := maps.Clone(r.server.statements)
	delete(named, "")
	for _, s := range got.Named {
		if text, ok := named[s.Name]; !ok || text != s.Text {
			r.failf("%+v is remembered", s)
		}
		delete(named, s.Name)
	}
	if len(named) > 0 {
		r.failf("%v are not remembered", named)
	}
}

// rest checks a point where nothing moves, of a legal client.
func (r *modelRun) rest() {
	r.t.Helper()
	r.check()
	if err := r.tr.Broken(); err != nil {
		r.failf("broken: %s", err)
	}
	if r.server.closed || len(r.toSend) > 0 || r.server.copying {
		return
	}
	r.restPoints++
	if r.tr.TxStatus() != r.server.status {
		r.failf("status %c, want %c", r.tr.TxStatus(), r.server.status)
	}
	if r.server.idle() && !r.tr.Idle() {
		if r.tr.unsure.Load() <= r.tr.serverWord.Load()>>serverFlagBits {
			r.failf("busy, and the server is idle")
		}
		r.unsurePoint++
	}
}

// send lets the legal client send a unit, and what its answer asks for.
func (r *modelRun) send(u modelUnit) {
	if r.copies += u.copies; r.copies > copyEndsKept { // no more than the tracker promises to tell apart
		r.settle()
		r.copies = u.copies
	}
	r.asked = false
	r.toSend = append(r.toSend, u.first...)
	if u.then != nil {
		r.settle()
		if r.asked {
			r.toSend = append(r.toSend, u.then...)
		} else {
			r.toSend = append(r.toSend, u.refused...)
		}
	}
	if u.wait {
		r.settle()
		r.rest()
		return
	}
	for range r.rng.IntN(6) {
		r.step()
	}
}

// TestTheTrackerAgreesWithAModelServer runs legal clients, pipelining or not, over connections that split and delay as they like.
func TestTheTrackerAgreesWithAModelServer(t *testing.T) {
	points, unsure, recalled, uncertain := 0, 0, 0, 0
	for seed := range modelSeeds(t) {
		r := newModelRun(t, seed)
		c := &modelClient{rng: r.rng}
		for range 12 {
			r.send(c.legal())
			if r.rng.IntN(8) == 0 {
				r.settle()
				r.server.async("NAS"[r.rng.IntN(3)])
			}
		}
		r.finish()
		points, unsure = points+r.restPoints, unsure+r.unsurePoint
		recalled, uncertain = recalled+r.recalled, uncertain+r.uncertain
	}
	t.Logf("remembered with certainty at %d boundaries, without at %d", recalled, uncertain)
	if recalled < *schedules || uncertain*5 > recalled {
		t.Error("the schedules do not reach what is to be remembered")
	}
	t.Logf("%d rest points, at %d of them idle only for the server", points, unsure)
	if points < *schedules || unsure == 0 || unsure*20 > points {
		t.Error("the schedules do not reach what they are meant to")
	}
}

// finish ends the session's transaction as a client would and wants it idle: whatever happened, nothing may hold it busy for good.
func (r *modelRun) finish() {
	r.t.Helper()
	r.send(modelUnit{first: msg('S', ""), wait: true})
	r.send(modelUnit{first: msg('Q', "ROLLBACK\x00"), wait: true})
	if !r.tr.Idle() {
		r.failf("busy for good")
	}
}

// TestTheTrackerIsNeverIdleTooEarly runs clients that send anything in any order.
func TestTheTrackerIsNeverIdleTooEarly(t *testing.T) {
	idle := 0
	for seed := range modelSeeds(t) {
		r := newModelRun(t, seed)
		c := &modelClient{rng: r.rng}
		for range 25 {
			r.toSend = append(r.toSend, c.anything().first...)
			for range r.rng.IntN(12) {
				r.step()
			}
			if r.tr.Idle() {
				idle++
			}
		}
		r.settle()
		r.check()
	}
	if idle < *schedules/2 { // a malformed message keeps its session busy for good
		t.Errorf("idle only %d times", idle)
	}
}

// TestAParkedSessionReachesItsBoundary parks legal clients at any moment.
func TestAParkedSessionReachesItsBoundary(t *testing.T) {
	boundaries := 0
	for seed := range modelSeeds(t) {
		r := newModelRun(t, seed)
		c := &modelClient{rng: r.rng, blind: true}
		for range r.rng.IntN(8) {
			r.send(c.legal())
		}
		r.parked = true
		for i := 0; i < 30 && !r.tr.Idle(); i++ {
			r.send(c.legal())
			r.send(modelUnit{first: msg('Q', "ROLLBACK\x00")})
			r.settle()
		}
		if !r.tr.Idle() {
			r.failf("no boundary, with %q held back", r.toSend)
		}
		if n := r.tr.ClientBoundary(r.toSend); n != 0 {
			r.failf("%q is let through at the boundary", r.toSend[:n])
		}
		boundaries++
	}
	t.Log(boundaries)
}

var (
	schedules = flag.Int("schedules", 1500, "random sessions per model test")
	firstSeed = flag.Uint64("seed", 0, "seed of the first session; 0 chooses one")
)

// modelSeeds yields the seeds of a test's sessions and prints them.
func modelSeeds(t *testing.T) iter.Seq[uint64] {
	first := *firstSeed
	if first == 0 {
		first = rand.Uint64() >> 16
	}
	n := uint64(*schedules)
	t.Logf("seeds %d to %d", first, first+n-1)
	return func(yield func(uint64) bool) {
		for i := range n {
			if !yield(first + i) {
				return
			}
		}
	}
}
