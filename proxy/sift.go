package proxy

import (
	"encoding/binary"
	"slices"

	"github.com/pgtether/pgtether/internal/pgwire"
)

// siftMax bounds an unasked-for message that is looked into; a longer one is passed on unread.
const siftMax = 30_000

// sift decides about a message of the server's that nobody asked for: one that says that the server is dying, or that this session was ended, is
// kept back; every other is passed on. b continues what is kept. It reports false when the direction is over.
func (r *goRun) sift(b []byte) bool {
	r.kept = append(r.kept, b...)
	length, whole := messageLength(r.kept)
	if !whole {
		return true
	}
	if length <= siftMax && meansEnd(r.kept[:length]) && r.keepBack(length) {
		return false
	}
	length = min(length, len(r.kept))
	words, rest := r.kept[:length], r.kept[length:]
	r.kept = nil
	parked := r.release(words)
	if parked {
		r.pair.fromServer = slices.Clone(rest)
	}
	if !r.writeClient(words) || parked {
		return false
	}
	return len(rest) == 0 || r.toClient(rest)
}

// messageLength returns the length of the message that b begins with. whole says that all of it is there, or that there is no point in waiting:
// it is too long to be looked into, or no message.
func messageLength(b []byte) (length int, whole bool) {
	if len(b) < headerLength {
		return 0, false
	}
	n := int64(binary.BigEndian.Uint32(b[1:])) + 1
	if n < headerLength || n > siftMax {
		return siftMax + 1, true
	}
	return int(n), int64(len(b)) >= n
}

// meansEnd reports whether the message is an ErrorResponse or NoticeResponse with a code that means the end of the server or of the session.
func meansEnd(message []byte) bool {
	fields, err := pgwire.ParseErrorFields(message[headerLength:])
	return err == nil && (fields.SQLState == "57P01" || fields.SQLState == "57P02")
}

// keepBack ends the pair with the message kept back, unless the client has asked something meanwhile: then the message is its answer.
func (r *goRun) keepBack(length int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped || !r.pair.tracker.Idle() {
		return false
	}
	r.pair.fromServer = slices.Clone(r.kept[length:])
	r.endLocked(result{end: endKeptBack, keptBack: slices.Clone(r.kept[:length])})
	return true
}

// release accounts words that were held up and now go to the client.
func (r *goRun) release(words []byte) (parked bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pair.tracker.PassServer(words)
	r.keeping = false
	r.afterServerLocked()
	return r.parked
}
