package metrics

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// Proxy is what the data plane counts.
type Proxy struct {
	// ClientToServer and ServerToClient count forwarded bytes. They are meant to be added to after every read.
	ClientToServer, ServerToClient Counter
	// RelaxedCommits counts commits that asked for less than the server's own durability.
	RelaxedCommits Counter
	// HoldSeconds is how long a login or a session waited for a writer.
	HoldSeconds prometheus.Histogram
	// LoginSeconds is the time from the whole startup packet to the first ReadyForQuery, without the time on hold.
	LoginSeconds prometheus.Histogram
	// StallSeconds is how long a session that was moved stood still for it.
	StallSeconds prometheus.Histogram

	refusals, logins, ends, cancels, moved counters

	snapshot atomic.Pointer[func() Sessions]
}

// Sessions is how many client connections are in which state: the same numbers as "sessions" in GET /status.
type Sessions struct {
	// Open is the number of pinned sessions; Active, Idle, InTransaction and Opaque are parts of it.
	Open, Active, Idle, InTransaction int
	// Held is the number of logins and sessions that wait for a writer.
	Held int
	// Read is the number of sessions of the read listener.
	Read int
	// Opaque is the number of sessions whose frames cannot be seen (TLS passed through).
	Opaque int
}

func newProxy(r *registrar, l Labels) *Proxy {
	p := &Proxy{
		HoldSeconds: r.histogram("pgtether_hold_seconds", "How long a login or a session waited for a writer.",
			[]float64{0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 12.5, 15, 20, 30, 60}),
		LoginSeconds: r.histogram("pgtether_login_seconds", "Time from the startup packet to the first ReadyForQuery, without the time on hold.",
			[]float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}),
		StallSeconds: r.histogram("pgtether_session_stall_seconds", "How long a session that was moved to another writer stood still for it.",
			[]float64{0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1, 2, 3, 5, 7.5, 10, 15, 30}),
		refusals: r.counters("pgtether_refusals_total", "Logins and sessions that pgtether itself refused or ended, by reason.", "reason", l.Reasons),
		logins:   r.counters("pgtether_logins_total", "Logins by how they came out.", "result", l.LoginResults),
		ends:     r.counters("pgtether_sessions_total", "Sessions that ended, by what ended them.", "end", l.Ends),
		cancels:  r.counters("pgtether_cancels_total", "Cancel requests by what became of them.", "result", l.CancelResults),
		moved:    r.counters("pgtether_sessions_moved_total", "Idle sessions at a change of writer, by whether they could be moved.", "result", l.MoveResults),
	}
	const forwarded, help = "pgtether_forwarded_bytes_total", "Bytes forwarded, by direction."
	p.ClientToServer.expose(r, forwarded, help, prometheus.Labels{"direction": "client_to_server"})
	p.ServerToClient.expose(r, forwarded, help, prometheus.Labels{"direction": "server_to_client"})
	p.RelaxedCommits.expose(r, "pgtether_relaxed_commits_total",
		"Commits that asked for less than full durability (synchronous_commit off or local) and may be lost in a failover.", nil)
	r.MustRegister(&sessionsCollector{proxy: p})
	return p
}

// Refusals returns the counter of one reason of the closed list of refusals.
func (p *Proxy) Refusals(reason string) prometheus.Counter { return p.refusals.of(reason) }

// Logins returns the counter of one result of a login.
func (p *Proxy) Logins(result string) prometheus.Counter { return p.logins.of(result) }

// Ends returns the counter of sessions that ended for one reason.
func (p *Proxy) Ends(end string) prometheus.Counter { return p.ends.of(end) }

// Cancels returns the counter of one result of a cancel request.
func (p *Proxy) Cancels(result string) prometheus.Counter { return p.cancels.of(result) }

// Moved returns the counter of one result of moving a session.
func (p *Proxy) Moved(result string) prometheus.Counter { return p.moved.of(result) }

// Attach says where the numbers of sessions come from. It is called at every scrape, from any goroutine, and must not block. Until it is
// attached they are 0.
func (p *Proxy) Attach(snapshot func() Sessions) { p.snapshot.Store(&snapshot) }

var (
	sessionsDesc = prometheus.NewDesc("pgtether_sessions",
		"Sessions by state; open is the total of the pinned ones, held waits for a writer.", []string{"state"}, nil)
	heldDesc = prometheus.NewDesc("pgtether_held", "Logins and sessions that wait for a writer.", nil, nil)
)

// sessionsCollector reads the numbers of sessions once per scrape.
type sessionsCollector struct{ proxy *Proxy }

// Describe implements prometheus.Collector.
func (c *sessionsCollector) Describe(ch chan<- *prometheus.Desc) { ch <- sessionsDesc; ch <- heldDesc }

// Collect implements prometheus.Collector.
func (c *sessionsCollector) Collect(ch chan<- prometheus.Metric) {
	var s Sessions
	if snapshot := c.proxy.snapshot.Load(); snapshot != nil {
		s = (*snapshot)()
	}
	// In the order of sessionStates.
	for i, n := range [...]int{s.Open, s.Active, s.Idle, s.InTransaction, s.Held, s.Read, s.Opaque} {
		ch <- prometheus.MustNewConstMetric(sessionsDesc, prometheus.GaugeValue, float64(n), sessionStates[i])
	}
	ch <- prometheus.MustNewConstMetric(heldDesc, prometheus.GaugeValue, float64(s.Held))
}
