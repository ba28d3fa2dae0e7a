//go:build linux

package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/internal/pgwire"
)

// storedOn asks a node what is stored as a role's password, as the function of configs/sql/verifier-lookup.sql answers.
func storedOn(n *lab.Node) func(context.Context, string) (Stored, bool, error) {
	return func(ctx context.Context, role string) (Stored, bool, error) {
		text, err := n.QueryText(ctx, "postgres", "SELECT coalesce((SELECT rolpassword FROM pg_authid WHERE rolname = '"+role+"'"+
			" AND (rolvaliduntil IS NULL OR rolvaliduntil > now())), '')")
		if err != nil || text == "" {
			return Stored{}, false, err
		}
		stored, err := ParseStored(text)
		return stored, err == nil, err
	}
}

// sessionOf returns the one session of a role, whose client is told a moment before it is a session.
func (h *harness) sessionOf(role string) (found *session) {
	h.t.Helper()
	eventually(h.t, "a session of "+role, func() bool {
		for s := range h.roster.sessions() {
			if s.who.user == role {
				found = s
			}
		}
		return found != nil
	})
	return found
}

// obstacle is why the role's session cannot be logged in again; empty when it can.
func (h *harness) obstacle(role string) string {
	_, why := h.sessionOf(role).credential()
	return why
}

// again logs a session's role in once more, at the node itself, and returns the proof that it is that role, in that node's state.
func again(s *session, node *lab.Node, cfg *settings) (user, inRecovery string, err error) {
	c, why := s.credential()
	if c == nil {
		return "", "", errors.New(why)
	}
	raw, err := net.DialTimeout("tcp", node.Addr(), patience)
	if err != nil {
		return "", "", err
	}
	table := newTable()
	route, err := table.open(routeTo(node, 1))
	if err != nil {
		return "", "", err
	}
	b := newBackend(table, route, raw.(*net.TCPConn), nil)
	defer b.Close()
	if err := b.encrypt(cfg, time.Now().Add(patience)); err != nil {
		return "", "", err
	}
	_ = b.SetDeadline(time.Now().Add(patience))
	if _, err := b.conn.Write(s.replay); err != nil {
		return "", "", err
	}
	r := c.begin(b.conn != net.Conn(b))
	defer r.end()
	in := newFrames(b.conn)
	var values []string
	for done := false; len(values) < 2; {
		frame, err := in.next()
		if err != nil {
			return "", "", err
		}
		switch frame[0] {
		case 'R':
			var reply []byte
			if reply, done, err = r.step(frame); err != nil {
				return "", "", err
			}
			if _, err := b.conn.Write(reply); err != nil {
				return "", "", err
			}
		case 'Z':
			if !done {
				return "", "", errNonsense
			}
			sql := []string{"SELECT current_user", "SELECT pg_is_in_recovery()"}[len(values)]
			if _, err := b.conn.Write(appendQuery(nil, sql)); err != nil {
				return "", "", err
			}
		case 'D':
			values = append(values, string(bytes.Clone(frame[headerLength+6:])))
		case 'E':
			return "", "", fmt.Errorf("server: %s", render('E', frame[headerLength:]))
		}
	}
	return values[0], values[1], nil
}

// wantAgain wants the session's role to get in at the node.
func wantAgain(t *testing.T, h *harness, role string, node *lab.Node, recovery string) {
	t.Helper()
	eventually(t, role+" can be logged in again", func() bool { return h.obstacle(role) == "" })
	s := h.sessionOf(role)
	user, in, err := again(s, node, s.cfg)
	if err != nil || user != role || in != recovery {
		t.Errorf("%s on %s: logged in as %q, in recovery %q, %v", role, node.Name(), user, in, err)
	}
}

func TestRealRolesAreLoggedInAgain(t *testing.T) {
	ctx, l := startLab(t, lab.Options{HBA: []string{"host all app_md5 all md5", "host all app_password all password", "host all app_trust all trust"}})
	a, b := l.Node(lab.RegionA), l.Node(lab.RegionB)
	for role, encryption := range map[string]string{"app_md5": "md5", "app_password": "scram-sha-256", "app_trust": "scram-sha-256", "app_scram": "scram-sha-256"} {
		if err := a.Exec(ctx, "postgres", "SET password_encryption = '"+encryption+"'; CREATE ROLE "+role+" LOGIN PASSWORD 'secret'"); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.AwaitCaughtUp(ctx, a); err != nil {
		t.Fatal(err)
	}
	cfg := movingConfig()
	cfg.Verifiers = VerifiersAsked
	h := startServer(t, cfg, Deps{Verifier: storedOn(a)})
	h.open(routeTo(a, 1))
	as := func(role, password string) *pgconn.PgConn {
		return connect(ctx, t, strings.Replace(l.AppDSNAt(h.addr), "//keycloak:keycloak@", "//"+role+":"+password+"@", 1))
	}
	for _, role := range []string{"app_scram", "app_md5", "app_password", "app_trust"} {
		t.Run(role, func(t *testing.T) {
			as(role, "secret")
			wantAgain(t, h, role, a, "f")
			wantAgain(t, h, role, b, "t")
		})
	}
	t.Run("a password that was changed", func(t *testing.T) {
		for _, role := range []string{"app_scram", "app_md5"} {
			changeRealPassword(ctx, t, h, a, role, as)
		}
	})
	t.Run("a password that has expired", func(t *testing.T) {
		as("keycloak", "keycloak")
		wantAgain(t, h, "keycloak", a, "f")
		if err := a.Exec(ctx, "postgres", "ALTER ROLE keycloak VALID UNTIL '2020-01-01'"); err != nil {
			t.Fatal(err)
		}
		h.credentials.refresh(ctx, []string{"keycloak"})
		if got := h.obstacle("keycloak"); got != passwordChanged {
			t.Errorf("obstacle %q", got)
		}
	})
	if logs := h.logs.String(); strings.Contains(logs, "SCRAM-SHA-256$") || strings.Contains(logs, "secret") {
		t.Error("a secret in the log")
	}
}

// changeRealPassword changes the password of a role while it has a session.
func changeRealPassword(ctx context.Context, t *testing.T, h *harness, a *lab.Node, role string, as func(role, password string) *pgconn.PgConn) {
	old := h.sessionOf(role)
	before, _ := old.credential()
	begun := before.begin(false) // a login under way has a key of its own
	defer begun.end()
	if err := a.Exec(ctx, "postgres", "SET password_encryption = '"+map[bool]string{true: "md5", false: "scram-sha-256"}[role == "app_md5"]+
		"'; ALTER ROLE "+role+" PASSWORD 'another'"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := again(old, a, old.cfg); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%s with the old password: %v", role, err)
	}
	h.credentials.refresh(ctx, []string{role})
	if _, why := old.credential(); why != passwordChanged || before.secret.bytes() != nil || before.verifier != nil {
		t.Errorf("%s: obstacle %q; key there %v", role, why, before.secret.bytes() != nil || before.verifier != nil)
	}
	as(role, "another")
	eventually(t, "a session with the new password is there", func() bool {
		for s := range h.roster.sessions() {
			if _, why := s.credential(); s.who.user == role && s != old && why == "" {
				user, _, err := again(s, a, s.cfg)
				return err == nil && user == role
			}
		}
		return false
	})
	if _, why := old.credential(); why != passwordChanged {
		t.Errorf("%s: the old session after the new one: %q", role, why)
	}
}

func TestARealRoleWithoutAFittingVerifierHasNoKey(t *testing.T) {
	ctx, l := startLab(t, lab.Options{Single: true})
	a := l.Node(lab.RegionA)
	cfg := movingConfig()
	cfg.Verifiers = VerifiersAtHand
	h := startServer(t, cfg, Deps{Verifier: known(verifierOf(t, "keycloak", "not the salt 123"))})
	h.open(routeTo(a, 1))
	c := connect(ctx, t, l.AppDSNAt(h.addr))
	if got := h.obstacle("keycloak"); got != noKey {
		t.Errorf("obstacle %q", got)
	}
	if got := ask(ctx, t, c, "SELECT current_user"); got != "keycloak" {
		t.Errorf("the session itself: %q", got)
	}
}

func TestARealKeyIsWipedWithTheLastSession(t *testing.T) {
	ctx, l := startLab(t, lab.Options{Single: true, TLS: lab.TLSPerNode})
	a := l.Node(lab.RegionA)
	for _, way := range []string{SCRAMRelay, SCRAMProxy} {
		t.Run(way, func(t *testing.T) {
			cfg := movingConfig()
			cfg.Backend.TLS, cfg.Backend.CA, cfg.SCRAM, cfg.Verifiers = BackendTLSVerifyFull, l.TLS().CAFile, way, VerifiersAsked
			h := startServer(t, cfg, Deps{Verifier: storedOn(a)})
			h.open(routeTo(a, 1))
			dsn, _, _ := strings.Cut(l.AppDSNAt(h.addr), "?")
			dsn += "?sslmode=disable"
			first, second := connect(ctx, t, dsn), connect(ctx, t, dsn)
			wantAgain(t, h, "keycloak", a, "f") // over TLS, without channel binding
			k, _ := h.sessionOf("keycloak").credential()
			h.credentials.mu.Lock()
			key, verifier := k.key, k.verifier.Clone()
			h.credentials.mu.Unlock()
			_ = first.Close(ctx)
			eventually(t, "one has ended", func() bool { return len(h.roster.sessions()) == 1 })
			if !key.Matches(verifier) {
				t.Error("the key went with the first of two sessions")
			}
			_ = second.Close(ctx)
			eventually(t, "both have ended", func() bool { return len(h.roster.sessions()) == 0 })
			if key.Matches(verifier) || k.begin(true).over == nil {
				t.Error("the key outlives the last session")
			}
		})
	}
}

// PostgreSQL itself: a standby takes the password, for it has the same roles, and is no writer.
func TestALoginThatARealStandbyHasLetInBeginsAgainOnTheWriter(t *testing.T) {
	ctx, l := startLab(t, lab.Options{})
	a, b := l.Node(lab.RegionA), l.Node(lab.RegionB)
	onEachWay(t, func(t *testing.T, way string) {
		cfg := movingConfig()
		cfg.SCRAM = way
		h := startServer(t, cfg, Deps{Verifier: storedOn(a)})
		h.open(routeTo(a, 1))
		first := connect(ctx, t, l.AppDSNAt(h.addr))
		h.learned(1) // from now on the role's verifier is known
		_ = first.Close(ctx)
		h.Cut(1, pgwire.WriterLost)
		h.open(routeTo(b, 2))
		came := connecting(t, l.AppDSNAt(h.addr))
		eventually(t, "the login is held", func() bool { return h.Stats().Held == 1 })
		h.Cut(2, pgwire.WriterLost)
		h.open(routeTo(a, 3))
		got := <-came
		if got.err != nil {
			t.Fatal(got.err)
		}
		if said := ask(ctx, t, got.conn, "SELECT current_user || ' ' || pg_is_in_recovery()"); said != "keycloak false" {
			t.Errorf("the session says %q", said)
		}
		if got.conn.ParameterStatus("in_hot_standby") != "off" {
			t.Error("the client was told of the standby")
		}
		_ = got.conn.Close(ctx)
	})
}
