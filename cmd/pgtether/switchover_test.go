package main

import (
	"bytes"
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

func TestAnInterruptAsksForASwitchoverToBeUndone(t *testing.T) {
	s := newScene(t, decision.ModeAuto).stage()
	s.locked(func() { s.busy = true })
	stop := s.flows()
	defer stop()
	ended := make(chan int, 1)
	var out bytes.Buffer
	go func() { ended <- run([]string{"switchover", "--to", "region-b", "--admin", s.url}, &out, &out) }()
	for waits := false; !waits; time.Sleep(5 * time.Millisecond) {
		s.locked(func() { waits = s.engine.Status().Step == decision.Draining })
	}
	time.Sleep(300 * time.Millisecond) // the command watches by now
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := <-ended; code != exitFailed || !strings.Contains(out.String(), "asked for it to be undone") || !strings.Contains(out.String(), "an operator aborted it") {
		t.Errorf("exit code %d\n%s", code, &out)
	}
	s.runs(exitDone, "status", "STANDBY_READY", "region-a (epoch 1")
}

func TestAnInterruptAfterThePointOfNoReturnSaysThatItGoesOn(t *testing.T) {
	s := newScene(t, decision.ModeAuto).stage()
	var promote func()
	s.locked(func() { promote, s.promotes = s.promotes, nil })
	stop := s.flows()
	defer stop()
	ended := make(chan int, 1)
	var out bytes.Buffer
	go func() { ended <- run([]string{"switchover", "--to", "region-b", "--admin", s.url}, &out, &out) }()
	for waits := false; !waits; time.Sleep(5 * time.Millisecond) {
		s.locked(func() { waits = s.engine.Status().Step == decision.StepPromoting })
	}
	time.Sleep(300 * time.Millisecond)
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	time.Sleep(400 * time.Millisecond)
	s.locked(promote)
	if code := <-ended; code != exitDone || !strings.Contains(out.String(), "it cannot be undone any more: the promotion of region-b has been asked for") {
		t.Errorf("exit code %d\n%s", code, &out)
	}
}
