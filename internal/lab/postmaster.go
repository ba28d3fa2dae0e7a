package lab

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
)

// postmaster is one run of a server's first process, our direct child.
type postmaster struct {
	pid int
	// done is closed once the process has ended and was reaped; ended says how, and may be read only then.
	done  chan struct{}
	ended *os.ProcessState

	mu    sync.Mutex
	shmID int // System V segment of this run, 0 until known
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

func (p *postmaster) setSharedMemory(id int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shmID = id
}

// removeSharedMemory removes the segment that a killed postmaster could not remove itself.
func (p *postmaster) removeSharedMemory() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shmID != 0 {
		removeSegment(p.shmID, p.pid)
	}
	p.shmID = 0
}
