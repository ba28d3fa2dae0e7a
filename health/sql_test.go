package health

import (
	"bytes"
	"context"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgtether/pgtether/decision"
	"github.com/pgtether/pgtether/internal/lab"
)

const (
	probeRoleSQL      = "../configs/sql/probe-role.sql"
	verifierLookupSQL = "../configs/sql/verifier-lookup.sql"
)

// psql runs a file as a person would and returns what was said and the exit code.
func psql(ctx context.Context, t *testing.T, dsn, file string, variables ...string) (said string, code int) {
	t.Helper()
	args := []string{"--no-psqlrc"}
	for _, v := range variables {
		args = append(args, "-v", v)
	}
	cmd := exec.CommandContext(ctx, "psql", append(args, "-f", file, dsn)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// as changes who logs in.
func as(t *testing.T, dsn, user, password string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	must(t, err)
	u.User = url.UserPassword(user, password)
	return u.String()
}

func one(ctx context.Context, t *testing.T, n *lab.Node, sql string) string {
	t.Helper()
	text, err := n.QueryText(ctx, "postgres", sql)
	must(t, err)
	return text
}

// grants lists all that a role was given; what only PostgreSQL 15 and later can give is left out for older ones.
func grants(has15 bool) string {
	if !has15 {
		return strings.Join(slices.DeleteFunc(strings.Split(allGrantsSQL, "\n"), func(line string) bool { return strings.Contains(line, "pg_parameter_acl") }), "\n")
	}
	return allGrantsSQL
}

const allGrantsSQL = `SELECT string_agg(what, E'\n' ORDER BY what COLLATE "C") FROM (
  SELECT 'member of '||g.rolname AS what FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid JOIN pg_roles r ON r.oid = m.member WHERE r.rolname = 'other "role'
  UNION ALL SELECT a.privilege_type||' '||p.proname FROM pg_proc p, aclexplode(p.proacl) a JOIN pg_roles r ON r.oid = a.grantee WHERE r.rolname = 'other "role'
  UNION ALL SELECT a.privilege_type||' '||p.parname FROM pg_parameter_acl p, aclexplode(p.paracl) a JOIN pg_roles r ON r.oid = a.grantee WHERE r.rolname = 'other "role'
  UNION ALL SELECT format('login %s replication %s superuser %s createdb %s createrole %s bypassrls %s', rolcanlogin, rolreplication, rolsuper, rolcreatedb, rolcreaterole, rolbypassrls)
    FROM pg_roles WHERE rolname = 'other "role') x`

// TestWhatADBADoes runs what configs/sql offers and then the check, on one pair.
func TestWhatADBADoes(t *testing.T) {
	ctx, l := startLab(t, lab.Options{Settings: map[string]string{"log_statement": "all", "log_min_duration_statement": "0", "password_encryption": "md5"}})
	t.Run("probe-role.sql", func(t *testing.T) { testProbeRole(ctx, t, l) })
	t.Run("verifier-lookup.sql", func(t *testing.T) { testVerifierLookup(ctx, t, l) })
	t.Run("before a switchover", func(t *testing.T) { testCheckSwitchover(ctx, t, l) })
	t.Run("check", func(t *testing.T) { testCheck(ctx, t, l) })
}

func testProbeRole(ctx context.Context, t *testing.T, l *lab.Lab) {
	a, b := l.Node(lab.RegionA), l.Node(lab.RegionB)
	has15 := l.Version() >= 15
	const name, password = `other "role`, `it's a "p\a$s$w:ord" %L :'x' ü`

	for _, c := range []struct {
		name, dsn, want string
		variables       []string
	}{
		{"no password", a.SuperDSN("postgres"), "the password of the probe role is missing", nil},
		{"empty password", a.SuperDSN("postgres"), "the password of the probe role is empty", []string{"password="}},
		{"empty role", a.SuperDSN("postgres"), "the name of the probe role is empty", []string{"password=x", "role="}},
		{"on the standby", b.SuperDSN("postgres"), "this server is a standby", []string{"password=x"}},
		{"not as superuser", as(t, a.SuperDSN("postgres"), l.AppUser, l.AppPassword), "you are not a superuser", []string{"password=x"}},
		{"a superuser as the role", a.SuperDSN("postgres"), "the role that was named is a superuser", []string{"password=x", "role=postgres"}},
	} {
		t.Run("refuses: "+c.name, func(t *testing.T) {
			before := one(ctx, t, a, "SELECT md5(string_agg(r::text, ',' ORDER BY oid)) FROM pg_authid r")
			said, code := psql(ctx, t, c.dsn, probeRoleSQL, c.variables...)
			if code != 3 || !strings.Contains(said, c.want) || !strings.Contains(said, "HINT:") {
				t.Errorf("exit %d: %s", code, said)
			}
			same(t, "roles", one(ctx, t, a, "SELECT md5(string_agg(r::text, ',' ORDER BY oid)) FROM pg_authid r"), before)
		})
	}
	t.Run("creates, repeats, and takes away what is too much", func(t *testing.T) {
		all := []string{"EXECUTE pg_logical_emit_message", "EXECUTE pg_promote", "login t replication t superuser f createdb f createrole f bypassrls f",
			"member of pg_monitor", "member of pg_signal_backend"}
		told := []string{"pg_monitor", "REPLICATION", "pg_signal_backend", "pg_promote", "pg_logical_emit_message", "default_transaction_read_only",
			"synchronous_standby_names", "primary_conninfo", "pg_reload_conf", "CHECKPOINT", "MISSING", "in database postgres"}
		if has15 {
			all = append(all, "ALTER SYSTEM default_transaction_read_only", "ALTER SYSTEM primary_conninfo", "ALTER SYSTEM synchronous_standby_names",
				"EXECUTE pg_reload_conf", "member of pg_checkpoint")
			told[9], told[10] = "pg_checkpoint", "LOGIN"
		}
		slices.Sort(all)
		want := strings.Join(all, "\n")
		for round, prepare := range []string{"SELECT 1", "SELECT 1", `ALTER ROLE "other ""role" NOLOGIN CREATEDB CREATEROLE BYPASSRLS NOREPLICATION`} {
			must(t, a.Exec(ctx, "postgres", prepare))
			said, code := psql(ctx, t, a.SuperDSN("postgres"), probeRoleSQL, "password="+password, "role="+name)
			if code != 0 || strings.Contains(said, "NOTICE") || strings.Contains(said, "WARNING") {
				t.Fatalf("round %d: exit %d: %s", round, code, said)
			}
			if got := one(ctx, t, a, grants(has15)); got != want {
				t.Errorf("round %d: grants\n%s\nwant\n%s", round, got, want)
			}
			for _, grant := range told {
				if !strings.Contains(said, grant) {
					t.Errorf("says nothing about %s: %s", grant, said)
				}
			}
		}
	})
	t.Run("the password is SCRAM and in no log", func(t *testing.T) {
		same(t, "verifier", one(ctx, t, a, `SELECT left(rolpassword, 14) FROM pg_authid WHERE rolname = 'other "role'`), "SCRAM-SHA-256$")
		content, err := os.ReadFile(a.LogFile())
		must(t, err)
		if !bytes.Contains(content, []byte("SET LOCAL log_statement")) {
			t.Error("the log holds no statements: this test proves nothing")
		}
		if bytes.Contains(content, []byte(`a$s$w:ord`)) {
			t.Error("the server's log holds the password")
		}
	})
	t.Run("the probe sees everything with it", func(t *testing.T) {
		target := labTarget(l, lab.RegionB)
		target.User, target.Password = name, password
		must(t, b.AwaitCaughtUp(ctx, a))
		o := probeUntil(ctx, t, newProber(t), target, "the receiver", func(o decision.Observation) bool { return o.Receiver.V.Status == "streaming" })
		answersEverywhere(t, o)
		if !complete(o) || !o.ServerID.Known {
			t.Errorf("identity: %+v", o)
		}
		everySetting(t, o.Settings)
	})
	t.Run("it may do what it was granted and no more", func(t *testing.T) {
		c, err := pgx.Connect(ctx, as(t, a.SuperDSN("postgres"), name, password))
		must(t, err)
		defer c.Close(ctx)
		may := []string{"SELECT pg_logical_emit_message(true, 'pgtether', 'x')"}
		mayNot := []string{"ALTER SYSTEM SET archive_command = 'x'", "CREATE ROLE x", "SELECT rolpassword FROM pg_authid", "SELECT pg_read_file('postgresql.conf')", "CREATE DATABASE x"}
		by15 := []string{
			"ALTER SYSTEM SET synchronous_standby_names = ''", "ALTER SYSTEM RESET synchronous_standby_names",
			"ALTER SYSTEM SET default_transaction_read_only = on", "ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()", "CHECKPOINT",
		}
		if has15 {
			may = append(may, by15...)
		} else {
			mayNot = append(mayNot, by15...)
		}
		for _, sql := range may {
			if _, err := c.Exec(ctx, sql); err != nil {
				t.Errorf("%s: %v", sql, err)
			}
		}
		for _, sql := range mayNot {
			if _, err := c.Exec(ctx, sql); err == nil {
				t.Errorf("%s succeeded", sql)
			}
		}
	})
}

func testVerifierLookup(ctx context.Context, t *testing.T, l *lab.Lab) {
	a, b := l.Node(lab.RegionA), l.Node(lab.RegionB)
	super := a.SuperDSN("postgres")

	for _, c := range []struct {
		name, dsn, want, before, after string
		variables                      []string
	}{
		{"no such role", super, "the probe role does not exist", "SELECT 1", "SELECT 1", []string{"role=nobody"}},
		{"on the standby", b.SuperDSN("postgres"), "this server is a standby", "SELECT 1", "SELECT 1", nil},
		{"not as superuser", as(t, super, l.AppUser, l.AppPassword), "you are not a superuser", "SELECT 1", "SELECT 1", nil},
		{"somebody else's schema", super, "somebody who is not a superuser", "CREATE SCHEMA pgtether AUTHORIZATION keycloak", "DROP SCHEMA pgtether", nil},
		{"a schema in which somebody else may create", super, "somebody who is not a superuser", "CREATE SCHEMA pgtether; GRANT CREATE ON SCHEMA pgtether TO keycloak", "DROP SCHEMA pgtether", nil},
	} {
		t.Run("refuses: "+c.name, func(t *testing.T) {
			must(t, a.Exec(ctx, "postgres", c.before))
			said, code := psql(ctx, t, c.dsn, verifierLookupSQL, c.variables...)
			if code != 3 || !strings.Contains(said, c.want) {
				t.Errorf("exit %d: %s", code, said)
			}
			must(t, a.Exec(ctx, "postgres", c.after))
		})
	}
	// A function of that name that somebody else owns must not keep its owner.
	must(t, a.Exec(ctx, "postgres", "CREATE SCHEMA pgtether; "+
		"CREATE FUNCTION pgtether.scram_verifier(role text) RETURNS text LANGUAGE sql AS 'SELECT role'; ALTER FUNCTION pgtether.scram_verifier(text) OWNER TO keycloak"))
	for range 2 {
		if said, code := psql(ctx, t, super, verifierLookupSQL); code != 0 || strings.Contains(said, "NOTICE") {
			t.Fatalf("exit %d: %s", code, said)
		}
	}
	same(t, "owner", one(ctx, t, a, "SELECT pg_get_userbyid(proowner) FROM pg_proc WHERE proname = 'scram_verifier'"), "postgres")
	must(t, a.Exec(ctx, "postgres", `SET password_encryption = 'scram-sha-256';
		CREATE ROLE boss SUPERUSER LOGIN PASSWORD 'x'; CREATE ROLE expired LOGIN PASSWORD 'x' VALID UNTIL '2020-01-01';
		CREATE ROLE valid LOGIN PASSWORD 'x' VALID UNTIL 'infinity'; CREATE ROLE nologin NOLOGIN PASSWORD 'x'; CREATE ROLE bare LOGIN;
		SET password_encryption = 'md5'; CREATE ROLE old LOGIN PASSWORD 'x'`))
	must(t, b.AwaitCaughtUp(ctx, a))

	for _, n := range []*lab.Node{a, b} {
		c, err := pgx.Connect(ctx, n.ProbeDSN("postgres"))
		must(t, err)
		for role, want := range map[string]string{
			"keycloak": one(ctx, t, a, "SELECT rolpassword FROM pg_authid WHERE rolname = 'keycloak'"),
			"valid":    one(ctx, t, a, "SELECT rolpassword FROM pg_authid WHERE rolname = 'valid'"),
			"postgres": "", "boss": "", "replicator": "", "pgtether": "", "expired": "", "nologin": "", "bare": "", "old": "", "nobody": "", "": "", "' OR true --": "", "KEYCLOAK": "",
		} {
			var got *string
			if err := c.QueryRow(ctx, "SELECT pgtether.scram_verifier($1)", role).Scan(&got); err != nil {
				t.Errorf("%s: %q: %v", n.Name(), role, err)
			}
			if want == "" && got != nil || want != "" && (got == nil || *got != want) {
				t.Errorf("%s: verifier of %q = %v, want %q", n.Name(), role, got, want)
			}
		}
		c.Close(ctx)
	}
	t.Run("nobody else may ask", func(t *testing.T) {
		c, err := pgx.Connect(ctx, as(t, super, l.AppUser, l.AppPassword))
		must(t, err)
		defer c.Close(ctx)
		if _, err := c.Exec(ctx, "SELECT pgtether.scram_verifier('keycloak')"); err == nil || !strings.Contains(err.Error(), "42501") {
			t.Errorf("error %v, want 42501", err)
		}
	})
	t.Run("an MD5 hash only where that is asked for", func(t *testing.T) {
		for _, c := range []struct{ variable, want string }{{"md5=on", "md5"}, {"md5=off", ""}} {
			if said, code := psql(ctx, t, super, verifierLookupSQL, c.variable); code != 0 || strings.Contains(said, "NOTICE") {
				t.Fatalf("%s: exit %d: %s", c.variable, code, said)
			}
			same(t, c.variable, one(ctx, t, a, "SELECT coalesce(left(pgtether.scram_verifier('old'), 3), '')"), c.want)
			same(t, "verifier with "+c.variable, one(ctx, t, a, "SELECT left(pgtether.scram_verifier('valid'), 14)"), "SCRAM-SHA-256$")
			same(t, "superuser with "+c.variable, one(ctx, t, a, "SELECT coalesce(pgtether.scram_verifier('boss'), '')"), "")
		}
	})
	t.Run("what the caller's session defines changes nothing", func(t *testing.T) {
		c, err := pgx.Connect(ctx, a.ProbeDSN("postgres"))
		must(t, err)
		defer c.Close(ctx)
		_, err = c.Exec(ctx, "CREATE TEMP TABLE pg_authid AS SELECT 'SCRAM-SHA-256$forged'::text AS rolpassword, 'postgres'::text AS rolname, true AS rolcanlogin, "+
			"false AS rolsuper, false AS rolreplication, NULL::timestamptz AS rolvaliduntil")
		must(t, err)
		_, err = c.Exec(ctx, "SET search_path = pg_temp, pg_catalog")
		must(t, err)
		var got *string
		must(t, c.QueryRow(ctx, "SELECT pgtether.scram_verifier('postgres')").Scan(&got))
		if got != nil {
			t.Errorf("forged verifier %q", *got)
		}
	})
}
