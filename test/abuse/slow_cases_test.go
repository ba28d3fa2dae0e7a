package abuse

import (
	"fmt"
	"testing"
	"time"

	"github.com/pgtether/pgtether/test/rig"
)

// startupTimeout is that of the proxy here. It is counted over all waits for the client; PostgreSQL's own is longer.
const startupTimeout = 2 * time.Second

// slow are clients that do not come to an end. Both servers lose patience with each, and close without a word.
func slow() []input {
	half := loginAs(trusted)[:20]
	begins := func(name string, steps ...step) input {
		return input{name: name, does: steps, want: "closed", counts: refused("startup_timeout")}
	}
	asks := func(name string, steps ...step) input {
		in := begins(name, append([]step{send(sslRequest), answer}, steps...)...)
		in.want = "S closed"
		return in
	}
	inTLS := func(name string, steps ...step) input {
		in := begins(name, append([]step{send(sslRequest), answer, encrypt(nil)}, steps...)...)
		in.want = "S TLS closed"
		return in
	}
	login := func(role, heard, name string, steps ...step) input {
		return input{name: role + ": " + name, does: append([]step{send(loginAs(role)), hear('R')}, steps...), want: heard + " closed", counts: refusedLogin("startup_timeout")}
	}
	const drip = 300 * time.Millisecond // more bytes follow than come in time, and none is late by itself
	return []input{
		begins("not a byte"),
		begins("one byte of a length", send("\x00")),
		begins("a length and nothing else", send(word(100))),
		begins("a length and a version", send(word(100)+word(version30))),
		begins("the longest length and 100 bytes of it", send(padded(longestBody + 4)[:100])),
		begins("all but the last byte", send(loginAs(trusted)[:len(loginAs(trusted))-1])),
		begins("a startup packet that drips", sendSlowly(padded(200), drip)),
		begins("an SSLRequest that drips", sendSlowly(sslRequest, 900*time.Millisecond)),
		begins("half a CancelRequest", send(key{1, "abcd"}.request()[:12])),
		begins("half an SSLRequest", send(sslRequest[:4])),
		{name: "GSSENCRequest, then nothing", does: []step{send(gssRequest), answer}, want: "N closed", differs: noGSS, postgres: "G closed", counts: refused("startup_timeout")},
		{name: "the first byte of a ClientHello, directly", does: []step{send("\x16")}, want: "closed", counts: refused("startup_timeout")},
		{name: "half a ClientHello, directly", does: []step{send(clientHello(3)[:20])}, want: "closed", counts: refused("startup_timeout")},
		asks("SSLRequest, then nothing"),
		asks("a byte of a ClientHello", send("\x16")),
		asks("half a ClientHello", send(clientHello(3)[:20])),
		asks("a ClientHello that drips", sendSlowly(clientHello(3), drip)),
		inTLS("TLS, then nothing"),
		inTLS("half a startup packet in TLS", send(half)),
		inTLS("a startup packet in TLS that drips", sendSlowly(padded(200), drip)),
		login(cleartext, "R3", "no password"),
		login(cleartext, "R3", "the type of an answer alone", send("p")),
		login(cleartext, "R3", "half a password", send(msg('p', password)[:7])),
		login(cleartext, "R3", "a password that drips", sendSlowly(msg('p', padded(200)), drip)),
		login(cleartext, "R3", "the longest length and a byte of it", send(lying('p', 65535, "x"))),
		login(hashed, "R5", "no password"),
		login("keycloak", "R10", "no answer to the offer"),
		login("keycloak", "R10 R11", "no answer to the server's nonce", send(scramFirst("n,,n=,r="+scramNonce))),
		login("nobody", "R10", "no answer, and no such role"),
	}
}

func TestClientsThatTakeTheirTime(t *testing.T) {
	t.Parallel()
	f := startFront(t, encrypted, rig.Options{ListenKeys: certificate("allow"), Extra: fmt.Sprintf("[limits]\nstartup_timeout = %q\n", startupTimeout)})
	// What a login waits for its server is not charged to the client, and the machine may be busy: the upper bound is loose.
	f.compareAtOnce(t, slow(), startupTimeout*9/10, startupTimeout+patience/2)
	awaitFootprint(t, f.Proxy, f.before, 16<<20)
}

// vanishing are clients that reset their connection.
func vanishing() []input {
	gone := func(name, want string, count counts, steps ...step) input {
		return input{name: name, does: append(steps, arrive, reset), want: want, counts: count}
	}
	return []input{
		gone("at once", "gone", nothing),
		gone("after a byte", "gone", nothing, send("\x00")),
		gone("after half a startup packet", "gone", nothing, send(loginAs(trusted)[:20])),
		gone("after the answer to an SSLRequest", "N gone", nothing, send(sslRequest), answer),
		gone("instead of a password", "R3 gone", clientGone, send(loginAs(cleartext)), hear('R')),
		gone("after half a password", "R3 gone", clientGone, send(loginAs(cleartext)), hear('R'), send(msg('p', password)[:7])),
		gone("in the middle of SCRAM", "R10 R11 gone", clientGone, send(loginAs("keycloak")), hear('R'), send(scramFirst("n,,n=,r="+scramNonce)), hear('R')),
		gone("in a session", "in gone", lostClient, in),
		gone("after half a query", "in gone", lostClient, in, send(query("SELECT 1")[:7])),
		gone("in a transaction", "in C ZT gone", lostClient, in, send(query("BEGIN")), hear('Z')),
		gone("after a Terminate", "in gone", leftIt, in, send(terminate)),
		gone("during a statement", "in gone", sum(lostClient, counts{"cancels forwarded": 1}), in, send(query("SELECT pg_sleep(2)"))),
		gone("during a COPY to the server", "in C ZI G gone", sum(lostClient, counts{"cancels forwarded": 1}), in,
			send(query("CREATE TEMP TABLE t (a text)")), hear('Z'), send(query("COPY t FROM STDIN")), hear('G'), send(msg('d', "row\n"))),
	}
}
