package abuse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/test/rig"
)

// good is a configuration without a mistake.
const good = `[cluster]
name = "keycloak"
[[node]]
name = "region-a"
address = "127.0.0.1:5432"
[probe]
user = "pgtether"
password_file = "password"
[failover]
mode = "observe"
`

// here marks the line that a refusal must name.
const here = " #!"

// apply makes a mistake in a good configuration. It returns the text, and the number of the line that is wrong.
func (m mistake) apply(t *testing.T, config string) (text string, line int) {
	t.Helper()
	with := m.with
	if m.instead != "" {
		if !strings.Contains(config, m.instead) {
			t.Fatalf("the configuration has no %q", m.instead)
		}
		text = strings.Replace(config, m.instead, with, 1)
	} else {
		text = merge(config, with)
	}
	before, _, ok := strings.Cut(text, here)
	if !ok {
		t.Fatal("no line is marked")
	}
	return strings.Replace(text, here, "", 1), strings.Count(before, "\n") + 1
}

// merge adds lines to a configuration. A section that is there already is taken out first, whatever was in it: TOML knows each once.
func merge(config, lines string) string {
	for line := range strings.Lines(lines) {
		header := strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(line), strings.TrimSpace(here)))
		if !strings.HasPrefix(header, "[") || strings.HasPrefix(header, "[[") {
			continue
		}
		start := strings.Index("\n"+config, "\n"+header+"\n")
		if start < 0 {
			continue
		}
		rest := config[start+len(header)+1:]
		end := strings.Index("\n"+rest, "\n[")
		if end < 0 {
			end = len(rest)
		}
		config = config[:start] + rest[end:]
	}
	return config + lines + "\n"
}

// outcome is how a command came out.
type outcome struct {
	code        int
	out, errors string
}

func command(t *testing.T, args ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return outcome{code: cmd.ProcessState.ExitCode(), out: out.String(), errors: errs.String()}
}

// place puts a configuration into a folder of its own, with the password that it names.
func place(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "pgtether.toml")
	if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.WriteFile(filepath.Join(dir, "password"), []byte("x\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAWrongConfigurationIsRefusedWithItsPlace(t *testing.T) {
	t.Parallel()
	fine := place(t, good)
	if got := command(t, "check", "--config", fine); got.code != 0 {
		t.Fatalf("the good configuration is refused: %+v", got)
	}
	slots := make(chan struct{}, 2)
	for _, m := range mistakes() {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			slots <- struct{}{}
			defer func() { <-slots }()
			text, line := m.apply(t, good)
			path := place(t, text)
			for _, verb := range []string{"serve", "check"} {
				got := command(t, verb, "--config", path)
				if got.code != 2 || got.out != "" {
					t.Errorf("%s: exit %d, want 2; it said %q", verb, got.code, got.out)
				}
				m.expect(t, verb, got.errors, path, line)
			}
		})
	}
}

// expect fails unless one of the lines names the place of the mistake and says what it must.
func (m mistake) expect(t *testing.T, who, text, path string, line int) {
	t.Helper()
	place := fmt.Sprintf("%s:%d: ", path, line)
	if m.key != "" {
		place += m.key + ": "
	}
	for l := range strings.Lines(text) {
		_, refusal, ok := strings.Cut(l, place)
		if !ok {
			continue
		}
		for _, word := range m.words {
			if !strings.Contains(refusal, word) {
				t.Errorf("%s does not say %q: %q", who, word, l)
			}
		}
		return
	}
	t.Errorf("%s does not name %q: %q", who, place, text)
}

func TestAConfigurationThatCannotBeReadIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"no file", []string{"serve", "--config", filepath.Join(dir, "none.toml")}, "does not exist"},
		{"a folder", []string{"serve", "--config", dir}, "folder"},
		{"an empty file", []string{"serve", "--config", write("empty.toml", "")}, "node"},
		{"no UTF-8", []string{"serve", "--config", write("latin1.toml", "[cluster]\nname = \"k\xe9y\"\n")}, "UTF-8"},
		{"a program", []string{"serve", "--config", program}, "larger than 1MiB"},
		{"HTML", []string{"serve", "--config", write("page.toml", "<html><body>404</body></html>\n")}, "not valid TOML"},
		{"no file is named", []string{"serve"}, "--config"},
		{"a flag that does not exist", []string{"serve", "--confg", "x"}, "--confg"},
		{"a command that does not exist", []string{"server"}, "server"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := command(t, c.args...); got.code != 2 || !strings.Contains(got.errors, c.want) {
				t.Errorf("exit %d and %q, want 2 and %q", got.code, got.errors, c.want)
			}
		})
	}
}

// reloader is a proxy whose configuration file is written again.
type reloader struct {
	*front
	text string
}

func (r *reloader) write(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(r.Config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// log is what the proxy has logged since a moment.
func (r *reloader) log(t *testing.T, since int) string {
	t.Helper()
	text, err := os.ReadFile(r.Log)
	if err != nil {
		t.Fatal(err)
	}
	return string(text[since:])
}

// hangup sends SIGHUP and returns what is logged about it, once it says one of the words.
func (r *reloader) hangup(t *testing.T, until ...string) string {
	t.Helper()
	since := len(r.log(t, 0))
	if err := r.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		text := r.log(t, since)
		for _, word := range until {
			if strings.Contains(text, word) {
				return text
			}
		}
		if time.Now().After(end) {
			t.Fatalf("after SIGHUP it logs %q", text)
		}
	}
}

// post asks for a reload over HTTP.
func (r *reloader) post(t *testing.T) (status int, body string) {
	t.Helper()
	res, err := client.Post("http://"+r.Admin+"/admin/reload", "application/json", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, strings.ReplaceAll(string(text), `\"`, `"`)
}

const (
	reloadGood = "pgtether_config_last_reload_successful"
	reloadedAt = "pgtether_config_last_reload_timestamp_seconds"
)

// twoOfOneUser reports whether the limit of one session for each user is not in force.
func (r *reloader) twoOfOneUser(t *testing.T) bool {
	t.Helper()
	r.awaitOnlyVictim(t)
	first := r.through.dial(t)
	defer first.raw.Close()
	in(first)
	var g sync.WaitGroup
	var second string
	g.Go(func() { second = r.through.perform([]step{in, leave}) })
	g.Wait()
	for _, do := range []step{leave, hear(0)} {
		do(first)
	}
	switch {
	case first.transcript() == "in closed" && second == "in closed":
		return true
	case first.transcript() == "in closed" && second == "FATAL/53300 closed":
		return false
	}
	t.Fatalf("two sessions of one user got %q and %q", first.transcript(), second)
	return false
}

// awaitOnlyVictim waits until the victim is the only session that counts against limits: a client may see its end before it is counted out.
func (r *reloader) awaitOnlyVictim(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		now, ended := scrape(t, r.Proxy), 0.0
		for name, n := range now {
			if strings.HasPrefix(name, "pgtether_sessions_total{") {
				ended += n
			}
		}
		left := now[`pgtether_logins_total{result="pinned"}`] - ended
		if left == 1 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%v sessions are open, want the victim", left)
		}
	}
}

// A reload with a mistake changes nothing, not even what is right in the same file, and says so in the log, in a metric and to whoever asked.
func TestAReloadWithAMistakeKeepsTheOldConfiguration(t *testing.T) {
	t.Parallel()
	f := startFront(t, inClear, rig.Options{Extra: "[backend]\ntls = \"disable\"\n"})
	text, err := os.ReadFile(f.Config)
	if err != nil {
		t.Fatal(err)
	}
	r := &reloader{front: f, text: string(text)}
	// The victim of startFront is a session too.
	stricter := strings.Replace(r.text, "[backend]", "[limits]\nper_user = 2\n[backend]", 1)
	for _, m := range mistakes() {
		t.Run(m.name, func(t *testing.T) {
			m.instead = strings.ReplaceAll(m.instead, "127.0.0.1:5432", inClear.Node(lab.RegionA).Addr())
			m.with = strings.ReplaceAll(m.with, "127.0.0.1:5432", inClear.Node(lab.RegionA).Addr())
			bad, line := m.apply(t, stricter)
			r.write(t, bad)
			m.expect(t, "the log", unquoted(r.hangup(t, "configuration not reloaded", "configuration reloaded")), r.Config, line)
			if got := scrape(t, r.Proxy)[reloadGood]; got != 0 {
				t.Errorf("%s is %v after a mistake", reloadGood, got)
			}
			status, body := r.post(t)
			if status != http.StatusBadRequest || !strings.Contains(body, "invalid_config") {
				t.Errorf("POST /admin/reload: %d %s", status, body)
			}
			m.expect(t, "the answer", strings.ReplaceAll(body, `\n`, "\n"), r.Config, line)
			r.honest(t)
		})
	}
	if !r.twoOfOneUser(t) {
		t.Error("a limit of a file that was refused is in force")
	}
	t.Run("and then without one", func(t *testing.T) {
		before := scrape(t, r.Proxy)
		r.write(t, stricter)
		if log := r.hangup(t, "configuration not reloaded", "configuration reloaded"); !strings.Contains(log, "limits.per_user") {
			t.Errorf("it does not say what has changed: %q", log)
		}
		after := scrape(t, r.Proxy)
		if after[reloadGood] != 1 || after[reloadedAt] < before[reloadedAt] {
			t.Errorf("%s is %v, %s went from %v to %v", reloadGood, after[reloadGood], reloadedAt, before[reloadedAt], after[reloadedAt])
		}
		if r.twoOfOneUser(t) {
			t.Error("the new limit is not in force")
		}
		r.write(t, r.text)
		if status, body := r.post(t); status != http.StatusOK || !strings.Contains(body, `"reloaded": true`) {
			t.Errorf("POST /admin/reload: %d %s", status, body)
		}
		if !r.twoOfOneUser(t) {
			t.Error("the old limit is not back in force")
		}
	})
	awaitFootprint(t, r.Proxy, r.before, 16<<20)
}

// unquoted undoes the quoting of the log, whose values are quoted texts.
func unquoted(log string) string {
	return strings.NewReplacer(`\\`, `\`, `\"`, `"`, `\n`, "\n").Replace(log)
}
