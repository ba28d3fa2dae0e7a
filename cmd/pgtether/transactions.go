package main

import (
	"context"
	"sync"
	"time"

	"github.com/pgtether/pgtether/health"
)

const (
	// factsTimeout bounds what the writer is asked for a list of sessions.
	factsTimeout = time.Second
	// factsLast is for how long its answer, or that there was none, is everybody's.
	factsLast = time.Second
)

// transactions are what a node said last about the transactions that are open there. Each question is a login, and anybody may ask for a list of
// sessions: so one is asked at a time, for all who want to know.
type transactions struct {
	mu    sync.Mutex // guards everything below, and is held while the node is asked
	node  string
	at    time.Time // when it answered, or did not in time
	since map[uint32]time.Time
}

// of says since when each of the node's client backends has its transaction open, by process number. The map must not be changed.
func (l *transactions) of(ctx context.Context, t health.Target) (map[uint32]time.Time, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.node == t.Node && time.Since(l.at) < factsLast {
		return l.since, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), factsTimeout) // who asked may go away, and others wait for the answer
	defer cancel()
	open, err := health.Operator{}.Transactions(ctx, t)
	l.node, l.at, l.since = t.Node, time.Now(), make(map[uint32]time.Time, len(open))
	for pid, age := range open {
		l.since[pid] = l.at.Add(-age)
	}
	return l.since, err
}
