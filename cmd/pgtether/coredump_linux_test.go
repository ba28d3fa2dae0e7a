package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// toldProgram is pgtether, and says once it serves whether the process can be dumped.
const toldProgram = "pgtether-told"

func init() {
	programs[toldProgram] = func() {
		go func() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }()
		for dumpable := 1; dumpable != 0; time.Sleep(time.Millisecond) { // as long as it takes: the test has a limit
			dumpable, _ = unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
		}
		fmt.Println("not dumpable")
		select {}
	}
}

func TestAServingProcessLeavesNoCore(t *testing.T) {
	dir := t.TempDir()
	clients, err := closedAddress()
	if err != nil {
		t.Fatal(err)
	}
	admin, err := closedAddress()
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"password": "secret", "pgtether.toml": fmt.Sprintf(takenConfig, clients, admin)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "serve", "--config", "pgtether.toml")
	cmd.Args[0], cmd.Dir = toldProgram, dir
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	patience := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer patience.Stop()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "not dumpable\n" {
		t.Fatalf("the process says %q, %v", line, err)
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(limits)) {
		if rest, ok := strings.CutPrefix(line, "Max core file size"); ok {
			if got := strings.Fields(rest); got[0] != "0" || got[1] != "0" {
				t.Errorf("limits of core dumps: %v", got)
			}
			return
		}
	}
	t.Errorf("no limit of core dumps in %s", limits)
}
