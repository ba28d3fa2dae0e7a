package health

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgtether/pgtether/decision"
)

// The parameters are most of what a round costs the server. A glance asks for them when the configuration was read again, and every five seconds: a grant
// may show what was hidden.
func TestAGlanceAsksForTheSettingsOnlyWhenTheyMayBeOthers(t *testing.T) {
	same50 := func(a []answer) { show(a, "max_connections", "50") } // without another reading of the configuration
	glance, probe := (*Prober).Glance, (*Prober).Probe
	for _, c := range []struct {
		name          string
		before, after func(a []answer)
		elapsed       time.Duration
		round         func(*Prober, context.Context, Target) decision.Observation
		want          int
	}{
		{"nothing was read", nil, same50, 0, glance, 100},
		{"nothing was read for less than five seconds", nil, same50, FreshEvery - 1, glance, 100},
		{"nothing was read for five seconds", nil, same50, FreshEvery, glance, 50},
		{"a round of all ways", nil, same50, 0, probe, 50},
		{"the configuration was read", nil, func(a []answer) { set(a, "max_connections", "50") }, 0, glance, 50},
		{"nobody can tell any more", nil, func(a []answer) { same50(a); forgetLoaded(a) }, 0, glance, 50},
		{"nobody could ever tell", forgetLoaded, func(a []answer) { same50(a); forgetLoaded(a) }, 0, glance, 50},
	} {
		t.Run(c.name, func(t *testing.T) {
			first, later := whole(), whole()
			if c.before != nil {
				c.before(first)
			}
			c.after(later)
			var changed atomic.Bool
			f := newFake(t, readStartup, login(), func(c *fakeConn) error {
				if changed.Load() {
					return nil
				}
				return serve(first)(c)
			}, always(later))
			var now atomic.Int64
			p := NewProber(func() decision.Instant { return decision.Instant(now.Load()) })
			defer p.Close()
			target := fakeTarget(f.addr, 10*time.Second)
			o := p.Probe(t.Context(), target)
			answersEverywhere(t, o)
			same(t, "before", o.Settings.MaxConnections, decision.Some(100))
			p.proof.at = decision.Instant(time.Hour) // no login is due
			changed.Store(true)
			now.Store(int64(c.elapsed))
			for range 2 {
				o = c.round(p, t.Context(), target)
				answersEverywhere(t, o)
				same(t, "after", o.Settings.MaxConnections, decision.Some(c.want))
				same(t, "a setting of which nothing is said", o.Settings.WalReceiverTimeout, decision.Some(5*time.Second))
			}
		})
	}
}

func forgetLoaded(a []answer) {
	a[askSettings].rows = slices.DeleteFunc(a[askSettings].rows, func(r row) bool { return r["name"] == loadedName })
}

// What one session was told is nothing that another one knows.
func TestANewSessionIsToldOfTheSettings(t *testing.T) {
	later := whole()
	later[askSettings].rows[0]["setting"] = "50"
	f := newFake(t, readStartup, login(), serve(whole()))
	p := newProber(t)
	target := fakeTarget(f.addr, 10*time.Second)
	p.Probe(t.Context(), target)
	g := newFake(t, readStartup, login(), always(later))
	p.proof.at, target.Address = p.now(), g.addr
	for range 2 {
		same(t, "max_connections", p.Glance(t.Context(), target).Settings.MaxConnections, decision.Some(50))
	}
}
