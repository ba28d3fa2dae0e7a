package control

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
)

const (
	// evidenceDir is the folder below the state directory.
	evidenceDir = "evidence"
	// keepBundles is how many bundles are kept; the oldest go first.
	keepBundles = 50
	// maxWaiting is how many bundles may wait for a disk that is slow; the oldest beyond it are not written.
	maxWaiting = 4
)

// bundleName is what the files of the folder that are ours are called. Nothing else there is ever touched.
var bundleName = regexp.MustCompile(`^[0-9]{8}T[0-9]{6}\.[0-9]{3}Z-epoch-[0-9]+\.json(\.new)?$`)

// evidenceFiles writes bundles on a goroutine of its own, so that nobody waits for the disk. What cannot be written is logged and given up.
type evidenceFiles struct {
	dir string
	ops fileOps
	log *slog.Logger

	mu      sync.Mutex // guards waiting
	waiting []bundleJob
	wake    chan struct{} // holds a token while something waits
}

type bundleJob struct {
	name   string
	layOut func() ([]byte, error)
}

func newEvidenceFiles(stateDir string, log *slog.Logger) *evidenceFiles {
	return &evidenceFiles{dir: filepath.Join(stateDir, evidenceDir), ops: osFileOps(), log: log, wake: make(chan struct{}, 1)}
}

// put has a bundle written soon. One of the same name that still waits is replaced. It does not block.
func (f *evidenceFiles) put(name string, layOut func() ([]byte, error)) {
	f.mu.Lock()
	f.waiting = slices.DeleteFunc(f.waiting, func(j bundleJob) bool { return j.name == name })
	f.waiting = append(f.waiting, bundleJob{name, layOut})
	lost := f.waiting[:max(0, len(f.waiting)-maxWaiting)]
	f.waiting = f.waiting[len(lost):]
	f.mu.Unlock()
	for _, j := range lost {
		f.log.Error("evidence is not written: the disk is too slow", "file", j.name)
	}
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// run writes what is put until stop is closed, and what waits then.
func (f *evidenceFiles) run(stop <-chan struct{}) {
	for {
		select {
		case <-f.wake:
			f.writeAll()
		case <-stop:
			f.writeAll()
			return
		}
	}
}

func (f *evidenceFiles) writeAll() {
	for {
		f.mu.Lock()
		if len(f.waiting) == 0 {
			f.mu.Unlock()
			return
		}
		j := f.waiting[0]
		f.waiting = f.waiting[1:]
		f.mu.Unlock()
		if err := f.write(j); err != nil {
			f.log.Error("evidence is not on disk", "file", j.name, "err", err)
			continue
		}
		f.log.Info("evidence is on disk", "file", filepath.Join(f.dir, j.name))
	}
}

func (f *evidenceFiles) write(j bundleJob) error {
	b, err := j.layOut()
	if err != nil {
		return fmt.Errorf("lay out bundle: %w", err)
	}
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return fmt.Errorf("create evidence directory: %w", err)
	}
	path := filepath.Join(f.dir, j.name)
	if err := f.ops.writeSync(path+".new", b); err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	if err := f.ops.rename(path+".new", path); err != nil {
		return fmt.Errorf("name bundle: %w", err)
	}
	if err := f.ops.syncDir(f.dir); err != nil {
		return fmt.Errorf("sync evidence directory: %w", err)
	}
	return f.prune()
}

// prune keeps the newest bundles. A temporary file is what a crash left: nobody else writes here.
func (f *evidenceFiles) prune() error {
	entries, err := os.ReadDir(f.dir) // sorted by name, and so by time
	if err != nil {
		return fmt.Errorf("list evidence directory: %w", err)
	}
	var kept []string
	for _, e := range entries {
		switch name := e.Name(); {
		case !bundleName.MatchString(name):
		case filepath.Ext(name) == ".new":
			err = os.Remove(filepath.Join(f.dir, name))
		default:
			kept = append(kept, name)
		}
		if err != nil {
			return fmt.Errorf("remove temporary file: %w", err)
		}
	}
	for _, name := range kept[:max(0, len(kept)-keepBundles)] {
		if err := os.Remove(filepath.Join(f.dir, name)); err != nil {
			return fmt.Errorf("remove old bundle: %w", err)
		}
	}
	return nil
}
