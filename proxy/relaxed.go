package proxy

import (
	"sync/atomic"

	"github.com/pgtether/pgtether/internal/metrics"
)

// relaxedCommits counts the commits of one epoch that may have asked for less than synchronous replication. There is one for each route, so that
// epochs cannot be mixed up.
type relaxedCommits struct {
	count atomic.Uint64
	// blind says that a session of the epoch is TLS passed through: what it commits cannot be seen, and the count means nothing.
	blind atomic.Bool
}

// known returns the count; false if nothing can be said.
func (c *relaxedCommits) known() (uint64, bool) {
	n := c.count.Load()
	return n, !c.blind.Load()
}

// countRelaxed passes on what the tracker has counted. It comes after the tracker's Server and before the first of those bytes is written to the
// client: nobody is told of a relaxed commit that is not counted. A count may be one that the client was never told of after all.
func (p *pair) countRelaxed(m *metrics.Proxy) {
	if n := p.tracker.TakeRelaxed(); n > 0 {
		p.backend.relaxed.count.Add(n)
		m.RelaxedCommits.Add(n)
	}
}

// RelaxedCommits says how many commits of the epoch may have asked for less than synchronous replication, of those that this server's clients may
// have been told of (see pgwire.Tracker.TakeRelaxed for what counts). It is never too low: after a Cut of the epoch has returned it is
// final. It is false for an epoch other than the newest that was opened, and when a session of the epoch was TLS passed through. It does not
// know of commits that another process, or an earlier run under the same epoch, has forwarded.
func (s *Server) RelaxedCommits(epoch uint64) (uint64, bool) {
	if r := s.table.newest(); r != nil && r.Epoch == epoch {
		return r.relaxed.known()
	}
	return 0, false
}
