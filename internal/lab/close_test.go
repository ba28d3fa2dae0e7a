//go:build linux

package lab_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pgtether/pgtether/internal/lab"
	"golang.org/x/sys/unix"
)

// traces of a lab on the machine, looked at without the lab's own means.
type traces struct {
	dir      string
	segments []int
}

func tracesOf(t *testing.T, dir string) traces {
	t.Helper()
	found := traces{dir: dir, segments: segmentsOf(t, dir)}
	if len(found.segments) == 0 {
		t.Fatal("no shared memory segment found: the test would prove nothing")
	}
	return found
}

func segmentsOf(t *testing.T, dir string) (segments []int) {
	t.Helper()
	files, err := filepath.Glob(dir + "/*/postmaster.pid")
	must(t, err)
	for _, file := range files {
		content, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue // a server that restarts
		}
		must(t, err)
		if lines := strings.Split(string(content), "\n"); len(lines) > 6 {
			if fields := strings.Fields(lines[6]); len(fields) == 2 {
				id, err := strconv.Atoi(fields[1])
				must(t, err)
				segments = append(segments, id)
			}
		}
	}
	return segments
}

// left says what is still there, or nil.
func (f traces) left() error {
	var errs []error
	if _, err := os.Lstat(f.dir); err == nil {
		errs = append(errs, fmt.Errorf("directory %s is still there", f.dir))
	}
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range links {
		if cwd, err := os.Readlink(link); err == nil && strings.HasPrefix(cwd, f.dir) {
			errs = append(errs, fmt.Errorf("%s works in %s", link, cwd))
		}
	}
	for _, id := range f.segments {
		var desc unix.SysvShmDesc
		if _, err := unix.SysvShmCtl(id, unix.IPC_STAT, &desc); err == nil {
			errs = append(errs, fmt.Errorf("shared memory segment %d is still there", id))
		}
	}
	return errors.Join(errs...)
}

func TestCloseLeavesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		single bool
		hurt   func(context.Context, *testing.T, *lab.Lab) error
	}{
		"of a healthy pair": {false, func(context.Context, *testing.T, *lab.Lab) error { return nil }},
		"of a frozen server and a frozen postmaster": {false, func(_ context.Context, _ *testing.T, l *lab.Lab) error {
			return errors.Join(l.Node(lab.RegionA).FreezeAll(), l.Node(lab.RegionB).FreezePostmaster())
		}},
		"of a killed server": {true, func(_ context.Context, _ *testing.T, l *lab.Lab) error {
			return l.Node(lab.RegionA).Kill9()
		}},
		"of a busy backend without a postmaster": {true, func(ctx context.Context, t *testing.T, l *lab.Lab) error {
			keepBusy(t, ctx, l.Node(lab.RegionA))
			return l.Node(lab.RegionA).Kill9Postmaster()
		}},
		"of a server killed after a crash of a child": {true, func(ctx context.Context, t *testing.T, l *lab.Lab) error {
			n := l.Node(lab.RegionA)
			old := tracesOf(t, l.Dir()).segments
			must(t, n.Kill9Child("checkpointer"))
			waitFor(t, "another segment", func() bool {
				now := segmentsOf(t, l.Dir())
				return len(now) == 1 && now[0] != old[0] && connectTo(n)(ctx) == nil
			})
			later := tracesOf(t, l.Dir())
			t.Cleanup(func() { must(t, later.left()) })
			return n.Kill9()
		}},
		"of a stopped server": {true, func(ctx context.Context, _ *testing.T, l *lab.Lab) error {
			return l.Node(lab.RegionA).Stop(ctx, lab.Fast)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, l := start(t, lab.Options{Single: c.single})
			before := tracesOf(t, l.Dir())
			must(t, c.hurt(ctx, t, l))
			must(t, l.Close())
			must(t, before.left())
			must(t, l.Close())
			if err := l.Node(lab.RegionA).Start(ctx); err == nil {
				t.Error("a node of a closed lab started")
			}
		})
	}
}

// keepBusy has a session of the node compute for minutes.
func keepBusy(t *testing.T, ctx context.Context, n *lab.Node) {
	t.Helper()
	c, err := pgx.Connect(ctx, n.SuperDSN("postgres"))
	must(t, err)
	ended := make(chan struct{}) // closed when the statement has ended, one way or the other
	go func() {
		defer close(ended)
		_, _ = c.Exec(ctx, "SET application_name = 'busy'; SELECT sum(g) FROM generate_series(1, 100000000000) g") // it will be killed
		c.Close(ctx)
	}()
	t.Cleanup(func() { <-ended })
	must(t, n.Await(ctx, "EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'busy' AND state = 'active')"))
}

func TestKilledProgramLeavesNothing(t *testing.T) {
	for _, how := range []string{"running", "frozen"} {
		t.Run(how, func(t *testing.T) {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), victimVariable+"="+how)
			out, err := cmd.StdoutPipe()
			must(t, err)
			must(t, cmd.Start())
			line, err := bufio.NewReader(out).ReadString('\n')
			if err != nil || !filepath.IsAbs(strings.TrimSpace(line)) {
				_ = cmd.Process.Kill()
				t.Fatalf("the victim says %q (%v), want its directory", line, err)
			}
			before := tracesOf(t, strings.TrimSpace(line))
			must(t, cmd.Process.Kill())
			_ = cmd.Wait()
			deadline := time.Now().Add(time.Minute)
			for before.left() != nil && time.Now().Before(deadline) {
				time.Sleep(20 * time.Millisecond) // nobody is left to tell us
			}
			must(t, before.left())
		})
	}
}

func TestStartThatIsCancelledLeavesNothing(t *testing.T) {
	parent := t.TempDir()
	must(t, os.Chmod(filepath.Dir(parent), 0o755))
	must(t, os.Chmod(parent, 0o755))
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond) // in the middle of initdb
	defer cancel()
	l, err := lab.Start(ctx, lab.Options{Dir: parent})
	if err == nil {
		must(t, l.Close())
		t.Fatal("a lab started in 300 ms: the test proves nothing")
	}
	left, err := os.ReadDir(parent)
	must(t, err)
	if len(left) > 0 {
		t.Errorf("a cancelled start left %v", left)
	}
}
