package proxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgtether/pgtether/internal/pgwire"
)

// dribble yields its bytes in pieces whose sizes come from the input too.
type dribble struct {
	data  []byte
	sizes []byte
	reads int
}

func (d *dribble) Read(p []byte) (int, error) {
	if len(d.data) == 0 {
		return 0, io.EOF
	}
	n := 1
	if len(d.sizes) > 0 {
		n += int(d.sizes[d.reads%len(d.sizes)])
	}
	d.reads++
	n = copy(p, d.data[:min(n, len(d.data))])
	d.data = d.data[n:]
	return n, nil
}

// Whatever a server sends, in whatever pieces: the messages that come out, with what is left, are what went in, and no more memory is held than
// one message may have.
func FuzzFrames(f *testing.F) {
	f.Add([]byte(encode(&pgproto3.AuthenticationOk{}, &pgproto3.ParameterStatus{Name: "a", Value: "b"})+ready), []byte{0})
	f.Add([]byte("S\x7f\xff\xff\xff"), []byte{3, 1})
	f.Add([]byte("R\x00\x00\x00\x00"), []byte{})
	f.Fuzz(func(t *testing.T, stream, sizes []byte) {
		in := newFrames(&dribble{data: stream, sizes: sizes})
		var out []byte
		for {
			frame, err := in.next()
			if err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, errNonsense) {
					t.Fatalf("unexpected error %v", err)
				}
				break
			}
			out = append(out, frame...)
		}
		if out = append(out, in.rest()...); !bytes.HasPrefix(stream, out) {
			t.Fatalf("%q came out of %q", out, stream)
		}
		if len(in.buf) > 4*loginFrameMax {
			t.Fatalf("a buffer of %d bytes", len(in.buf))
		}
	})
}

// An answer is one message and not a byte more, whatever length it claims.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte("p\x00\x00\x00\x08abcdrest"), []byte{0})
	f.Add([]byte("p\x00\x00\xff\xff"), []byte{200})
	f.Add([]byte("Q\x00\x00\x00\x04"), []byte{1})
	f.Fuzz(func(t *testing.T, stream, sizes []byte) {
		r := &dribble{data: stream, sizes: sizes}
		answer, err := readAnswer(r)
		if err != nil {
			return
		}
		if !bytes.Equal(append(answer, r.data...), stream) {
			t.Fatalf("read %q and left %q of %q", answer, r.data, stream)
		}
		if len(answer) > answerMax+1 {
			t.Fatalf("an answer of %d bytes", len(answer))
		}
	})
}

// What the server says in an idle session reaches the client to the last byte, or is kept back to the last byte: nothing is lost between the two.
func FuzzUnaskedFor(f *testing.F) {
	f.Add([]byte(terminated), []byte{5})
	f.Add([]byte(encode(&pgproto3.NoticeResponse{Severity: "NOTICE", Message: "m"})+crashed+terminated), []byte{0, 9})
	f.Add([]byte("N\x00\x00\x00\x00"), []byte{0})
	f.Add([]byte("E\x7f\xff\xff\xffgarbage"), []byte{1})
	f.Fuzz(func(t *testing.T, stream, sizes []byte) {
		r, out := siftRun()
		in := &dribble{data: stream, sizes: sizes}
		buf := make([]byte, tapSize)
		for {
			n, err := in.Read(buf)
			if err != nil || !r.toClient(buf[:n]) {
				break
			}
		}
		got := append(out.Bytes(), r.kept...)
		if r.result.end == endKeptBack {
			got = append(out.Bytes(), r.result.keptBack...)
			got = append(got, r.pair.fromServer...)
		}
		if got = append(got, in.data...); !bytes.Equal(got, stream) {
			t.Fatalf("%q became %q", stream, got)
		}
	})
}

// siftRun is the direction towards the client of a session without connections.
func siftRun() (*goRun, *bytes.Buffer) {
	p := &pair{tracker: new(pgwire.Tracker), clientRaw: new(net.TCPConn), backend: &backend{raw: new(net.TCPConn)}}
	p.tracker.Start('I')
	out := new(bytes.Buffer)
	p.client = bufferConn{w: out}
	return &goRun{f: newGoForwarder(testMetrics()), pair: p, out: p.client, turn: make(chan struct{}, 1)}, out
}
