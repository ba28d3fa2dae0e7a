package health

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

func newGuard(src io.Reader) *guard {
	g := &guard{src: src}
	g.begin(time.Now().Add(time.Minute))
	return g
}

// pass reads all that the guard lets through.
func pass(g *guard) ([]byte, error) { return io.ReadAll(g) }

func TestGuardPassesAnHonestLoginUnchangedAtEverySplit(t *testing.T) {
	stream := encoded(&pgproto3.AuthenticationSASL{AuthMechanisms: []string{"SCRAM-SHA-256"}}) +
		encoded(&pgproto3.AuthenticationSASLContinue{Data: []byte("r=abc,s=c2FsdA==,i=4096")}) +
		encoded(&pgproto3.AuthenticationSASLFinal{Data: []byte("v=xyz")}) + encoded(&pgproto3.AuthenticationOk{}) +
		encoded(&pgproto3.ParameterStatus{Name: "server_version", Value: "15.12"}) + encoded(&pgproto3.ReadyForQuery{TxStatus: 'I'}) +
		encoded(&pgproto3.ParseComplete{}) + encoded(&pgproto3.DataRow{Values: [][]byte{nil, []byte("x")}})
	for cut := range len(stream) + 1 {
		g := newGuard(io.MultiReader(strings.NewReader(stream[:cut]), strings.NewReader(stream[cut:])))
		got, err := pass(g)
		if err != nil || string(got) != stream || !g.answered {
			t.Fatalf("cut at %d: passed %d of %d bytes, answered %v: %v", cut, len(got), len(stream), g.answered, err)
		}
	}
	got, err := pass(newGuard(iotest.OneByteReader(strings.NewReader(stream))))
	if err != nil || string(got) != stream {
		t.Errorf("byte by byte: passed %d bytes: %v", len(got), err)
	}
}

func TestGuardStopsIterationsAtEverySplit(t *testing.T) {
	request := encoded(&pgproto3.AuthenticationSASL{AuthMechanisms: []string{"SCRAM-SHA-256"}})
	bad := encoded(&pgproto3.AuthenticationSASLContinue{Data: []byte("r=abc,s=c2FsdA==,i=1000001")})
	for cut := range len(bad) + 1 {
		g := newGuard(io.MultiReader(strings.NewReader(request), strings.NewReader(bad[:cut]), strings.NewReader(bad[cut:])))
		got, err := pass(g)
		var wire wireError
		if !errors.As(err, &wire) || !strings.Contains(wire.text, "SCRAM iterations") {
			t.Fatalf("cut at %d: error = %v", cut, err)
		}
		if len(got) >= len(request)+len(bad) {
			t.Fatalf("cut at %d: the whole message was passed on", cut)
		}
	}
}

func TestGuardCountsIterationsAgainstTheTimeLeft(t *testing.T) {
	message := encoded(&pgproto3.AuthenticationSASLContinue{Data: []byte("r=abc,s=c2FsdA==,i=600000")})
	g := newGuard(strings.NewReader(message))
	if _, err := pass(g); err != nil {
		t.Errorf("a minute left: %v", err)
	}
	g = newGuard(strings.NewReader(message))
	g.begin(time.Now().Add(100 * time.Millisecond))
	if _, err := pass(g); err == nil {
		t.Error("100 ms left: 600000 iterations were let through")
	}
}

func TestGuardReadsAnErrorOfProtocol2(t *testing.T) {
	const said = "could not fork new process for connection: Cannot allocate memory"
	for name, stream := range map[string]string{"with its zero byte": "E" + said + "\n\x00", "closed before it": "E" + said + "\n"} {
		for cut := range len(stream) + 1 {
			g := newGuard(io.MultiReader(strings.NewReader(stream[:cut]), strings.NewReader(stream[cut:])))
			got, err := pass(g)
			var wire wireError
			if !errors.As(err, &wire) || wire.text != said || !g.answered {
				t.Fatalf("%s, cut at %d: answered %v, error %v", name, cut, g.answered, err)
			}
			if len(got) > 4 {
				t.Fatalf("%s, cut at %d: passed %q on", name, cut, got)
			}
		}
	}
}

func TestGuardRefusesWhatMayNotComeFirst(t *testing.T) {
	for _, kind := range []byte("KSZTDC123ntIAsvWHGdcV") {
		if kind == 'v' {
			continue
		}
		stream := append([]byte{kind}, binary.BigEndian.AppendUint32(nil, 4)...)
		g := newGuard(bytes.NewReader(stream))
		if _, err := pass(g); err == nil || g.answered {
			t.Errorf("%q as the first message: answered %v, error %v", kind, g.answered, err)
		}
	}
}

func TestGuardBoundsARoundNotAConnection(t *testing.T) {
	row := encoded(&pgproto3.DataRow{Values: [][]byte{make([]byte, 100_000)}})
	stream := encoded(&pgproto3.AuthenticationOk{}) + strings.Repeat(row, 8)
	g := newGuard(strings.NewReader(stream))
	if _, err := pass(g); err != nil {
		t.Fatal(err)
	}
	g.src = strings.NewReader(strings.Repeat(row, 8))
	if _, err := pass(g); err == nil {
		t.Error("more than the budget passed in one round")
	}
	g.err = nil
	g.begin(time.Now().Add(time.Minute))
	g.headLen, g.bodyLeft = 0, 0
	g.src = strings.NewReader(strings.Repeat(row, 8))
	if _, err := pass(g); err != nil {
		t.Errorf("next round: %v", err)
	}
}

// FuzzGuard: whatever a server sends, the guard neither panics nor passes on a message over the limits, and at every split says the same.
func FuzzGuard(f *testing.F) {
	f.Add([]byte("R\x00\x00\x00\x08\x00\x00\x00\x00Z\x00\x00\x00\x05I"), 3)
	f.Add([]byte("Ecould not fork\n\x00"), 2)
	f.Add([]byte(encoded(&pgproto3.AuthenticationSASLContinue{Data: []byte("r=a,s=b,i=99999999999999999999")})), 9)
	f.Add([]byte("HTTP/1.1 400\r\n"), 5)
	f.Fuzz(func(t *testing.T, stream []byte, cut int) {
		cut = max(0, min(cut, len(stream)))
		whole := newGuard(bytes.NewReader(stream))
		_, wholeErr := pass(whole)
		split := newGuard(io.MultiReader(bytes.NewReader(stream[:cut]), bytes.NewReader(stream[cut:])))
		passed, splitErr := pass(split)
		if whole.answered != split.answered || (wholeErr == nil) != (splitErr == nil) {
			t.Errorf("whole: %v %v; cut at %d: %v %v", whole.answered, wholeErr, cut, split.answered, splitErr)
		}
		if !bytes.HasPrefix(stream, passed) {
			t.Errorf("passed %q of %q", passed, stream)
		}
		if len(split.auth) > maxAuthMessage || len(split.early) > maxStartupError {
			t.Errorf("holds %d and %d bytes", len(split.auth), len(split.early))
		}
	})
}
