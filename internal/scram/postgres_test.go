package scram_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/internal/scram"
)

const role = "keycloak"

func startLab(t *testing.T, opts lab.Options) *lab.Lab {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	l, err := lab.Start(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func storedVerifier(t *testing.T, n *lab.Node) scram.Verifier {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	text, err := n.QueryText(ctx, "postgres", "SELECT rolpassword FROM pg_catalog.pg_authid WHERE rolname = '"+role+"'")
	if err != nil {
		t.Fatal(err)
	}
	v, err := scram.ParseVerifier(text)
	if err != nil {
		t.Fatalf("verifier of %s on %s: %v", role, n.Name(), err)
	}
	return v
}

// observedRelay passes one connection at a time on to a server, unchanged, and shows its login to an Observer. The Observer is handed over
// when the authentication has ended, well or not. Each leg is encrypted when it has a configuration for that.
func observedRelay(t *testing.T, target string, clientLeg, serverLeg *tls.Config, observers chan<- *scram.Observer) (address string) {
	t.Helper()
	return endpoint(t, func(client net.Conn) error {
		client, packet, err := acceptStartup(client, clientLeg)
		if err != nil {
			return err
		}
		server, err := net.DialTimeout("tcp", target, patience)
		if err != nil {
			return err
		}
		defer func() { _ = server.Close() }()
		if err := server.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		if serverLeg != nil {
			if server, err = offerTLS(server, serverLeg); err != nil {
				return err
			}
		}
		if _, err := server.Write(packet); err != nil {
			return err
		}
		return relay(client, server, observers)
	})
}

func relay(client, server net.Conn, observers chan<- *scram.Observer) error {
	observer, err := relayLogin(client, server)
	observers <- observer
	if err != nil {
		return err
	}
	var both errgroup.Group
	both.Go(func() error { return relayMessages(server, client) })
	both.Go(func() error { return relayMessages(client, server) })
	return both.Wait()
}

// relayLogin relays in turns: the server speaks, and the client answers an authentication request that wants an answer.
func relayLogin(client, server net.Conn) (*scram.Observer, error) {
	observer := new(scram.Observer)
	for {
		kind, body, err := readMessage(server)
		if err != nil {
			return observer, err
		}
		if _, err := client.Write(message(kind, body)); err != nil {
			return observer, err
		}
		if kind != 'R' {
			return observer, nil // an error: the login has failed
		}
		observer.Server(body)
		switch body[3] {
		case 0:
			return observer, nil
		case 12: // AuthenticationSASLFinal wants no answer
			continue
		}
		kind, body, err = readMessage(client)
		if err != nil {
			return observer, err
		}
		observer.Client(body)
		if _, err := server.Write(message(kind, body)); err != nil {
			return observer, err
		}
	}
}

// relayMessages relays until either side is gone.
func relayMessages(dst, src net.Conn) error {
	defer func() { _ = dst.Close() }()
	for {
		kind, body, err := readMessage(src)
		if err != nil {
			return nil
		}
		if _, err := dst.Write(message(kind, body)); err != nil {
			return nil
		}
	}
}

func TestRecoveredKeyLogsInOnBothNodesUntilThePasswordChanges(t *testing.T) {
	l := startLab(t, lab.Options{})
	primary, standby := l.Node(lab.RegionA), l.Node(lab.RegionB)
	observers := make(chan *scram.Observer, 1)
	address := observedRelay(t, primary.Addr(), nil, nil, observers)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()

	conn, err := pgconn.Connect(ctx, l.AppDSNAt(address))
	if err != nil {
		t.Fatal(err)
	}
	observer := <-observers
	v := storedVerifier(t, primary)
	key, err := observer.ClientKey(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(ctx); err != nil {
		t.Error(err)
	}

	if err := standby.AwaitCaughtUp(ctx, primary); err != nil {
		t.Fatal(err)
	}
	if !storedVerifier(t, standby).Equal(v) {
		t.Errorf("the standby stores another verifier")
	}
	for _, node := range []*lab.Node{primary, standby} {
		c, err := scram.NewClient(key, v, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := logIn(dial(t, node.Addr()), c, role, role); err != nil {
			t.Errorf("log in on %s: %v", node.Name(), err)
		}
	}

	// A wrong password is PostgreSQL's to refuse, and yields nothing.
	if _, err := pgconn.Connect(ctx, strings.Replace(l.AppDSNAt(address), ":"+l.AppPassword+"@", ":wrong@", 1)); err == nil {
		t.Error("the wrong password was let in")
	} else if pgErr := (*pgconn.PgError)(nil); !errors.As(err, &pgErr) || pgErr.Code != "28P01" {
		t.Errorf("wrong password: %v; want 28P01", err)
	}
	if _, err := (<-observers).ClientKey(v); !errors.Is(err, scram.ErrIncomplete) {
		t.Errorf("key after a failed login: %v; want ErrIncomplete", err)
	}

	// The same password set again has another salt: the key is dead on every node, and both sides notice before they prove anything.
	if err := primary.Exec(ctx, "postgres", "ALTER ROLE "+role+" PASSWORD '"+l.AppPassword+"'"); err != nil {
		t.Fatal(err)
	}
	if err := standby.AwaitCaughtUp(ctx, primary); err != nil {
		t.Fatal(err)
	}
	for _, node := range []*lab.Node{primary, standby} {
		c, err := scram.NewClient(key, v, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := logIn(dial(t, node.Addr()), c, role, role); !errors.Is(err, scram.ErrStaleVerifier) {
			t.Errorf("log in on %s after the change: %v; want ErrStaleVerifier", node.Name(), err)
		}
	}
	fresh := storedVerifier(t, primary)
	if _, err := observer.ClientKey(fresh); !errors.Is(err, scram.ErrStaleVerifier) {
		t.Errorf("old exchange, new verifier: %v; want ErrStaleVerifier", err)
	}
	if _, err := scram.NewClient(key, fresh, nil); !errors.Is(err, scram.ErrKeyMismatch) {
		t.Errorf("old key, new verifier: %v; want ErrKeyMismatch", err)
	}
}

// TestChannelBindingThroughARelay is the table of what clients meet when their TLS ends at the proxy.
func TestChannelBindingThroughARelay(t *testing.T) {
	l := startLab(t, lab.Options{Single: true, TLS: lab.TLSShared})
	node := l.Node(lab.RegionA)
	v := storedVerifier(t, node)
	certFile, keyFile := l.TLS().ServerFiles(lab.RegionA)
	shared, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	trust := &tls.Config{RootCAs: l.TLS().Pool(), ServerName: "localhost", MinVersion: tls.VersionTLS12}
	same := &tls.Config{Certificates: []tls.Certificate{shared}}
	own := selfSignedTLS(t)
	for name, c := range map[string]struct {
		clientLeg, serverLeg *tls.Config
		parameters           string
		refused              string
	}{
		"plain, plain":                       {nil, nil, "sslmode=disable", ""},
		"TLS, plain (gs2 y)":                 {own, nil, "sslmode=require", ""},
		"plain, TLS (PLUS offered)":          {nil, trust, "sslmode=disable", ""},
		"TLS, TLS, same certificate (PLUS)":  {same, trust, "sslmode=require&channel_binding=require", ""},
		"TLS, TLS, own certificate (PLUS)":   {own, trust, "sslmode=require", "28000"},
		"TLS, TLS, client does not bind (n)": {own, trust, "sslmode=require&channel_binding=disable", ""},
	} {
		t.Run(name, func(t *testing.T) {
			observers := make(chan *scram.Observer, 1)
			address := observedRelay(t, node.Addr(), c.clientLeg, c.serverLeg, observers)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			dsn := "postgres://" + l.AppUser + ":" + l.AppPassword + "@" + address + "/" + l.AppDatabase + "?" + c.parameters
			conn, err := pgconn.Connect(ctx, dsn)
			observer := <-observers
			if c.refused != "" {
				if pgErr := (*pgconn.PgError)(nil); !errors.As(err, &pgErr) || pgErr.Code != c.refused {
					t.Errorf("error %v; want %s", err, c.refused)
				}
				if _, err := observer.ClientKey(v); !errors.Is(err, scram.ErrIncomplete) {
					t.Errorf("key after a refused login: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			key, err := observer.ClientKey(v)
			if err != nil || !key.Matches(v) {
				t.Errorf("key: %v", err)
			}
			if err := conn.Close(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestClientBindsToTheServersCertificate(t *testing.T) {
	l := startLab(t, lab.Options{Single: true, TLS: lab.TLSPerNode})
	node := l.Node(lab.RegionA)
	v := storedVerifier(t, node)
	_, key := keysOf(t, l.AppPassword, v.Salt, v.Iterations)
	trust := &tls.Config{RootCAs: l.TLS().Pool(), ServerName: "localhost", MinVersion: tls.VersionTLS12}
	bind := func(t *testing.T, hash func(der []byte) []byte) error {
		conn, err := offerTLS(dial(t, node.Addr()), trust)
		if err != nil {
			t.Fatal(err)
		}
		c, err := scram.NewClient(key, v, hash(conn.ConnectionState().PeerCertificates[0].Raw))
		if err != nil {
			t.Fatal(err)
		}
		return logIn(conn, c, role, role)
	}
	endPoint := func(der []byte) []byte {
		hash, err := scram.ServerEndPoint(der)
		if err != nil {
			t.Fatal(err)
		}
		return hash
	}
	t.Run("to this one", func(t *testing.T) {
		if err := bind(t, endPoint); err != nil {
			t.Error(err)
		}
	})
	t.Run("not at all", func(t *testing.T) {
		if err := bind(t, func([]byte) []byte { return nil }); err != nil {
			t.Error(err)
		}
	})
	t.Run("to another one", func(t *testing.T) {
		err := bind(t, func(der []byte) []byte { return endPoint(selfSignedTLS(t).Certificates[0].Certificate[0]) })
		var refused serverError
		if !errors.As(err, &refused) || refused['C'] != "28000" {
			t.Errorf("error %v; want 28000", err)
		}
	})
	t.Run("where nobody offers it", func(t *testing.T) {
		c, err := scram.NewClient(key, v, make([]byte, 32))
		if err != nil {
			t.Fatal(err)
		}
		if err := logIn(dial(t, node.Addr()), c, role, role); !errors.Is(err, scram.ErrNoChannelBinding) {
			t.Errorf("error %v; want ErrNoChannelBinding", err)
		}
	})
}
