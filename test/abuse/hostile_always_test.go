package abuse

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pgtether/pgtether/test/rig"
)

// holdLogin is how long a login waits for a writer here: short for those that wait in vain, and long enough for an honest one that comes after them
// on a busy machine.
const holdLogin = 4 * time.Second

// impatient gives up on a server after a moment, and on all attempts together after holdLogin.
var impatient = fmt.Sprintf("[backend]\ntls = %%q\nconnect_timeout = \"1s\"\n[hold]\nlogin = %q\n", holdLogin)

// noWriter is what is counted for a login that has waited for a writer in vain.
var noWriter = refusedLogin("no_writer")

// always are servers that never take the login, whatever is tried. The login ends when its time for waiting does, with 57P03.
func always() []hostile {
	never := func(name string, play func(*impostor)) hostile {
		return hostile{name: name, play: play, always: true, want: "FATAL/57P03 closed", counts: noWriter}
	}
	return []hostile{
		never("closes at once", func(*impostor) {}),
		never("resets at once", func(i *impostor) { i.reset() }),
		never("never answers", func(i *impostor) { i.wait() }),
		never("drips", func(i *impostor) {
			i.say(lying('E', 20000, ""))
			for range 100 {
				i.say("x")
				pauseBriefly()
			}
		}),
		never("is starting up", func(i *impostor) { i.say(fatal("57P03")) }),
		never("is shutting down", func(i *impostor) { i.say(fatal("57P01")) }),
		never("is a standby", func(i *impostor) { i.say(authOK, reports("in_hot_standby", "on"), backendKey, ready); i.wait() }),
		never("closes after AuthenticationOk", func(i *impostor) { i.say(authOK) }),
		never("closes before ReadyForQuery", func(i *impostor) {
			i.asReal(func(_ int, typ byte) bool { return typ == 'Z' })
		}),
	}
}

// Logins that no server takes wait together and are told so in time; the next honest one is served.
func TestServersThatNeverTakeALogin(t *testing.T) {
	t.Parallel()
	f, x := startHostile(t, rig.Options{Extra: fmt.Sprintf(impatient, "disable")})
	before, began := scrape(t, f.Proxy), time.Now()
	servers, want := always(), counts{}
	var g sync.WaitGroup
	got, took := make([]string, len(servers)), make([]time.Duration, len(servers))
	for i, h := range servers {
		want = sum(want, h.counts)
		g.Go(func() {
			got[i] = f.meet(t, x, h)
			took[i] = time.Since(began)
		})
	}
	g.Wait()
	for i, h := range servers {
		t.Run(h.name, func(t *testing.T) {
			if got[i] != h.want {
				t.Errorf("the client gets %q, want %q", got[i], h.want)
			}
			if took[i] < holdLogin*9/10 || took[i] > holdLogin+patience/3 {
				t.Errorf("after %s, want %s", took[i], holdLogin)
			}
		})
	}
	f.honest(t)
	f.awaitCounts(t, before, sum(want, honestCounts))
	x.witness.goesOn(t)
	f.driver(t)
	awaitFootprint(t, f.Proxy, f.before, 16<<20)
}

// Clients whose logins always fail are alone with that: those of others are served meanwhile.
func TestClientsWhoseLoginsAlwaysFailKeepNobodyOut(t *testing.T) {
	t.Parallel()
	f, x := startHostile(t, rig.Options{Extra: "[backend]\ntls = \"disable\"\n[hold]\nlogin = \"6s\"\n"})
	over := make(chan struct{})
	var doomed sync.WaitGroup
	for _, h := range always() {
		if h.name != "never answers" && h.name != "drips" { // those last for connect_timeout: others are served in between, whatever follows
			doomed.Go(func() {
				if got := f.meet(t, x, h); got != h.want {
					t.Errorf("%s: the client gets %q, want %q", h.name, got, h.want)
				}
			})
		}
	}
	go func() { doomed.Wait(); close(over) }()
	served, longest := 0, time.Duration(0)
	for done := false; !done; served++ {
		began := time.Now()
		f.honest(t)
		longest = max(longest, time.Since(began))
		select {
		case <-over:
			done = true
		default:
		}
	}
	t.Logf("%d honest logins were served meanwhile; the longest took %s", served, longest.Round(time.Millisecond))
	if served < 5 {
		t.Errorf("%d honest logins were served meanwhile", served)
	}
	x.witness.goesOn(t)
	awaitFootprint(t, f.Proxy, f.before, 16<<20)
}

// toTLS are answers to the proxy's SSLRequest. None may lead to a session, and none to a login in clear that was meant to be encrypted.
func toTLS() []hostile {
	answers := func(name string, play func(*impostor)) hostile {
		return hostile{name: name, play: play, want: "FATAL/57P03 closed", counts: noWriter}
	}
	says := func(name, words string) hostile {
		return answers(name, func(i *impostor) { i.say(words); i.wait() })
	}
	nonsense := func(name, words string) hostile {
		h := says(name, words)
		h.counts = unproven
		return h
	}
	return []hostile{
		says("S, then garbage", "S\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa"),
		says("S, then a login in clear", "S"+loggedIn),
		says("S, then an error in clear", "S"+fatal("28000")),
		says("S, then HTTP", "SHTTP/1.1 400 Bad Request\r\n\r\n"),
		says("S, then an alert", "S\x15\x03\x01\x00\x02\x02\x28"),
		says("S, then half a ServerHello", "S\x16\x03\x03\x00\x40\x02\x00\x00\x3c\x03\x03"),
		says("S, then a record longer than records are", "S\x16\x03\x03\xff\xff"+string(make([]byte, 1000))),
		nonsense("an error in place of the answer", fatal("53300")),
		nonsense("an error of protocol 2 in place of the answer", "Ecould not fork\n\x00"),
		nonsense("a letter that means nothing", "X"),
		nonsense("S in small", "s"),
		nonsense("a zero byte", "\x00"),
		says("nothing", ""),
		answers("S, then its end", func(i *impostor) { i.say("S") }),
		answers("its end", func(*impostor) {}),
		answers("a reset", func(i *impostor) { i.reset() }),
	}
}

func TestServersThatAnswerAnSSLRequestWithNonsense(t *testing.T) {
	for servers := range slices.Chunk(toTLS(), 4) { // each keeps its proxy waiting for a while
		t.Run(servers[0].name+", and others", func(t *testing.T) {
			t.Parallel()
			answerWithNonsense(t, servers)
		})
	}
}

func answerWithNonsense(t *testing.T, servers []hostile) {
	// Probes get the same answers as logins here. The persistent one, which has its connection already, keeps the writer open.
	f, x := startHostile(t, rig.Options{Extra: fmt.Sprintf(impatient, "prefer")})
	before := scrape(t, f.Proxy)
	for _, h := range servers {
		t.Run(h.name, func(t *testing.T) {
			x.toTLS.Store(&h.play)
			got := f.through.perform([]step{send(loginAs(trusted))})
			x.toTLS.Store(nil)
			if got != h.want {
				t.Errorf("the client gets %q, want %q", got, h.want)
			}
			f.honest(t)
			before = f.awaitCounts(t, before, sum(h.counts, honestCounts))
			x.witness.goesOn(t)
		})
	}
	awaitFootprint(t, f.Proxy, f.before, 16<<20)
}
