package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// client is one of PostgreSQL's own programs with an address to go to.
type client struct {
	*testing.T
	addr string
	// env is added to a clean environment; of two values for a name the last one counts.
	env []string
}

// tools are the programs straight to the server and through the proxy, as a role that needs no password.
func tools(t *testing.T, direct, through, database string) (d, p client) {
	env := []string{"PGUSER=" + roleTrust, "PGDATABASE=" + database, "PGSSLMODE=disable"}
	return client{t, direct, env}, client{t, through, env}
}

// with adds to the environment.
func (c client) with(env ...string) client {
	c.env = append(append([]string(nil), c.env...), env...)
	return c
}

// program finds one of PostgreSQL's programs.
func locate(t *testing.T, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name) // the pattern is well formed
	if len(found) == 0 {
		t.Fatalf("%s is not there: run 'make setup'", name)
	}
	return found[len(found)-1]
}

func (c client) command(name string, args ...string) *exec.Cmd {
	c.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	c.Cleanup(cancel)
	host, port, err := net.SplitHostPort(c.addr)
	if err != nil {
		c.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, locate(c.T, name), args...)
	home := c.TempDir()
	cmd.Dir = home
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "LC_ALL=C.UTF-8", "TZ=UTC", "PSQLRC=/dev/null", "PAGER=cat",
		"PGHOST=" + host, "PGPORT=" + port, "PGCONNECT_TIMEOUT=60"}, c.env...)
	return cmd
}

// run executes a program with this input. It returns all that it said, and how it ended.
func (c client) run(input, name string, args ...string) (said string, err error) {
	c.Helper()
	cmd := c.command(name, args...)
	cmd.Stdin = strings.NewReader(input)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		c.Fatalf("%s: %v", name, err)
	}
	return c.withoutPort(out.String()), err
}

// must is run for a program that has to succeed.
func (c client) must(input, name string, args ...string) string {
	c.Helper()
	said, err := c.run(input, name, args...)
	if err != nil {
		c.Fatalf("%s %q: %v: %s", name, args, err, said)
	}
	return said
}

// withoutPort replaces the port, which programs print.
func (c client) withoutPort(s string) string {
	_, port, _ := net.SplitHostPort(c.addr)
	return regexp.MustCompile(`\b`+port+`\b`).ReplaceAllString(s, "<port>")
}

// sameText fails with the first line that differs.
func sameText(t *testing.T, direct, through string) {
	t.Helper()
	if direct == "" {
		t.Fatal("straight to the server nothing was said")
	}
	if d := firstDifference(strings.Split(direct, "\n"), strings.Split(through, "\n")); d != "" {
		t.Errorf("the output differs at %s", d)
	}
}

// clearTools are the programs without encryption, in a database that was made for the test.
func clearTools(t *testing.T, name string) (s *site, d, p client) {
	t.Helper()
	s = pg15.start(t)
	s.query(t, "DROP DATABASE IF EXISTS "+name)
	s.query(t, "CREATE DATABASE "+name+" OWNER "+roleTrust)
	d, p = tools(t, s.node.Addr(), s.inClear(t).Listen, name)
	return s, d, p
}

func TestPsqlPrintsTheSame(t *testing.T) {
	_, d, p := clearTools(t, "psql")
	const reset = "SET client_min_messages = warning; DROP SCHEMA IF EXISTS app CASCADE"
	for _, args := range [][]string{{"-a", "-e"}, {"-E", "-x"}, {"--csv", "-v", "FETCH_COUNT=7"}, {"-qAt", "-1"}, {"-H", "-v", "ON_ERROR_STOP=1"}} {
		d.must("", "psql", "-c", reset)
		direct, derr := d.run(psqlScript, "psql", args...)
		d.must("", "psql", "-c", reset)
		through, perr := p.run(psqlScript, "psql", args...)
		sameText(t, withoutNumbers(direct), withoutNumbers(through))
		if fmt.Sprint(derr) != fmt.Sprint(perr) {
			t.Errorf("psql %q: ends with %v straight to the server, with %v through pgtether", args, derr, perr)
		}
	}
}

// withoutNumbers replaces what the server gives out anew: processes, and objects, whose numbers have five digits at least.
func withoutNumbers(s string) string {
	return regexp.MustCompile(`PID [0-9]+|\b[0-9]{5,}\b`).ReplaceAllString(s, "<number>")
}

const psqlScript = `
CREATE SCHEMA app; SET search_path = app;
CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TABLE person (id int PRIMARY KEY, name text NOT NULL, feels mood, age positive, born date DEFAULT '2000-01-01');
CREATE INDEX ON person (name); COMMENT ON TABLE person IS 'people';
CREATE VIEW adults AS SELECT * FROM person WHERE age >= 18;
CREATE FUNCTION double(i int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2 * i';
\copy person FROM STDIN
1	Ann	ok	30	1990-05-06
2	Bob	\N	17	2007-08-09
\.
\d person
\d+ adults
\dt
\dT
\df
\sf double
\set limit 1
SELECT * FROM person ORDER BY id LIMIT :limit;
SELECT name, age FROM person \gset first_
SELECT count(*) AS n FROM person \gset
\echo :n
\copy (SELECT * FROM person) TO STDOUT CSV HEADER
SELECT format('SELECT %s AS doubled', double(i)) FROM generate_series(1, 3) i \gexec
SELECT id, feels, age FROM person \crosstabview
SELECT $1::int + $2::int AS sum \bind 1 2 \g
INSERT INTO person VALUES (3, NULL);
\errverbose
INSERT INTO person VALUES (3, 'Cid', 'ok', -1);
BEGIN; DELETE FROM person; SELECT 1/0; SELECT 2; ROLLBACK;
SELECT * FROM generate_series(1, 30) i;
\watch_is_no_command
\gdesc
SELECT 1 AS a, 'x'::text AS b \gdesc
\lo_list
\encoding
\conninfo
LISTEN x; NOTIFY x, 'psql';
\prompt_is_no_command
DO $$BEGIN RAISE WARNING 'careful'; END$$;
EXPLAIN (COSTS OFF) SELECT * FROM person WHERE id = 1;
DROP TABLE person CASCADE;
`

func TestCtrlCInPsqlCancelsTheStatement(t *testing.T) {
	s, d, p := clearTools(t, "ctrlc")
	interrupted := func(c client) string {
		cmd := c.command("psql", "-c", "SELECT 'before'", "-c", "SELECT pg_sleep(60)")
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		s.await(t, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = 'ctrlc' AND wait_event = 'PgSleep')")
		began := time.Now()
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // its exit code is not what is looked at
		if took := time.Since(began); took > patience/2 {
			t.Errorf("the end came %s after Ctrl-C", took)
		}
		return out.String()
	}
	direct, through := interrupted(d), interrupted(p)
	sameText(t, direct, through)
	if !strings.Contains(through, "canceling statement due to user request") {
		t.Errorf("no cancelled statement: %q", through)
	}
}

func TestWatchRunsUntilItIsInterrupted(t *testing.T) {
	_, d, p := clearTools(t, "watch")
	watched := func(c client) string {
		cmd := c.command("psql", "-qAt", "-c", "\\timing off")
		cmd.Args = append(cmd.Args[:1], "-qAt", "-f", "-")
		cmd.Stdin = strings.NewReader("CREATE SEQUENCE IF NOT EXISTS n; ALTER SEQUENCE n RESTART;\nSELECT nextval('n') \\watch 0.02\n")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var seen strings.Builder
		buf := make([]byte, 4096)
		for !strings.Contains(seen.String(), "\n20\n") {
			n, err := out.Read(buf)
			seen.Write(buf[:n])
			if err != nil {
				t.Fatalf("%v: %q", err, seen.String())
			}
		}
		_ = cmd.Process.Signal(os.Interrupt)
		_, _ = out.Read(buf)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		rows, _, _ := strings.Cut(seen.String(), "\n20\n")
		return regexp.MustCompile(`(?m)^.*\(every.*$`).ReplaceAllString(rows, "when")
	}
	sameText(t, watched(d), watched(p))
}

func TestPgbenchRunsInEveryProtocol(t *testing.T) {
	_, d, p := clearTools(t, "pgbench")
	d.must("", "pgbench", "-i", "-q", "-s", "2")
	pipelined := filepath.Join(t.TempDir(), "pipelined.sql")
	const script = `\set aid random(1, 200000)
\startpipeline
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :aid;
UPDATE pgbench_tellers SET tbalance = tbalance + 1 WHERE tid = 1;
UPDATE pgbench_branches SET bbalance = bbalance + 1 WHERE bid = 1;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, :aid, 1, now());
END;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
\endpipeline
`
	if err := os.WriteFile(pipelined, []byte(script), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"simple": {"-M", "simple"}, "extended": {"-M", "extended"}, "prepared": {"-M", "prepared"},
		"select": {"-S", "-M", "prepared"}, "connect": {"-C", "-S"}, "pipelined": {"-M", "extended", "-f", pipelined}, "pipelined and prepared": {"-M", "prepared", "-f", pipelined},
	} {
		said := p.must("", "pgbench", append(args, "-n", "-c", "4", "-t", "25")...)
		for _, want := range []string{"transactions actually processed: 100/100", "failed transactions: 0 "} {
			if !strings.Contains(said, want) {
				t.Errorf("%s: pgbench does not say %q: %s", name, want, said)
			}
		}
	}
	const sums = `SELECT a, a = t AND t = b AND b = h FROM (SELECT (SELECT sum(abalance) FROM pgbench_accounts) a, (SELECT sum(tbalance) FROM pgbench_tellers) t,
		(SELECT sum(bbalance) FROM pgbench_branches) b, (SELECT sum(delta) FROM pgbench_history) h) s`
	if said := d.must("", "psql", "-Atc", sums); !strings.HasSuffix(strings.TrimSpace(said), "|t") {
		t.Errorf("balances do not agree: %s", said)
	}
}
