package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

func measureSelect(ctx context.Context, st *stage, p *peer, clients int) (Result, error) {
	return st.underPgbench(ctx, p, clients, "--select-only", "--protocol=prepared")
}

func measureTPCB(ctx context.Context, st *stage, p *peer, clients int) (Result, error) {
	return st.underPgbench(ctx, p, clients, "--protocol=prepared", "--no-vacuum")
}

// measureConnect gives each client a thread of pgbench's, whose logins block. The latencies in the log are without the login; see measureLogin.
func measureConnect(ctx context.Context, st *stage, p *peer, clients int) (Result, error) {
	r, err := st.underPgbench(ctx, p, clients, "--select-only", "--connect", "--jobs", strconv.Itoa(clients))
	delete(r, median)
	delete(r, slowest)
	return r, err
}

// underPgbench lets pgbench run, and reads the peer's clock twice while all of its clients are at work. The transactions between the two
// are those that pgbench's log dates there.
func (st *stage) underPgbench(ctx context.Context, p *peer, clients int, args ...string) (Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	log := st.file("transactions")
	defer removeAll(log)
	seconds := int(math.Ceil((st.set.each + 2*settle).Seconds())) + 1
	args = append([]string{"--jobs", strconv.Itoa(min(st.set.threads, clients)), "--client", strconv.Itoa(clients), "--time", strconv.Itoa(seconds),
		"--log", "--log-prefix", log}, args...)
	ended := make(chan error, 1)
	go func() {
		_, err := st.pgbench(ctx, p.address, args...)
		ended <- err
	}()
	m, used, until, err := st.window(ctx, p, log, ended)
	if err != nil {
		cancel()
		return nil, errors.Join(err, <-ended)
	}
	if err := <-ended; err != nil {
		return nil, err
	}
	latencies, last, err := readLogs(log, m.began, until)
	if err != nil {
		return nil, err
	}
	// On a machine that is far too slow for us pgbench may have ended first. The clock stood still from then on.
	if last.Before(until) {
		until = last
	}
	return perTransaction(p, latencies, until.Sub(m.began), used)
}

// window waits until the load is steady and meters it. The log grows when all clients have logged in: pgbench begins then.
func (st *stage) window(ctx context.Context, p *peer, log string, ended chan error) (m meter, used time.Duration, until time.Time, err error) {
	for !hasGrown(log) {
		select {
		case err := <-ended:
			ended <- err // for the caller, who waits for it too
			return m, 0, until, errors.New("pgbench ended before it had logged anything")
		case <-time.After(10 * time.Millisecond):
		}
	}
	if err := pause(ctx, settle); err != nil {
		return m, 0, until, err
	}
	if m, err = startMeter(p); err != nil {
		return m, 0, until, err
	}
	if err := pause(ctx, st.set.each); err != nil {
		return m, 0, until, err
	}
	used, until, err = m.stop()
	return m, used, until, err
}

// logFiles are those of one run: one for each thread.
func logFiles(prefix string) []string {
	files, _ := filepath.Glob(prefix + ".*") // the pattern is well formed
	return files
}

func hasGrown(prefix string) bool {
	for _, f := range logFiles(prefix) {
		if info, err := os.Stat(f); err == nil && info.Size() > 0 {
			return true
		}
	}
	return false
}

func removeAll(prefix string) {
	for _, f := range logFiles(prefix) {
		_ = os.Remove(f) // the lab's directory goes as a whole in the end
	}
}

// readLogs returns the latencies of the transactions that ended between two instants, and when the last one of all ended.
func readLogs(prefix string, from, until time.Time) (latencies []time.Duration, last time.Time, err error) {
	for _, file := range logFiles(prefix) {
		f, err := os.Open(file)
		if err != nil {
			return nil, last, fmt.Errorf("open log of pgbench: %w", err)
		}
		found, end, err := readLog(f, from, until)
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, last, fmt.Errorf("read log of pgbench: %w", err)
		}
		latencies = append(latencies, found...)
		if end.After(last) {
			last = end
		}
	}
	return latencies, last, nil
}

// readLog reads one log. Its lines: client, transaction, latency in microseconds, script, and when it ended in seconds and microseconds.
func readLog(r io.Reader, from, until time.Time) (latencies []time.Duration, last time.Time, err error) {
	in := bufio.NewScanner(r)
	for in.Scan() {
		fields := strings.Fields(in.Text())
		if len(fields) < 6 {
			return nil, last, fmt.Errorf("line %q has %d fields, want 6", in.Text(), len(fields))
		}
		latency, errLatency := strconv.ParseInt(fields[2], 10, 64)
		second, errSecond := strconv.ParseInt(fields[4], 10, 64)
		micro, errMicro := strconv.ParseInt(fields[5], 10, 64)
		if err := errors.Join(errLatency, errSecond, errMicro); err != nil {
			return nil, last, fmt.Errorf("line %q: %w", in.Text(), err)
		}
		last = time.Unix(second, micro*1000)
		if !last.Before(from) && last.Before(until) {
			latencies = append(latencies, time.Duration(latency)*time.Microsecond)
		}
	}
	return latencies, last, in.Err()
}
