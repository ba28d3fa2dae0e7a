package pgwire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// headerLength is type(1) + length(4); the length counts itself and the body.
const headerLength = 5

// maxMessageLength bounds the length word. PostgreSQL collects a message in a StringInfo of less than MaxAllocSize (0x3fffffff) bytes, in
// both directions (PQ_LARGE_MESSAGE_LIMIT, libpq/pqcomm.h); the length word itself comes on top.
const maxMessageLength = 0x3fffffff + 4

// smallMessageLength bounds the length word of short messages (PQ_SMALL_MESSAGE_LIMIT in src/include/libpq/libpq.h).
const smallMessageLength = 10000

// What can be wrong with a stream of messages; a FramingError wraps one of them.
var (
	// ErrMessageType is a type byte that PostgreSQL's protocol 3 does not know in that direction and phase.
	ErrMessageType = errors.New("unknown message type")
	// ErrMessageLength is a length word below 4, above what PostgreSQL can hold, or not that of a message of fixed size.
	ErrMessageLength = errors.New("impossible message length")
	// ErrTransactionStatus is a ReadyForQuery whose status is none of I, T and E.
	ErrTransactionStatus = errors.New("unknown transaction status")
	// ErrUnexpectedReady is a ReadyForQuery that answers nothing the client has sent.
	ErrUnexpectedReady = errors.New("ReadyForQuery answers no request")
)

// FramingError says where a session's byte stream stopped making sense.
type FramingError struct {
	// FromServer is the direction: true for the backend's messages, false for the client's.
	FromServer bool
	// Type and Length are the header of the message in question.
	Type   byte
	Length uint32
	// Err is ErrMessageType, ErrMessageLength, ErrTransactionStatus or ErrUnexpectedReady.
	Err error
}

func (e *FramingError) Error() string {
	side := "client"
	if e.FromServer {
		side = "server"
	}
	return fmt.Sprintf("track %s message %q of length %d: %s", side, e.Type, e.Length, e.Err.Error())
}

func (e *FramingError) Unwrap() error { return e.Err }

// frame walks the messages of one direction by their headers. It keeps five header bytes as numbers and never a byte of a body.
type frame struct {
	rest   int64  // body bytes of the current message still to come
	length uint32 // length word, as far as it has been read
	typ    byte   // type of the current message, valid while have > 0
	have   uint8  // header bytes read: 0 between messages, headerLength inside a body
}

// between reports whether the next byte is a type byte.
func (f *frame) between() bool { return f.have == 0 }

// header takes header bytes from b, which is not empty, and returns how many; the header is complete when f.have is headerLength.
func (f *frame) header(b []byte) int {
	if f.have == 0 && len(b) >= headerLength {
		f.typ, f.length, f.have = b[0], binary.BigEndian.Uint32(b[1:headerLength]), headerLength
		f.rest = int64(f.length) - 4
		return headerLength
	}
	n := 0
	for ; n < len(b) && f.have < headerLength; n++ {
		if f.have == 0 {
			f.typ, f.length = b[n], 0
		} else {
			f.length = f.length<<8 | uint32(b[n])
		}
		f.have++
	}
	f.rest = int64(f.length) - 4
	return n
}

// skip takes messages of which only their end matters from the front of b, as long as they are whole and come between messages, and returns how
// many bytes: those of type 'd' (CopyData) and, with rows, 'D' (DataRow from a server; from a client it is Describe).
func (f *frame) skip(b []byte, rows bool) int {
	if f.have != 0 {
		return 0
	}
	fold := byte(0)
	if rows {
		fold = 'd' ^ 'D'
	}
	n := 0
	for len(b)-n >= headerLength && b[n]|fold == 'd' {
		length := binary.BigEndian.Uint32(b[n+1 : n+headerLength])
		if length < 4 || uint64(length) >= uint64(len(b)-n) {
			break
		}
		f.typ = b[n]
		n += 1 + int(length)
	}
	return n
}

// body takes body bytes from b and returns how many; the message is complete when f.rest is 0.
func (f *frame) body(b []byte) int {
	n := int(min(f.rest, int64(len(b))))
	f.rest -= int64(n)
	return n
}

// validLength reports whether the length word of a complete header is possible.
func (f *frame) validLength() bool { return f.length >= 4 && f.length <= maxMessageLength }

// validClientLength is validLength for the client's messages: those that hold no more than names have a small limit. PostgreSQL closes the
// connection without a word when it is exceeded (SocketBackend in tcop/postgres.c, since 14).
func (f *frame) validClientLength() bool {
	switch f.typ {
	case 'C', 'D', 'E', 'H', 'S', 'X', 'c', 'f':
		return f.length >= 4 && f.length <= smallMessageLength
	default:
		return f.validLength()
	}
}
