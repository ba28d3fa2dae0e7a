package proxy

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgtether/pgtether/internal/pgwire"
	"github.com/pgtether/pgtether/internal/scram"
)

// verifierOf is what PostgreSQL stores for a password.
func verifierOf(t testing.TB, password, salt string) scram.Verifier {
	t.Helper()
	v, _ := keyOf(t, password, salt)
	return v
}

// keyOf is what PostgreSQL stores for a password, and the key that belongs to it.
func keyOf(t testing.TB, password, salt string) (scram.Verifier, scram.ClientKey) {
	t.Helper()
	salted, err := pbkdf2.Key(sha256.New, password, []byte(salt), 4096, sha256.Size)
	if err != nil {
		t.Fatal(err)
	}
	mac := func(key []byte, text string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	key, err := scram.NewClientKey(mac(salted, "Client Key"))
	if err != nil {
		t.Fatal(err)
	}
	stored := sha256.Sum256(mac(salted, "Client Key"))
	return scram.Verifier{Iterations: 4096, Salt: []byte(salt), StoredKey: stored[:], ServerKey: mac(salted, "Server Key")}, key
}

// withSCRAM is the script of a writer that knows a verifier. bend may change what it says, by step.
func withSCRAM(v scram.Verifier, bend func(step int, body []byte) []byte) func(*fakeConn) {
	return afterSCRAM(v, bend, func(c *fakeConn) { c.serveAs("off") })
}

// afterSCRAM is the script of a server that goes on with admit once it has found the client's proof right.
func afterSCRAM(v scram.Verifier, bend func(step int, body []byte) []byte, admit func(*fakeConn)) func(*fakeConn) {
	return func(c *fakeConn) {
		if !c.accept() {
			return
		}
		server, err := scram.NewServer(v)
		if err != nil {
			return
		}
		say := func(step int, body []byte) {
			if bend != nil {
				body = bend(step, body)
			}
			c.send(string(authFrame('R', body)))
		}
		say(0, server.Offer())
		for step := 1; ; step++ {
			typ, body, err := c.read()
			if err != nil || typ != 'p' {
				return
			}
			reply, done, err := server.Step(body)
			if err != nil {
				c.sendMessages(&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "28P01", Message: "the server's own refusal"})
				return
			}
			say(step, reply)
			if done {
				admit(c)
				return
			}
		}
	}
}

// answeringConfig has the proxy answer SCRAM in the server's place.
func answeringConfig() Config {
	cfg := testConfig()
	cfg.SCRAM = SCRAMProxy
	return cfg
}

func scramConfig() Config {
	cfg := answeringConfig()
	cfg.Hold.Login = 300 * time.Millisecond
	return cfg
}

// known is a source of one role's verifier.
func known(v scram.Verifier) func(context.Context, string) (Stored, bool, error) {
	return func(_ context.Context, role string) (Stored, bool, error) {
		return StoredVerifier(v.Clone()), role == "app", nil
	}
}

func TestSCRAMIsAnsweredInTheServersPlace(t *testing.T) {
	v := verifierOf(t, "secret", "0123456789abcdef")
	fake := v
	fake.ServerKey = append([]byte(nil), v.ServerKey...)
	fake.ServerKey[0] ^= 1
	cases := []struct {
		name, user, password string
		server               func(*fakeConn)
		verifier             func(context.Context, string) (Stored, bool, error)
		code                 string // "" means that the login succeeds
		words                string
	}{
		{"right password", "app", "secret", withSCRAM(v, nil), known(v), "", ""},
		{"wrong password", "app", "wrong", withSCRAM(v, nil), known(v), "28P01", `password authentication failed for user "app"`},
		{"unknown role", "nobody", "secret", withSCRAM(v, nil), known(v), "28P01", `password authentication failed for user "nobody"`},
		{"the password was changed since the verifier was read", "app", "secret", withSCRAM(verifierOf(t, "new", "another salt 123"), nil), known(v),
			"28P01", `password authentication failed for user "app"`},
		{"the server does not know the verifier", "app", "secret", withSCRAM(fake, nil), known(v), "57P03", pgwire.WriterUnproven.Message()},
		{"the server lets everybody in", "app", "secret", func(c *fakeConn) {
			if c.accept() {
				c.send(string(authFrame('R', []byte("\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00"))))
				_, _, _ = c.read()
				c.loggedIn("off")
			}
		}, known(v), "57P03", pgwire.WriterUnproven.Message()},
		{"the server says something else in between", "app", "secret", withSCRAM(v, func(step int, body []byte) []byte {
			if step == 1 {
				return []byte("\x00\x00\x00\x0bnonsense")
			}
			return body
		}), known(v), "57P03", pgwire.WriterUnproven.Message()},
		{"the server refuses", "app", "secret", func(c *fakeConn) {
			if c.accept() {
				c.send(string(authFrame('R', []byte("\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00"))))
				_, _, _ = c.read()
				c.sendMessages(&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "28000", Message: "not permitted to log in"})
			}
		}, known(v), "28000", "not permitted to log in"},
		{"the verifier cannot be looked up", "app", "secret", withSCRAM(v, nil), func(context.Context, string) (Stored, bool, error) {
			return Stored{}, false, errors.New("no connection")
		}, "57P03", pgwire.NoWriter.Message()},
		{"the verifier is none", "app", "secret", withSCRAM(v, nil), known(scram.Verifier{}), "57P03", pgwire.NoWriter.Message()},
		{"the server asks for another method: relayed", "app", "secret", withPassword, known(v), "", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h := startServer(t, scramConfig(), Deps{Verifier: c.verifier})
			h.open(startFakePG(t, c.server).route(1))
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			conn, err := pgconn.Connect(ctx, fmt.Sprintf("postgres://%s:%s@%s/db?sslmode=disable", c.user, c.password, h.addr))
			if err == nil {
				defer conn.Close(ctx)
			}
			if codeOf(err) != c.code || (c.code == "") != (err == nil) || c.words != "" && !strings.Contains(err.Error(), c.words) {
				t.Errorf("got %v, want %q %s", err, c.code, c.words)
			}
			if strings.Contains(h.logs.String(), "secret") {
				t.Error("a password in the log")
			}
		})
	}
}

func TestSCRAMNonsenseGetsPostgreSQLsWords(t *testing.T) {
	v := verifierOf(t, "secret", "0123456789abcdef")
	for name, c := range map[string]struct {
		answer []byte
		want   string
	}{
		"channel binding that was not offered": {authFrame('p', []byte("SCRAM-SHA-256-PLUS\x00\x00\x00\x00\x00")),
			"E FATAL 08P01 client selected an invalid SASL authentication mechanism"},
		"no SASL at all":      {appendQuery(nil, "select 1"), "E FATAL 08P01 expected SASL response, got message type 81"},
		"a message too large": {authFrame('p', make([]byte, 5000)), `E FATAL 28P01 password authentication failed for user "app"`},
	} {
		t.Run(name, func(t *testing.T) {
			h := startServer(t, scramConfig(), Deps{Verifier: known(v)})
			h.open(startFakePG(t, withSCRAM(v, nil)).route(1))
			client := h.start()
			if m, err := client.message(); m != "R 10" {
				t.Fatalf("got %q, %v", m, err)
			}
			client.write(c.answer)
			same(t, "refusal", client.messages(), []string{c.want})
			eventually(t, "it is counted", func() bool { return h.metric("pgtether_logins_total", loginServerRefused) == 1 })
		})
	}
}

// What cannot be looked up concerns the role's own logins: the server has just asked for the password, and serves others.
func TestALookupThatFailsHoldsNobodyElse(t *testing.T) {
	v := verifierOf(t, "secret", "0123456789abcdef")
	var failed atomic.Int32
	h := startServer(t, answeringConfig(), Deps{Verifier: func(ctx context.Context, role string) (Stored, bool, error) {
		if role == "x" {
			failed.Add(1)
			return Stored{}, false, errors.New("no answer about this role")
		}
		return known(v)(ctx, role)
	}})
	h.open(startFakePG(t, withSCRAM(v, nil)).route(1))
	const others = 50
	for range others {
		h.dial().write(startupPacket(pgwire.Version30, "user", "x", "database", "db"))
	}
	eventually(t, "all have failed", func() bool { return failed.Load() > others })
	const logins = 10
	for range logins {
		start := time.Now()
		(<-h.connect(t)).asks(t, "hello")
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("a login took %s", took)
		}
		if n := h.Stats().Held; n != 0 {
			t.Errorf("%d logins are held", n)
		}
	}
	if n := h.metric("pgtether_logins_total", loginPinned); n != logins || h.metric("pgtether_hold_seconds") != 0 || len(h.suspects) != 0 {
		t.Errorf("%v sessions, %v of them had waited, suspicions of the node: %d", n, h.metric("pgtether_hold_seconds"), len(h.suspects))
	}
	if h.logs.lines("cannot be looked up", "no answer about this role") == 0 {
		t.Error("the log does not say why logins wait")
	}
}

// A login whose verifier can be looked up at last comes in.
func TestALookupThatFailsIsTriedAgain(t *testing.T) {
	v := verifierOf(t, "secret", "0123456789abcdef")
	var asked atomic.Int32
	h := startServer(t, answeringConfig(), Deps{Verifier: func(ctx context.Context, role string) (Stored, bool, error) {
		if asked.Add(1) < 3 {
			return Stored{}, false, errors.New("no answer yet")
		}
		return known(v)(ctx, role)
	}})
	h.open(startFakePG(t, withSCRAM(v, nil)).route(1))
	(<-h.connect(t)).asks(t, "hello")
}

func TestARoleThatNobodyCanBeAskedAboutIsUnknown(t *testing.T) {
	v := verifierOf(t, "secret", "0123456789abcdef")
	var asked atomic.Int32
	h := startServer(t, scramConfig(), Deps{Verifier: func(context.Context, string) (Stored, bool, error) {
		asked.Add(1)
		return Stored{}, false, errors.New("invalid byte sequence")
	}})
	h.open(startFakePG(t, withSCRAM(v, nil)).route(1))
	got := <-connecting(t, fmt.Sprintf("postgres://%%FF:secret@%s/db?sslmode=disable", h.addr))
	if codeOf(got.err) != "28P01" || asked.Load() != 0 {
		t.Errorf("got %v after %d lookups", got.err, asked.Load())
	}
}

func TestLookupsAtOnceAreBounded(t *testing.T) {
	v := verifierOf(t, "secret", "0123456789abcdef")
	source := &askedSource{answers: make(chan struct{})}
	source.set("app", v, nil)
	h := startServer(t, answeringConfig(), Deps{Verifier: source.look})
	h.open(startFakePG(t, withSCRAM(v, nil)).route(1))
	const logins = 3 * questionsAtOnce
	var clients []<-chan connected
	for range logins {
		clients = append(clients, h.connect(t))
	}
	eventually(t, "as many ask as may", func() bool { return source.atOnce.Load() >= questionsAtOnce })
	time.Sleep(100 * time.Millisecond) // and no more come
	for range logins {
		source.answers <- struct{}{}
	}
	for _, c := range clients {
		(<-c).asks(t, "hello")
	}
	if source.most > questionsAtOnce {
		t.Errorf("%d lookups at once", source.most)
	}
}
