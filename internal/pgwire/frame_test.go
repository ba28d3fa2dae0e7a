package pgwire

import (
	"encoding/binary"
	"errors"
	"testing"
)

func header(typ byte, length uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{typ}, length)
}

func TestABrokenStreamIsNamed(t *testing.T) {
	for _, c := range []struct {
		name   string
		server bool
		b      []byte
		want   error
	}{
		{"a length below its own size", false, header('Q', 3), ErrMessageLength},
		{"a length of 0", false, header('S', 0), ErrMessageLength},
		{"a length that is negative for the server", false, header('Q', 0x80000000), ErrMessageLength},
		{"a length that no server can hold", false, header('d', maxMessageLength+1), ErrMessageLength},
		{"a type that clients do not send", false, msg('Z', "I"), ErrMessageType},
		{"a startup packet in the middle", false, []byte{0, 0, 0, 8, 4, 210, 22, 47}, ErrMessageType},
		{"a TLS record", false, []byte{0x16, 3, 1, 0, 200, 1}, ErrMessageType},
		{"a password after the login", false, msg('p', "secret\x00"), ErrMessageType},
		{"an HTTP request", false, []byte("GET / HTTP/1.1\r\n"), ErrMessageType},
		{"a server's length below its own size", true, header('D', 2), ErrMessageLength},
		{"a server's length that no server can hold", true, header('D', 0xffffffff), ErrMessageLength},
		{"a ReadyForQuery with a body of no byte", true, header('Z', 4), ErrMessageLength},
		{"a ReadyForQuery with a body of two", true, msg('Z', "II"), ErrMessageLength},
		{"a ParseComplete with a body", true, msg('1', "x"), ErrMessageLength},
		{"a status that is none", true, msg('Z', "X"), ErrTransactionStatus},
		{"a type that servers do not send", true, msg('Q', "SELECT 1\x00"), ErrMessageType},
		{"a ReadyForQuery that answers nothing", true, msg('Z', "I"), ErrUnexpectedReady},
		{"an old server's error", true, []byte("Esorry\n\x00"), ErrMessageLength},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, size := range []int{len(c.b), 1} {
				tr := started()
				tr.Client(clientMsg("P /SELECT 1")) // so that no error is kept back
				for i := 0; i < len(c.b); i += size {
					if c.server {
						if pass, stop := tr.Server(c.b[i : i+size]); stop || pass != size {
							t.Fatal("a broken stream is not relayed")
						}
					} else {
						tr.Client(c.b[i : i+size])
					}
				}
				var broken *FramingError
				if err := tr.Broken(); !errors.Is(err, c.want) || !errors.As(err, &broken) || broken.FromServer != c.server || broken.Type != c.b[0] {
					t.Fatalf("%v, want %v", err, c.want)
				}
				tr.Client(clientMsg("S"))
				tr.Server(msg('Z', "I"))
				if tr.Idle() {
					t.Error("idle in spite of it")
				}
			}
		})
	}
}

func TestTheFirstFaultIsTheOneThatIsNamed(t *testing.T) {
	tr := started()
	tr.Client([]byte{'?', 0, 0, 0, 4})
	first := tr.Broken()
	tr.Server(header('D', 1))
	if tr.Broken() != first || first.Error() != `track client message '?' of length 4: unknown message type` {
		t.Errorf("%v", tr.Broken())
	}
}

// TestABigBodyIsSkippedByItsLength sends the headers of bodies of up to 1 GiB, and the bodies from one small buffer.
func TestABigBodyIsSkippedByItsLength(t *testing.T) {
	tr := started()
	chunk := make([]byte, 1<<20)
	const length = 0x3ffffff0
	tr.Client(header('Q', length))
	for sent := 4; sent < length; {
		n := min(len(chunk), length-sent)
		tr.Client(chunk[:n])
		if sent += n; tr.TxStatus() != 'I' || tr.Idle() || tr.Running() != (sent == length) {
			t.Fatalf("after %d bytes: idle %t, running %t", sent, tr.Idle(), tr.Running())
		}
	}
	tr.Server(header('D', length))
	for sent := 4; sent < length; {
		n := min(len(chunk), length-sent)
		tr.Server(chunk[:n])
		sent += n
	}
	runScript(t, tr, `
		= busy doubt
		< C ZI
		= idle`)
}

func FuzzFrame(f *testing.F) {
	f.Add(clientMsg("Q SELECT 1"), uint8(3))
	f.Add(append(clientMsg("S"), clientMsg("d row")...), uint8(1))
	f.Add(header('Q', 0xffffffff), uint8(2))
	f.Fuzz(func(t *testing.T, b []byte, size uint8) {
		whole := walk(b, len(b)+1)
		split := walk(b, int(size)+1)
		if len(whole) != len(split) {
			t.Fatalf("%d messages, in pieces %d", len(whole), len(split))
		}
		for i := range whole {
			if whole[i] != split[i] {
				t.Fatalf("message %d: %+v, in pieces %+v", i, whole[i], split[i])
			}
		}
	})
}

// walk returns the headers of b's messages, read in pieces of size bytes, up to the first impossible one.
func walk(b []byte, size int) (list []frame) {
	var f frame
	for len(b) > 0 {
		piece := b[:min(size, len(b))]
		b = b[len(piece):]
		for len(piece) > 0 || f.have == headerLength && f.rest == 0 {
			if f.have < headerLength {
				if piece = piece[f.header(piece):]; f.have < headerLength {
					break
				}
				list = append(list, f)
				if !f.validLength() {
					return list
				}
			}
			if piece = piece[f.body(piece):]; f.rest > 0 {
				break
			}
			f.have = 0
		}
	}
	return list
}

func TestShortMessagesOfAClientHaveTheServersSmallLimit(t *testing.T) {
	for _, typ := range []byte("CDEHSXcf") {
		for length, broken := range map[uint32]bool{smallMessageLength: false, smallMessageLength + 1: true} {
			var tracker Tracker
			tracker.Start('I')
			tracker.Client(header(typ, length))
			if (tracker.Broken() != nil) != broken {
				t.Errorf("%q of length %d: %v", typ, length, tracker.Broken())
			}
			if broken && tracker.Idle() {
				t.Errorf("%q of length %d: a stream that makes no sense is idle", typ, length)
			}
		}
	}
	for _, typ := range []byte("QPBFd") {
		var tracker Tracker
		tracker.Start('I')
		tracker.Client(header(typ, smallMessageLength+1))
		if tracker.Broken() != nil {
			t.Errorf("%q may be long: %v", typ, tracker.Broken())
		}
	}
}
