package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// measureTLS is pgbench -S -M prepared by a client of our own, because libpq's TLS begins with a request that HAProxy cannot answer.
func measureTLS(ctx context.Context, st *stage, p *peer, clients int) (_ Result, err error) {
	var all sync.WaitGroup
	sessions := make([]*session, 0, clients)
	defer func() {
		for _, s := range sessions {
			err = errors.Join(err, s.close())
		}
	}()
	for range clients {
		s, err := st.login(ctx, p, true)
		if err != nil {
			return nil, err
		}
		sessions = append(sessions, s)
		if err := s.prepare(); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var phase atomic.Int32
	latencies, failures := make([][]time.Duration, clients), make([]error, clients)
	for i, s := range sessions {
		all.Go(func() {
			if latencies[i], failures[i] = s.query(st.set.rows, &phase); failures[i] != nil {
				cancel()
			}
		})
	}
	m, used, until, err := meterPhases(ctx, p, st.set.each, &phase)
	phase.Store(phaseOver)
	all.Wait()
	if err := errors.Join(append(failures, err)...); err != nil {
		return nil, err
	}
	return perTransaction(p, flatten(latencies), until.Sub(m.began), used)
}

// What our own clients do: work until it is over, and keep latencies while it counts.
const (
	phaseSettle int32 = iota
	phaseCounts
	phaseOver
)

// meterPhases leads clients through the phases and meters the peer while it counts.
func meterPhases(ctx context.Context, p *peer, each time.Duration, phase *atomic.Int32) (m meter, used time.Duration, until time.Time, err error) {
	if err := pause(ctx, settle); err != nil {
		return m, 0, until, err
	}
	if m, err = startMeter(p); err != nil {
		return m, 0, until, err
	}
	phase.Store(phaseCounts)
	if err := pause(ctx, each); err != nil {
		return m, 0, until, err
	}
	phase.Store(phaseSettle)
	used, until, err = m.stop()
	return m, used, until, err
}

func flatten(parts [][]time.Duration) (whole []time.Duration) {
	for _, p := range parts {
		whole = append(whole, p...)
	}
	return whole
}

// prepare makes the statement that query runs.
func (s *session) prepare() error {
	err := s.send(&pgproto3.Parse{Name: "s", Query: "SELECT abalance FROM pgbench_accounts WHERE aid = $1", ParameterOIDs: []uint32{23}}, &pgproto3.Sync{})
	if err == nil {
		_, err = await(s.in, 'Z')
	}
	if err != nil {
		return fmt.Errorf("prepare statement: %w", err)
	}
	return nil
}

// query asks for random accounts until it is over and returns the latencies of those answers that came while it counted.
func (s *session) query(accounts int, phase *atomic.Int32) (latencies []time.Duration, err error) {
	aid := make([]byte, 4)
	packet, err := encode(
		&pgproto3.Bind{PreparedStatement: "s", ParameterFormatCodes: []int16{1}, Parameters: [][]byte{aid}}, &pgproto3.Execute{}, &pgproto3.Sync{})
	if err != nil {
		return nil, err
	}
	// The parameter's place in the packet: after Bind's header, two names, a list of one format, a count and a length.
	place := packet[1+4+len("\x00s\x00")+2+2+2+4:]
	for phase.Load() != phaseOver {
		binary.BigEndian.PutUint32(place, uint32(rand.IntN(accounts)+1))
		began := time.Now()
		if err := s.conn.SetDeadline(began.Add(30 * time.Second)); err != nil {
			return nil, err
		}
		if _, err := s.conn.Write(packet); err != nil {
			return nil, fmt.Errorf("send query: %w", err)
		}
		if _, err := await(s.in, 'Z'); err != nil {
			return nil, err
		}
		if phase.Load() == phaseCounts {
			latencies = append(latencies, time.Since(began))
		}
	}
	return latencies, nil
}

// measureLogin logs in and says goodbye, one login at a time.
func measureLogin(ctx context.Context, st *stage, p *peer, _ int) (Result, error) {
	config, err := st.config(p, false)
	if err != nil {
		return nil, err
	}
	once := func() (time.Duration, error) {
		began := time.Now()
		c, err := pgconn.ConnectConfig(ctx, config)
		if err != nil {
			return 0, fmt.Errorf("log in: %w", err)
		}
		took := time.Since(began)
		return took, c.Close(ctx)
	}
	for until := time.Now().Add(settle); time.Now().Before(until); {
		if _, err := once(); err != nil {
			return nil, err
		}
	}
	m, err := startMeter(p)
	if err != nil {
		return nil, err
	}
	var latencies []time.Duration
	for time.Since(m.began) < st.set.each {
		took, err := once()
		if err != nil {
			return nil, err
		}
		latencies = append(latencies, took)
	}
	used, until, err := m.stop()
	if err != nil {
		return nil, err
	}
	return perTransaction(p, latencies, until.Sub(m.began), used)
}

// measureCopyOut lets the server send rows that cost it next to nothing.
func measureCopyOut(ctx context.Context, st *stage, p *peer, _ int) (Result, error) {
	rows := st.set.copyMiB << 20 / copyRowBytes
	query := fmt.Sprintf("COPY (SELECT repeat('x', %d) FROM generate_series(1, %d)) TO STDOUT (FORMAT binary)", copyRowBytes, rows)
	return st.copying(ctx, p, int64(rows)*copyRowBytes, func(s *session) (int64, error) {
		if err := s.send(&pgproto3.Query{String: query}); err != nil {
			return 0, fmt.Errorf("send query: %w", err)
		}
		return await(s.in, 'Z')
	})
}

// measureCopyIn sends rows that the server reads and throws away: what is measured is the way there, not its storage.
func measureCopyIn(ctx context.Context, st *stage, p *peer, _ int) (Result, error) {
	const batch = 32 // rows in one write, 256 KiB
	batches := max(st.set.copyMiB<<20/copyRowBytes/batch, 1)
	rows := bytes.Repeat(copyRow(), batch)
	begin := copyData(append([]byte("PGCOPY\n\xff\r\n\x00"), make([]byte, 8)...))
	return st.copying(ctx, p, int64(batches)*batch*copyRowBytes, func(s *session) (int64, error) {
		if err := s.send(&pgproto3.Query{String: "COPY sink FROM STDIN (FORMAT binary) WHERE false"}); err != nil {
			return 0, fmt.Errorf("send query: %w", err)
		}
		if _, err := await(s.in, 'G'); err != nil {
			return 0, err
		}
		sent, err := s.conn.Write(begin)
		for range batches {
			if err != nil {
				return 0, fmt.Errorf("send rows: %w", err)
			}
			var n int
			n, err = s.conn.Write(rows)
			sent += n
		}
		last, err := encode(&pgproto3.CopyDone{})
		if err != nil {
			return 0, err
		}
		if _, err := s.conn.Write(append(copyData([]byte{0xff, 0xff}), last...)); err != nil {
			return 0, fmt.Errorf("send end of rows: %w", err)
		}
		_, err = await(s.in, 'Z')
		return int64(sent), err
	})
}

// copying meters one COPY on a session that has logged in before. Fewer bytes than the rows hold are an error.
func (st *stage) copying(ctx context.Context, p *peer, atLeast int64, run func(*session) (int64, error)) (_ Result, err error) {
	s, err := st.login(ctx, p, false)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	defer s.endWith(ctx)()
	m, err := startMeter(p)
	if err != nil {
		return nil, err
	}
	n, err := run(s)
	if err != nil {
		return nil, err
	}
	used, until, err := m.stop()
	if err != nil {
		return nil, err
	}
	if n < atLeast {
		return nil, fmt.Errorf("copy: %d bytes came through, want at least %d", n, atLeast)
	}
	const giga = 1e9
	r := Result{throughput: float64(n) / 1e6 / until.Sub(m.began).Seconds()}
	if p.pid != 0 {
		r[cpuPerGB] = used.Seconds() / (float64(n) / giga)
	}
	return r, nil
}
