package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// postmaster is one run of a server's first process, our direct child.
type postmaster struct {
	pid int
	// done is closed once the process has ended and was reaped; ended says how, and may be read only then.
	done  chan struct{}
	ended *os.ProcessState
}

// startPostmaster runs cmd under a goroutine that keeps its operating system thread to itself until the process has ended: the
// kernel sends the parent death signal when the *thread* that forked dies, and Go ends idle threads as it likes.
func startPostmaster(cmd *exec.Cmd) (*postmaster, error) {
	p := &postmaster{done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err != nil {
			return
		}
		_ = cmd.Wait() // the exit state is what matters, and is kept below
		p.ended = cmd.ProcessState
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return p, nil
}

// running tells whether the process has not been reaped yet.
func (p *postmaster) running() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// pidFile is what the lab needs of a postmaster.pid (miscadmin.h, LOCK_FILE_LINE_*).
type pidFile struct {
	pid    int    // negative for a server without a postmaster, as initdb and pg_rewind run it
	shmID  int    // System V segment, 0 when none is written yet
	status string // "starting", "ready", ...
}

// readPIDFile reads the postmaster.pid of a data directory. It is there while a server runs, and after one that was killed.
func readPIDFile(dataDir string) (pidFile, error) {
	content, err := os.ReadFile(filepath.Join(dataDir, "postmaster.pid"))
	if err != nil {
		return pidFile{}, fmt.Errorf("read postmaster.pid: %w", err)
	}
	lines := strings.Split(string(content), "\n")
	var f pidFile
	if f.pid, err = strconv.Atoi(strings.TrimSpace(lines[0])); err != nil {
		return pidFile{}, fmt.Errorf("read postmaster.pid: %w", err)
	}
	if len(lines) > 6 {
		if fields := strings.Fields(lines[6]); len(fields) == 2 {
			f.shmID, _ = strconv.Atoi(fields[1]) // 0 when it is no number: nothing to remove
		}
	}
	if len(lines) > 7 {
		f.status = strings.TrimSpace(lines[7])
	}
	return f, nil
}

// removeSharedMemory removes the segment that a killed server could not remove itself. The file names the current one: a server that
// restarts after a crash of a child makes another.
func removeSharedMemory(dataDir string) {
	if f, err := readPIDFile(dataDir); err == nil && f.shmID != 0 {
		removeSegment(f.shmID, max(f.pid, -f.pid))
	}
}
