package proxy

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestAShutGateLetsNobodyIn(t *testing.T) {
	g := new(gate)
	if !g.enter() {
		t.Fatal("an open gate turned a writer away")
	}
	g.leave()
	g.shut()
	g.shut()
	for range 3 {
		if g.enter() {
			t.Fatal("a shut gate let a writer in")
		}
	}
	g.wait() // nobody is inside: returns at once
}

func TestWaitReturnsOnlyWhenTheLastWriterHasLeft(t *testing.T) {
	g := new(gate)
	for range 2 {
		if !g.enter() {
			t.Fatal("an open gate turned a writer away")
		}
	}
	g.shut()
	done := make(chan struct{})
	go func() { g.wait(); close(done) }()
	g.leave()
	select {
	case <-done:
		t.Fatal("wait returned with a writer inside")
	case <-time.After(20 * time.Millisecond):
	}
	g.leave()
	<-done
}

// Writers that were turned away pass through the counter for a moment; they must neither be waited for for ever nor let wait return early.
func TestNoWriterIsInsideAfterWaitUnderContention(t *testing.T) {
	for range 200 {
		g := new(gate)
		var inside atomic.Int64
		var writers sync.WaitGroup
		for range 4 {
			writers.Go(func() {
				for g.enter() {
					inside.Add(1)
					inside.Add(-1)
					g.leave()
				}
				for range 50 {
					if g.enter() {
						t.Error("a shut gate let a writer in")
					}
				}
			})
		}
		g.shut()
		g.wait()
		if n := inside.Load(); n != 0 {
			t.Fatalf("%d writers inside after wait", n)
		}
		writers.Wait()
	}
}

func TestEverybodyWhoWaitsAtAGateIsLetGo(t *testing.T) {
	for range 10 {
		g := new(gate)
		g.enter()
		g.shut()
		var waiters sync.WaitGroup
		for range 3 {
			waiters.Go(g.wait)
		}
		time.Sleep(5 * time.Millisecond) // they wait by now, as a rule
		g.leave()
		gone := make(chan struct{})
		go func() { waiters.Wait(); close(gone) }()
		select {
		case <-gone:
		case <-time.After(patience):
			t.Fatal("somebody still waits at an empty gate")
		}
	}
}
