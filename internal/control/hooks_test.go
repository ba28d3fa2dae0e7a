package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"
)

// long is a time that only a hang exceeds.
const long = time.Minute

// script writes a shell program and returns its path.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hook.sh")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAFenceSaysByItsExitCodeWhetherItFenced(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"exit 0", "exit 0", ""},
		{"exit 0 with words", "echo done >&2; echo done", ""},
		{"exit 1 without words", "exit 1", "run hook fence: exit code 1"},
		{"exit 3 with words", "echo first >&2; echo 'power switch: no answer' >&2; echo >&2; exit 3", "run hook fence: exit code 3: power switch: no answer"},
		{"words that are not UTF-8 and move the cursor", `printf 'bad \377\033[2J\302\205end\n' >&2; exit 4`, "run hook fence: exit code 4: bad ??[2J?end"},
		{"a signal", "kill -KILL $$", "run hook fence: exit code 137: Killed"}, // the shell's words about its child
	} {
		t.Run(c.name, func(t *testing.T) {
			err := Hooks{Fence: script(t, c.text), Timeout: long}.RunFence(t.Context(), []byte("{}"))
			if got := fmt.Sprint(err); c.want == "" && err != nil || c.want != "" && got != c.want {
				t.Errorf("error %q, want %q", got, c.want)
			}
			if err != nil && !utf8.ValidString(err.Error()) {
				t.Errorf("error %q is not UTF-8", err)
			}
		})
	}
	t.Run("a signal to the shell itself", func(t *testing.T) {
		if err := (Hooks{Fence: "kill -KILL $$", Timeout: long}).RunFence(t.Context(), nil); fmt.Sprint(err) != "run hook fence: signal: killed" {
			t.Errorf("error %v", err)
		}
	})
	t.Run("no program is configured", func(t *testing.T) {
		if err := (Hooks{Timeout: long}).RunFence(t.Context(), nil); !errors.Is(err, ErrNoHook) {
			t.Errorf("error %v, want %v", err, ErrNoHook)
		}
	})
	t.Run("the program does not exist", func(t *testing.T) {
		err := Hooks{Fence: filepath.Join(t.TempDir(), "nothing-here"), Timeout: long}.RunFence(t.Context(), []byte("{}"))
		if err == nil || !strings.HasPrefix(err.Error(), "run hook fence: exit code 127: ") {
			t.Errorf("error %v, want exit code 127 and the shell's words", err)
		}
	})
	t.Run("very much is said in one line", func(t *testing.T) {
		err := Hooks{Fence: "head -c 10000000 /dev/zero | tr '\\0' x >&2; exit 1", Timeout: long}.RunFence(t.Context(), nil)
		if err == nil || len(err.Error()) > 2*maxLine || !strings.HasSuffix(err.Error(), "x...") {
			t.Errorf("error %v", err)
		}
	})
}

func TestAHookIsACommandLineThatReadsTheEvent(t *testing.T) {
	into := filepath.Join(t.TempDir(), "it's here")
	h := Hooks{Fence: "cat | tr a-z A-Z > \"" + into + "\" # and a remark", Timeout: long}
	if err := h.RunFence(t.Context(), []byte(`{"kind":"cut"}`)); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(into)
	if err != nil || string(got) != "{\"KIND\":\"CUT\"}\n" {
		t.Errorf("%q %v", got, err)
	}
}

// gone waits until no process of that number is left but, at most, as a zombie.
func gone(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(long); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil || bytes.Contains(stat, []byte(") Z ")) {
			return
		}
	}
	t.Errorf("process %d is still there", pid)
}

func TestALateHookIsKilledWithEverythingThatItStarted(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	fence := script(t, `trap '' TERM INT HUP
(trap '' TERM INT HUP; while :; do sleep 1; done) &
echo $! $$ > "$1"
echo 'waiting for the switch' >&2
wait`)
	began := time.Now()
	err := Hooks{Fence: fence + " " + pids, Timeout: time.Second}.RunFence(t.Context(), []byte("{}"))
	if took := time.Since(began); took < time.Second || took > long {
		t.Errorf("took %s", took)
	}
	if !errors.Is(err, ErrHookLate) || fmt.Sprint(err) != "run hook fence: killed, because it took too long (1s): waiting for the switch" {
		t.Errorf("error %v, want %v", err, ErrHookLate)
	}
	text, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range strings.Fields(string(text)) {
		pid, err := strconv.Atoi(word)
		if err != nil {
			t.Fatal(err)
		}
		gone(t, pid)
	}
}

func TestAHookEndsWithItsCaller(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(300*time.Millisecond, cancel)
	err := Hooks{Fence: "exec sleep 600", Timeout: time.Hour}.RunFence(ctx, nil)
	if !errors.Is(err, context.Canceled) || errors.Is(err, ErrHookLate) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
}

func TestAHookThatDoesNotReadItsInputIsJudgedByItsExitCode(t *testing.T) {
	huge := bytes.Repeat([]byte("x"), 8<<20)
	if err := (Hooks{Fence: "exit 0", Timeout: long}).RunFence(t.Context(), huge); err != nil {
		t.Errorf("exit 0: %v", err)
	}
	if err := (Hooks{Fence: "sleep 0.3; exit 7", Timeout: long}).RunFence(t.Context(), huge); fmt.Sprint(err) != "run hook fence: exit code 7" {
		t.Errorf("exit 7: %v", err)
	}
}

func TestWhatAHookLeavesInTheBackgroundIsNotWaitedFor(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	began := time.Now()
	err := Hooks{Fence: "sleep 600 & echo $! > " + pidFile, Timeout: long}.RunFence(t.Context(), []byte("{}"))
	if err != nil || time.Since(began) > long/2 {
		t.Errorf("error %v after %s", err, time.Since(began))
	}
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil { // it goes on until we end it
		t.Errorf("end process %d: %v", pid, err)
	}
	gone(t, pid)
}

func TestOurSecretsReachNoHookAndNoError(t *testing.T) {
	t.Setenv("PGTETHER_PROBE_PASSWORD", "secret-of-ours")
	t.Setenv("HOOK_COLOUR", "blue")
	seen := filepath.Join(t.TempDir(), "environment")
	h := Hooks{Fence: "env > " + seen + "; : --token=secret-of-theirs; exit 1", Timeout: long, Hidden: []string{"PGTETHER_PROBE_PASSWORD"}}
	err := h.RunFence(t.Context(), []byte(`{}`))
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("error %v", err)
	}
	text, err := os.ReadFile(seen)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "HOOK_COLOUR=blue") || strings.Contains(string(text), "secret-of-ours") {
		t.Errorf("environment:\n%s", text)
	}
}

// asJSON is an event as a test reads it back.
func asJSON(ev Event) []byte {
	b, err := json.Marshal(ev)
	if err != nil {
		panic(err)
	}
	return b
}
