package control

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func openLog(t *testing.T, dir string) *EventLog {
	t.Helper()
	l, err := OpenEventLog(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func appendN(t *testing.T, l *EventLog, n int) {
	t.Helper()
	for range n {
		if _, err := l.Append(Event{Kind: "transition", Message: "the writer answered again"}); err != nil {
			t.Fatal(err)
		}
	}
}

func checkUnbroken(t *testing.T, evs []Event, first, last uint64) {
	t.Helper()
	if len(evs) == 0 || evs[0].Seq != first || evs[len(evs)-1].Seq != last {
		t.Fatalf("events %d..%d wanted, have %d of them: %+v", first, last, len(evs), evs)
	}
	for i, ev := range evs {
		if ev.Seq != first+uint64(i) {
			t.Fatalf("gap at %d: seq %d", i, ev.Seq)
		}
	}
}

func TestEventsAreNumberedWithoutGapsAcrossRestarts(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	appendN(t, l, 3)
	l.Close()
	l = openLog(t, dir)
	appendN(t, l, 2)
	checkUnbroken(t, l.Since(0, 1000), 1, 5)
	checkUnbroken(t, l.Since(3, 1000), 4, 5)
	checkUnbroken(t, l.Since(1, 2), 2, 3)
	if got := l.Since(5, 10); len(got) != 0 {
		t.Fatalf("since is exclusive, got %+v", got)
	}
	if got := l.Since(99, 10); len(got) != 0 {
		t.Fatalf("nothing follows the future, got %+v", got)
	}
}

func TestATornLastEventIsDroppedAndItsNumberUsedAgain(t *testing.T) {
	whole := func(dir string) []byte {
		l := openLog(t, dir)
		appendN(t, l, 3)
		l.Close()
		b, err := os.ReadFile(filepath.Join(dir, eventsFile))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}(t.TempDir())
	for cut := range len(whole) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, eventsFile), whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		l := openLog(t, dir)
		before := len(l.Since(0, 10))
		appendN(t, l, 1)
		l.Close()
		l = openLog(t, dir)
		checkUnbroken(t, l.Since(0, 10), 1, uint64(before+1))
	}
}

func TestADamagedLineEndsTheHistoryThatIsBelieved(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	appendN(t, l, 2)
	l.Close()
	path := filepath.Join(dir, eventsFile)
	b, _ := os.ReadFile(path)
	b = append(b, []byte("{not json}\n")...)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	l = openLog(t, dir)
	appendN(t, l, 1)
	l.Close()
	l = openLog(t, dir)
	checkUnbroken(t, l.Since(0, 10), 1, 3)
}

// layDown writes the lines of n events at once: fsync by fsync it would only take longer.
func layDown(t *testing.T, dir string, n int) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, eventsFile))
	if err != nil {
		t.Fatal(err)
	}
	enc := json.NewEncoder(f)
	for i := range n {
		if err := enc.Encode(Event{Seq: uint64(i + 1), Kind: "step"}); err != nil {
			t.Fatal(err)
		}
	}
	f.Close()
}

func TestOldEventsAreDroppedButAtLeastTenThousandAreKept(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	layDown(t, dir, 2*keepEvents)
	l.Close()
	l = openLog(t, dir)
	appendN(t, l, 2)
	if l.onDisk != keepEvents+1 {
		t.Fatalf("%d events in the file after the rewrite and one append, want %d", l.onDisk, keepEvents+1)
	}
	l.Close()
	l = openLog(t, dir)
	checkUnbroken(t, l.Since(0, 1<<20), keepEvents+2, 2*keepEvents+2)
}

func TestAFullDiskDelaysEventsButLosesNone(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	appendN(t, l, 1)
	writable := l.f
	readOnly, err := os.Open(filepath.Join(dir, eventsFile))
	if err != nil {
		t.Fatal(err)
	}
	l.f = readOnly
	for range 2 {
		if _, err := l.Append(Event{Kind: "cut"}); err == nil {
			t.Fatal("an event that is not on disk was called durable")
		}
	}
	checkUnbroken(t, l.Since(0, 10), 1, 3)
	readOnly.Close()
	l.f = writable
	appendN(t, l, 1)
	l.Close()
	l = openLog(t, dir)
	checkUnbroken(t, l.Since(0, 10), 1, 4)
}

// fillDisk has the log fail to write until mend is called.
func fillDisk(t *testing.T, l *EventLog) (mend func()) {
	t.Helper()
	readOnly, err := os.Open(l.path)
	if err != nil {
		t.Error(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	writable := l.f
	l.f = readOnly
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		readOnly.Close()
		l.f = writable
	}
}

func TestEventsThatWaitAreWrittenWhenTheyAreAskedFor(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	appendN(t, l, 1)
	mend := fillDisk(t, l)
	if _, err := l.Append(Event{Kind: "cut"}); err == nil {
		t.Fatal("an event that is not on disk was called durable")
	}
	if err := l.Flush(); err == nil {
		t.Fatal("events that are not on disk were called durable")
	}
	mend()
	for range 2 {
		if err := l.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	checkUnbroken(t, openLog(t, dir).Since(0, 10), 1, 2)
}

// TestACompactionThatDoesNotFitLeavesNoFile: what is left of it would keep a full disk full, and the next record off it.
func TestACompactionThatDoesNotFitLeavesNoFileAndTheNextRecordIsSaved(t *testing.T) {
	dir := t.TempDir()
	layDown(t, dir, 2*keepEvents)
	l := openLog(t, dir)
	store, _ := openStore(t, dir)
	compacted := filepath.Join(dir, eventsFile+".new")
	if err := os.Symlink("/dev/full", compacted); err != nil {
		t.Fatal(err)
	}
	appendN(t, l, 1)
	if _, err := os.Lstat(compacted); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what did not fit is still there: %v", err)
	}
	if err := store.SaveRecord(record(1), NewClock().stamp()); err != nil {
		t.Error(err)
	}
	if l.onDisk != 2*keepEvents+1 {
		t.Errorf("%d events in the file, want %d", l.onDisk, 2*keepEvents+1)
	}
	appendN(t, l, compactAgain+1) // there is room again: the symbolic link is gone
	if l.onDisk != keepEvents {
		t.Errorf("%d events in the file once it has been rewritten, want %d", l.onDisk, keepEvents)
	}
	l.Close()
	checkUnbroken(t, openLog(t, dir).Since(0, 1<<20), keepEvents+compactAgain+3, 2*keepEvents+compactAgain+2)
}

func TestWaitersHearOfTheNextEvent(t *testing.T) {
	l := openLog(t, t.TempDir())
	wake := l.Changed()
	select {
	case <-wake:
		t.Fatal("nothing happened yet")
	default:
	}
	appendN(t, l, 1)
	<-wake
}
