package pgwire

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"
)

// scriptBytes is what one side says in a script, or the other.
func scriptBytes(script, side string) []byte {
	var b []byte
	for _, line := range strings.Split(script, "\n") {
		kind, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case kind != side:
		case side == ">":
			b = append(b, clientMsgs(rest)...)
		default:
			for _, m := range strings.Fields(rest) {
				b = append(b, serverMsg(m)...)
			}
		}
	}
	return b
}

// FuzzTracker gives the tracker any bytes of either side, whole and in pieces: it never panics, agrees with itself, and counts what it is told.
func FuzzTracker(f *testing.F) {
	for _, script := range scripts {
		f.Add(scriptBytes(script, ">"), scriptBytes(script, "<"), uint8(3))
	}
	for _, script := range relaxedScripts {
		f.Add(scriptBytes(script, ">"), scriptBytes(script, "<"), uint8(3))
	}
	f.Add([]byte("Q\x00\x00\x00\x03"), []byte("Z\x00\x00\x00\x06II"), uint8(0))
	f.Fuzz(func(t *testing.T, client, server []byte, size uint8) {
		whole, split := started(), started()
		whole.Client(client)
		for piece := range slices.Chunk(client, int(size)+1) {
			split.Client(piece)
		}
		if got, want := observe(split), observe(whole); got != want {
			t.Fatalf("client's bytes in pieces: %+v, whole: %+v", got, want)
		}
		if n := whole.ClientBoundary(server); n < 0 || n > len(server) {
			t.Fatalf("%d of %d bytes may pass", n, len(server))
		}
		feedServer(t, whole, server, len(server)+1)
		feedServer(t, split, server, int(size)+1)
		if got, want := observe(split), observe(whole); got != want {
			t.Fatalf("server's bytes in pieces: %+v, whole: %+v", got, want)
		}
		if got, want := split.TakeRelaxed(), whole.TakeRelaxed(); got != want && whole.Broken() == nil {
			t.Fatalf("server's bytes in pieces: %d relaxed commits, whole: %d", got, want)
		}
		if whole.Idle() && (whole.Running() || whole.InDoubt() || whole.InTransaction() || whole.Broken() != nil) {
			t.Fatalf("idle and: %+v", observe(whole))
		}
	})
}

// observation is all that can be asked of a tracker.
type observation struct {
	idle, inTransaction, inDoubt, terminated, running, boundary bool
	status                                                      byte
	broken                                                      string
}

func observe(tr *Tracker) observation {
	o := observation{idle: tr.Idle(), inTransaction: tr.InTransaction(), inDoubt: tr.InDoubt(), terminated: tr.Terminated(), running: tr.Running(),
		boundary: tr.ServerBoundary(), status: tr.TxStatus()}
	if err := tr.Broken(); err != nil {
		o.broken = err.Error()
	}
	return o
}

// feedServer relays all of b, kept back or not.
func feedServer(t *testing.T, tr *Tracker, b []byte, size int) {
	for piece := range slices.Chunk(b, size) {
		pass, stop := tr.Server(piece)
		if pass < 0 || pass > len(piece) || stop != (pass < len(piece)) {
			t.Fatalf("%d of %d bytes pass, stop %t", pass, len(piece), stop)
		}
		if stop && (piece[pass] != 'E' && piece[pass] != 'N' || !tr.Idle()) {
			t.Fatalf("%q is kept back, idle %t", piece[pass], tr.Idle())
		}
		tr.PassServer(piece[pass:])
	}
}

// fuzzSource makes random choices out of a fuzzer's bytes; when they are used up it goes on with numbers that depend on them.
type fuzzSource struct {
	data  []byte
	state uint64
}

func (s *fuzzSource) Uint64() uint64 {
	if len(s.data) > 0 {
		var b [8]byte
		b[7] = s.data[0] // the high bits decide
		s.state = s.state*31 + uint64(s.data[0]) + 1
		s.data = s.data[1:]
		return binary.LittleEndian.Uint64(b[:])
	}
	s.state += 0x9e3779b97f4a7c15
	z := (s.state ^ s.state>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// FuzzSchedule runs a client that sends anything against the model server, with the choices of both and of the network taken from data: the tracker
// is idle only when the model is.
func FuzzSchedule(f *testing.F) {
	f.Add([]byte("\x00\x40\x80\xc0\xff"))
	f.Add([]byte(strings.Repeat("\x10\xf0\x33", 40)))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := newModelRunFrom(t, &fuzzSource{data: data})
		c := &modelClient{rng: r.rng}
		for range 20 {
			r.toSend = append(r.toSend, c.anything().first...)
			for range r.rng.IntN(10) {
				r.step()
			}
		}
		r.settle()
		r.check()
	})
}
