package control

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pgtether/pgtether/decision"
)

// lastKnownFiles take turns, so that a write that is cut short leaves the one before.
var lastKnownFiles = [2]string{"last-known.json", "last-known.1.json"}

// lastKnownSize is what a file's size is a multiple of: one that keeps its size and its place costs a disk one write, and no change of the file system's own
// records.
const lastKnownSize = 4096

// SaveLastKnown keeps the writer's last known position for a restart beside a dead writer. It comes with every round of the probes: so it is written over the
// one before the last, in place, and synced. When it returns an error the position before can still be loaded.
func (s *Store) SaveLastKnown(l decision.LastKnown, now Stamp) error {
	turn := s.turn + 1
	name := lastKnownFiles[turn%2]
	b, err := s.seal(name, written[decision.LastKnown]{Saved: now, Turn: turn, Value: l})
	if err != nil {
		return err
	}
	for len(b)%lastKnownSize > 0 {
		b = append(b, ' ')
	}
	added, err := s.ops.overwrite(filepath.Join(s.dir, name), b)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if added {
		if err := s.ops.syncDir(s.dir); err != nil {
			return fmt.Errorf("sync state directory: %w", err)
		}
	}
	s.turn = turn // not before: what is repeated goes to the same place
	return nil
}

// loadLastKnown returns the newer of the two. It is an estimate's input: without it a figure is unknown, never wrong.
func (s *Store) loadLastKnown(clock *Clock) (last decision.Opt[decision.LastKnown]) {
	for _, name := range lastKnownFiles {
		var k written[decision.LastKnown]
		if id, err := s.read(name, &k); err != nil || id != s.id || last.Known && k.Turn < s.turn {
			continue
		}
		s.turn = k.Turn
		d, trusted := clock.shift(k.Saved)
		last = decision.Some(k.Value.Shift(d))
		if !trusted {
			last.V.At = decision.Opt[decision.Instant]{}
		}
	}
	return last
}

// overwrite makes b the content of a file, where it is, and reports whether there was none.
func overwrite(path string, b []byte) (added bool, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return false, err
	}
	added, err = replaceContent(f, b)
	return added, errors.Join(err, f.Close())
}

func replaceContent(f *os.File, b []byte) (added bool, err error) {
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	if info.Size() > int64(len(b)) {
		if err := f.Truncate(int64(len(b))); err != nil {
			return false, err
		}
	}
	if _, err := f.WriteAt(b, 0); err != nil {
		return false, err
	}
	return info.Size() == 0, syncData(f)
}
