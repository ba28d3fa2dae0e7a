package proxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// errNonsense: the server said what no PostgreSQL server says in that place.
var errNonsense = errors.New("server does not speak the PostgreSQL protocol as documented")

const (
	// loginFrameMax bounds one message of a server during a login. libpq refuses messages above 30,000 bytes of the types that occur there.
	loginFrameMax = 30_000
	// loginTotalMax bounds what a server may say between AuthenticationOk and ReadyForQuery.
	loginTotalMax = 256 << 10
	// answerMax bounds a client's answer to an authentication request (PG_MAX_AUTH_TOKEN_LENGTH).
	answerMax = 65535

	headerLength = 5
)

// frames reads whole messages from a server during a login. Its memory grows with what has arrived, never with what a length promises.
type frames struct {
	r          io.Reader
	buf        []byte
	start, end int

	usual [2048]byte
	// said has room for what the login keeps of them until the client may see it.
	said [usualReadiness]byte
}

var freeFrames = sync.Pool{New: func() any { return new(frames) }}

func newFrames(r io.Reader) *frames {
	f := freeFrames.Get().(*frames)
	f.r, f.buf, f.start, f.end = r, f.usual[:], 0, 0
	return f
}

// free lets another login have the memory. Nothing that was read is used any more.
func (f *frames) free() {
	f.r, f.buf = nil, nil
	freeFrames.Put(f)
}

// next returns the next message with its header; it is valid until the following call.
func (f *frames) next() ([]byte, error) {
	if err := f.fill(headerLength); err != nil {
		return nil, err
	}
	length := int64(binary.BigEndian.Uint32(f.buf[f.start+1:]))
	if length < 4 || length+1 > loginFrameMax {
		return nil, fmt.Errorf("message %q of length %d: %w", f.buf[f.start], length, errNonsense)
	}
	if err := f.fill(int(length) + 1); err != nil {
		return nil, err
	}
	frame := f.buf[f.start : f.start+int(length)+1]
	f.start += len(frame)
	return frame, nil
}

// fill makes sure that n bytes are buffered.
func (f *frames) fill(n int) error {
	for f.end-f.start < n {
		switch {
		case f.start > 0:
			f.end = copy(f.buf, f.buf[f.start:f.end])
			f.start = 0
		case f.end == len(f.buf):
			f.buf = append(f.buf, make([]byte, len(f.buf))...)
		}
		m, err := f.r.Read(f.buf[f.end:])
		f.end += m
		if m == 0 && err != nil {
			return err
		}
	}
	return nil
}

// rest returns what was read beyond the last message.
func (f *frames) rest() []byte { return f.buf[f.start:f.end] }

// readAnswer reads one message from a client that answers an authentication request, and not a byte more. Of a message of another type it returns
// the first byte alone: that is all that a server reads before it refuses it, and what follows may be no message.
func readAnswer(r io.Reader) ([]byte, error) {
	const usual, step = 128, 4096
	frame := make([]byte, headerLength, usual)
	if _, err := io.ReadFull(r, frame[:1]); err != nil {
		return nil, err
	}
	if frame[0] != 'p' {
		return frame[:1], nil
	}
	if _, err := io.ReadFull(r, frame[1:]); err != nil {
		return nil, err
	}
	length := int64(binary.BigEndian.Uint32(frame[1:]))
	if length < 4 || length > answerMax {
		return nil, fmt.Errorf("message %q of length %d: %w", frame[0], length, errBadAnswer)
	}
	for want := int(length) + 1; len(frame) < want; {
		have := len(frame)
		frame = append(frame, make([]byte, min(want-have, step))...)
		if _, err := io.ReadFull(r, frame[have:]); err != nil {
			return nil, err
		}
	}
	return frame, nil
}

// errBadAnswer: the client's answer to an authentication request has an impossible length.
var errBadAnswer = errors.New("malformed answer to an authentication request")
