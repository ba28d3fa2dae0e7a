//go:build unix

package proxy

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// recorder is a connection whose writes can be kept back.
type recorder struct {
	net.Conn
	keep bool
	kept []byte
}

// Write implements net.Conn.
func (r *recorder) Write(b []byte) (int, error) {
	if r.keep {
		r.kept = append(r.kept, b...)
		return len(b), nil
	}
	return r.Conn.Write(b)
}

// tapped is a tap that reads TLS, and the other end of it.
type tapped struct {
	*tap
	peer *tls.Conn
	wire *recorder
	raw  *net.TCPConn
}

// onEachLeg runs a test on the client's leg and on the server's, with each version of TLS.
func onEachLeg(t *testing.T, test func(t *testing.T, r *tapped)) {
	for _, leg := range []string{"client", "server"} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(leg+" "+tls.VersionName(version), func(t *testing.T) { test(t, newTapped(t, leg, version)) })
		}
	}
}

func newTapped(t *testing.T, leg string, version uint16) *tapped {
	outer, raw := tcpPair(t)
	wire := &recorder{Conn: outer}
	t.Cleanup(func() { _ = outer.Close(); _ = raw.Close() })
	trusting := &tls.Config{InsecureSkipVerify: true, MaxVersion: version}
	if leg == "client" {
		ours, peer := tls.Server(newTLSSocket(raw, nil), testTLS(t)), tls.Client(wire, trusting)
		shake(t, ours, peer)
		return &tapped{tap: newTap(ours), peer: peer, wire: wire, raw: raw}
	}
	ours, peer := tls.Client(newBackend(newTable(), testRoute(1), raw, nil), trusting), tls.Server(wire, testTLS(t))
	shake(t, peer, ours)
	return &tapped{tap: newTap(ours), peer: peer, wire: wire, raw: raw}
}

// records returns what the other end sends to say each of the words.
func (r *tapped) records(t *testing.T, words ...string) []byte {
	t.Helper()
	r.wire.keep = true
	for _, w := range words {
		if _, err := r.peer.Write([]byte(w)); err != nil {
			t.Fatal(err)
		}
	}
	r.wire.keep = false
	return slices.Clone(r.wire.kept)
}

// arrive sends bytes and waits until they are there.
func (r *tapped) arrive(t *testing.T, b []byte) {
	t.Helper()
	if _, err := r.wire.Write(b); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); !hasUnread(r.raw); time.Sleep(50 * time.Microsecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing has arrived")
		}
	}
}

// attempt is one attempt of the tap's to read.
func (r *tapped) attempt(t *testing.T) (came bool) {
	t.Helper()
	r.n, r.err = 0, nil
	if err := r.tap.raw.Control(func(fd uintptr) { came = r.try(fd) }); err != nil {
		t.Fatal(err)
	}
	return came
}

// A session that waits in the middle of a record waits for as long as its client likes.
func TestATapHoldsNoBufferWhileARecordIsIncomplete(t *testing.T) {
	onEachLeg(t, func(t *testing.T, r *tapped) {
		sent := r.records(t, "first", "second")
		var got []string
		for i := range sent {
			r.arrive(t, sent[i:i+1])
			if !r.attempt(t) {
				if r.buf != nil {
					t.Fatalf("a buffer is held after %d of %d bytes", i+1, len(sent))
				}
				continue
			}
			if r.err != nil {
				t.Fatal(r.err)
			}
			got = append(got, string(r.buf[:r.n]))
			r.release()
		}
		if !slices.Equal(got, []string{"first", "second"}) || r.attempt(t) {
			t.Errorf("got %q", got)
		}
	})
}

// The socket has nothing to read when TLS has read two records at once.
func TestATapReadsWhatTLSHasReadAlready(t *testing.T) {
	onEachLeg(t, func(t *testing.T, r *tapped) {
		r.arrive(t, r.records(t, "first", "second", "third"))
		for _, want := range []string{"first", "second", "third"} {
			_ = r.raw.SetReadDeadline(time.Now().Add(patience))
			got, err := r.read()
			if err != nil || string(got) != want {
				t.Fatalf("read %q, %v, want %q", got, err, want)
			}
			r.release()
		}
		_ = r.raw.SetReadDeadline(past)
		if got, err := r.read(); !isTimeout(err) || len(got) > 0 || r.buf != nil {
			t.Errorf("read %q, %v when there was nothing, buffer held: %t", got, err, r.buf != nil)
		}
	})
}

// A pair that is parked goes on with another tap.
func TestWhatOneTapLeavesTheNextOneReads(t *testing.T) {
	onEachLeg(t, func(t *testing.T, r *tapped) {
		sent := r.records(t, "first", "second", "third")
		r.arrive(t, sent[:len(sent)-1])
		if !r.attempt(t) || string(r.buf[:r.n]) != "first" {
			t.Fatalf("read %d bytes, %v", r.n, r.err)
		}
		r.release()
		_ = r.raw.SetReadDeadline(past)
		if got, err := r.read(); !isTimeout(err) {
			t.Fatalf("read %q, %v after it was woken", got, err)
		}
		_ = r.raw.SetReadDeadline(time.Now().Add(patience))
		next := newTap(r.conn)
		go func() { _, _ = r.wire.Write(sent[len(sent)-1:]) }()
		for _, want := range []string{"second", "third"} {
			got, err := next.read()
			if err != nil || string(got) != want {
				t.Fatalf("read %q, %v, want %q", got, err, want)
			}
			next.release()
		}
	})
}

// A word and the alert that follows it arrive together, but for the alert's last byte.
func TestATapDeliversWhatComesBeforeAnIncompleteAlert(t *testing.T) {
	onEachLeg(t, func(t *testing.T, r *tapped) {
		r.records(t, "goodbye")
		r.wire.keep = true
		if err := r.peer.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		r.wire.keep = false
		_ = r.wire.SetWriteDeadline(time.Time{}) // TLS has seen to it that nothing follows
		sent := r.wire.kept
		r.arrive(t, sent[:len(sent)-1])
		if !r.attempt(t) || r.err != nil || string(r.buf[:r.n]) != "goodbye" {
			t.Fatalf("read %d bytes, %v", r.n, r.err)
		}
		r.release()
		if r.attempt(t) {
			t.Fatalf("read %d bytes, %v of half an alert", r.n, r.err)
		}
		r.arrive(t, sent[len(sent)-1:])
		if !r.attempt(t) || !errors.Is(r.err, io.EOF) {
			t.Errorf("the end came as %d bytes, %v", r.n, r.err)
		}
		r.release()
	})
}

// A stream that ends within a record was cut by somebody; it is not an end that the client has asked for.
func TestATapTellsATornStreamFromItsEnd(t *testing.T) {
	onEachLeg(t, func(t *testing.T, r *tapped) {
		sent := r.records(t, "word")
		r.arrive(t, sent[:len(sent)-1])
		if r.attempt(t) {
			t.Fatal("an incomplete record was delivered")
		}
		_ = r.wire.Close()
		_ = r.raw.SetReadDeadline(time.Now().Add(patience))
		if got, err := r.read(); len(got) > 0 || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("read %q, %v", got, err)
		}
	})
}

func TestAQuietWriterSaysHowFarItCame(t *testing.T) {
	outer, inner := tcpPair(t)
	defer outer.Close()
	defer inner.Close()
	w := newQuietWriter(inner)
	sent := make([]byte, 32<<20)
	for i := range sent {
		sent[i] = byte(i * 7 / 3)
	}
	_ = inner.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	n, err := w.Write(sent)
	if !isTimeout(err) || n == 0 || n == len(sent) {
		t.Fatalf("wrote %d bytes to one that does not read, %v", n, err)
	}
	_ = inner.SetWriteDeadline(time.Time{})
	read := make(chan []byte, 1)
	go func() {
		got, _ := io.ReadAll(outer)
		read <- got
	}()
	if more, err := w.Write(sent[n:]); err != nil || more != len(sent)-n {
		t.Errorf("wrote %d of %d bytes, %v", more, len(sent)-n, err)
	}
	_ = inner.CloseWrite()
	if got := <-read; !bytes.Equal(got, sent) {
		t.Errorf("%d bytes arrived, not the %d that were sent", len(got), len(sent))
	}
}

func TestAQuietWriterFailsAsItsConnectionDoes(t *testing.T) {
	outer, inner := tcpPair(t)
	w := newQuietWriter(inner)
	_ = outer.SetLinger(0)
	_ = outer.Close()
	var err error
	for deadline := time.Now().Add(patience); err == nil && time.Now().Before(deadline); {
		_, err = w.Write([]byte("hello"))
	}
	if !isReset(err) {
		t.Errorf("a write to one that has reset the connection: %v", err)
	}
	_ = inner.Close()
	if _, err := w.Write([]byte("hello")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a write to a closed connection: %v", err)
	}
}

func TestWritesOfAQuietWriterDoNotMix(t *testing.T) {
	outer, inner := tcpPair(t)
	defer outer.Close()
	w := newQuietWriter(inner)
	if n, err := w.Write(nil); n != 0 || err != nil {
		t.Errorf("a write of nothing: %d, %v", n, err)
	}
	const writers, size = 8, 256 << 10
	var writing sync.WaitGroup
	for i := range writers {
		writing.Go(func() {
			if n, err := w.Write(bytes.Repeat([]byte{byte(i)}, size)); n != size || err != nil {
				t.Errorf("wrote %d bytes, %v", n, err)
			}
		})
	}
	go func() { writing.Wait(); _ = inner.Close() }()
	got, err := io.ReadAll(outer)
	if err != nil || len(got) != writers*size {
		t.Fatalf("%d bytes arrived, %v", len(got), err)
	}
	for i := 0; i < len(got); i += size {
		if !bytes.Equal(got[i:i+size], bytes.Repeat(got[i:i+1], size)) {
			t.Fatalf("the bytes from %d on are of several writes", i)
		}
	}
}
