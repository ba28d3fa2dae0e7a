// The command drivers runs the test suites of PostgreSQL drivers, as their authors published them, straight to a server and through pgtether, and
// prints which tests fail only behind pgtether. There should be none: a driver's suite knows more ways to look at a server than we do.
//
// The sources come from the package registries that carry them with their tests: pgx and lib/pq (Go modules), psycopg2 (PyPI), pgjdbc (Maven
// Central). psycopg 3 and node-postgres publish packages without tests; workloads of our own stand in for them (testdata/psycopg3.py,
// testdata/node.js), and what those print has to be the same both ways.
//
// A test that fails straight to the server fails for a reason that is not ours (a server on another machine, a missing extension) and counts
// for nothing. A test that fails behind pgtether only is run again both ways, alone, so that a test which fails now and then is told apart; both
// numbers are printed.
//
// run.sh fetches what is needed and starts it. It takes minutes and belongs to no quick test run.
package main
