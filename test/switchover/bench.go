package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtether/pgtether/test/tellers"
)

// benchScript is a transaction of pgbench on the crowd's tables. Its row says which server process wrote it.
var benchScript = fmt.Sprintf(`\sleep 100 ms
\set seq :seq + 1
\set client :client_id + %d
\set delta random(-5000, 5000)
\set aid random(0, 1599)
\set tid random(0, 159)
\set bid :tid / 10
BEGIN;
UPDATE accounts SET balance = balance + :delta WHERE aid = :aid;
SELECT balance FROM accounts WHERE aid = :aid;
UPDATE tellers SET balance = balance + :delta WHERE tid = :tid;
UPDATE branches SET balance = balance + :delta WHERE bid = :bid;
INSERT INTO history VALUES (:client, :seq, :delta, pg_backend_pid()::text);
END;
`, firstOf(prepared))

// bench is a running pgbench. It ends with its first client that meets an error.
type bench struct {
	cmd    *exec.Cmd
	output bytes.Buffer // of both streams; read it once ended is closed
	logs   string       // the start of the names of its logs
	size   int
	ended  chan struct{} // closed when the process has been waited for; err is valid then
	err    error
	// summary is what it says of its transactions in the end.
	summary string
}

// startBench starts it with so many clients.
func startBench(ctx context.Context, dir, dsn string, size int) (*bench, error) {
	script := filepath.Join(dir, "tpcb.sql")
	if err := os.WriteFile(script, []byte(benchScript), 0o600); err != nil {
		return nil, fmt.Errorf("write script of pgbench: %w", err)
	}
	b := &bench{logs: filepath.Join(dir, "pgbench"), size: size, ended: make(chan struct{})}
	// It runs until it is told that its time is over.
	b.cmd = exec.CommandContext(ctx, "pgbench", "-n", "-M", "prepared", "-c", fmt.Sprint(size), "-j", "2", "-T", "86400", "--max-tries=1", "-D", "seq=0",
		"-l", "--log-prefix", b.logs, "-f", script, dsn)
	b.cmd.Stdout, b.cmd.Stderr = &b.output, &b.output
	if err := b.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start pgbench: %w", err)
	}
	go func() {
		b.err = b.cmd.Wait()
		close(b.ended)
	}()
	if err := b.await(ctx); err != nil {
		return nil, errors.Join(err, b.halt())
	}
	return b, nil
}

// errGaveUp is returned for a pgbench that ended by itself, or had clients that did.
var errGaveUp = errors.New("it gave up clients or transactions")

// await waits until every client has written.
func (b *bench) await(ctx context.Context) error {
	for {
		told, err := b.read()
		if err != nil || len(told) == b.size {
			return err
		}
		select {
		case <-b.ended:
			return b.gaveUp()
		case <-ctx.Done():
			return fmt.Errorf("wait for every client of pgbench: %w", context.Cause(ctx))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// gaveUp is an error once the process has ended.
func (b *bench) gaveUp() error {
	select {
	case <-b.ended:
		return fmt.Errorf("run pgbench: %w: %s", errGaveUp, b.output.String())
	default:
		return nil
	}
}

// halt lets every client end its transaction, as at the end of its time, and waits. It is an error when one had ended before.
func (b *bench) halt() error {
	_ = b.cmd.Process.Signal(syscall.SIGALRM) // it may have ended already
	<-b.ended
	text := b.output.String()
	b.summary = summary(text)
	if b.err == nil && strings.Contains(text, "number of failed transactions: 0 ") && !strings.Contains(text, "aborted") {
		return nil
	}
	return errors.Join(b.gaveUp(), b.err)
}

// summary is what pgbench says of its transactions, on one line.
func summary(output string) string {
	var found []string
	for line := range strings.Lines(output) {
		if strings.HasPrefix(line, "number of ") || strings.HasPrefix(line, "query mode") || strings.HasPrefix(line, "latency average") {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return strings.Join(found, "; ")
}

// benchLine is one transaction in a log of pgbench.
type benchLine struct{ began, ended time.Time }

// read reads its logs: the transactions of each client, in their order. A line that is not yet written in full is left out.
func (b *bench) read() (map[int][]benchLine, error) {
	files, err := filepath.Glob(b.logs + ".*")
	if err != nil {
		return nil, fmt.Errorf("read logs of pgbench: %w", err)
	}
	found := map[int][]benchLine{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read log of pgbench: %w", err)
		}
		text = text[:bytes.LastIndexByte(text, '\n')+1]
		lines := bufio.NewScanner(bytes.NewReader(text))
		for lines.Scan() {
			client, line, err := readBenchLine(lines.Text())
			if err != nil {
				return nil, err
			}
			found[client] = append(found[client], line)
		}
	}
	return found, nil
}

// readBenchLine takes "client number µs script s µs": how long the transaction took and when it ended. One that failed has a word in the third place.
func readBenchLine(text string) (client int, line benchLine, err error) {
	var number, took, script, s, us int64
	if _, err := fmt.Sscan(text, &client, &number, &took, &script, &s, &us); err != nil {
		return 0, line, fmt.Errorf("read line %q of pgbench: %w", text, err)
	}
	line.ended = time.Unix(s, us*1000)
	line.began = line.ended.Add(-time.Duration(took) * time.Microsecond)
	return client, line, nil
}

// tell writes into a crowd's notes what the clients of a pgbench that has ended were told, and which processes of the servers their rows name.
func (b *bench) tell(ctx context.Context, dsn string, into *tellers.Crowd) error {
	told, err := b.read()
	if err != nil {
		return err
	}
	first := firstOf(prepared)
	for client, lines := range told {
		for i, line := range lines {
			row := tellers.Row{Client: first + client, Seq: int64(i + 1)}
			into.Note(tellers.Work{Row: row, Began: line.began, Ended: line.ended, Outcome: tellers.Acknowledged})
		}
	}
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("read rows of pgbench: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := conn.Query(ctx, "SELECT client - $1, seq, pad::bigint FROM history WHERE client >= $1 AND client < $2 ORDER BY client, seq", first, first+kindSize)
	if err != nil {
		return fmt.Errorf("read rows of pgbench: %w", err)
	}
	var client int
	var seq, process int64
	_, err = pgx.ForEachRow(rows, []any{&client, &seq, &process}, func() error {
		if i := int(seq) - 1; i < len(told[client]) { // another one is found when the tables are verified
			into.Meet(tellers.Session{Kind: prepared, Number: client}, uint32(process), told[client][i].ended)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read rows of pgbench: %w", err)
	}
	return nil
}
