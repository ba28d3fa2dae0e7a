//go:build linux

package proxy

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgtether/pgtether/internal/lab"
)

// keycloak is a connection of Keycloak 26.7's pool, with the statements as its driver sends them.
type keycloak struct {
	*pgconn.PgConn
	ctx context.Context
	t   *testing.T
}

// extended runs an unnamed statement: Parse, Bind, Describe, Execute, Sync.
func (k keycloak) extended(sql string, args ...string) {
	k.t.Helper()
	var values [][]byte
	for _, a := range args {
		values = append(values, []byte(a))
	}
	if r := k.ExecParams(k.ctx, sql, values, nil, nil, nil).Read(); r.Err != nil {
		k.t.Fatalf("%s: %v", sql, r.Err)
	}
}

// named runs a prepared statement.
func (k keycloak) named(name string) {
	k.t.Helper()
	if r := k.ExecPrepared(k.ctx, name, nil, nil, nil).Read(); r.Err != nil {
		k.t.Fatalf("%s: %v", name, r.Err)
	}
}

func (k keycloak) prepare(name, sql string) {
	k.t.Helper()
	if _, err := k.Prepare(k.ctx, name, sql, nil); err != nil {
		k.t.Fatal(err)
	}
}

func (k keycloak) begin() { ask(k.ctx, k.t, k.PgConn, "BEGIN") }

// login is also what a refresh and the writing of an event are: the last statement before COMMIT relaxes it.
func (k keycloak) login() {
	k.t.Helper()
	k.begin()
	k.extended("insert into relaxed_session (what) values ($1)", "login")
	k.extended("SET LOCAL synchronous_commit TO OFF")
	k.named("S_1")
}

// logout is also what changes of users and credentials are.
func (k keycloak) logout() {
	k.t.Helper()
	k.begin()
	k.extended("delete from relaxed_session where what=$1", "login")
	k.named("S_1")
}

func TestTheCommitsThatKeycloakRelaxesAreCounted(t *testing.T) {
	ctx, l := startLab(t, lab.Options{Single: true})
	a := l.Node(lab.RegionA)
	if err := a.Exec(ctx, "keycloak", "CREATE TABLE relaxed_session (what text); GRANT ALL ON relaxed_session TO keycloak"); err != nil {
		t.Fatal(err)
	}
	for _, carrier := range []string{"goroutines", "loops"} {
		t.Run(carrier, func(t *testing.T) {
			t.Setenv(forwarderVariable, carrier)
			h := startServer(t, testConfig(), Deps{WriterAlive: recovers(l, lab.RegionA)})
			h.open(routeTo(a, 1))
			keycloakRelaxes(ctx, t, h, l.AppDSNAt(h.addr))
		})
	}
}

func keycloakRelaxes(ctx context.Context, t *testing.T, h *harness, dsn string) {
	counted := func(what string, want uint64) {
		t.Helper()
		if n, known := h.RelaxedCommits(1); n != want || !known || h.metric("pgtether_relaxed_commits_total") != float64(want) {
			t.Errorf("after %s: %d relaxed commits (%t), the metric says %v, want %d", what, n, known, h.metric("pgtether_relaxed_commits_total"), want)
		}
	}
	k := keycloak{connect(ctx, t, dsn), ctx, t}
	k.extended("SET application_name = 'keycloak'")
	k.extended("show transaction_read_only")
	k.extended("SET SEARCH_PATH TO public, \"$user\",\"public\"")
	k.prepare("S_1", "COMMIT")
	counted("the start of a pool", 0)
	for n := range uint64(10) {
		k.login()
		counted("a login", n+1)
		k.logout()
		counted("a logout", n+1)
	}
	k.prepare("S_2", "SET LOCAL synchronous_commit TO OFF")
	counted("a Parse", 10)
	for range 3 {
		k.begin()
		k.named("S_2")
		k.named("S_1")
		k.logout()
	}
	counted("three transactions relaxed by a prepared name", 13)

	k.begin()
	k.named("S_2")
	ask(ctx, t, k.PgConn, "ROLLBACK")
	counted("a login that was rolled back", 13)
	k.begin()
	k.extended("SET LOCAL synchronous_commit TO ON")
	k.named("S_1")
	counted("a commit that asks for more", 13)

	other := keycloak{connect(ctx, t, dsn), ctx, t}
	other.extended("SELECT set_config('synchronous_commit', 'off', false)")
	other.extended("insert into relaxed_session (what) values ($1)", "autocommit")
	other.prepare("S_1", "COMMIT")
	counted("a relaxed session's statements", 15)
	other.logout()
	counted("its transaction", 16)
	k.logout()
	counted("another session's", 16)

	optioned := keycloak{connect(ctx, t, dsn+"&options=-c%20synchronous_commit%3Doff"), ctx, t}
	optioned.extended("insert into relaxed_session (what) values ($1)", "options")
	counted("a session that began relaxed", 17)
}
