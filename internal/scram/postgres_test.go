package scram_test

import (
	"context"
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
// when the authentication has ended, well or not.
func observedRelay(t *testing.T, target string, observers chan<- *scram.Observer) (address string) {
	t.Helper()
	return endpoint(t, func(client net.Conn) error {
		client, packet, err := acceptStartup(client, nil)
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
	address := observedRelay(t, primary.Addr(), observers)
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
