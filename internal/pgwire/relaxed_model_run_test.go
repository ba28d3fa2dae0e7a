package pgwire

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// laxRun is one session whose bytes are split and delayed at will.
type laxRun struct {
	t       *testing.T
	seed    uint64
	rng     *rand.Rand
	tr      *Tracker
	server  *laxServer
	toSend  []byte
	relayed int // bytes of the server's first answer that have been relayed
	counted uint64
	log     []string
}

func newLaxRun(t *testing.T, seed uint64) *laxRun {
	r := newLaxRunFrom(t, rand.NewPCG(seed, 6))
	r.seed = seed
	return r
}

func newLaxRunFrom(t *testing.T, source rand.Source) *laxRun {
	r := &laxRun{t: t, rng: rand.New(source), tr: started()}
	r.server = &laxServer{statements: map[string]string{}, some: func() bool { return r.rng.IntN(5) == 0 }}
	return r
}

func (r *laxRun) failf(format string, args ...any) {
	r.t.Helper()
	for _, line := range r.log {
		r.t.Log(line)
	}
	r.t.Logf("seed %d: %s; server: %s; %d counted", r.seed, state(r.tr), r.server, r.counted)
	r.t.Fatalf(format, args...)
}

// send is what the client does; it does not wait.
func (r *laxRun) send(b []byte) { r.toSend = append(r.toSend, b...) }

func (r *laxRun) forward(n int) {
	n = min(n, len(r.toSend))
	if n == 0 {
		return
	}
	r.log = append(r.log, fmt.Sprintf("> %q", r.toSend[:n]))
	r.tr.Client(r.toSend[:n])
	r.server.in = append(r.server.in, r.toSend[:n]...)
	r.toSend = r.toSend[n:]
}

// relay passes up to n bytes of the server on, in one piece, and then asks whether the client has been told of more than is counted.
func (r *laxRun) relay(n int) {
	var piece []byte
	var told uint64
	for n > 0 && len(r.server.out) > 0 {
		next := r.server.out[0]
		k := min(n, len(next.raw)-r.relayed)
		piece = append(piece, next.raw[r.relayed:r.relayed+k]...)
		n, r.relayed = n-k, r.relayed+k
		if r.relayed == len(next.raw) {
			told, r.relayed, r.server.out = next.told, 0, r.server.out[1:]
		}
	}
	if len(piece) == 0 {
		return
	}
	r.log = append(r.log, fmt.Sprintf("< %q", piece))
	if pass, stop := r.tr.Server(piece); stop || pass != len(piece) {
		r.failf("%q was kept back", piece[pass:])
	}
	r.counted += r.tr.TakeRelaxed()
	if told > r.counted {
		r.failf("the client has been told of %d relaxed commits, %d are counted", told, r.counted)
	}
}

func (r *laxRun) step() {
	switch r.rng.IntN(3) {
	case 0:
		r.forward(1 + r.rng.IntN(60))
	case 1:
		r.server.step()
	default:
		r.relay(1 + r.rng.IntN(60))
	}
}

// settle lets everything arrive.
func (r *laxRun) settle() {
	for len(r.toSend) > 0 || len(r.server.out) > 0 || r.server.step() {
		r.step()
	}
	if err := r.tr.Broken(); err != nil {
		r.failf("broken: %s", err)
	}
}

// anything is a unit of a client that has no plan: any texts, by any names, one statement or several, whether the last unit was answered or not.
func (r *laxRun) anything(texts []string) []byte {
	pick := func() string { return texts[r.rng.IntN(len(texts))] }
	if r.rng.IntN(3) == 0 {
		text := pick()
		for r.rng.IntN(4) == 0 {
			text += "; " + pick()
		}
		return msg('Q', text+"\x00")
	}
	var b []byte
	for range 1 + r.rng.IntN(4) {
		name, text := "", pick()
		if r.rng.IntN(2) == 0 {
			name = fmt.Sprintf("s%d", r.rng.IntN(12)) // more than are remembered
			if _, there := r.server.statements[name]; there && r.rng.IntN(2) == 0 {
				text = ""
			}
		}
		b = append(b, extendedRun(name, text)...)
	}
	if r.rng.IntN(12) == 0 {
		b = append(b, msg('Q', pick()+"\x00")...)
	}
	return append(b, msg('S', "")...)
}

// planless is a session of such a client. Most of them never lower more than a transaction: with any text that does, the session is marked before
// long, and everything counts.
func (r *laxRun) planless() {
	texts := []string{"INSERT", "INSERT", "SELECT", "BEGIN", "BEGIN", "COMMIT", "COMMIT", "ROLLBACK", "COMMIT AND CHAIN", "PREPARE TRANSACTION 'x'", "VACUUM", "bad"}
	marked := r.rng.IntN(3) == 0
	for _, text := range slices.Sorted(maps.Keys(laxTexts)) {
		if marked || markOf(text, len(text)) != markSession {
			texts = append(texts, text)
		}
	}
	for range 10 {
		r.send(r.anything(texts))
		for range r.rng.IntN(30) {
			r.step()
		}
		if r.rng.IntN(2) == 0 {
			r.settle()
		}
	}
	r.settle()
}

func FuzzRelaxedCommits(f *testing.F) {
	f.Add([]byte("\x00\x40\x80\xc0\xff"))
	f.Add([]byte(strings.Repeat("\x10\xf0\x33", 40)))
	f.Fuzz(func(t *testing.T, data []byte) { newLaxRunFrom(t, &fuzzSource{data: data}).planless() })
}

func TestNoClientIsToldOfARelaxedCommitThatIsNotCounted(t *testing.T) {
	var relaxed, counted uint64
	for seed := range modelSeeds(t) {
		r := newLaxRun(t, seed)
		r.planless()
		relaxed, counted = relaxed+r.server.relaxed, counted+r.counted
	}
	t.Logf("%d relaxed commits, %d counted", relaxed, counted)
	if relaxed < uint64(*schedules)/2 {
		t.Error("the schedules do not reach what they are meant to")
	}
}

// orderly is a transaction as drivers send it: by Query, or in the extended protocol with names for what is run often, the BEGIN in one batch
// with the first statement. Each request waits for the one before.
func (r *laxRun) orderly() {
	names := map[string]string{"BEGIN": "S_1", "COMMIT": "S_2", "ROLLBACK": "S_3", "SET LOCAL synchronous_commit TO OFF": "S_4"}
	extended := func(text string) []byte {
		name := names[text]
		if _, there := r.server.statements[name]; name == "" || r.rng.IntN(3) == 0 && !there {
			return extendedRun(name, text)
		} else if there {
			return extendedRun(name, "")
		}
		return extendedRun("", text)
	}
	run := func(texts ...string) {
		if len(texts) == 1 && r.rng.IntN(2) == 0 {
			r.send(msg('Q', texts[0]+"\x00"))
		} else {
			for _, text := range texts {
				r.send(extended(text))
			}
			r.send(msg('S', ""))
		}
		r.settle()
	}
	if r.rng.IntN(3) == 0 {
		run([]string{"INSERT", "SELECT", "VACUUM", "bad"}[r.rng.IntN(4)])
		return
	}
	run("BEGIN", "INSERT")
	for range r.rng.IntN(4) {
		run([]string{"INSERT", "SELECT", "SET LOCAL synchronous_commit TO OFF", "bad"}[min(r.rng.IntN(12)/3, 3)])
	}
	run([]string{"COMMIT", "COMMIT", "ROLLBACK"}[r.rng.IntN(3)])
}

func TestOfAnOrderlyClientTheCountIsExact(t *testing.T) {
	var relaxed uint64
	for seed := range modelSeeds(t) {
		r := newLaxRun(t, seed)
		for range 8 {
			r.orderly()
			if r.counted != r.server.relaxed {
				r.failf("%d relaxed commits, %d are counted", r.server.relaxed, r.counted)
			}
		}
		relaxed += r.counted
	}
	t.Logf("%d relaxed commits", relaxed)
	if relaxed < uint64(*schedules)/4 {
		t.Error("the schedules do not reach what they are meant to")
	}
}
