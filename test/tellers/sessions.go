package tellers

import (
	"slices"
	"time"
)

// Session names a connection of a client: of which kind of client, and which of them. The crowd's own are of the kind "".
type Session struct {
	Kind   string
	Number int
}

// Met is one server process that answered a session: from its first answer to its last one.
type Met struct {
	Process     uint32
	First, Last time.Time
}

// Meet notes which server process answered a session, and when.
func (c *Crowd) Meet(s Session, process uint32, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	met := c.backends[s]
	switch n := len(met); {
	case n > 0 && met[n-1].Process == process:
		met[n-1].Last = at
		return
	case n > 1 && met[n-2].Process == process && at.Before(met[n-1].First): // told late
		return
	}
	c.backends[s] = append(met, Met{Process: process, First: at, Last: at})
}

// Moved counts the sessions that were answered by more than one server process, and those that the crowd has opened.
func (c *Crowd) Moved() (moved, sessions int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, met := range c.backends {
		if len(met) > 1 {
			moved++
		}
	}
	return moved, c.opened
}

// Kept says what became of the sessions of one kind in a change of the writer.
type Kept struct {
	// Before were answered before it, Kept of them afterwards too, by another process than before.
	Before, Kept int
	// Stayed were answered afterwards by the process that had answered before, Silent by none, and New are sessions that were not there before.
	Stayed, Silent, New int
}

// Whole says whether each of so many sessions lives on and has moved, and there is no other.
func (k Kept) Whole(sessions int) bool { return k == Kept{Before: sessions, Kept: sessions} }

// Kept tells what became of the sessions of a kind in a change that was ordered at one instant and over at another, from what they were answered
// until a third. A session that was not answered before the order was not there before.
func (c *Crowd) Kept(kind string, ordered, over, until time.Time) (k Kept) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for s, met := range c.backends {
		if s.Kind != kind {
			continue
		}
		before, was := within(met, time.Time{}, ordered)
		after, is := within(met, over, until)
		switch {
		case !was && is:
			k.New++
		case !was:
		case !is:
			k.Silent++
		case before == after:
			k.Stayed++
		default:
			k.Kept++
		}
	}
	k.Before = k.Kept + k.Stayed + k.Silent
	return k
}

// within returns the process that answered last between two instants.
func within(met []Met, from, to time.Time) (process uint32, found bool) {
	for _, m := range slices.Backward(met) {
		if !m.First.After(to) && !m.Last.Before(from) {
			return m.Process, true
		}
	}
	return 0, false
}
