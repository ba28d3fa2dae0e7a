package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pgtether/pgtether/test/tellers"
)

// artifacts are what the pool is made of, from Maven Central.
var artifacts = []string{"org.postgresql:postgresql:42.7.13", "com.zaxxer:HikariCP:5.1.0", "org.slf4j:slf4j-api:2.0.13"}

// fetch returns the class path; the first call on a machine needs Maven and its repository.
func fetch(ctx context.Context, dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make directory: %w", err)
	}
	var jars []string
	for _, a := range artifacts {
		parts := strings.Split(a, ":")
		jar := filepath.Join(dir, parts[1]+"-"+parts[2]+".jar")
		jars = append(jars, jar)
		if _, err := os.Stat(jar); err == nil {
			continue
		}
		out, err := exec.CommandContext(ctx, "mvn", "-q", "-B", "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy", "-Dartifact="+a,
			"-DoutputDirectory="+dir).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("fetch %s (needs Java and Maven: scripts/setup.sh keycloak): %w: %s", a, err, out)
		}
	}
	return strings.Join(jars, ":"), nil
}

// pool is a running JDBC pool whose transactions go into a crowd's notes.
type pool struct {
	input io.Closer
	cmd   *exec.Cmd
	// ended brings what reading its lines, and its exit, came to.
	ended chan error
}

// startPool compiles and starts it.
func startPool(ctx context.Context, dir, address string, into *tellers.Crowd, size int) (*pool, error) {
	path, err := fetch(ctx, filepath.Join(".cache", "jdbc"))
	if err != nil {
		return nil, err
	}
	source := filepath.Join("test", "switchover", "testdata", "Pool.java")
	if out, err := exec.CommandContext(ctx, "javac", "-cp", path, "-d", dir, source).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("compile pool: %w: %s", err, out)
	}
	cmd := exec.CommandContext(ctx, "java", "-XX:TieredStopAtLevel=1", "-cp", dir+":"+path, "Pool", "jdbc:postgresql://"+address+"/keycloak?sslmode=disable",
		"keycloak", "keycloak", fmt.Sprint(size), fmt.Sprint(firstOf(jdbc)))
	input, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start pool: %w", err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start pool: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start pool: %w", err)
	}
	p := &pool{input: input, cmd: cmd, ended: make(chan error, 1)}
	go func() {
		err := follow(output, into)
		if waitErr := cmd.Wait(); err == nil && waitErr != nil {
			err = fmt.Errorf("run pool: %w", waitErr)
		}
		p.ended <- err
	}()
	return p, nil
}

// halt lets every thread end its transaction and waits for all.
func (p *pool) halt() error {
	_ = p.input.Close() // it may have ended already
	return <-p.ended
}

// vouched are the SQLSTATEs after which a COMMIT certainly did not take place.
var vouched = []string{"08006", "25006", "40001", "40P01", "25P02"}

// follow reads one line for each transaction.
func follow(r io.Reader, into *tellers.Crowd) error {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		l, err := readLine(lines.Text())
		if err != nil {
			return err
		}
		into.Note(l.work)
		if l.end.Code != "" {
			into.NoteEnd(l.end)
		}
		if l.process > 0 {
			into.Meet(tellers.Session{Kind: jdbc, Number: l.connection}, l.process, l.work.Ended)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read pool: %w", err)
	}
	return nil
}

// poolLine is one transaction of the pool.
type poolLine struct {
	work tellers.Work
	// end has no code where the session did not end.
	end tellers.End
	// connection is the one that it was made on, process the server's process that answered; 0 when none did.
	connection int
	process    uint32
}

// readLine takes "client seq began ended place sqlstate connection process", times in ms; the place of a committed transaction is done.
func readLine(text string) (l poolLine, err error) {
	var began, ended int64
	var place, code string
	w := &l.work
	if _, err := fmt.Sscan(text, &w.Client, &w.Seq, &began, &ended, &place, &code, &l.connection, &l.process); err != nil {
		return l, fmt.Errorf("read line %q of the pool: %w", text, err)
	}
	w.Began, w.Ended, w.Outcome = time.UnixMilli(began), time.UnixMilli(ended), tellers.Acknowledged
	if place == "done" {
		return l, nil
	}
	w.Outcome = tellers.Failed
	if place == string(tellers.AtCommit) && !slices.Contains(vouched, code) {
		w.Outcome = tellers.InDoubt
	}
	l.end = tellers.End{Client: w.Client, At: w.Ended, Code: code, Place: tellers.Place(place)}
	return l, nil
}
