package lab

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// guardianScript waits on a pipe whose other end only we hold. One line means that the lab was closed in order; the end of the
// pipe without it means that we were killed, and then it ends what still works in the directory (frozen servers too, which
// no parent death signal reaches), removes the servers' shared memory and the directory. The first round only asks, for the sake of
// initdb, whose servers clean up after themselves but leave no file that says what to clean.
const guardianScript = `
dir=$1
if read -r _; then exit 0; fi
sweep() {
	for p in /proc/[0-9]*; do
		pid=${p#/proc/}
		[ "$pid" = $$ ] && continue
		case "$(readlink "$p/cwd" 2>/dev/null)" in
		"$dir"|"$dir"/*|"$dir"*" (deleted)") kill "-$sig" "$pid" 2>/dev/null && found=1 ;;
		esac
	done
}
i=0; found=1; sig=TERM
while [ $found = 1 ] && [ $i -lt 50 ]; do
	found=0; sweep; i=$((i+1)); sig=KILL
	[ $found = 1 ] && sleep 0.1
done
for f in "$dir"/*/postmaster.pid; do
	[ -f "$f" ] || continue
	set -- $(sed -n 7p "$f")
	[ -n "$2" ] && ipcrm -m "$2" 2>/dev/null
done
rm -rf -- "$dir"
`

// guardian is the process that cleans up after us if we cannot.
type guardian struct {
	cmd  *exec.Cmd
	pipe io.WriteCloser
}

// startGuardian needs the directory to exist. It stays root when we are root, and works outside the directory, so that it
// never finds itself.
func startGuardian(dir string) (*guardian, error) {
	if !filepath.IsAbs(dir) || !strings.HasPrefix(filepath.Base(dir), dirPrefix) {
		return nil, fmt.Errorf("guard %q: not a directory of the lab", dir) // it will be removed: no half measures
	}
	cmd := exec.Command("/bin/sh", "-c", guardianScript, "pgtether-lab-guardian", dir)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	cmd.SysProcAttr = account{}.processAttributes()
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("open pipe to guardian: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start guardian: %w", err)
	}
	return &guardian{cmd: cmd, pipe: pipe}, nil
}

// dismiss ends the guardian after an orderly close.
func (g *guardian) dismiss() error {
	_, writeErr := io.WriteString(g.pipe, "closed\n")
	_ = g.pipe.Close()
	if err := g.cmd.Wait(); err != nil && writeErr == nil {
		return fmt.Errorf("end guardian: %w", err)
	}
	return nil
}
