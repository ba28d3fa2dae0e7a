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
	return st.underPgbench(ctx, p, clients, hasGrown, "--select-only", st.readRows(), "--protocol=prepared")
}

// readRows has pgbench's select read so many rows: it draws them from rowsOfScale times a scale that it takes from the tables unless it is told.
func (st *stage) readRows() string {
	return fmt.Sprintf("--define=scale=%g", float64(st.set.rows)/rowsOfScale)
}

func measureTPCB(ctx context.Context, st *stage, p *peer, clients int) (Result, error) {
	return st.underPgbench(ctx, p, clients, hasGrown, "--protocol=prepared", "--no-vacuum")
}

// measureConnect gives each client a thread of pgbench's, whose logins block. The latencies in the log are without the login; see measureLogin.
// There is no login before the load, so none is waited for.
func measureConnect(ctx context.Context, st *stage, p *peer, clients int) (Result, error) {
	atOnce := func(string) bool { return true }
	r, err := st.underPgbench(ctx, p, clients, atOnce, "--select-only", st.readRows(), "--connect", "--jobs", strconv.Itoa(clients))
	delete(r, median)
	delete(r, slowest)
	return r, err
}

// errTooShort: pgbench had ended before the measurement was over.
var errTooShort = errors.New("pgbench ended before its load was measured")

// underPgbench measures a peer under pgbench. The time that pgbench is given counts from before its logins, of which nobody knows how long they
// take: when it was too short, it is given more.
func (st *stage) underPgbench(ctx context.Context, p *peer, clients int, begun func(log string) bool, args ...string) (r Result, err error) {
	logins := time.Duration(clients) * time.Second / 100
	for patience := st.set.each + 2*settle + logins; patience < 5*time.Minute; patience *= 2 {
		seconds := strconv.Itoa(int(math.Ceil(patience.Seconds())))
		r, err = st.pgbenchOnce(ctx, p, begun, append([]string{"--jobs", strconv.Itoa(min(st.set.threads, clients)),
			"--client", strconv.Itoa(clients), "--time", seconds}, args...))
		if !errors.Is(err, errTooShort) {
			break
		}
	}
	return r, err
}

// pgbenchOnce lets pgbench run, and reads the peer's clock twice while all of its clients are at work. The transactions between the two are
// those that pgbench's log dates there.
func (st *stage) pgbenchOnce(ctx context.Context, p *peer, begun func(log string) bool, args []string) (Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	log := st.file("transactions")
	defer removeAll(log)
	ended := make(chan error, 1)
	go func() {
		_, err := st.pgbench(ctx, p.address, append(args, "--log", "--log-prefix", log)...)
		if err == nil {
			err = errTooShort // unless the measurement is over, when nobody minds
		}
		ended <- err
	}()
	m, used, until, err := st.window(ctx, p, func() bool { return begun(log) }, ended)
	if err != nil {
		cancel()
		return nil, errors.Join(err, <-ended)
	}
	if err := <-ended; !errors.Is(err, errTooShort) {
		return nil, err
	}
	latencies, err := readLogs(log, m.began, until)
	if err != nil {
		return nil, err
	}
	return perTransaction(p, latencies, until.Sub(m.began), used)
}

// window waits until the load is steady and meters it. An end of pgbench before that is an error, and is left in its channel.
func (st *stage) window(ctx context.Context, p *peer, begun func() bool, ended chan error) (m meter, used time.Duration, until time.Time, err error) {
	for err == nil && !begun() {
		err = pauseUnlessEnded(ctx, 10*time.Millisecond, ended)
	}
	if err == nil {
		err = pauseUnlessEnded(ctx, settle, ended)
	}
	if err == nil {
		m, err = startMeter(p)
	}
	if err == nil {
		err = pauseUnlessEnded(ctx, st.set.each, ended)
	}
	if err == nil {
		used, until, err = m.stop()
	}
	return m, used, until, err
}

// pauseUnlessEnded returns early, and what is in the channel, when something is; it stays there.
func pauseUnlessEnded(ctx context.Context, d time.Duration, ended chan error) error {
	select {
	case err := <-ended:
		ended <- err
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// logFiles are those of one run: one for each thread.
func logFiles(prefix string) []string {
	files, _ := filepath.Glob(prefix + ".*") // the pattern is well formed
	return files
}

// hasGrown: all clients have logged in, because pgbench begins then.
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

// readLogs returns the latencies of the transactions that ended between two instants.
func readLogs(prefix string, from, until time.Time) (latencies []time.Duration, err error) {
	for _, file := range logFiles(prefix) {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("open log of pgbench: %w", err)
		}
		found, err := readLog(f, from, until)
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("read log of pgbench: %w", err)
		}
		latencies = append(latencies, found...)
	}
	return latencies, nil
}

// readLog reads one log. Its lines: client, transaction, latency in microseconds, script, and when it ended in seconds and microseconds.
func readLog(r io.Reader, from, until time.Time) (latencies []time.Duration, err error) {
	in := bufio.NewScanner(r)
	for in.Scan() {
		fields := strings.Fields(in.Text())
		if len(fields) < 6 {
			return nil, fmt.Errorf("line %q has %d fields, want 6", in.Text(), len(fields))
		}
		latency, errLatency := strconv.ParseInt(fields[2], 10, 64)
		second, errSecond := strconv.ParseInt(fields[4], 10, 64)
		micro, errMicro := strconv.ParseInt(fields[5], 10, 64)
		if err := errors.Join(errLatency, errSecond, errMicro); err != nil {
			return nil, fmt.Errorf("line %q: %w", in.Text(), err)
		}
		if at := time.Unix(second, micro*1000); !at.Before(from) && at.Before(until) {
			latencies = append(latencies, time.Duration(latency)*time.Microsecond)
		}
	}
	return latencies, in.Err()
}
