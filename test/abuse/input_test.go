package abuse

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/pgtether/pgtether/internal/lab"
)

// input is one bad input.
type input struct {
	name string
	does []step
	// want is what comes back, in the words of peer.transcript: through pgtether, and straight from PostgreSQL unless it differs.
	want string
	// differs names why pgtether gives something else; postgres is then what PostgreSQL gives.
	differs  *difference
	postgres string
	// counts are the counters that grow; every other one must not.
	counts counts
}

// refused is what is counted for a client that is refused before its startup packet was complete and right.
func refused(reason string) counts { return counts{"refusals " + reason: 1} }

// refusedLogin is what is counted for one that is refused after that.
func refusedLogin(reason string) counts {
	return counts{"refusals " + reason: 1, "logins refused": 1}
}

var (
	// nothing is counted for a client that goes away before it has said who it is: nobody has refused it.
	nothing = counts{}
	// serverRefused: the server has said no. clientGone: the client went away during its login.
	serverRefused = counts{"logins server_refused": 1}
	clientGone    = counts{"logins client_gone": 1}
	// leftIt: a session that its client has left. endedByServer: one that the server has ended. lostClient: one whose client was lost.
	leftIt        = honestCounts
	endedByServer = counts{"logins pinned": 1, "sessions server": 1}
	lostClient    = counts{"logins pinned": 1, "sessions client_lost": 1}
)

// compare runs every input straight and through the proxy, one after the other through the proxy: what is counted must be that input's, and an
// honest client must be served after each.
func (f *front) compare(t *testing.T, inputs []input) {
	straight := f.straight(t, inputs)
	before := scrape(t, f.Proxy)
	for i, in := range inputs {
		t.Run(in.name, func(t *testing.T) {
			in.checkStraight(t, <-straight[i])
			began := time.Now()
			if got := f.through.perform(in.does); got != in.want {
				t.Errorf("pgtether gives %q, want %q (%s)", got, in.want, time.Since(began).Round(time.Millisecond))
			}
			f.honest(t)
			before = f.awaitCounts(t, before, sum(in.counts, honestCounts))
		})
	}
	f.driver(t)
	f.awaitCounts(t, before, honestCounts)
}

// straight runs the inputs against PostgreSQL itself, a few at a time.
func (f *front) straight(t *testing.T, inputs []input) []chan string {
	results := make([]chan string, len(inputs))
	for i := range results {
		results[i] = make(chan string, 1)
	}
	var g sync.WaitGroup
	t.Cleanup(g.Wait)
	slots := make(chan struct{}, 4)
	g.Go(func() {
		for i, in := range inputs {
			slots <- struct{}{}
			g.Go(func() {
				defer func() { <-slots }()
				results[i] <- f.direct.perform(in.does)
			})
		}
	})
	return results
}

func (in input) checkStraight(t *testing.T, got string) {
	t.Helper()
	want := in.want
	if in.differs != nil && in.differs.applies() {
		want = in.postgres
	}
	if got != want {
		t.Errorf("PostgreSQL gives %q, want %q", got, want)
	}
	if in.differs != nil && in.postgres == in.want {
		t.Errorf("%q is no difference", in.want)
	}
}

// compareAtOnce runs inputs that take their time all at once. What is counted must be the sum of what each adds, and the proxy must end each
// within the bounds.
func (f *front) compareAtOnce(t *testing.T, inputs []input, least, most time.Duration) {
	straight := f.straightAtOnce(t, inputs)
	before := scrape(t, f.Proxy)
	var want counts
	var g sync.WaitGroup
	got, took := make([]string, len(inputs)), make([]time.Duration, len(inputs))
	for i, in := range inputs {
		want = sum(want, in.counts)
		g.Go(func() {
			began := time.Now()
			got[i] = f.through.perform(in.does)
			took[i] = time.Since(began)
		})
	}
	g.Wait()
	for i, in := range inputs {
		t.Run(in.name, func(t *testing.T) {
			in.checkStraight(t, <-straight[i])
			if got[i] != in.want {
				t.Errorf("pgtether gives %q, want %q", got[i], in.want)
			}
			if took[i] < least || took[i] > most {
				t.Errorf("after %s, want %s to %s", took[i].Round(time.Millisecond), least, most)
			}
		})
	}
	before = f.awaitCounts(t, before, want)
	f.honest(t)
	f.driver(t)
	f.awaitCounts(t, before, sum(honestCounts, honestCounts))
}

func (f *front) straightAtOnce(t *testing.T, inputs []input) []chan string {
	results := make([]chan string, len(inputs))
	var g sync.WaitGroup
	t.Cleanup(g.Wait)
	for i, in := range inputs {
		results[i] = make(chan string, 1)
		g.Go(func() { results[i] <- f.direct.perform(in.does) })
	}
	return results
}

func nth(n int, of string) string { return fmt.Sprintf("%s, %d bytes of it", of, n) }

// applies reports whether the server here differs: some servers do as pgtether does.
func (d *difference) applies() bool {
	switch d {
	case noGSS:
		return serverHasGSS()
	case directTLS, otherALPN:
		return encrypted.Version() < 17
	}
	return true
}

// serverHasGSS reports whether the server was built with GSSAPI.
var serverHasGSS = sync.OnceValue(func() bool {
	conn, err := net.DialTimeout("tcp", inClear.Node(lab.RegionA).Addr(), patience)
	if err != nil {
		return false
	}
	defer conn.Close()
	p := &peer{conn: conn}
	_ = conn.SetDeadline(time.Now().Add(patience))
	p.send(gssRequest)
	b, ok := p.take(1)
	return ok && b[0] == 'G'
})
