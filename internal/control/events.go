package control

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

const (
	eventsFile = "events.jsonl"
	// keepEvents is the least number of events that are kept; the file is rewritten when it holds twice as many.
	keepEvents = 10_000
	// compactAgain is how many events after a rewrite that failed the next one is tried.
	compactAgain = 100
	// maxEventBytes bounds one line when the file is read back.
	maxEventBytes = 1 << 20
)

// Event is one line of /events.
type Event struct {
	Seq       uint64                     `json:"seq"`
	At        time.Time                  `json:"at"`
	Epoch     *uint64                    `json:"epoch"`
	StateFrom string                     `json:"state_from"`
	StateTo   string                     `json:"state_to"`
	Step      string                     `json:"step"`
	Kind      string                     `json:"kind"`
	Cause     string                     `json:"cause"`
	Message   string                     `json:"message"`
	Operands  map[string]json.RawMessage `json:"operands"`
}

// EventLog is the append-only file behind /events. Seq has no gaps and survives restarts.
type EventLog struct {
	mu     sync.Mutex // guards everything below
	path   string
	f      *os.File
	good   int64  // bytes of the file that hold whole events; what follows is cut off before the next append
	onDisk int    // events in the file
	limit  int    // events in the file beyond which it is rewritten
	unsent []byte // events that could not be written yet, in order: the disk was full
	queued int    // events in unsent
	moved  bool   // the file was replaced, and its folder is not synced yet
	events []Event
	next   uint64
	wake   chan struct{} // closed when an event is appended, then replaced
}

// OpenEventLog reads the events of earlier runs. A last line that was torn by a crash is dropped: its effect had not started.
func OpenEventLog(dir string) (*EventLog, error) {
	l := &EventLog{path: filepath.Join(dir, eventsFile), limit: 2 * keepEvents, next: 1, wake: make(chan struct{})}
	if err := l.load(); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open events: %w", err)
	}
	l.f = f
	if err := f.Truncate(l.good); err != nil {
		f.Close()
		return nil, fmt.Errorf("drop torn event: %w", err)
	}
	return l, nil
}

func (l *EventLog) load() error {
	f, err := os.Open(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 64<<10)
	for {
		line, err := readLine(r)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read events: %w", err)
		}
		var ev Event
		if json.Unmarshal(line, &ev) != nil || ev.Seq == 0 || (len(l.events) > 0 && ev.Seq != l.next) {
			return nil // whatever follows a damaged line is not an unbroken history
		}
		l.good += int64(len(line))
		l.onDisk++
		l.remember(ev)
	}
}

// readLine returns one whole line with its newline, or io.EOF for a missing or torn one.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if err == nil {
			return line, nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
		if len(line) > maxEventBytes {
			return nil, io.EOF
		}
	}
}

func (l *EventLog) remember(ev Event) {
	if len(l.events) >= 2*keepEvents {
		l.events = append(l.events[:0:0], l.events[len(l.events)-keepEvents:]...)
	}
	l.events = append(l.events, ev)
	l.next = ev.Seq + 1
}

// Append gives the event its number and makes it durable. On error the event is kept in memory, is served by Since, and is written
// before the next one, so that a cut for safety is never delayed by a full disk; the caller must not start anything that cannot be undone.
func (l *EventLog) Append(ev Event) (Event, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ev.Seq = l.next
	line, err := json.Marshal(ev)
	if err != nil {
		return ev, fmt.Errorf("encode event: %w", err)
	}
	l.remember(ev)
	close(l.wake)
	l.wake = make(chan struct{})
	l.unsent = append(append(l.unsent, line...), '\n')
	l.queued++
	if err := l.flush(); err != nil {
		return ev, fmt.Errorf("write event %d: %w", ev.Seq, err)
	}
	return ev, nil
}

// Flush writes what could not be written when it was appended, and says why it still cannot be.
func (l *EventLog) Flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.flush(); err != nil {
		return fmt.Errorf("write %d late events: %w", l.queued, err)
	}
	return nil
}

func (l *EventLog) flush() error {
	// A file that grows too long does no harm: when it cannot be rewritten, for which there must be room for a second one, it is appended to as before.
	if l.onDisk+l.queued > l.limit && l.rewrite() != nil {
		l.limit = l.onDisk + l.queued + compactAgain
	}
	if l.queued > 0 {
		if _, err := l.f.WriteAt(l.unsent, l.good); err != nil {
			return err
		}
		if err := l.f.Sync(); err != nil {
			return err
		}
		l.good += int64(len(l.unsent))
		l.onDisk += l.queued
		l.unsent, l.queued = l.unsent[:0], 0
	}
	if l.moved {
		if err := syncDir(filepath.Dir(l.path)); err != nil {
			return err
		}
		l.moved = false
	}
	return nil
}

// rewrite replaces the file by one that holds the newest events only, those that wait among them. When it fails the file is as it was.
func (l *EventLog) rewrite() error {
	kept := l.events
	if len(kept) > keepEvents {
		kept = kept[len(kept)-keepEvents:]
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for _, ev := range kept {
		if err := enc.Encode(ev); err != nil {
			return fmt.Errorf("encode event %d: %w", ev.Seq, err)
		}
	}
	fresh := l.path + ".new"
	if err := writeSync(fresh, b.Bytes()); err != nil {
		return err
	}
	f, err := os.OpenFile(fresh, os.O_RDWR, 0o600)
	if err == nil {
		err = os.Rename(fresh, l.path)
	}
	if err != nil {
		f.Close()
		return errors.Join(err, os.Remove(fresh))
	}
	l.f.Close()
	l.f, l.good, l.onDisk, l.limit, l.moved = f, int64(b.Len()), len(kept), 2*keepEvents, true
	l.unsent, l.queued = l.unsent[:0], 0
	return nil
}

// Since returns at most limit events with a number greater than since, oldest first.
func (l *EventLog) Since(since uint64, limit int) []Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.events) == 0 || limit <= 0 {
		return nil
	}
	first := l.events[0].Seq
	i := 0
	if since >= first {
		i = int(min(since-first+1, uint64(len(l.events))))
	}
	rest := l.events[i:]
	return append([]Event(nil), rest[:min(limit, len(rest))]...)
}

// Has says whether an event of the kind is kept for the epoch.
func (l *EventLog) Has(kind string, epoch uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.events, func(ev Event) bool { return ev.Kind == kind && ev.Epoch != nil && *ev.Epoch == epoch })
}

// Changed returns a channel that is closed when the next event is appended.
func (l *EventLog) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.wake
}

// Close closes the file. Events that could not be written are tried once more.
func (l *EventLog) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return nil
	}
	err := l.flush()
	if cerr := l.f.Close(); err == nil {
		err = cerr
	}
	l.f = nil
	return err
}
