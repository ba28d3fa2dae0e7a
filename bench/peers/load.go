package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Result is what one measurement found, by metric.
type Result map[string]float64

// The metrics.
const (
	cpuPerTx   = "cpu_us_per_tx"
	rate       = "tx_per_s"
	median     = "p50_us"
	slowest    = "p99_us"
	cpuPerGB   = "cpu_s_per_gb"
	throughput = "mb_per_s"
	kibEach    = "rss_kib_per_session"
)

// meter reads a peer's processor clock at the two ends of a measurement.
type meter struct {
	pid   int
	used  time.Duration
	began time.Time
}

func startMeter(p *peer) (m meter, err error) {
	m = meter{pid: p.pid, began: time.Now()}
	if m.pid != 0 {
		m.used, err = processorTime(m.pid)
	}
	return m, err
}

// stop returns what the peer has used since; 0 without a process.
func (m meter) stop() (used time.Duration, ended time.Time, err error) {
	ended = time.Now()
	if m.pid == 0 {
		return 0, ended, nil
	}
	used, err = processorTime(m.pid)
	return used - m.used, ended, err
}

// perTransaction is the result of a load that goes on: what happened in the window, and what the peer used in it.
func perTransaction(p *peer, latencies []time.Duration, took, used time.Duration) (Result, error) {
	if len(latencies) == 0 || took <= 0 {
		return nil, errors.New("not one transaction was complete")
	}
	n := float64(len(latencies))
	r := Result{rate: n / took.Seconds(), median: microseconds(percentile(latencies, 50)), slowest: microseconds(percentile(latencies, 99))}
	if p.pid != 0 {
		r[cpuPerTx] = microseconds(used) / n
	}
	return r, nil
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// percentile is the smallest value that at least p per cent do not exceed. It sorts the values.
func percentile(values []time.Duration, p int) time.Duration {
	slices.Sort(values)
	return values[max((len(values)*p+99)/100, 1)-1]
}

// settle is how long a load runs before it is measured: caches are warm then, and every client has prepared its statements.
const settle = 300 * time.Millisecond

// pause sleeps, but not beyond the context.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// workload is one kind of load.
type workload struct {
	name, title string
	// clients are how many there are; nil: those of the command line.
	clients []int
	// fits says whether a peer can take it at all; nil: everyone can.
	fits func(*peer) bool
	// rounds are how often; nil: as often as the command line says.
	rounds  func(settings) int
	measure func(ctx context.Context, st *stage, p *peer, clients int) (Result, error)
}

// workloads in the order of the report.
func workloads() []workload {
	return []workload{
		{name: "select", title: "pgbench -S -M prepared", measure: measureSelect},
		{name: "tpcb", title: "pgbench -M prepared (TPC-B-like)", clients: []int{32}, measure: measureTPCB},
		{name: "tls", title: "prepared select, TLS 1.3 from the client to the peer, in clear behind it", clients: []int{32},
			fits: func(p *peer) bool { return p.tls != "" }, measure: measureTLS},
		{name: "copyout", title: "COPY TO STDOUT, rows of 8 KiB", clients: []int{1},
			rounds: func(s settings) int { return s.copyRounds }, measure: measureCopyOut},
		{name: "copyin", title: "COPY FROM STDIN, rows of 8 KiB, read by the server and thrown away", clients: []int{1},
			rounds: func(s settings) int { return s.copyRounds }, measure: measureCopyIn},
		{name: "connect", title: "pgbench -C -S, a login by SCRAM for every transaction", clients: []int{8}, measure: measureConnect},
		{name: "login", title: "one login by SCRAM after the other, and its goodbye", clients: []int{1}, measure: measureLogin},
		{name: "idle", title: "idle sessions, each on a connection of its own to a server that only answers logins", clients: []int{1},
			fits: func(p *peer) bool { return p.kind != kindDirect }, rounds: func(s settings) int { return s.idleRounds }, measure: measureIdle},
	}
}

func workloadNames() (names []string) {
	for _, w := range workloads() {
		names = append(names, w.name)
	}
	return names
}

func workloadNamed(name string) (workload, bool) {
	for _, w := range workloads() {
		if w.name == name {
			return w, true
		}
	}
	return workload{}, false
}

// play measures one workload on every peer that can take it, round by round, and adds what came of it to the report. The only error is the
// end of the context: a measurement that fails is a line of the report.
func (st *stage) play(ctx context.Context, w workload, r *Report) error {
	peers, clients, rounds := st.peers, st.set.clients, st.set.rounds
	if w.fits != nil {
		peers = slices.DeleteFunc(slices.Clone(peers), func(p *peer) bool { return !w.fits(p) })
	}
	if w.clients != nil {
		clients = w.clients
	}
	if w.rounds != nil {
		rounds = w.rounds(st.set)
	}
	for _, c := range clients {
		fmt.Printf("\n%s, clients %d: %s\n", w.name, c, w.title)
		for round := 1; round <= rounds; round++ {
			for i := range peers {
				p := peers[(i+round)%len(peers)]
				found, err := st.measure(ctx, w, p, c)
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				r.add(Sample{Workload: w.name, Clients: c, Round: round, Peer: p.name, Result: found}, err)
			}
		}
	}
	return nil
}

// measure plays a workload once on one peer. It begins with no session on the server: those that PgBouncer has kept from its turns before would have
// the tables mapped and their caches filled, and what that spares the server would count as the proxy's merit.
func (st *stage) measure(ctx context.Context, w workload, p *peer, clients int) (Result, error) {
	if err := st.endSessions(ctx); err != nil {
		return nil, fmt.Errorf("end sessions of the server: %w", err)
	}
	return w.measure(ctx, st, p, clients)
}
