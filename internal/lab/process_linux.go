package lab

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// processesIn lists the live processes whose working directory is dir or below it. PostgreSQL's processes all work in the data
// directory, and keep that when their parent has died and when they have become leaders of their own process group, which
// makes neither parent nor group a safe handle.
func processesIn(dir string) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		cwd, err := os.Readlink(filepath.Join("/proc", entry.Name(), "cwd"))
		if err != nil { // gone, a zombie, or another user's
			continue
		}
		cwd = strings.TrimSuffix(cwd, " (deleted)")
		if cwd == dir || strings.HasPrefix(cwd, dir+"/") {
			pids = append(pids, pid)
		}
	}
	return pids
}

// processState returns the state letter of /proc/PID/stat ('S', 'R', 'T' stopped, 'Z' zombie), or 0 when there is no process.
func processState(pid int) byte {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	// The second field, the name in parentheses, may hold anything: count from its end.
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 || end+2 >= len(stat) {
		return 0
	}
	return stat[end+2]
}

// processTitle is the command line as ps shows it, for PostgreSQL "postgres: region-a: checkpointer" and the like.
func processTitle(pid int) string {
	line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
}

// removeSegment removes a System V segment if the process creator made it: ids are used again, and a segment of somebody else must
// survive us. One that a dying process still holds goes with it.
func removeSegment(id, creator int) {
	var desc unix.SysvShmDesc
	if _, err := unix.SysvShmCtl(id, unix.IPC_STAT, &desc); err != nil {
		return
	}
	if int(desc.Cpid) == creator {
		_, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil) // gone already is as good
	}
}

// processAttributes of a helper program: the account, and out of our process group, so that a Ctrl-C in the terminal reaches
// us alone.
func (a account) processAttributes() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setsid: true}
	if a.drop {
		attr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	}
	return attr
}

// serverAttributes are those of a postmaster: as above, and an immediate shutdown (which also removes its shared memory) if
// we die.
func (a account) serverAttributes() *syscall.SysProcAttr {
	attr := a.processAttributes()
	dieWithParent(attr, syscall.SIGQUIT)
	return attr
}

// dieWithParent has the kernel send a signal when the thread that starts the process ends; see startPostmaster.
func dieWithParent(attr *syscall.SysProcAttr, sig syscall.Signal) { attr.Pdeathsig = sig }

func ownerOf(info os.FileInfo) (uid, gid int) {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(stat.Uid), int(stat.Gid)
	}
	return -1, -1
}

func sendSignal(pid int, sig syscall.Signal) error { return syscall.Kill(pid, sig) }

const (
	supported   = true
	sigStop     = syscall.SIGSTOP
	sigContinue = syscall.SIGCONT
)

// listenAgain changes the backlog of a listening socket; Linux allows a second listen(2) for that.
func listenAgain(fd uintptr, backlog int) error { return unix.Listen(int(fd), backlog) }
