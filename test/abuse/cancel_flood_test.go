package abuse

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/test/rig"
)

// Requests with forged keys never reach the server, however many; an honest one does, in the middle of them.
func TestForgedCancelRequestsReachNobody(t *testing.T) {
	const senders, each = 32, 100
	t.Parallel()
	f, x := startHostile(t, rig.Options{Extra: "[backend]\ntls = \"disable\"\n" + unhurried})
	known := x.cancels.Load()
	before := scrape(t, f.Proxy)
	busy := f.through.dial(t)
	defer busy.raw.Close()
	in(busy)
	busy.send(query("SELECT pg_sleep(60)"))
	f.awaitStatement(t, busy)

	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var flood sync.WaitGroup
	var forgeries atomic.Int64
	for sender := range senders {
		r := rand.New(rand.NewPCG(seed, uint64(sender)))
		flood.Go(func() {
			for range each {
				forged := key{pid: busy.key.pid, secret: word(int64(r.Uint32()))}
				if forged.secret == busy.key.secret {
					continue // one in four billion
				}
				if got := f.through.perform([]step{send(forged.request())}); got != "closed" {
					t.Errorf("a forged request got %q", got)
				}
				forgeries.Add(1)
			}
		})
	}
	for end := time.Now().Add(patience); forgeries.Load() < senders && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	began := time.Now()
	if got := f.through.perform([]step{send(busy.key.request())}); got != "closed" {
		t.Errorf("the honest request got %q", got)
	}
	busy.heard = nil
	for _, do := range []step{hear('Z'), leave, hear(0)} {
		do(busy)
	}
	if got := busy.transcript(); got != "T ERROR/57014 ZI closed" {
		t.Errorf("the session that was cancelled got %q", got)
	}
	t.Logf("an honest cancel amid the flood took %s", time.Since(began).Round(time.Millisecond))
	flood.Wait()
	f.awaitCounts(t, before, sum(honestCounts, counts{"cancels unknown_key": senders * each, "cancels forwarded": 1}))
	if got := x.cancels.Load() - known; got != 1 {
		t.Errorf("%d cancel requests reached the server, want the honest one", got)
	}
	x.witness.goesOn(t)
	f.honest(t)
	awaitFootprint(t, f.Proxy, f.before, 16<<20)
}

// awaitStatement waits until the server runs the session's statement: before that a cancel request has no effect.
func (f *front) awaitStatement(t *testing.T, p *peer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	running := fmt.Sprintf("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid = %d", p.key.pid)
	for {
		n, err := f.lab.Node(lab.RegionA).QueryText(ctx, "postgres", running)
		if err != nil {
			t.Fatal(err)
		}
		if n == "1" {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// One client that knows its own key cannot keep the server busy with it either.
func TestAFloodOfRightCancelRequestsIsLimited(t *testing.T) {
	const senders, each = 16, 40
	t.Parallel()
	f, x := startHostile(t, rig.Options{Extra: "[backend]\ntls = \"disable\"\n" + unhurried})
	known := x.cancels.Load()
	before := scrape(t, f.Proxy)
	began := time.Now()
	var flood sync.WaitGroup
	for range senders {
		flood.Go(func() {
			for range each {
				f.through.perform([]step{send(x.witness.key.request())})
			}
		})
	}
	flood.Wait()
	took := time.Since(began)
	grown := scrape(t, f.Proxy).since(before)
	reached := int(x.cancels.Load() - known)
	t.Logf("%s in %s; %d reached the server", grown, took.Round(time.Millisecond), reached)
	if grown["cancels forwarded"]+grown["cancels rate_limited"] != senders*each || grown["cancels forwarded"] != reached {
		t.Errorf("%d requests, counted %s, %d reached the server", senders*each, grown, reached)
	}
	// A burst of 200 and 50 in each second after that.
	if most := 200 + int(50*took.Seconds()) + 1; reached > most {
		t.Errorf("%d reached the server, want %d at most", reached, most)
	}
	f.honest(t)
	awaitFootprint(t, f.Proxy, f.before, 16<<20)
}
