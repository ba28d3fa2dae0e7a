package abuse

import (
	"fmt"
	"testing"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/test/rig"
)

// hostile is a server that does not do what a server should, and what a client of the proxy sees of that.
type hostile struct {
	name string
	play func(*impostor)
	// always says that every attempt of the login meets it; otherwise the first does, and the next reaches the real server.
	always bool
	// role is the client's, trusted if empty; does is what it does after its startup packet, besides listening.
	role string
	does []step
	// want is what comes back to the client, in the words of peer.transcript.
	want   string
	counts counts
}

// What a server says.
var (
	authOK      = msg('R', word(0))
	askPassword = msg('R', word(3))
	ready       = msg('Z', "I")
	backendKey  = msg('K', word(4711)+"abcd")
	loggedIn    = authOK + reports("in_hot_standby", "off") + reports("server_version", "15.0") + backendKey + ready
)

func reports(name, value string) string { return msg('S', name+"\x00"+value+"\x00") }

func says(typ byte, severity, state string) string {
	return msg(typ, "S"+severity+"\x00V"+severity+"\x00C"+state+"\x00Mwords\x00\x00")
}

func fatal(state string) string { return says('E', "FATAL", state) }

// startHostile puts a crossroads between a proxy and a server.
func startHostile(t *testing.T, o rig.Options) (*front, *crossroads) {
	t.Helper()
	x := startCrossroads(t, inClear.Node(lab.RegionA).Addr())
	o.Nodes = []rig.Node{{Name: lab.RegionA, Addr: x.addr()}}
	f := startFront(t, inClear, o)
	before := scrape(t, f.Proxy)
	x.witness = f.through.dial(t)
	t.Cleanup(func() { _ = x.witness.raw.Close() })
	in(x.witness)
	f.awaitCounts(t, before, counts{"logins pinned": 1})
	return f, x
}

// suffer lets the proxy meet each server, one after the other. Each ends one login, or session, only: a session that was there before goes on,
// and an honest client is served.
func (f *front) suffer(t *testing.T, x *crossroads, servers []hostile) {
	before := scrape(t, f.Proxy)
	for _, h := range servers {
		t.Run(h.name, func(t *testing.T) {
			if got := f.meet(t, x, h); got != h.want {
				t.Errorf("the client gets %q, want %q", got, h.want)
			}
			f.honest(t)
			before = f.awaitCounts(t, before, sum(h.counts, honestCounts))
			x.witness.goesOn(t)
		})
	}
}

// meet logs a client in whose server is the hostile one.
func (f *front) meet(t *testing.T, x *crossroads, h hostile) string {
	t.Helper()
	name := fmt.Sprintf("act %d", x.staged.Add(1))
	a := &act{play: h.play, times: 1}
	if h.always {
		a.times = 0
	}
	x.stage(name, a)
	role := h.role
	if role == "" {
		role = trusted
	}
	got := f.through.perform(append([]step{send(loginAs(role, "application_name", name))}, h.does...))
	if !h.always && x.played(a) == 0 {
		t.Error("the client did not come to the hostile server")
	}
	return got
}

// goesOn fails unless a session still answers.
func (p *peer) goesOn(t *testing.T) {
	t.Helper()
	p.heard = nil
	p.renew()
	p.send(query("SELECT 1"))
	if hear('Z')(p); p.transcript() != "T D C ZI" {
		t.Fatalf("a session of another client got %q", p.transcript())
	}
}

func TestServersThatTalkNonsense(t *testing.T) {
	t.Parallel()
	f, x := startHostile(t, rig.Options{Extra: "[backend]\ntls = \"disable\"\nconnect_timeout = \"1s\"\n" + unhurried})
	for _, family := range hostileFamilies() {
		t.Run(family.name, func(t *testing.T) { f.suffer(t, x, family.servers) })
	}
	f.checkLog(t)
	awaitFootprint(t, f.Proxy, f.before, 16<<20)
}
