package proxy

import (
	"net"
	"net/netip"
	"testing"

	"github.com/pgtether/pgtether/internal/pgwire"
)

func TestEachLimitHasItsOwnReason(t *testing.T) {
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	l := LimitsConfig{MaxClients: 5, PerUser: 2, PerDatabase: 3, PerAddress: 4}
	c := newCounts()
	steps := []struct {
		who  identity
		want pgwire.Reason
	}{
		{identity{"u1", "d1", a}, 0},
		{identity{"u1", "d1", a}, 0},
		{identity{"u1", "d2", a}, pgwire.TooManyForUser},
		{identity{"u2", "d1", a}, 0},
		{identity{"u3", "d1", b}, pgwire.TooManyForDatabase},
		{identity{"u3", "d2", a}, 0},
		{identity{"u4", "d3", a}, pgwire.TooManyForAddress},
		{identity{"u4", "d3", b}, 0},
		{identity{"u5", "d4", b}, pgwire.TooManyClients},
	}
	for i, s := range steps {
		if got, ok := c.take(l, s.who); got != s.want || ok != (s.want == 0) {
			t.Errorf("step %d: %v gave %s, %v; want %s", i, s.who, got, ok, s.want)
		}
	}
	for _, s := range steps {
		if s.want == 0 {
			c.give(s.who)
		}
	}
	if c.total != 0 || len(c.user)+len(c.database)+len(c.addresses) != 0 {
		t.Errorf("left over after everybody has gone: %+v", c)
	}
}

func TestZeroMeansNoLimit(t *testing.T) {
	c := newCounts()
	for range 100 {
		if reason, ok := c.take(LimitsConfig{MaxClients: 100}, identity{user: "u"}); !ok {
			t.Fatalf("refused: %s", reason)
		}
	}
}

func TestAFullPendingTableDropsTheOldest(t *testing.T) {
	p := pending{max: 3}
	var removes []func() bool
	var clients []net.Conn
	for range 5 {
		client, conn := tcpPair(t)
		defer client.Close()
		defer conn.Close()
		clients, removes = append(clients, client), append(removes, p.add(newClientLeg(conn, patience)))
	}
	for i, want := range []bool{false, false, true, true, true} {
		if got := removes[i](); got != want {
			t.Errorf("connection %d still there: %v, want %v", i, got, want)
		}
		if !want {
			if _, err := clients[i].Read(make([]byte, 1)); err == nil {
				t.Errorf("connection %d was not closed", i)
			}
		}
	}
	if !removes[2]() || p.size() != 0 {
		t.Errorf("%d left; taking out twice must do no harm", p.size())
	}
	if p.drop(10) != 0 {
		t.Error("dropped connections from an empty table")
	}
}
