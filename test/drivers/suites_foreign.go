package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// psycopg2Suite is PyPI's psycopg2, its replication tests included.
func psycopg2Suite() suite {
	return suite{
		name: "psycopg2", ways: bothWays, database: "psycopg2_test", extensions: []string{"hstore"}, selects: true,
		server: trusting("psycopg"), setup: []string{"CREATE ROLE psycopg LOGIN SUPERUSER REPLICATION"},
		run: func(ctx context.Context, w *world, way string, only []string) (results, error) {
			host, port := w.address(way)
			report := filepath.Join(w.dir, way+".xml")
			args := []string{"-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml=" + report, "tests"}
			if only != nil {
				args = append(args, "-k", strings.Join(lastWords(only), " or "))
			}
			env := []string{"PSYCOPG2_TESTDB_HOST=" + host, "PSYCOPG2_TESTDB_PORT=" + port, "PSYCOPG2_TESTDB_USER=psycopg", "PSYCOPG2_TEST_REPL_DSN="}
			if err := w.command(ctx, filepath.Join(w.cache, "psycopg2"), way+".txt", env, filepath.Join(w.cache, "venv", "bin", "python"), args...); err != nil {
				return nil, err
			}
			return readReports(report)
		},
	}
}

// lastWords are the names of the tests without their classes and parameters.
func lastWords(names []string) []string {
	var out []string
	for _, name := range names {
		name, _, _ = strings.Cut(name, "[")
		name, _, _ = strings.Cut(name, "(")
		if i := strings.LastIndexByte(name, '.'); i >= 0 {
			name = name[i+1:]
		}
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// readReports reads files in JUnit's format; a suite that left none did not run.
func readReports(files ...string) (results, error) {
	out := results{}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		err = errors.Join(readJUnit(f, out), f.Close())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return out, nil
}

// pgjdbcSuite is Maven Central's postgresql-jdbc, without its replication tests.
func pgjdbcSuite() suite {
	return suite{
		name: "pgjdbc", ways: []string{wayTerminated}, database: "test", extensions: []string{"hstore", "citext"}, selects: true,
		server: trusting("nobody", "host all pword 127.0.0.0/8 password"), setup: []string{"CREATE ROLE test LOGIN SUPERUSER PASSWORD 'test'"},
		run: runPgjdbc,
	}
}

func runPgjdbc(ctx context.Context, w *world, way string, only []string) (results, error) {
	host, port := w.address(way)
	dir := filepath.Join(w.cache, "pgjdbc")
	properties := fmt.Sprintf("test.url.PGHOST=%s\ntest.url.PGPORT=%s\nprivilegedUser=postgres\nprivilegedPassword=%s\n", host, port, w.superPassword())
	// For tests that read these in the place of the file.
	env := []string{"PGHOST=" + host, "PGPORT=" + port}
	if err := os.WriteFile(filepath.Join(dir, "build.local.properties"), []byte(properties), 0o600); err != nil {
		return nil, fmt.Errorf("write properties: %w", err)
	}
	reports := filepath.Join(dir, "target", "surefire-reports")
	if err := os.RemoveAll(reports); err != nil {
		return nil, fmt.Errorf("remove old reports: %w", err)
	}
	args := []string{"-B", "-q", "-o", "surefire:test", "-Dmaven.test.failure.ignore=true", "-DfailIfNoTests=false", "-Dsurefire.timeout=2400"}
	if only != nil {
		args = append(args, "-Dtest="+strings.Join(javaTests(only), ","))
	} else {
		args = append(args, "-Dtest=!org/postgresql/replication/**")
	}
	if err := w.command(ctx, dir, way+".txt", env, "mvn", args...); err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(reports, "TEST-*.xml"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no reports in %s: %w", reports, errors.Join(err, os.ErrNotExist))
	}
	return readReports(files...)
}

// javaTests are the classes of the tests.
func javaTests(names []string) []string {
	var out []string
	for _, name := range names {
		name, _, _ = strings.Cut(name, "[")
		name, _, _ = strings.Cut(name, "(")
		if i := strings.LastIndexByte(name, '.'); i >= 0 {
			name = name[:i]
		}
		if i := strings.LastIndexByte(name, '.'); i >= 0 {
			name = name[i+1:]
		}
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// psycopg3Suite is a workload of ours on PyPI's psycopg, which brings no tests.
func psycopg3Suite() suite {
	return suite{
		name: "psycopg", ways: bothWays, database: "psycopg_test", server: trusting("psycopg"),
		setup: []string{"CREATE ROLE psycopg LOGIN SUPERUSER", "CREATE ROLE scram LOGIN PASSWORD 'secret'"},
		run: func(ctx context.Context, w *world, way string, _ []string) (results, error) {
			return w.workload(ctx, way, filepath.Join(w.cache, "venv", "bin", "python"), "psycopg3.py")
		},
	}
}

// nodeSuite is a workload of ours on npm's pg, which brings no tests.
func nodeSuite() suite {
	return suite{
		name: "node-postgres", ways: bothWays, database: "node_test", server: trusting("node"),
		setup: []string{"CREATE ROLE node LOGIN SUPERUSER", "CREATE ROLE scram LOGIN PASSWORD 'secret'"},
		run: func(ctx context.Context, w *world, way string, _ []string) (results, error) {
			return w.workload(ctx, way, "node", "node.js")
		},
	}
}

// workload runs a program of ours with host, port and authority's file as its arguments. What it prints straight to the server is kept, so
// that the other ways are held against it.
func (w *world) workload(ctx context.Context, way, program, script string) (results, error) {
	host, port := w.address(way)
	path, err := filepath.Abs(filepath.Join("test", "drivers", "testdata", script))
	if err != nil {
		return nil, err
	}
	env := []string{"NODE_PATH=" + filepath.Join(w.cache, "node", "node_modules")}
	if err := w.command(ctx, w.dir, way+".txt", env, program, path, host, port, w.lab.TLS().CAFile); err != nil {
		return nil, err
	}
	through, err := os.ReadFile(filepath.Join(w.dir, way+".txt"))
	if err != nil {
		return nil, err
	}
	direct, err := os.ReadFile(filepath.Join(w.dir, wayDirect+".txt"))
	if err != nil {
		return nil, err
	}
	_, r := readLines(string(direct), string(through))
	return r, nil
}
