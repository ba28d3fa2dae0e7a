package main

import (
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pgtether/pgtether/decision"
)

// flows lets time pass on the stage while a command waits; the returned function stops it.
func (s *stage) flows() (stop func()) {
	var wg sync.WaitGroup
	end := make(chan struct{}) // closed when time is to stand still again
	wg.Go(func() {
		for {
			select {
			case <-end:
				return
			case <-time.After(5 * time.Millisecond):
				s.later(100 * time.Millisecond)
			}
		}
	})
	return func() { close(end); wg.Wait() }
}

func TestAnOperatorSwitchesTheWriterAndSeesHow(t *testing.T) {
	s := newScene(t, decision.ModeAuto).stage()
	s.runs(exitUsage, "switchover", "--to must name the node")
	s.runs(exitUsage, "switchover --to region-b --timeout -1s", "--timeout must be above 0")
	s.runs(exitFailed, "switchover --to region-c", `answers 400: there is no node "region-c"`)
	s.runs(exitFailed, "switchover --to region-a", "answers 409: region-a is the writer already")
	s.runs(exitDone, "switchover --to region-b --dry-run --timeout 3s", "SAFE", "warning  -     neither wal_log_hints nor data checksums are on",
		"draining   open transactions have 3s to end", "the point of no return")
	s.runs(exitDone, "status", "STANDBY_READY", "region-a (epoch 1")
	stop := s.flows()
	s.runs(exitDone, "switchover --to region-b", "the writer is changed to region-b: open transactions have 10s to end", "draining", "cutting", "fencing", "sampling",
		"proven lossless", "done: switchover region-a -> region-b", "region-a is fenced and no standby yet", "pg_rewind --target-pgdata", "--write-recovery-conf", "primary_conninfo = 'host=10.0.0.12 port=5432 user=REPLICATION_ROLE'")
	stop()
	s.runs(exitDone, "status", "NEW_PRIMARY", "region-b (epoch 2, timeline 2)")
	s.runs(exitFailed, "switchover --to region-a", "BLOCKED", "the switchover is blocked, and nothing was changed")
}

func TestASwitchoverThatIsUndoneSaysWhy(t *testing.T) {
	s := newScene(t, decision.ModeAuto).stage()
	s.locked(func() { s.busy = true })
	stop := s.flows()
	defer stop()
	s.runs(exitFailed, "switchover --to region-b --timeout 2s", "the change to region-b is undone: open transactions have not ended within 2s")
	s.runs(exitDone, "status", "STANDBY_READY", "region-a (epoch 1")
	s.runs(exitDone, "switchover --to region-b --timeout 2s --force", "by force after 2s", "done: switchover region-a -> region-b")
}

// begin starts a switchover while time stands still. out may be read at any moment.
func (s *stage) begin() (ended <-chan int, out *screen) {
	code, out := make(chan int, 1), &screen{}
	go func() { code <- run([]string{"switchover", "--to", "region-b", "--admin", s.url}, out, out) }()
	return code, out
}

// screen is what a command has said so far.
type screen struct {
	mu  sync.Mutex
	all strings.Builder
}

func (w *screen) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all.Write(b)
}

func (w *screen) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all.String()
}

// until lets time pass on the stage, and makes it stand still again when the change has come to a step.
func (s *stage) until(step decision.Step) {
	s.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		var at decision.Step
		if s.locked(func() { at = s.engine.Status().Step }); at == step {
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("it stays at %q, want %q", at, step)
		}
		s.later(100 * time.Millisecond)
	}
}

// await waits until the command has said something.
func (w *screen) await(t *testing.T, said string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !strings.Contains(w.String(), said); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it does not say %q:\n%s", said, w)
		}
	}
}

func interruptMyself(t *testing.T) {
	t.Helper()
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
}

func TestAnInterruptAsksForASwitchoverToBeUndone(t *testing.T) {
	s := newScene(t, decision.ModeAuto).stage()
	s.locked(func() { s.busy = true })
	ended, out := s.begin()
	s.until(decision.Draining)
	interruptMyself(t)
	out.await(t, "asked for it to be undone")
	stop := s.flows()
	defer stop()
	if code := <-ended; code != exitFailed || !strings.Contains(out.String(), "an operator aborted it") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	s.runs(exitDone, "status", "STANDBY_READY", "region-a (epoch 1")
}

func TestAnInterruptAfterThePointOfNoReturnSaysThatItGoesOn(t *testing.T) {
	s := newScene(t, decision.ModeAuto).stage()
	var promote func()
	s.locked(func() { promote, s.promotes = s.promotes, nil })
	ended, out := s.begin()
	s.until(decision.StepPromoting)
	interruptMyself(t)
	out.await(t, "it cannot be undone any more: the promotion of region-b has been asked for")
	s.locked(promote)
	stop := s.flows()
	defer stop()
	if code := <-ended; code != exitDone {
		t.Errorf("exit code %d\n%s", code, out)
	}
}
