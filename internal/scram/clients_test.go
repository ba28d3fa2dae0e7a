package scram_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgtether/pgtether/internal/scram"
)

// keysOf is what PostgreSQL stores for a password, and the client's key to it.
func keysOf(t testing.TB, password string, salt []byte, iterations int) (scram.Verifier, scram.ClientKey) {
	t.Helper()
	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, scram.KeyLength)
	if err != nil {
		t.Fatal(err)
	}
	mac := func(text string) []byte {
		m := hmac.New(sha256.New, salted)
		m.Write([]byte(text))
		return m.Sum(nil)
	}
	key, err := scram.NewClientKey(mac("Client Key"))
	if err != nil {
		t.Fatal(err)
	}
	stored := sha256.Sum256(mac("Client Key"))
	return scram.Verifier{Iterations: iterations, Salt: salt, StoredKey: stored[:], ServerKey: mac("Server Key")}, key
}

func selfSignedTLS(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// pretend is a PostgreSQL that can authenticate with a Server and answers every query with an empty one.
func pretend(config *tls.Config, exchange func(role string) (*scram.Server, error), done func(*scram.Server, error)) func(net.Conn) error {
	return func(conn net.Conn) error {
		conn, packet, err := acceptStartup(conn, config)
		if err != nil {
			return err
		}
		_, rest, _ := bytes.Cut(packet[8:], []byte("user\x00"))
		role, _, _ := bytes.Cut(rest, []byte{0})
		s, err := exchange(string(role))
		if err != nil {
			return err
		}
		err = authenticate(conn, s)
		done(s, err)
		var e *scram.ExchangeError
		switch {
		case errors.As(err, &e):
			return sendFatal(conn, e.SQLState, e.Message, e.Detail)
		case errors.Is(err, scram.ErrAuthenticationFailed):
			return sendFatal(conn, "28P01", `password authentication failed for user "`+string(role)+`"`, "")
		case err != nil:
			return err
		}
		return answerQueries(conn)
	}
}

func authenticate(conn net.Conn, s *scram.Server) error {
	if _, err := conn.Write(message('R', s.Offer())); err != nil {
		return err
	}
	for done := false; !done; {
		_, body, err := readMessage(conn)
		if err != nil {
			return err
		}
		var reply []byte
		if reply, done, err = s.Step(body); err != nil {
			return err
		}
		if _, err := conn.Write(message('R', reply)); err != nil {
			return err
		}
	}
	return nil
}

func sendFatal(conn net.Conn, sqlstate, text, detail string) error {
	body := "SFATAL\x00VFATAL\x00C" + sqlstate + "\x00M" + text + "\x00"
	if detail != "" {
		body += "D" + detail + "\x00"
	}
	_, err := conn.Write(message('E', []byte(body+"\x00")))
	return err
}

func answerQueries(conn net.Conn) error {
	ready := message('Z', []byte{'I'})
	if _, err := conn.Write(append(message('R', []byte{0, 0, 0, 0}), ready...)); err != nil {
		return err
	}
	for {
		kind, _, err := readMessage(conn)
		if err != nil || kind == 'X' {
			return err
		}
		if _, err := conn.Write(append(message('I', nil), ready...)); err != nil {
			return err
		}
	}
}

// outcome is what the server's side of one exchange came to.
type outcome struct {
	keyFits bool
	err     error
}

// authEndpoint lets role "keycloak" in with the password and nobody else.
func authEndpoint(t *testing.T, password string, config *tls.Config) (address string, outcomes chan outcome) {
	t.Helper()
	v, _ := keysOf(t, password, []byte("sixteen bytes .."), 4096)
	mock, err := scram.NewMock(v.Iterations)
	if err != nil {
		t.Fatal(err)
	}
	outcomes = make(chan outcome, 16)
	address = endpoint(t, pretend(config, func(role string) (*scram.Server, error) {
		if role != "keycloak" {
			return mock.Server(role), nil
		}
		return scram.NewServer(v)
	}, func(s *scram.Server, err error) {
		key, ok := s.ClientKey()
		outcomes <- outcome{keyFits: ok && key.Matches(v), err: err}
	}))
	return address, outcomes
}

func TestServerAuthenticatesPgx(t *testing.T) {
	for name, c := range map[string]struct {
		config                          *tls.Config
		user, password, parameters, say string
	}{
		"in clear":                         {nil, "keycloak", "secret", "sslmode=disable", ""},
		"over TLS (gs2 y)":                 {selfSignedTLS(t), "keycloak", "secret", "sslmode=require", ""},
		"over TLS, no channel binding":     {selfSignedTLS(t), "keycloak", "secret", "sslmode=require&channel_binding=disable", ""},
		"password outside ASCII":           {nil, "keycloak", "pässwörd", "sslmode=disable", ""},
		"wrong password":                   {nil, "keycloak", "wrong", "sslmode=disable", `password authentication failed for user "keycloak"`},
		"wrong password over TLS":          {selfSignedTLS(t), "keycloak", "wrong", "sslmode=require", `password authentication failed for user "keycloak"`},
		"unknown role, some password":      {nil, "nobody", "secret", "sslmode=disable", `password authentication failed for user "nobody"`},
		"channel binding that is not here": {selfSignedTLS(t), "keycloak", "secret", "sslmode=require&channel_binding=require", "channel binding required"},
	} {
		t.Run(name, func(t *testing.T) {
			right := "secret"
			if c.password != "wrong" {
				right = c.password
			}
			address, outcomes := authEndpoint(t, right, c.config)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			conn, err := pgconn.Connect(ctx, "postgres://"+c.user+":"+c.password+"@"+address+"/db?"+c.parameters)
			if c.say != "" {
				if err == nil || !strings.Contains(err.Error(), c.say) {
					t.Fatalf("error %v; want %q", err, c.say)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := <-outcomes; got.err != nil || !got.keyFits {
				t.Errorf("server's side: %+v", got)
			}
			if err := conn.Close(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestServerAuthenticatesPsql(t *testing.T) {
	psql, err := exec.LookPath("psql")
	if err != nil {
		t.Fatal("psql is needed: install postgresql-client")
	}
	for name, c := range map[string]struct {
		config              *tls.Config
		user, password, dsn string
		say                 string
	}{
		"in clear":                     {nil, "keycloak", "secret", "sslmode=disable", ""},
		"over TLS (gs2 y)":             {selfSignedTLS(t), "keycloak", "secret", "sslmode=require", ""},
		"over TLS, no channel binding": {selfSignedTLS(t), "keycloak", "secret", "sslmode=require channel_binding=disable", ""},
		"wrong password":               {nil, "keycloak", "wrong", "sslmode=disable", `FATAL:  password authentication failed for user "keycloak"`},
		"unknown role":                 {nil, "nobody", "secret", "sslmode=disable", `FATAL:  password authentication failed for user "nobody"`},
		"channel binding not offered":  {selfSignedTLS(t), "keycloak", "secret", "sslmode=require channel_binding=require", "channel binding is required"},
	} {
		t.Run(name, func(t *testing.T) {
			address, _ := authEndpoint(t, "secret", c.config)
			host, port, err := net.SplitHostPort(address)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			cmd := exec.CommandContext(ctx, psql, "-X", "-w", "-c", "", "host="+host+" port="+port+" user="+c.user+" dbname=db "+c.dsn)
			cmd.Env = append(os.Environ(), "PGPASSWORD="+c.password, "LC_ALL=C")
			out, err := cmd.CombinedOutput()
			if (err == nil) != (c.say == "") || !strings.Contains(string(out), c.say) {
				t.Errorf("psql: %v\n%s\nwant %q", err, out, c.say)
			}
		})
	}
}
