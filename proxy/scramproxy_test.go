package proxy

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
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

func scramConfig() Config {
	cfg := testConfig()
	cfg.SCRAM = SCRAMProxy
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
