package proxy

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"
)

const (
	// departuresDelay is how long the line about a session may wait for those about others.
	departuresDelay = 100 * time.Millisecond
	// departuresMax bounds the lines that wait.
	departuresMax = 4096
)

// departure is the end of a session, for the log.
type departure struct {
	s    *session
	p    *pair
	o    outcome
	when time.Time
}

// log writes the one line about a session.
func (d departure) log() {
	ctx, log := context.Background(), d.s.srv.log
	if !log.Enabled(ctx, slog.LevelInfo) {
		return
	}
	line := slog.NewRecord(d.when, slog.LevelInfo, "session end", 0)
	names := d.s.attrs()
	line.AddAttrs(names[:]...)
	line.AddAttrs(slog.String("node", d.p.backend.node), slog.Uint64("epoch", d.p.backend.epoch),
		slog.Duration("duration", d.when.Sub(d.s.pinned).Round(time.Millisecond)),
		slog.Int64("to_server_bytes", d.p.toServer.Load()), slog.Int64("to_client_bytes", d.p.toClient.Load()), slog.String("reason", d.o.end))
	if err := d.o.err; err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		line.AddAttrs(slog.String("err", err.Error()))
	}
	_ = log.Handler().Handle(ctx, line) // as slog.Logger does
}

// departures writes the lines about sessions that end on event loops: a log that cannot be written at the moment must not keep a loop.
type departures struct {
	mu      sync.Mutex
	waiting []departure
	// unwritten is how many of them, and of those that are being written, there are.
	unwritten int
	// writing says that there is a writer, or will be: one at a time. writes counts it.
	writing bool
	writes  sync.WaitGroup
}

// add takes a line; false when there is no room, because the log has stood still for long.
func (d *departures) add(one departure) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.unwritten >= departuresMax {
		return false
	}
	d.waiting = append(d.waiting, one)
	d.unwritten++
	if !d.writing {
		d.writing = true
		d.writes.Add(1)
		time.AfterFunc(departuresDelay, d.write)
	}
	return true
}

func (d *departures) write() {
	defer d.writes.Done()
	for lines := d.take(nil); len(lines) > 0; lines = d.take(lines) {
		for _, line := range lines {
			line.log()
		}
	}
}

// take returns the lines that wait, after others were written, in whose place new ones can wait. With none the writer is at its end.
func (d *departures) take(written []departure) []departure {
	clear(written) // they hold their sessions
	d.mu.Lock()
	defer d.mu.Unlock()
	lines := d.waiting
	d.waiting = written[:0]
	d.unwritten -= len(written)
	d.writing = len(lines) > 0
	return lines
}

// wait returns when everything is written. Nothing is added any more.
func (d *departures) wait() { d.writes.Wait() }
