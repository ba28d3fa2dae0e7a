package control

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/pgtether/pgtether/decision"
)

// saveKnown saves a position that is told apart by its number.
func saveKnown(t *testing.T, s *Store, n int) {
	t.Helper()
	if err := s.SaveLastKnown(decision.LastKnown{Epoch: 1, LSN: decision.LSN(n)}, NewClock().stamp()); err != nil {
		t.Fatal(err)
	}
}

// loadKnown opens the directory as the next run does, and returns the number; 0 when there is none.
func loadKnown(t *testing.T, dir string) int {
	t.Helper()
	s, _, last, err := OpenStore(dir, NewClock())
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	return int(last.V.LSN)
}

func knownStore(t *testing.T) (*Store, string) {
	t.Helper()
	dir := t.TempDir()
	s, _ := openStore(t, dir)
	if err := s.SaveRecord(record(1), NewClock().stamp()); err != nil {
		t.Fatal(err)
	}
	return s, dir
}

func TestTheNewestPositionIsLoaded(t *testing.T) {
	s, dir := knownStore(t)
	for n := 1; n <= 5; n++ {
		saveKnown(t, s, n)
		s.Close()
		if got := loadKnown(t, dir); got != n {
			t.Errorf("loaded %d, want %d", got, n)
		}
		if n%2 == 0 { // the next one continues, or is another run's
			s, _ = openStore(t, dir)
		}
	}
}

// Power may be lost in the middle of a write: the position before is there then, whatever is left of the newer one.
func TestACrashInAWriteLeavesThePositionBefore(t *testing.T) {
	s, dir := knownStore(t)
	saveKnown(t, s, 1)
	saveKnown(t, s, 2)
	path := filepath.Join(dir, lastKnownFiles[1]) // of the third, and of the first
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	saveKnown(t, s, 3)
	s.Close()
	after, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(before) != lastKnownSize || len(after) != lastKnownSize {
		t.Errorf("sizes %d and %d, want %d: a file that grows costs more than one write", len(before), len(after), lastKnownSize)
	}
	text := len(bytes.TrimRight(after, " \n"))
	for cut := range text {
		mixed := append(append([]byte(nil), after[:cut]...), before[cut:]...)
		for name, b := range map[string][]byte{"old bytes": mixed, "zeros": append(append([]byte(nil), after[:cut]...), make([]byte, len(after)-cut)...), "nothing": after[:cut]} {
			if bytes.Equal(b, after) || bytes.Equal(b, before) {
				continue
			}
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if got := loadKnown(t, dir); got != 2 {
				t.Fatalf("cut at %d, then %s: loaded %d, want 2", cut, name, got)
			}
		}
	}
	if err := os.WriteFile(path, after, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := loadKnown(t, dir); got != 3 {
		t.Errorf("whole: loaded %d, want 3", got)
	}
}

// A disk that fails gets one of the two files, never both.
func TestAWriteThatFailedIsRepeatedInItsPlace(t *testing.T) {
	s, dir := knownStore(t)
	saveKnown(t, s, 1)
	saveKnown(t, s, 2)
	written := map[string]int{}
	s.ops.overwrite = func(path string, b []byte) (bool, error) {
		written[filepath.Base(path)]++
		if err := os.WriteFile(path, b[:10], 0o600); err != nil {
			return false, err
		}
		return false, errCrash
	}
	for range 3 {
		if err := s.SaveLastKnown(decision.LastKnown{Epoch: 1, LSN: 3}, NewClock().stamp()); !errors.Is(err, errCrash) {
			t.Errorf("error %v, want the disk's", err)
		}
	}
	if written[lastKnownFiles[1]] != 3 || len(written) != 1 {
		t.Errorf("written: %v, want three times the older", written)
	}
	s.Close()
	if got := loadKnown(t, dir); got != 2 {
		t.Errorf("loaded %d, want 2", got)
	}
	s, _ = openStore(t, dir)
	saveKnown(t, s, 4)
	s.Close()
	if got := loadKnown(t, dir); got != 4 {
		t.Errorf("loaded %d, want 4: the disk is well again", got)
	}
}

// The names are made durable with the files, once: after that the directory is not touched any more.
func TestTheDirectoryIsSyncedForNewFilesOnly(t *testing.T) {
	s, _ := knownStore(t)
	synced := 0
	s.ops.syncDir = func(dir string) error {
		synced++
		return syncDir(dir)
	}
	for n := range 6 {
		saveKnown(t, s, n)
	}
	if synced != len(lastKnownFiles) {
		t.Errorf("synced %d times, want %d", synced, len(lastKnownFiles))
	}
}

// What an earlier version wrote had no turn, one file, and any length.
func TestALongerFileIsCutToItsContent(t *testing.T) {
	s, dir := knownStore(t)
	path := filepath.Join(dir, lastKnownFiles[0])
	if err := os.WriteFile(path, bytes.Repeat([]byte("x"), 3*lastKnownSize), 0o600); err != nil {
		t.Fatal(err)
	}
	saveKnown(t, s, 1)
	saveKnown(t, s, 2)
	s.Close()
	if got := loadKnown(t, dir); got != 2 {
		t.Errorf("loaded %d, want 2", got)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != lastKnownSize {
		t.Errorf("size %d, want %d (%v)", info.Size(), lastKnownSize, err)
	}
}
