package abuse

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgtether/pgtether/test/rig"
)

const (
	// pendingMost is how many connections pgtether keeps that have not sent a whole startup packet.
	pendingMost = 1024
	// memoryOfFlood bounds by how much the process may have grown while a flood is at its height, and after it.
	memoryOfFlood = 64 << 20
	// promptly is what a flood may cost an honest client; the best of a few shows it, on a machine that does other things too. How busy that is
	// shows what a login takes without the flood.
	promptly = 500 * time.Millisecond
)

// crowd is many connections of clients that do nothing.
type crowd struct {
	conns []*net.TCPConn
	// heard counts what they heard, in the words of peer.transcript.
	mu    sync.Mutex
	heard map[string]int
	gone  atomic.Int64
	g     sync.WaitGroup
}

// gather opens n connections, from many addresses, and lets each do what begin says.
func (f *front) gather(t *testing.T, n int, begin func(i int, p *peer)) *crowd {
	t.Helper()
	c := &crowd{conns: make([]*net.TCPConn, n), heard: map[string]int{}}
	var next atomic.Int64
	var g sync.WaitGroup
	for range 64 {
		g.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, byte(i>>8), byte(i)|1)}}
				conn, err := d.Dial("tcp", f.Listen)
				if err != nil {
					t.Error(err)
					return
				}
				c.conns[i] = conn.(*net.TCPConn)
				begin(i, &peer{side: f.through, raw: c.conns[i], conn: conn})
			}
		})
	}
	g.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return c
}

// listen counts those that the proxy ends, and what they heard.
func (c *crowd) listen() {
	for _, conn := range c.conns {
		c.g.Go(func() {
			p := &peer{raw: conn, conn: conn}
			for !p.over {
				p.message()
			}
			c.gone.Add(1)
			c.mu.Lock()
			defer c.mu.Unlock()
			c.heard[p.transcript()]++
		})
	}
}

// disperse closes all of them.
func (c *crowd) disperse() {
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.g.Wait()
}

// serves times honest logins.
func (f *front) serves(t *testing.T, what string) {
	t.Helper()
	var took []time.Duration
	for range 5 {
		began := time.Now()
		f.driver(t)
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	t.Logf("an honest login %s: %s to %s", what, took[0].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond))
	if most := promptly + 4*f.calm; took[0] > most {
		t.Errorf("an honest login %s took %s at best, want less than %s; without a flood it took %s", what, took[0], most, f.calm)
	}
}

// servesAmid times honest logins while a flood comes in. Whoever is turned away at limits.max_clients in that moment tries again at once, as a
// pool does; how often that happened is returned.
func (f *front) servesAmid(t *testing.T, what string) (turnedAway int) {
	t.Helper()
	var took []time.Duration
	for range 5 {
		began := time.Now()
		for {
			err := f.tryDriver()
			if err == nil {
				break
			}
			if pg := (*pgconn.PgError)(nil); !errors.As(err, &pg) || pg.Code != "53300" {
				t.Errorf("an honest login %s: %v", what, err)
				return turnedAway
			}
			turnedAway++
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	t.Logf("an honest login %s: %s to %s, turned away %d times", what, took[0].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond), turnedAway)
	if most := promptly + 4*f.calm; took[0] > most {
		t.Errorf("an honest login %s took %s at best, want less than %s; without a flood it took %s", what, took[0], most, f.calm)
	}
	return turnedAway
}

// requireDescriptors fails where the system does not let this process hold enough connections.
func requireDescriptors(t *testing.T, n uint64) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < n {
		t.Fatalf("this test holds %d connections; the limit of descriptors is %d (%v)", n, limit.Cur, err)
	}
}

// The floods are measured: nothing else of this package runs beside them.

// halfLogins are beginnings that do not become a startup packet.
var halfLogins = []string{"", "\x00", word(100), word(100) + word(version30), loginAs(trusted)[:30], loginAs(trusted)[:len(loginAs(trusted))-1]}

func TestTenThousandHalfLogins(t *testing.T) {
	const n = 10_000
	requireDescriptors(t, n+2000)
	f := startFront(t, inClear, rig.Options{Extra: unhurried})
	before := scrape(t, f.Proxy)
	began := time.Now()
	half := f.gather(t, n, beginHalf)
	t.Logf("%d half logins came in %s", n, time.Since(began).Round(time.Millisecond))
	// The oldest made room, one for each that came.
	before = f.awaitCounts(t, before, counts{"refusals startup_timeout": n - pendingMost})
	now := footprintOf(t, f.Proxy)
	t.Logf("before: %s; with %d half logins: %s", f.before, n, now)
	if now.rss > f.before.rss+memoryOfFlood || now.descriptors > f.before.descriptors+pendingMost+slackDescriptors {
		t.Errorf("it holds %s, before it held %s", now, f.before)
	}
	f.serves(t, fmt.Sprintf("behind %d half logins", n))
	// The first of them took the place of one more; the others found that one's.
	f.awaitCounts(t, before, counts{"refusals startup_timeout": 1, "logins pinned": 5, "sessions client": 5})
	half.disperse()
	awaitFootprint(t, f.Proxy, f.before, memoryOfFlood)
	// A second flood finds room in what the first has left behind.
	after := footprintOf(t, f.Proxy)
	f.gather(t, n/4, beginHalf).disperse()
	awaitFootprint(t, f.Proxy, footprint{rss: after.rss, descriptors: f.before.descriptors, goroutines: f.before.goroutines}, 8<<20)
	f.honest(t)
}

// beginHalf leaves a client somewhere before the end of its startup packet.
func beginHalf(i int, p *peer) {
	if i %= len(halfLogins) + 1; i < len(halfLogins) {
		p.send(halfLogins[i])
		return
	}
	p.send(sslRequest)
	answer(p)
}

func TestAnHonestLoginBehindSilentConnections(t *testing.T) {
	const n = 2000
	f := startFront(t, inClear, rig.Options{Extra: unhurried})
	silent := f.gather(t, n, func(int, *peer) {})
	f.serves(t, fmt.Sprintf("behind %d connections without a startup packet", n))
	silent.disperse()
	awaitFootprint(t, f.Proxy, f.before, memoryOfFlood)
}

func TestAnHonestLoginBehindHalfHandshakes(t *testing.T) {
	const n = 1500
	f := startFront(t, encrypted, rig.Options{ListenKeys: certificate("allow"), Extra: unhurried})
	silent := f.gather(t, n, func(i int, p *peer) {
		switch i % 3 {
		case 0: // not a byte of TLS
			p.send(sslRequest)
			answer(p)
		case 1: // half of a ClientHello
			p.send(sslRequest)
			answer(p)
			p.send(clientHello(3)[:20])
		case 2: // half of one that comes directly
			p.send(clientHello(3)[:20])
		}
	})
	f.serves(t, fmt.Sprintf("behind %d handshakes that were only begun", n))
	silent.disperse()
	awaitFootprint(t, f.Proxy, f.before, memoryOfFlood)
}

func TestAnHonestLoginBehindSilentLogins(t *testing.T) {
	const n = 2000
	f := startFront(t, inClear, rig.Options{Extra: unhurried})
	// Both are told as 53300: who is turned away for another, and who has waited in the line for as long as that is allowed.
	f.alike = map[string]string{"refusals hold_queue_full": "refusals too_many_clients"}
	before := scrape(t, f.Proxy)
	began := time.Now()
	var during sync.WaitGroup
	var first atomic.Bool
	turnedAway := 0 // read once during has ended
	silent := f.gather(t, n, func(i int, p *peer) {
		p.send(loginAs(cleartext))
		if i > n/2 && first.CompareAndSwap(false, true) {
			during.Go(func() { turnedAway = f.servesAmid(t, "amid logins that are silent after the password request") })
		}
	})
	silent.listen()
	during.Wait()
	f.serves(t, fmt.Sprintf("behind %d logins that are silent after the password request", n))
	// Those that made room are gone, and counted; what each was told is what was counted.
	settled := silent.settle(t)
	t.Logf("%d silent logins came and settled in %s; they heard %v", n, time.Since(began).Round(time.Millisecond), settled)
	want := counts{"logins pinned": 10, "sessions client": 10}
	if turnedAway > 0 {
		want = sum(want, counts{"refusals too_many_clients": turnedAway, "logins refused": turnedAway})
	}
	for heard, count := range settled {
		switch heard {
		case "closed", "R3 closed":
			want = sum(want, counts{"refusals startup_timeout": count, "logins refused": count})
		case "FATAL/53300 closed":
			want = sum(want, counts{"refusals too_many_clients": count, "logins refused": count})
		default:
			t.Errorf("%d silent logins heard %q", count, heard)
		}
	}
	f.awaitCounts(t, before, want)
	silent.disperse()
	awaitFootprint(t, f.Proxy, f.before, memoryOfFlood)
	f.honest(t)
}

// settle waits until no more of them are ended, and returns what those heard.
func (c *crowd) settle(t *testing.T) map[string]int {
	t.Helper()
	for last, still := int64(-1), 0; still < 10; time.Sleep(100 * time.Millisecond) {
		now := c.gone.Load()
		if still++; now != last {
			last, still = now, 0
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.heard)
}

// Clients that never read what they have asked for cost a bounded amount of memory, and what they have not read is not lost.
func TestClientsThatNeverRead(t *testing.T) {
	const (
		clients = 8
		rows    = 64 << 10 // of 1 KiB each: 64 MiB for each client
	)
	t.Parallel()
	f := startFront(t, inClear, rig.Options{Extra: unhurried})
	before := scrape(t, f.Proxy)
	var all []*peer
	for range clients {
		p := f.through.dial(t)
		defer p.raw.Close()
		in(p)
		p.send(query(fmt.Sprintf("COPY (SELECT repeat('x', 1023) FROM generate_series(1, %d)) TO STDOUT", rows)))
		all = append(all, p)
	}
	f.awaitStandstill(t)
	now := footprintOf(t, f.Proxy)
	t.Logf("before: %s; with %d clients that do not read 64 MiB each: %s", f.before, clients, now)
	if now.rss > f.before.rss+16<<20 {
		t.Errorf("it holds %s, before it held %s", now, f.before)
	}
	f.honest(t)
	// One reads after all, and misses nothing. The others go.
	reader := all[0]
	reader.renew()
	if typ, _ := reader.message(); typ != 'H' {
		t.Fatalf("the answer begins with %q", typ)
	}
	n, err := io.CopyN(io.Discard, reader.conn, rows*(1024+5))
	if err != nil {
		t.Fatalf("after %d bytes: %v", n, err)
	}
	for _, do := range []step{hear('Z'), leave, hear(0)} {
		do(reader)
	}
	if got := reader.transcript(); got != "in H c C ZI closed" {
		t.Errorf("the one that read got %q", got)
	}
	for _, p := range all[1:] {
		reset(p)
	}
	f.awaitCounts(t, before, sum(honestCounts, honestCounts, counts{
		"logins pinned": clients - 1, "sessions client_lost": clients - 1, "cancels forwarded": clients - 1}))
	awaitFootprint(t, f.Proxy, f.before, 16<<20)
}

// awaitStandstill waits until nothing is forwarded any more.
func (f *front) awaitStandstill(t *testing.T) {
	t.Helper()
	const forwarded = `pgtether_forwarded_bytes_total{direction="server_to_client"}`
	for last, still := -1.0, 0; still < 5; time.Sleep(100 * time.Millisecond) {
		now := scrape(t, f.Proxy)[forwarded]
		if still++; now != last || now == 0 {
			last, still = now, 0
		}
	}
}

// A server that never reads stops its client, and nothing else.
func TestAServerThatNeverReads(t *testing.T) {
	t.Parallel()
	f, x := startHostile(t, rig.Options{Extra: "[backend]\ntls = \"disable\"\n" + unhurried})
	before := scrape(t, f.Proxy)
	over := make(chan struct{})
	x.stage("deaf", &act{play: func(i *impostor) { i.say(loggedIn); <-over }})
	p := f.through.dial(t)
	defer p.raw.Close()
	p.send(loginAs(trusted, "application_name", "deaf"))
	inAfter(p)
	_ = p.raw.SetWriteDeadline(time.Now().Add(2 * time.Second))
	chunk := lying('d', 64<<10, string(make([]byte, 64<<10-4)))
	sent := 0
	for ; sent < 1<<30; sent += len(chunk) {
		if _, err := io.WriteString(p.conn, chunk); err != nil {
			break
		}
	}
	now := footprintOf(t, f.Proxy)
	t.Logf("before: %s; with %d MiB sent to a server that does not read: %s", f.before, sent>>20, now)
	if sent >= 1<<30 || now.rss > f.before.rss+16<<20 {
		t.Errorf("it took %d bytes and holds %s, before it held %s", sent, now, f.before)
	}
	f.honest(t)
	close(over)
	p.renew()
	if hear(0)(p); p.transcript() != "in FATAL/08006 closed" {
		t.Errorf("when the server has gone its client gets %q", p.transcript())
	}
	x.witness.goesOn(t)
	f.awaitCounts(t, before, sum(honestCounts, lostWriter))
	awaitFootprint(t, f.Proxy, f.before, 16<<20)
}
