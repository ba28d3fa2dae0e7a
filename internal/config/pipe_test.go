//go:build unix

package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestAPipeThatNobodyWritesToStopsNothing(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	got := refusals(t, strings.Replace(valid, `user = "pgtether"`, "user = \"pgtether\"\npassword_file = \""+pipe+`"`, 1), nil)
	if !strings.Contains(got, "is empty; it must hold the secret on one line") {
		t.Errorf("refused with %q", got)
	}
	if took := time.Since(began); took > 10*pipePatience {
		t.Errorf("it took %s", took)
	}
}

func TestAPipeThatSomebodyWritesToIsRead(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	// Opened for both directions, so that neither side waits for the other.
	w, err := os.OpenFile(pipe, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	var writer sync.WaitGroup
	defer writer.Wait()
	writer.Go(func() {
		if _, err := w.WriteString(valid); err != nil {
			t.Errorf("write: %v", err)
		}
		// Closed only when the reader has it: what is in a pipe that nobody has open is lost.
		for end := time.Now().Add(time.Minute); unread(t, w) > 0 && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		if err := w.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	f, _, err := load(pipe, testSystem(nil), true)
	if err != nil || len(f.Nodes) != 2 {
		t.Errorf("load: %v", err)
	}
}

// inputQueued is FIONREAD, by the name that Linux and the BSDs share.
const inputQueued = unix.TIOCINQ

// unread is how much a pipe holds.
func unread(t *testing.T, pipe *os.File) (n int) {
	t.Helper()
	conn, err := pipe.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var asked error
	if err := conn.Control(func(fd uintptr) { n, asked = unix.IoctlGetInt(int(fd), inputQueued) }); err != nil || asked != nil {
		t.Errorf("ask how much is in the pipe: %v, %v", err, asked)
	}
	return n
}

func TestADeviceIsNotReadForEver(t *testing.T) {
	got := refusals(t, valid+"[admin]\ntoken_file = \"/dev/zero\"\n", nil)
	if !strings.Contains(got, `the file "/dev/zero" is not what it should be: it is larger than 64KiB`) {
		t.Errorf("refused with %q", got)
	}
}

func TestWhatCannotBeReadIsSaidInWords(t *testing.T) {
	for err, want := range map[error]string{
		&fs.PathError{Op: "open", Path: "x", Err: syscall.EACCES}: "it may not be read by this user",
		&fs.PathError{Op: "open", Path: "x", Err: syscall.ENOENT}: "it does not exist",
		&fs.PathError{Op: "read", Path: "x", Err: syscall.EIO}:    "it cannot be read: input/output error",
		errors.New("boom"): "it cannot be read: boom",
	} {
		if got := cannotRead("it", err); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}
