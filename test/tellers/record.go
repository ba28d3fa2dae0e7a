package tellers

import (
	"cmp"
	"slices"
	"time"
)

// Outcome is what a client knows about a transaction of its own.
type Outcome string

// The three outcomes.
const (
	Acknowledged Outcome = "ACK"
	Failed       Outcome = "FAIL"
	InDoubt      Outcome = "INDOUBT"
)

// Place is where in its conversation a session ended.
type Place string

// The places.
const (
	// AtBoundary: before anything of a transaction was answered.
	AtBoundary Place = "boundary"
	// InTransaction: a transaction was open.
	InTransaction Place = "transaction"
	// AtCommit: a COMMIT was unanswered.
	AtCommit Place = "commit"
	// AtLogin: there was no session yet.
	AtLogin Place = "login"
)

// Row names a transaction: no two have the same.
type Row struct {
	Client int
	Seq    int64
}

// Work is one transaction.
type Work struct {
	Row
	Began, Ended time.Time
	Outcome      Outcome
}

// End is the end of a session that its client had not asked for, or a login that was refused.
type End struct {
	Client int
	At     time.Time
	// Code is the SQLSTATE, or what the error was instead.
	Code  string
	Place Place
}

// Note writes one transaction down.
func (c *Crowd) Note(w Work) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.work = append(c.work, w)
	if w.Outcome != Acknowledged {
		return
	}
	last, known := c.last[w.Client]
	if gap := (Gap{Client: w.Client, From: last, To: w.Ended}); known && w.Ended.After(last) {
		c.gaps = append(c.gaps, gap)
	}
	if w.Ended.After(last) {
		c.last[w.Client] = w.Ended
	}
	if w.Began.After(c.began[w.Client]) {
		c.began[w.Client] = w.Began
	}
}

// NoteEnd writes the end of a session down.
func (c *Crowd) NoteEnd(e End) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ends = append(c.ends, e)
}

// Gap is the time between two acknowledgements that follow each other at one client.
type Gap struct {
	Client   int
	From, To time.Time
}

// Length of the gap.
func (g Gap) Length() time.Duration { return g.To.Sub(g.From) }

// Longest returns the longest gap that ended after since, of the clients for which it is asked.
func (c *Crowd) Longest(since time.Time, of func(client int) bool) Gap {
	return c.LongestAcross(since, time.Now(), of)
}

// LongestAcross is the same for the gaps that ended after since and began before until.
func (c *Crowd) LongestAcross(since, until time.Time, of func(client int) bool) (longest Gap) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, g := range c.gaps {
		if g.To.After(since) && g.From.Before(until) && of(g.Client) && g.Length() > longest.Length() {
			longest = g
		}
	}
	return longest
}

// Ends returns the sessions that ended, and the logins that were refused, after since, oldest first.
func (c *Crowd) Ends(since time.Time) (found []End) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.ends {
		if e.At.After(since) {
			found = append(found, e)
		}
	}
	slices.SortFunc(found, func(a, b End) int { return cmp.Or(a.At.Compare(b.At), a.Client-b.Client) })
	return found
}

// CommittedWithin counts the clients, of those for which it is asked, that were acknowledged a transaction between two instants.
func (c *Crowd) CommittedWithin(from, to time.Time, of func(client int) bool) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := map[int]bool{}
	for _, w := range c.work {
		if w.Outcome == Acknowledged && !w.Ended.Before(from) && !w.Ended.After(to) && of(w.Client) {
			seen[w.Client] = true
		}
	}
	return len(seen)
}

// committedSince counts the clients that were acknowledged a transaction that they began after an instant.
func (c *Crowd) committedSince(since time.Time) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, began := range c.began {
		if began.After(since) {
			n++
		}
	}
	return n
}

// Everyone is the choice of all clients.
func Everyone(int) bool { return true }
