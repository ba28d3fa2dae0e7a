package proxy

import (
	"net/netip"
	"sync"

	"github.com/pgtether/pgtether/internal/pgwire"
)

// identity is what a client is counted by.
type identity struct {
	user, database string
	address        netip.Addr
}

// counts holds how many clients there are, from the complete startup packet to the end of the session.
type counts struct {
	mu        sync.Mutex
	total     int
	user      map[string]int
	database  map[string]int
	addresses map[netip.Addr]int
}

func newCounts() *counts {
	return &counts{user: map[string]int{}, database: map[string]int{}, addresses: map[netip.Addr]int{}}
}

// take counts one client in, or says which limit it would break.
func (c *counts) take(l LimitsConfig, who identity) (reason pgwire.Reason, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.total >= l.MaxClients:
		return pgwire.TooManyClients, false
	case l.PerAddress > 0 && c.addresses[who.address] >= l.PerAddress:
		return pgwire.TooManyForAddress, false
	case l.PerUser > 0 && c.user[who.user] >= l.PerUser:
		return pgwire.TooManyForUser, false
	case l.PerDatabase > 0 && c.database[who.database] >= l.PerDatabase:
		return pgwire.TooManyForDatabase, false
	}
	c.total++
	c.addresses[who.address]++
	c.user[who.user]++
	c.database[who.database]++
	return 0, true
}

// give counts one client out.
func (c *counts) give(who identity) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total--
	less(c.addresses, who.address)
	less(c.user, who.user)
	less(c.database, who.database)
}

// less takes one off and forgets a key that nobody uses: names come from the network.
func less[K comparable](m map[K]int, key K) {
	if m[key]--; m[key] <= 0 {
		delete(m, key)
	}
}
