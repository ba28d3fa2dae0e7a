package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/pgtether/pgtether/internal/lab"
)

func suites() []suite {
	return []suite{pgxSuite(), pqSuite(), psycopg2Suite(), pgjdbcSuite(), psycopg3Suite(), nodeSuite()}
}

// trusting is a server that lets these roles in without a password, all others by SCRAM.
func trusting(roles string, hba ...string) func(options) lab.Options {
	return func(options) lab.Options {
		return lab.Options{Single: true, TLS: lab.TLSShared, MaxConnections: 300,
			HBA:      append(hba, "host all "+roles+" 127.0.0.0/8 trust", "host replication "+roles+" 127.0.0.0/8 trust"),
			Settings: map[string]string{"max_prepared_transactions": "50", "wal_level": "logical", "max_locks_per_transaction": "256"}}
	}
}

var bothWays = []string{wayTerminated, wayPassthrough}

// pgxSuite is github.com/jackc/pgx/v5, with every kind of login that its tests know but OAuth and Unix sockets.
func pgxSuite() suite {
	return suite{
		name: "pgx", ways: bothWays, database: "pgx_test", extensions: []string{"hstore", "ltree"}, selects: true,
		server: trusting("pgxtest", "host all pgx_md5 127.0.0.0/8 md5", "host all pgx_pw 127.0.0.0/8 password", "hostssl all pgx-sslcert 127.0.0.0/8 cert"),
		setup: []string{
			"CREATE USER pgxtest SUPERUSER", "CREATE USER pgx_ssl SUPERUSER PASSWORD 'secret'", `CREATE USER "pgx-sslcert" SUPERUSER PASSWORD 'secret'`,
			"CREATE USER pgx_pw SUPERUSER PASSWORD 'secret'", "CREATE USER pgx_scram SUPERUSER PASSWORD 'secret'",
			"SET password_encryption = 'md5'; CREATE USER pgx_md5 SUPERUSER PASSWORD 'secret'",
			`CREATE USER " tricky, ' } "" \ test user " SUPERUSER PASSWORD 'secret'`,
			"CREATE DOMAIN uint64 AS numeric(20,0)",
		},
		run: runPgx,
	}
}

func runPgx(ctx context.Context, w *world, way string, only []string) (results, error) {
	if err := w.node.Exec(ctx, "pgx_test", "DROP DOMAIN IF EXISTS uint64; CREATE DOMAIN uint64 AS numeric(20,0)"); err != nil {
		return nil, err
	}
	cert, key, err := w.lab.TLS().Issue("pgx-sslcert")
	if err != nil {
		return nil, err
	}
	host, port := w.address(way)
	to := func(rest string) string { return fmt.Sprintf("host=%s port=%s dbname=pgx_test %s", host, port, rest) }
	tls := "sslmode=verify-full sslrootcert=" + w.lab.TLS().CAFile
	env := []string{
		"PGX_TEST_DATABASE=" + to("user=pgx_md5 password=secret"),
		"PGX_TEST_TCP_CONN_STRING=" + to("user=pgx_md5 password=secret"),
		"PGX_TEST_MD5_PASSWORD_CONN_STRING=" + to("user=pgx_md5 password=secret"),
		"PGX_TEST_PLAIN_PASSWORD_CONN_STRING=" + to("user=pgx_pw password=secret"),
		"PGX_TEST_SCRAM_PASSWORD_CONN_STRING=" + to("user=pgx_scram password=secret channel_binding=disable"),
		"PGX_TEST_SCRAM_PLUS_CONN_STRING=" + to("user=pgx_ssl password=secret channel_binding=require "+tls),
		"PGX_TEST_TLS_CONN_STRING=" + to("user=pgx_ssl password=secret channel_binding=disable "+tls),
	}
	if way != wayTerminated { // a client's certificate cannot be relayed by who ends its TLS: documented
		env = append(env, "PGX_TEST_TLS_CLIENT_CONN_STRING="+to(fmt.Sprintf("user=pgx-sslcert %s sslcert=%s sslkey=%s", tls, cert, key)))
	}
	return w.goTest(ctx, filepath.Join(w.cache, "pgx"), way, env, only)
}

// pqSuite is github.com/lib/pq, with the certificates that it brings. Its tests of TLS rest on the server's telling clients in clear from others
// (hostnossl ... reject), which it can only where pgtether does not encrypt for them.
func pqSuite() suite {
	return suite{
		name: "lib/pq", ways: []string{wayPassthrough}, database: "pqgo", extensions: []string{"hstore"}, selects: true,
		server: func(o options) lab.Options {
			l := trusting("all", "host all pqgomd5 127.0.0.0/8 md5", "host all pqgopassword 127.0.0.0/8 password", "host all pqgoscram 127.0.0.0/8 scram-sha-256",
				"host all postgres 127.0.0.0/8 trust", "hostnossl all pqgossl 127.0.0.0/8 reject", "hostnossl all pqgosslcert 127.0.0.0/8 reject",
				"hostssl all pqgossl 127.0.0.0/8 trust", "hostssl all pqgosslcert 127.0.0.0/8 cert", "host all pgtether 127.0.0.0/8 scram-sha-256")(o)
			// Copied there by run.sh, readable by the server's account alone.
			certs := filepath.Join(o.cache, "pq-certs")
			l.Settings["ssl_ca_file"], l.Settings["ssl_cert_file"] = filepath.Join(certs, "root.crt"), filepath.Join(certs, "server.crt")
			l.Settings["ssl_key_file"] = filepath.Join(certs, "server.key")
			return l
		},
		setup: []string{
			"CREATE ROLE pqgo LOGIN SUPERUSER", "CREATE ROLE pqgossl LOGIN", "CREATE ROLE pqgosslcert LOGIN", "CREATE ROLE pqgopassword LOGIN PASSWORD 'wordpass'",
			"CREATE ROLE pqgoscram LOGIN PASSWORD 'wordpass'", "SET password_encryption = 'md5'; CREATE ROLE pqgomd5 LOGIN PASSWORD 'wordpass'",
		},
		run: runPq,
	}
}

// runPq runs everything, and the tests of TLS once more: they want the server to be called "postgres".
func runPq(ctx context.Context, w *world, way string, only []string) (results, error) {
	host, port := w.address(way)
	env := []string{"PGHOST=" + host, "PGPORT=" + port, "PGSSLMODE=disable"}
	out, err := w.goTest(ctx, filepath.Join(w.cache, "pq"), way, env, only)
	if err != nil {
		return nil, err
	}
	named, err := w.goTest(ctx, filepath.Join(w.cache, "pq"), way+"-named", append(env, "PGHOSTADDR="+host), []string{".TestSSL.*"})
	for name, o := range named {
		out["host postgres: "+name] = o
	}
	return out, err
}

// goTest runs the tests of a Go module.
func (w *world) goTest(ctx context.Context, dir, way string, env, only []string) (results, error) {
	args := []string{"test", "-json", "-count=1", "-p=1", "-timeout=20m"}
	if only != nil {
		args = append(args, "-run", "^("+strings.Join(topLevel(only), "|")+")$")
	}
	output := way + ".json"
	if err := w.command(ctx, dir, output, env, "go", append(args, "./...")...); err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(w.dir, output))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readGo(f)
}

// testFunction finds the function in a name such as module/package.TestX/case.
var testFunction = regexp.MustCompile(`\.((?:Test|Example|Fuzz)[^/]*)`)

func topLevel(names []string) []string {
	var out []string
	for _, name := range names {
		if m := testFunction.FindStringSubmatch(name); m != nil && !slices.Contains(out, m[1]) {
			out = append(out, m[1])
		}
	}
	if out == nil {
		return []string{".*"} // a package that ended as a whole
	}
	return out
}
