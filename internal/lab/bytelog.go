package lab

import (
	"slices"
	"sync"
	"time"
)

// Record is an Event without its bytes.
type Record struct {
	Conn      uint64
	Direction Direction
	Kind      EventKind
	At        time.Time
	Bytes     int
}

// ByteLog remembers what passed a relay and when: relay.Observe(log.Note). The zero value is ready; it is safe for concurrent
// use. "No byte reached the old writer after the first one reached the new" is then a comparison of two times.
type ByteLog struct {
	mu      sync.Mutex
	records []Record
}

// Note takes an event; it is the function to give to Relay.Observe.
func (b *ByteLog) Note(e Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.records = append(b.records, Record{Conn: e.Conn, Direction: e.Direction, Kind: e.Kind, At: e.At, Bytes: len(e.Bytes)})
}

// Records returns a copy of all records, in the order in which they were noted.
func (b *ByteLog) Records() []Record {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.records)
}

// First tells when the first byte passed in a direction; false when none has.
func (b *ByteLog) First(d Direction) (time.Time, bool) {
	return b.pick(d, func(at, best time.Time) bool { return at.Before(best) })
}

// Last tells when the last byte passed in a direction; false when none has.
func (b *ByteLog) Last(d Direction) (time.Time, bool) {
	return b.pick(d, func(at, best time.Time) bool { return at.After(best) })
}

func (b *ByteLog) pick(d Direction, better func(at, best time.Time) bool) (best time.Time, found bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.records {
		if r.Kind == Data && r.Direction == d && (!found || better(r.At, best)) {
			best, found = r.At, true
		}
	}
	return best, found
}

// Bytes counts what passed in a direction.
func (b *ByteLog) Bytes(d Direction) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	var sum int64
	for _, r := range b.records {
		if r.Kind == Data && r.Direction == d {
			sum += int64(r.Bytes)
		}
	}
	return sum
}
