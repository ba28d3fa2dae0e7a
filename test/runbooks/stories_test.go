package runbooks

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgtether/pgtether/test/rig"
)

// TestEveryBlockIsRun tells the lives of two pairs, at the same time, through every runbook of the page.
func TestEveryBlockIsRun(t *testing.T) {
	blocks, err := ReadPage(page)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("stories", func(t *testing.T) {
		t.Run("a server gets a standby, and both grow old", oneServer)
		t.Run("a pair is split, loses its state, and is replaced", twoServers)
	})
	if t.Failed() {
		return
	}
	for _, b := range blocks {
		if !ran[b.Line] {
			t.Errorf("%s:%d: no story runs the block %v", page, b.Line, b.Names)
		}
	}
}

func oneServer(t *testing.T) {
	t.Parallel()
	s := newSite(t, 41)
	s.newServer("region-a")
	s.says(s.run("one"), "streaming", "nothing here would block a failover")
	s.await("STANDBY_READY", "region-a")
	s.write()
	s.says(s.run("look"), "STANDBY_READY", "if it dies", "opened", "nothing here would block")
	s.says(s.run("maintenance"), "automatic failover")

	s.switchOver()
	s.rows("region-a", 2)
	s.says(s.run("password"), "streaming")
	s.await("STANDBY_READY", "region-b")

	s.sh("", "cp bin/pgtether aside/pgtether")
	s.says(s.run("upgrade"), "pgtether ")
	s.await("STANDBY_READY", "region-b")

	s.kill("region-b")
	s.awaitStep("blocked")
	s.says(s.run("failover"), "approved")
	s.run("approve")
	s.await("NEW_PRIMARY", "region-a")
	s.write()
	s.sh("region-b", "systemctl start postgresql; psql -qc 'INSERT INTO acknowledged VALUES (-1)'") // both believe to be in charge
	s.awaitQuarantine("region-b")
	s.run("rewind")
	s.mirrored = false
	s.await("STANDBY_READY", "region-a")
	s.rows("region-b", 3)

	s.run("minor")
	s.await("STANDBY_READY", "region-a")
	s.switchOver()
	s.halted()
}

// switchOver changes the writer as planned and brings the old one back; from then on the names are exchanged.
func (s *site) switchOver() {
	s.Helper()
	old, writer := s.a(), s.b()
	s.says(s.run("switchover"), "SAFE", "done: switchover "+old+" -> "+writer)
	if now := s.await("NEW_PRIMARY", writer); now.LastChange == nil || now.LastChange.Lossless != "proven" {
		s.Errorf("the switchover to %s: %+v", writer, now.LastChange)
	}
	s.write()
	s.run("rewind")
	s.mirrored = !s.mirrored
	s.await("STANDBY_READY", writer)
	if got := strings.TrimSpace(s.sh(old, "psql -Atc 'SHOW default_transaction_read_only'")); got != "off" {
		s.Errorf("the fence of %s is %s", old, got)
	}
}

// awaitStep waits until the change, or what keeps it from beginning, is at that step.
func (s *site) awaitStep(step string) {
	s.Helper()
	if out, reached := s.reaches(step, patience); !reached {
		s.Fatalf("waited for the step %s:\n%s\n%s", step, out, s.logs())
	}
}

// reaches waits for so long at most, and returns the last status.
func (s *site) reaches(step string, within time.Duration) (out string, reached bool) {
	s.Helper()
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		out, _ = s.try("", "pgtether status --json")
		if strings.Contains(out, `"step": "`+step+`"`) || strings.Contains(out, `"step":"`+step+`"`) {
			return out, true
		}
	}
	return out, false
}

// halted has a promotion that never completes, the target lost, and the old writer started again. The writer is region-b.
func (s *site) halted() {
	s.Helper()
	s.sh("", `sed -i 's/^mode = .*/&\npromote_timeout = "2s"/' etc/pgtether.toml && systemctl reload pgtether`)
	replay := func(signal syscall.Signal) {
		for _, process := range s.processes(s.b(), "startup") {
			s.must(syscall.Kill(process, signal))
		}
	}
	replay(syscall.SIGSTOP)
	s.kill(s.a())
	s.awaitStep("blocked")
	s.run("approve")
	// A process that is stopped while it holds a lock lets nobody look at the node, and the change is undone: then it is stopped elsewhere.
	for range 3 {
		if _, reached := s.reaches("halted", 10*time.Second); reached {
			break
		}
		if _, back := s.reaches("blocked", 10*time.Second); back {
			replay(syscall.SIGCONT)
			time.Sleep(time.Second)
			replay(syscall.SIGSTOP)
			s.run("approve")
		}
	}
	s.awaitStep("halted")
	s.kill(s.b())
	s.sh(s.a(), "systemctl start postgresql")
	writer := s.a()
	s.awaitPrimary(writer)
	s.mirrored = false // the page has region-b for the one that is opened
	s.says(s.run("halted"), "halted", "region-b")
	s.await("PRIMARY_ACTIVE", writer)
	s.write()
}

// awaitPrimary waits until the node is seen to answer as a primary.
func (s *site) awaitPrimary(node string) {
	s.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		var now struct {
			Nodes []struct{ Name, Role, Evidence string }
		}
		out, err := s.try("", "pgtether status --json")
		if err != nil || json.Unmarshal([]byte(out), &now) != nil {
			continue
		}
		for _, n := range now.Nodes {
			if n.Name == node && n.Role == "primary" && n.Evidence == "answers" {
				return
			}
		}
	}
	s.Fatalf("%s is not seen as a primary\n%s", node, s.logs())
}

// processes are those of a node's server with that word in their title.
func (s *site) processes(node, word string) (pids []int) {
	s.Helper()
	found, err := filepath.Glob("/proc/[0-9]*")
	s.must(err)
	for _, proc := range found {
		cwd, _ := os.Readlink(proc + "/cwd") // of one that has ended meanwhile there is none
		title, _ := os.ReadFile(proc + "/cmdline")
		if cwd == filepath.Join(s.lab.Dir(), node) && strings.Contains(string(title), word) {
			pid, err := strconv.Atoi(filepath.Base(proc))
			s.must(err)
			pids = append(pids, pid)
		}
	}
	if len(pids) == 0 {
		s.Fatalf("%s has no process %s", node, word)
	}
	return pids
}

func twoServers(t *testing.T) {
	t.Parallel()
	s := newSite(t, 42)
	s.newServer("region-a")
	s.sh("region-a", `psql -qc "CREATE ROLE replicator LOGIN REPLICATION PASSWORD 'one-long-password'" -c "ALTER SYSTEM SET wal_log_hints = on"
echo 'host replication replicator 127.0.0.0/8 scram-sha-256' >> "$PGDATA/pg_hba.conf"
systemctl restart postgresql
echo '*:*:*:replicator:one-long-password' > ~/.pgpass
chmod 0600 ~/.pgpass`)
	s.sh("region-b", s.here(`pg_basebackup --pgdata "$PGDATA" --dbname 'host=10.0.0.11 user=replicator' --checkpoint=fast --write-recovery-conf
systemctl start postgresql`))
	s.run("two")
	s.says(s.run("start"), "valid", "nothing here would block a failover")
	first := s.await("STANDBY_READY", "region-a")
	s.write()
	s.arrives("region-b", 1)

	s.kill("region-a")
	s.awaitStep("blocked")
	s.run("override")
	s.await("NEW_PRIMARY", "region-b")
	s.sh("region-a", "systemctl start postgresql; psql -qc 'INSERT INTO acknowledged VALUES (-1)'")
	s.awaitQuarantine("region-a")
	s.run("split")
	s.says(s.sh("", "cat aside/region-a.sql"), "\n-1\n")
	s.run("rebuild")
	s.mirrored = true
	s.await("STANDBY_READY", "region-b")
	s.rows("region-a", 1)

	s.says(s.run("lost"), "f|2", "t|2")
	now := s.await("STANDBY_READY", "region-b")
	if now.StateID == first.StateID || now.Epoch == nil || *now.Epoch != 1 {
		t.Errorf("after the state was lost: %+v", now)
	}

	s.sh("", "rm -rf region-?.old")
	s.says(s.run("major"), "Upgrade Complete")
	s.await("STANDBY_READY", "region-b")
	s.write()
	s.rows("region-b", 2)

	s.says(s.run("add"), "region-c")
	s.await("STANDBY_READY", "region-b")
	s.run("replace")
	now = s.await("STANDBY_READY", "region-b")
	if !slices.Equal(names(now), []string{"region-b", "region-c"}) {
		t.Errorf("the nodes are %v", names(now))
	}
}

func names(s rig.Status) (out []string) {
	for _, n := range s.Nodes {
		out = append(out, n.Name)
	}
	return out
}

// awaitQuarantine waits until pgtether keeps the node out.
func (s *site) awaitQuarantine(node string) {
	s.Helper()
	for now := s.await("NEW_PRIMARY", ""); now.Quarantine(node) == ""; now = s.await("NEW_PRIMARY", "") {
		time.Sleep(100 * time.Millisecond)
	}
}
