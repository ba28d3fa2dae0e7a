//go:build linux

package lab_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/jackc/pgx/v5"
	"github.com/pgtether/pgtether/internal/lab"
)

// session is a Run under test.
type session struct {
	info  lab.Info
	input *io.PipeWriter
	lines *bufio.Scanner // what it prints, after the first line
	end   context.CancelFunc
	ended chan error // gets what Run returned
}

const probeScript = `CREATE ROLE :"role" LOGIN REPLICATION PASSWORD :'password'; GRANT pg_monitor TO :"role";`

func runLab(t *testing.T, o lab.RunOptions) *session {
	t.Helper()
	ctx, cancel := context.WithCancel(within(t))
	inRead, inWrite := io.Pipe()
	outRead, outWrite := io.Pipe()
	o.Input, o.Output, o.JSON, o.ProbeRoleScript = inRead, outWrite, true, probeScript
	s := &session{input: inWrite, lines: bufio.NewScanner(outRead), end: cancel, ended: make(chan error, 1)}
	go func() {
		err := lab.Run(ctx, o)
		inRead.Close()
		outWrite.Close()
		s.ended <- err
	}()
	t.Cleanup(func() { cancel(); inWrite.Close(); outRead.Close() })
	if !s.lines.Scan() {
		t.Fatalf("it ended at once: %v", <-s.ended)
	}
	must(t, json.Unmarshal(s.lines.Bytes(), &s.info))
	return s
}

// tell gives a line on the input and returns the answer's lines, the last of which is ok or an error.
func (s *session) tell(t *testing.T, line string) []string {
	t.Helper()
	_, err := io.WriteString(s.input, line+"\n")
	must(t, err)
	var answer []string
	for s.lines.Scan() {
		answer = append(answer, s.lines.Text())
		if text := s.lines.Text(); text == "ok" || strings.HasPrefix(text, "error: ") {
			return answer
		}
	}
	t.Fatalf("no answer to %q", line)
	return nil
}

func (s *session) mustTell(t *testing.T, line string) string {
	t.Helper()
	answer := s.tell(t, line)
	if answer[len(answer)-1] != "ok" {
		t.Fatalf("%s: %s", line, strings.Join(answer, "\n"))
	}
	return strings.Join(answer[:len(answer)-1], "\n")
}

func TestRunTakesFaultsAndLeavesNothing(t *testing.T) {
	s := runLab(t, lab.RunOptions{Options: lab.Options{RelayReplication: true}})
	before := tracesOf(t, s.info.Dir)
	a, b := s.info.Nodes[0], s.info.Nodes[1]
	for _, step := range []struct {
		line string
		// answer must contain this
		says string
		// status must then contain this
		status string
	}{
		{"help", "blackhole", "region-b (async)"},
		{"freeze region-a", "done in", "frozen"},
		{"thaw region-a", "done in", "primary, timeline 1"},
		{"freeze region-b postmaster", "done in", "postmaster is frozen"},
		{"thaw region-b", "done in", "standby"},
		{"pause region-b", "done in", "replay paused"},
		{"resume region-b", "done in", "streaming"},
		{"delay region-a all 1ms", "done in", "primary"},
		{"partition region-a replication", "done in", "primary"},
		{"heal region-a all", "done in", "primary"},
		{"kill region-a", "done in", "down"},
		{"promote region-b", "done in", "primary, timeline 2"},
		{"start region-a", "done in", "primary, timeline 1"},
		{"stop region-a immediate", "done in", "down"},
		{"rebuild region-a", "done in", "standby, replayed"},
		{"demote region-a", "done in", "region-a (async)"},
		{"rewind region-a", "done in", "region-a (async)"},
		{"info", a.DataDir, "primary"},
	} {
		if answer := s.mustTell(t, step.line); !strings.Contains(answer, step.says) {
			t.Errorf("%s: %q, want it to say %q", step.line, answer, step.says)
		}
		waitFor(t, step.line+" to show "+step.status, func() bool { return strings.Contains(s.mustTell(t, "status"), step.status) })
	}
	app, err := pgx.Connect(within(t), b.AppDSN)
	must(t, err)
	must(t, app.Close(within(t)))
	s.breakTheWayOfTheProxy(t)
	must(t, s.input.Close()) // the end of the input ends nothing
	must(t, lab.Send(within(t), s.info.Socket, "status", io.Discard))
	s.end()
	must(t, <-s.ended)
	must(t, before.left())
}

// breakTheWayOfTheProxy goes through the faults of the network as a client of the relay sees them.
func (s *session) breakTheWayOfTheProxy(t *testing.T) {
	c := dial(t, s.info.Nodes[0].Relay)
	s.mustTell(t, "blackhole region-a")
	send(t, c, strings.Repeat("x", 8))
	silent(t, c)
	s.mustTell(t, "reset region-a")
	wasReset(t, c)
	s.mustTell(t, "refuse region-a")
	if _, err := net.Dial("tcp", s.info.Nodes[0].Relay); err == nil {
		t.Error("the relay still accepts")
	}
	s.mustTell(t, "heal region-a")
	dial(t, s.info.Nodes[0].Relay)
}

func TestRunRefusesNonsense(t *testing.T) {
	s := runLab(t, lab.RunOptions{Options: lab.Options{Single: true}})
	for line, says := range map[string]string{
		"explode region-a":               `unknown fault "explode"`,
		"kill":                           "usage: kill NODE [postmaster]",
		"kill region-x":                  `unknown node "region-x": want region-a`,
		"kill region-a walwriter":        `unknown part "walwriter"`,
		"kill region-a postmaster now":   "usage:",
		"status region-a":                "usage: status",
		"stop region-a gently":           `unknown mode "gently"`,
		"delay region-a soon":            `delay "soon"`,
		"delay region-a":                 `delay ""`,
		"delay region-a all -5ms":        `delay "-5ms"`,
		"blackhole region-a replication": "no such relay",
		"rebuild region-a":               "no other node is a primary",
		"start region-a":                 "it is running",
		"promote region-a":               "recovery is not in progress",
	} {
		answer := s.tell(t, line)
		if last := answer[len(answer)-1]; !strings.HasPrefix(last, "error: ") || !strings.Contains(last, says) {
			t.Errorf("%q: %q, want an error that says %q", line, last, says)
		}
	}
	var out strings.Builder
	must(t, lab.Send(within(t), s.info.Socket, "status", &out)) // all of that changed nothing
	if !strings.Contains(out.String(), "primary, timeline 1") {
		t.Errorf("status by socket is %q", out.String())
	}
	if err := lab.Send(within(t), s.info.Socket, "explode", io.Discard); err == nil || !strings.Contains(err.Error(), "unknown fault") {
		t.Errorf("nonsense by socket gives %v", err)
	}
	c, err := net.Dial("unix", s.info.Socket) // one who never says anything does not hold up the end
	must(t, err)
	defer c.Close()
	must(t, lab.Send(within(t), s.info.Socket, "quit", io.Discard))
	must(t, <-s.ended)
	if err := lab.Send(within(t), s.info.Socket, "status", io.Discard); err == nil {
		t.Error("a lab that has ended answers")
	}
}

func TestRunWritesAConfigurationForTheProxy(t *testing.T) {
	var seen struct {
		Listen  struct{ Address, TLS, TLSCert string }
		Node    []struct{ Name, Address string }
		Probe   struct{ User, PasswordFile string }
		State   struct{ Dir string }
		Backend struct{ TLS, TLSCA string }
	}
	var password string
	failed := errors.New("the proxy fell over")
	s := runLab(t, lab.RunOptions{
		Options: lab.Options{Single: true, TLS: lab.TLSShared}, Listen: "0.0.0.0:6543",
		Proxy: func(_ context.Context, path string) error {
			content, err := os.ReadFile(path)
			if err == nil {
				err = toml.Unmarshal([]byte(strings.ReplaceAll(string(content), "_", "")), &seen)
			}
			secret, readErr := os.ReadFile(filepath.Join(filepath.Dir(path), "probe-password"))
			password = string(secret)
			return errors.Join(failed, err, readErr)
		},
	})
	if err := <-s.ended; !errors.Is(err, failed) || strings.Contains(err.Error(), "\n") {
		t.Fatalf("Run returns %v, want the proxy's error alone", err)
	}
	want(t, "listen.address", seen.Listen.Address, "0.0.0.0:6543")
	want(t, "listen.tls", seen.Listen.TLS, "allow")
	want(t, "backend.tls", seen.Backend.TLS, "verify-full")
	want(t, "node", seen.Node[0].Name+" "+seen.Node[0].Address, lab.RegionA+" "+s.info.Nodes[0].Relay)
	want(t, "probe.user", seen.Probe.User, "pgtether")
	want(t, "password", strings.TrimSpace(password), s.info.ProbePassword)
	if !strings.Contains(s.info.AppDSN, "127.0.0.1:6543") || !strings.Contains(s.info.JDBC, "127.0.0.1:6543") {
		t.Errorf("the addresses are %s and %s, want them usable from here", s.info.AppDSN, s.info.JDBC)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ended := make(chan struct{}) // closed when the proxy has ended
	s := runLab(t, lab.RunOptions{Options: lab.Options{Single: true}, Proxy: func(ctx context.Context, _ string) error {
		defer close(ended)
		<-ctx.Done()
		return ctx.Err()
	}})
	s.end()
	must(t, <-s.ended)
	<-ended
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond) // Ctrl-C while it starts
	defer cancel()
	must(t, lab.Run(ctx, lab.RunOptions{Options: lab.Options{Single: true}}))
}
