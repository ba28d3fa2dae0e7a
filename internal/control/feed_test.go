package control

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// feeding is an EventFeed that runs.
type feeding struct {
	*EventFeed
	log  *EventLog
	said *lockedBuffer
	// end ends it and waits.
	end func()
}

// lockedBuffer is a log that may be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newFeed(t *testing.T, log *EventLog, hooks func() Hooks) *feeding {
	t.Helper()
	said := &lockedBuffer{}
	return &feeding{EventFeed: NewEventFeed(log, hooks, asJSON, slog.New(slog.NewTextHandler(said, nil))), log: log, said: said}
}

func (f *feeding) start(t *testing.T) *feeding {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); f.Run(ctx) }()
	f.end = func() { cancel(); <-done }
	t.Cleanup(f.end)
	return f
}

func fixed(h Hooks) func() Hooks { return func() Hooks { return h } }

// numbers are the events that the hook has written to the file, one JSON a line.
func numbers(t *testing.T, path string) []uint64 {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var seqs []uint64
	for line := range strings.Lines(string(text)) {
		var ev Event
		if !strings.HasSuffix(line, "\n") || json.Unmarshal([]byte(line), &ev) != nil {
			continue // it is being written
		}
		seqs = append(seqs, ev.Seq)
	}
	return seqs
}

// awaitNumbers waits until the hook has written so many events and returns them.
func awaitNumbers(t *testing.T, path string, n int) []uint64 {
	t.Helper()
	for end := time.Now().Add(long); ; time.Sleep(5 * time.Millisecond) {
		if got := numbers(t, path); len(got) >= n {
			return got
		}
		if time.Now().After(end) {
			t.Fatalf("the hook got %v, want %d events", numbers(t, path), n)
		}
	}
}

func checkFollow(t *testing.T, got []uint64, first, last uint64) {
	t.Helper()
	for i, seq := range got {
		if seq != first+uint64(i) {
			t.Fatalf("the hook got %v, want %d to %d in order", got, first, last)
		}
	}
	if uint64(len(got)) != last-first+1 {
		t.Fatalf("the hook got %v, want %d to %d", got, first, last)
	}
}

func TestEveryNewEventReachesTheHookInOrder(t *testing.T) {
	into := filepath.Join(t.TempDir(), "events")
	log := openLog(t, t.TempDir())
	appendN(t, log, 3) // of an earlier run
	f := newFeed(t, log, fixed(Hooks{OnEvent: "cat >> " + into, Timeout: long}))
	appendN(t, log, 2) // after its making, before its start
	f.start(t)
	checkFollow(t, awaitNumbers(t, into, 2), 4, 5)
	appendN(t, log, 10)
	f.end()
	checkFollow(t, numbers(t, into), 4, 15)
	if f.Lost() != 0 {
		t.Errorf("%d events lost", f.Lost())
	}
}

func TestAHookThatFailsIsLoggedAndTheNextEventIsGiven(t *testing.T) {
	into := filepath.Join(t.TempDir(), "events")
	log := openLog(t, t.TempDir())
	f := newFeed(t, log, fixed(Hooks{OnEvent: "cat >> " + into + "; echo no mail today >&2; exit 5", Timeout: long})).start(t)
	appendN(t, log, 3)
	f.end()
	checkFollow(t, numbers(t, into), 1, 3)
	if said := f.said.String(); strings.Count(said, "exit code 5: no mail today") != 3 || !strings.Contains(said, "seq=2") {
		t.Errorf("log:\n%s", said)
	}
}

func TestASlowHookKeepsNobodyWaitingAndItsLossIsCounted(t *testing.T) {
	into, gate := filepath.Join(t.TempDir(), "events"), filepath.Join(t.TempDir(), "gate")
	log := openLog(t, t.TempDir())
	var fast atomic.Bool
	hooks := func() Hooks {
		if fast.Load() {
			return Hooks{OnEvent: "cat > " + into + ".last", Timeout: long}
		}
		return Hooks{OnEvent: "cat >> " + into + "; while ! [ -e " + gate + " ]; do sleep 0.01; done", Timeout: time.Hour}
	}
	f := newFeed(t, log, hooks).start(t)
	appendN(t, log, 1)
	awaitNumbers(t, into, 1)
	appendN(t, log, maxQueued+7) // each returned while the hook was hanging
	fast.Store(true)
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(long); f.Lost() < 7 && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
	}
	if said := f.said.String(); f.Lost() != 7 || !strings.Contains(said, `first=2 last=8 reason="the hook is too slow"`) {
		t.Errorf("%d lost; log:\n%s", f.Lost(), said)
	}
}

func TestAHangingHookDelaysTheEndOnlyForAWhile(t *testing.T) {
	into := filepath.Join(t.TempDir(), "events")
	log := openLog(t, t.TempDir())
	f := newFeed(t, log, fixed(Hooks{OnEvent: "cat >> " + into + "; exec sleep 600", Timeout: time.Hour})).start(t)
	appendN(t, log, 3)
	awaitNumbers(t, into, 1)
	began := time.Now()
	f.end()
	if took := time.Since(began); took < feedGrace || took > long {
		t.Errorf("the end took %s", took)
	}
	checkFollow(t, numbers(t, into), 1, 1)
	if said := f.said.String(); f.Lost() != 2 || !strings.Contains(said, `first=2 last=3 reason="the process ends"`) {
		t.Errorf("%d lost; log:\n%s", f.Lost(), said)
	}
}

func TestAHookThatIsConfiguredLaterGetsWhatHappensFromThenOn(t *testing.T) {
	into := filepath.Join(t.TempDir(), "events")
	log := openLog(t, t.TempDir())
	var on atomic.Bool
	looked := make(chan struct{}, 100)
	f := newFeed(t, log, func() Hooks {
		if on.Load() {
			return Hooks{OnEvent: "cat >> " + into, Timeout: long}
		}
		looked <- struct{}{}
		return Hooks{}
	})
	appendN(t, log, 3)
	f.start(t)
	<-looked // it takes all three in this look
	on.Store(true)
	appendN(t, log, 2)
	f.end()
	got := numbers(t, into)
	if len(got) < 2 || got[len(got)-1] != 5 || got[0] < 4 || f.Lost() != 0 {
		t.Errorf("the hook got %v, lost %d; want 4 and 5", got, f.Lost())
	}
}
