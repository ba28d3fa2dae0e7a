package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgtether/pgtether/internal/pgwire"
)

// startOnLoops is startServer whatever the environment says.
func startOnLoops(t *testing.T, cfg Config, deps Deps) *harness {
	t.Helper()
	t.Setenv(forwarderVariable, "loops")
	return startServer(t, cfg, deps)
}

// seated are the logins and sessions that the server has on its loops, by how many of each.
func (h *harness) seated() (logins, pairs int) {
	for _, l := range h.forwarder.(*forwarders).loops.loops {
		l.call(func() {
			for _, slot := range l.slots {
				switch {
				case slot.run == nil:
				case slot.run.login != nil:
					logins++
				default:
					pairs++
				}
			}
		})
	}
	return logins, pairs
}

// runs returns the pairs on the loops.
func (h *harness) runs() (runs []*loopRun) {
	f := h.forwarder.(*forwarders).loops
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.runs {
		runs = append(runs, r)
	}
	return runs
}

// reachable are the ways to name a node.
func reachable(pg *fakePG) map[string]Route {
	_, port, _ := net.SplitHostPort(pg.addr)
	return map[string]Route{"literal": pg.route(1), "name": {Epoch: 1, Node: "region-a", Address: "localhost:" + port}}
}

func TestALoginRunsOnALoopFromItsFirstByteOn(t *testing.T) {
	pg := startFakePG(t, withPassword)
	for name, route := range reachable(pg) {
		t.Run(name, func(t *testing.T) {
			h := startOnLoops(t, testConfig(), Deps{})
			h.open(route)
			for i := range 3 {
				c := h.dial()
				eventually(t, "it is on a loop", func() bool { logins, _ := h.seated(); return logins == 1 })
				c.write(startupPacket(pgwire.Version30, "user", "app", "database", "db"))
				if m, err := c.message(); m != "R 3" {
					t.Fatalf("not asked for a password but %q (%v)", m, err)
				}
				// A name is resolved elsewhere, and what it led to is used for a while.
				if logins, _ := h.seated(); (logins == 1) != (name == "literal" || i > 0) {
					t.Errorf("login %d: %d on loops while the client is asked", i, logins)
				}
				c.write(authFrame('p', []byte("secret\x00")))
				if got := c.messages(); got[len(got)-1] != "Z I" {
					t.Fatalf("login ended with %q", got)
				}
				same(t, "served", c.query("x"), []string{"D x", "C SELECT 1", "Z I"})
			}
			eventually(t, "all are sessions on loops", func() bool { logins, pairs := h.seated(); return logins == 0 && pairs == 3 })
		})
	}
}

func TestANameThatLeadsElsewhereNowIsAskedAgain(t *testing.T) {
	pg := startFakePG(t, aPrimary)
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := netip.MustParseAddrPort(gone.Addr().String())
	_ = gone.Close()
	h := startOnLoops(t, testConfig(), Deps{})
	h.open(reachable(pg)["name"])
	route := h.table.current()
	route.resolved.Store(&resolution{at: nobody, until: time.Now().Add(time.Minute)})
	h.login()
	if at := route.resolved.Load().at; at == nobody || at.Port() != netip.MustParseAddrPort(pg.addr).Port() {
		t.Errorf("the name led to %s", at)
	}
	route.resolved.Store(&resolution{at: nobody, until: time.Now().Add(-time.Nanosecond)})
	if _, _, ok := route.target(); ok {
		t.Error("an old answer is used")
	}
}

// What a socket of the runtime's has, one of the loops has too.
func TestSocketsOnLoopsHaveTheOptionsOfOthers(t *testing.T) {
	pg := startFakePG(t, aPrimary)
	h := startOnLoops(t, testConfig(), Deps{})
	h.open(pg.route(1))
	h.login()
	eventually(t, "it is a session", func() bool { _, pairs := h.seated(); return pairs == 1 })
	run := h.runs()[0]
	var client, server int32
	run.loop.call(func() { client, server = run.client.fd, run.server.fd })
	for _, s := range []struct {
		of          string
		fd          int32
		keep        net.KeepAliveConfig
		userTimeout time.Duration
	}{{"client", client, clientKeepAlive, 0}, {"server", server, backendKeepAlive, backendUserTimeout}} {
		for _, o := range []struct{ level, name, want int }{
			{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
			{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
			{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(s.keep.Idle.Seconds())},
			{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(s.keep.Interval.Seconds())},
			{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, s.keep.Count},
			{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(s.userTimeout.Milliseconds())},
		} {
			if got, err := unix.GetsockoptInt(int(s.fd), o.level, o.name); err != nil || got != o.want {
				t.Errorf("%s: option %d is %d (%v), want %d", s.of, o.name, got, err, o.want)
			}
		}
		if flags, err := unix.FcntlInt(uintptr(s.fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("%s: a child would inherit it", s.of)
		}
	}
}

// A loop goes on while logins on it wait: for their clients, for their servers, for a writer.
func TestALoginThatWaitsKeepsNobody(t *testing.T) {
	working := make(chan struct{})
	pg := startFakePG(t, func(c *fakeConn) {
		if !c.accept() {
			return
		}
		if bytes.Contains(c.startup, []byte("slow")) {
			<-working
		}
		c.loggedIn("off")
		c.serve()
	})
	h := startOnLoops(t, testConfig(), Deps{})
	h.open(pg.route(1))
	busy := h.login()
	silent, half, slow := h.dial(), h.dial(), h.dial()
	half.write(startupPacket(pgwire.Version30, "user", "app")[:7])
	slow.write(startupPacket(pgwire.Version30, "user", "app", "database", "slow"))
	eventually(t, "they wait", func() bool { logins, _ := h.seated(); return logins == 3 && pg.count() == 2 })
	same(t, "another session", busy.query("x"), []string{"D x", "C SELECT 1", "Z I"})
	h.login()
	close(working)
	if got := slow.messages(); got[len(got)-1] != "Z I" {
		t.Errorf("the slow login ended with %q", got)
	}
	h.Hold("promoting")
	held := h.start()
	eventually(t, "it waits for a writer", func() bool { return h.Stats().Held == 1 })
	if logins, _ := h.seated(); logins != 2 { // silent and half
		t.Errorf("%d logins on loops", logins)
	}
	same(t, "another session", busy.query("y"), []string{"D y", "C SELECT 1", "Z I"})
	h.open(pg.route(1))
	if got := held.messages(); got[len(got)-1] != "Z I" {
		t.Errorf("the held login ended with %q", got)
	}
	_ = silent.Close()
	eventually(t, "it is forgotten", func() bool { logins, _ := h.seated(); return logins == 1 })
}

// A client may send its packets in any pieces, and more than was asked for.
func TestALoginOnALoopTakesWhatComes(t *testing.T) {
	pg := startFakePG(t, withPassword)
	h := startOnLoops(t, testConfig(), Deps{})
	h.open(pg.route(1))
	all := bytes.Join([][]byte{
		startupPacket(pgwire.Version30, "user", "app", "database", strings.Repeat("d", 600)), authFrame('p', []byte("secret\x00")), []byte(simple("x")), []byte(simple("y"))}, nil)
	for _, piece := range []int{1, 7, 511, 512, 513, len(all)} {
		c := h.dial()
		for rest := all; len(rest) > 0; {
			n := min(piece, len(rest))
			c.write(rest[:n])
			rest = rest[n:]
		}
		if m, err := c.message(); m != "R 3" {
			t.Fatalf("not asked for a password but %q (%v)", m, err)
		}
		if got := c.messages(); got[len(got)-1] != "Z I" {
			t.Fatalf("pieces of %d: login ended with %q", piece, got)
		}
		same(t, "first", c.messages(), []string{"D x", "C SELECT 1", "Z I"})
		same(t, "second", c.messages(), []string{"D y", "C SELECT 1", "Z I"})
	}
}

// A cut may come at any moment of a login: its client always gets an end, and nothing is left behind.
func TestALoginCanBeCutAtAnyMoment(t *testing.T) {
	before := descriptors(t)
	t.Run("logins", func(t *testing.T) {
		pg := startFakePG(t, withPassword)
		h := startOnLoops(t, testConfig(), Deps{})
		for i := range 150 {
			epoch := uint64(i + 1)
			h.open(pg.route(epoch))
			var racing sync.WaitGroup
			for range 4 {
				c := h.start()
				racing.Go(func() {
					defer c.Close()
					_ = c.SetDeadline(time.Now().Add(patience))
					_, _ = c.Conn.Write(append(authFrame('p', []byte("secret\x00")), simple("x")...))
					if _, err := io.Copy(io.Discard, c.Conn); err != nil && !isReset(err) {
						t.Errorf("cut %d: a client was left hanging: %v", i, err)
					}
				})
			}
			time.Sleep(time.Duration(i%30) * 40 * time.Microsecond)
			h.Cut(epoch, pgwire.WriterLost)
			h.Refuse() // those that have heard nothing do not wait for the next
			racing.Wait()
		}
		eventually(t, "no login is left", func() bool { logins, pairs := h.seated(); return logins == 0 && pairs == 0 })
		if h.clients() != 0 {
			t.Errorf("%d clients left", h.clients())
		}
	})
	eventually(t, "all descriptors are closed", func() bool { return descriptors(t) <= before })
}

// boundSocket returns a socket that has an address and neither listens nor is connected.
func boundSocket(t *testing.T) (fd int, at netip.AddrPort) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fd, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(name.(*unix.SockaddrInet4).Port))
}

// An unreachable node is given up when the login is: by a cut, by a stop, by its deadline.
func TestADialOnALoopEnds(t *testing.T) {
	// A listener whose queue is full answers no more: a connection to it stays under way.
	fd, at := boundSocket(t)
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	address := at.String()
	for range 2 {
		if c, err := net.DialTimeout("tcp", address, 200*time.Millisecond); err == nil {
			defer c.Close()
		}
	}
	dialling := func(t *testing.T, within time.Duration) (*harness, *testClient) {
		cfg := testConfig()
		cfg.Backend.ConnectTimeout, cfg.Hold.Login = within, 200*time.Millisecond
		h := startOnLoops(t, cfg, Deps{})
		h.open(Route{Epoch: 1, Node: "region-a", Address: address})
		c := h.start()
		eventually(t, "it dials", func() bool {
			logins, _ := h.seated()
			return logins == 1 && len(h.table.upTo(1)) == 1
		})
		return h, c
	}
	t.Run("cut", func(t *testing.T) {
		h, c := dialling(t, time.Minute)
		h.Refuse()
		h.Cut(1, pgwire.WriterLost)
		same(t, "the client", c.messages(), []string{fatal(pgwire.Promoting)})
	})
	t.Run("stop", func(t *testing.T) {
		h, c := dialling(t, time.Minute)
		result := h.shutdown(context.Background())
		same(t, "the client", c.messages(), []string{fatal(pgwire.ShuttingDown)})
		if err := <-result; err != nil {
			t.Error(err)
		}
	})
	t.Run("deadline", func(t *testing.T) {
		_, c := dialling(t, 300*time.Millisecond)
		same(t, "the client", c.messages(), []string{fatal(pgwire.NoWriter)})
	})
}

// Logins one after the other share the coroutines of their loop.
func TestLoginsLeaveNoGoroutineBehind(t *testing.T) {
	pg := startFakePG(t, aPrimary)
	h := startOnLoops(t, testConfig(), Deps{})
	h.open(pg.route(1))
	h.login()
	before := runtime.NumGoroutine()
	for range 100 {
		c := h.login()
		c.write(sayTerminate)
		_ = c.Close()
	}
	eventually(t, "they are gone", func() bool { return h.clients() == 1 })
	eventually(t, "no goroutine more", func() bool { return runtime.NumGoroutine() <= before })
	for _, l := range h.forwarder.(*forwarders).loops.loops {
		l.call(func() {
			if len(l.routines) > 2 {
				t.Errorf("%d coroutines rest", len(l.routines))
			}
		})
	}
	eventually(t, "each end is logged once", func() bool { return h.logs.lines("session end", "reason=client") == 100 })
}

// Descriptors that run out cost new clients time, and nobody else anything.
func TestADoorOpensAgainWhenThereAreDescriptors(t *testing.T) {
	pg := startFakePG(t, aPrimary)
	h := startOnLoops(t, testConfig(), Deps{})
	h.open(pg.route(1))
	busy := h.login()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	restore := withoutDescriptors(t)
	to := netip.MustParseAddrPort(h.addr)
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the shortage is said", func() bool { return h.logs.lines("cannot accept clients") == 1 })
	same(t, "another session", busy.query("x"), []string{"D x", "C SELECT 1", "Z I"})
	restore()
	if _, err := unix.Write(fd, startupPacket(pgwire.Version30, "user", "app", "database", "db")); err != nil {
		t.Fatal(err)
	}
	var first [1]byte
	if n, err := unix.Read(fd, first[:]); err != nil || n != 1 || first[0] != 'R' {
		t.Errorf("the client read %q (%v)", first[:n], err)
	}
	_ = unix.Close(fd)
	eventually(t, "it is said that the shortage is over", func() bool { return h.logs.lines("accepting clients again") == 1 })
	h.login()
}

func TestAServerIsReachedOverIPv6(t *testing.T) {
	pg := startFakePGAt(t, "[::1]:0", aPrimary)
	h := startOnLoops(t, testConfig(), Deps{})
	h.open(pg.route(1))
	c := h.login()
	same(t, "served", c.query("x"), []string{"D x", "C SELECT 1", "Z I"})
	if _, pairs := h.seated(); pairs != 1 {
		t.Error("it is not on a loop")
	}
	_ = c.Close()
	eventually(t, "it is gone", func() bool { return h.clients() == 0 })
}

// withoutDescriptors leaves the process no descriptor; the returned function ends that.
func withoutDescriptors(t *testing.T) (restore func()) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	scarce := limit
	for scarce.Cur = 0; ; scarce.Cur++ {
		if _, err := os.Lstat("/proc/self/fd/" + strconv.Itoa(int(scarce.Cur))); err != nil {
			break
		}
	}
	if err := syscall.Setrlimit(unix.RLIMIT_NOFILE, (*syscall.Rlimit)(&scarce)); err != nil {
		t.Fatal(err)
	}
	restore = sync.OnceFunc(func() { _ = syscall.Setrlimit(unix.RLIMIT_NOFILE, (*syscall.Rlimit)(&limit)) })
	t.Cleanup(restore)
	return restore
}

// A client for whom there is a descriptor, but none for its backend, waits as if there were no writer, and is told so in the end.
func TestAClientThatWasAcceptedIsNotDroppedForWantOfDescriptors(t *testing.T) {
	pg := startFakePG(t, aPrimary)
	cfg := testConfig()
	cfg.Hold.Login = 500 * time.Millisecond
	h := startOnLoops(t, cfg, Deps{})
	h.open(pg.route(1))
	c := h.dial()
	eventually(t, "it is accepted", func() bool { logins, _ := h.seated(); return logins == 1 })
	withoutDescriptors(t)
	c.write(startupPacket(pgwire.Version30, "user", "app", "database", "db"))
	same(t, "the client", c.messages(), []string{fatal(pgwire.NoWriter)})
}

// A door that can accept nobody any more ends Serve, and nothing else: its loop goes on.
func TestADoorThatFailsKeepsNoLoop(t *testing.T) {
	pg := startFakePG(t, aPrimary)
	t.Setenv(forwarderVariable, "loops")
	h := newHarness(t, testConfig(), Deps{})
	h.open(pg.route(1))
	_, served := h.serve(func(ln net.Listener) net.Listener { return ln })
	busy := h.login()
	logins := make([]*testClient, 20)
	for i := range logins {
		logins[i] = h.dial()
	}
	eventually(t, "they are on the loop", func() bool { n, _ := h.seated(); return n == len(logins) })
	loop := onlyLoop(h.forwarder)
	loop.post(func() { loop.doors[0].end(syscall.EPERM) })
	for _, c := range logins {
		c.write(startupPacket(pgwire.Version30, "user", "app", "database", "db"))
	}
	if err := <-served; !errors.Is(err, syscall.EPERM) {
		t.Errorf("Serve returned %v", err)
	}
	for _, c := range logins {
		if got := c.messages(); got[len(got)-1] != "Z I" {
			t.Errorf("a login ended with %q", got)
		}
	}
	same(t, "a session", busy.query("x"), []string{"D x", "C SELECT 1", "Z I"})
}

// A log that stands still keeps no loop; what it would have said is bounded, and is said when it goes on.
func TestALogThatStandsStillKeepsNoLoop(t *testing.T) {
	pg := startFakePG(t, aPrimary)
	goOn := make(chan struct{})
	log := &stuckLog{goOn: goOn}
	h := startOnLoops(t, testConfig(), Deps{Log: slog.New(slog.NewTextHandler(log, nil))})
	h.open(pg.route(1))
	busy := h.login()
	log.stuck.Store(true)
	for range 50 {
		c := h.login()
		c.write(sayTerminate)
		_ = c.Close()
	}
	time.Sleep(2 * departuresDelay) // until the writer stands still, too
	same(t, "a session", busy.query("x"), []string{"D x", "C SELECT 1", "Z I"})
	h.login()
	log.stuck.Store(false)
	close(goOn)
	eventually(t, "each end is logged", func() bool { return log.lines.Load() >= 50 })
	if d := (&departures{unwritten: departuresMax}); d.add(departure{}) {
		t.Error("the lines that wait have no bound")
	}
}

// stuckLog blocks its writers while it is stuck, and counts the ends of sessions.
type stuckLog struct {
	stuck atomic.Bool
	goOn  chan struct{}
	lines atomic.Int64
}

func (l *stuckLog) Write(p []byte) (int, error) {
	if l.stuck.Load() {
		<-l.goOn
	}
	if bytes.Contains(p, []byte("session end")) {
		l.lines.Add(1)
	}
	return len(p), nil
}

func TestAConnectionToItselfIsNone(t *testing.T) {
	fd, self := boundSocket(t)
	if errno := connectTo(int32(fd), self); errno != 0 {
		t.Fatal(errno)
	}
	if !isSelf(int32(fd), self) {
		t.Error("it is taken for a server's")
	}
	if other := netip.AddrPortFrom(self.Addr(), self.Port()^1); isSelf(int32(fd), other) {
		t.Error("a connection to another port is taken for one to itself")
	}
}
