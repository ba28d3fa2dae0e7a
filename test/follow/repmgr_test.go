package follow

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgtether/pgtether/test/rig"
)

// repmgrConfig is a node's repmgr.conf. A clone and a rewound node carry the other one's postgresql.conf, port included; so the port is
// given when a server is started.
const repmgrConfig = `node_id = %[1]d
node_name = '%[2]s'
conninfo = 'host=127.0.0.1 port=%[3]d user=repmgr dbname=repmgr connect_timeout=2'
data_directory = '%[4]s/%[2]s'
pg_bindir = '%[5]s'
use_replication_slots = yes
service_start_command = '%[5]s/pg_ctl -D %[4]s/%[2]s -l %[4]s/%[2]s-rejoined.log -o "-p %[3]d" -w start'
`

const repmgrSettings = `listen_addresses = '127.0.0.1'
unix_socket_directories = ''
wal_level = replica
wal_log_hints = on
hot_standby = on
max_wal_senders = 10
max_replication_slots = 10
wal_receiver_timeout = 4s
wal_receiver_status_interval = 1s
wal_retrieve_retry_interval = 500ms
shared_buffers = 64MB
fsync = off
dynamic_shared_memory_type = mmap
log_line_prefix = '%m [%p] %q%u@%d '
log_timezone = UTC
`

const repmgrHBA = `host all repmgr 127.0.0.1/32 trust
host replication repmgr 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
host replication all 127.0.0.1/32 scram-sha-256
`

// repmgr runs repmgr for a node.
func (w *world) repmgr(n node, args ...string) {
	w.Helper()
	w.Logf("repmgr %s: %s", strings.Join(args, " "), strings.TrimSpace(w.run(w.program("repmgr"), append([]string{"-f", w.config(n)}, args...)...)))
}

func (w *world) config(n node) string { return filepath.Join(w.lab.Dir(), n.name+"-repmgr.conf") }

func (w *world) dataDir(n node) string { return filepath.Join(w.lab.Dir(), n.name) }

// startPostgres starts a node's server and waits until it answers.
func (w *world) startPostgres(n node) {
	w.Helper()
	w.spawn(n.name, w.program("postgres"), "-D", w.dataDir(n), "-p", fmt.Sprint(n.port))
	w.eventually(n.name+" answers", func() error {
		_, err := w.started(n)
		return err
	})
}

// newRepmgrPair makes a pair as repmgr's documentation says, and puts pgtether in front.
func newRepmgrPair(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	for i, n := range []node{w.a, w.b} {
		w.write(n.name+"-repmgr.conf", fmt.Sprintf(repmgrConfig, i+1, n.name, n.port, w.lab.Dir(), w.lab.BinDir()))
	}
	password := w.write("super-password", superPassword)
	w.run(w.program("initdb"), "--pgdata", w.dataDir(w.a), "--no-sync", "--encoding=UTF8", "--locale=C", "--username", superuser,
		"--auth=scram-sha-256", "--pwfile", password)
	w.write(w.a.name+"/postgresql.conf", repmgrSettings)
	w.write(w.a.name+"/pg_hba.conf", repmgrHBA)
	w.startPostgres(w.a)
	w.exec(w.a, "postgres", "CREATE ROLE repmgr LOGIN SUPERUSER", "CREATE DATABASE repmgr OWNER repmgr")
	w.createRoles()
	w.repmgr(w.a, "primary", "register")
	w.repmgr(w.b, "-h", "127.0.0.1", "-p", fmt.Sprint(w.a.port), "-U", "repmgr", "-d", "repmgr", "standby", "clone", "--fast-checkpoint")
	w.startPostgres(w.b)
	w.repmgr(w.b, "standby", "register")
	w.eventually("region-b streams", func() error { return w.streams(w.a, w.b) })
	w.startProxy("")
	return w
}

// loseRows lets the standby receive nothing more, and waits until rows have been acknowledged that it does not have.
func (w *world) loseRows() {
	w.Helper()
	w.exec(w.b, "postgres", "ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")
	w.eventually("region-b receives nothing", func() error {
		if w.streams(w.a, w.b) == nil {
			return errors.New("it streams")
		}
		return nil
	})
	w.awaitWrites(time.Now())
}

func TestAPromotionByRepmgrIsFollowedItsLossIsToldAndTheOldPrimaryComesBackAsAStandby(t *testing.T) {
	t.Parallel()
	w := newRepmgrPair(t)
	before := w.lastSeq()
	w.loseRows()
	w.must(w.lab.Kill9In(w.a.name))
	w.await("the clients wait", func(s rig.Status) bool { return s.Writes == "held" && s.Sessions.Held == workers })
	began := time.Now()
	w.repmgr(w.b, "standby", "promote")
	s := w.awaitWriter(w.b)
	t.Logf("writes are open on %s %s after the order", w.b.name, time.Since(began).Round(time.Millisecond))
	w.adopted(s, w.a, w.b, 2, "bounded")
	w.awaitWrites(time.Now())
	w.awaitState("NEW_PRIMARY", w.b)
	w.cutBeforeOpened(before)

	// repmgr rejoins only a server that was shut down in good order: crash recovery in single-user mode sees to that. And up to PostgreSQL
	// 15 pg_rewind reads the new timeline from the control file, where the next checkpoint puts it.
	w.run(w.program("postgres"), "--single", "-D", w.dataDir(w.a), "template1")
	w.exec(w.b, "postgres", "CHECKPOINT")
	w.repmgr(w.a, "node", "rejoin", "-d", fmt.Sprintf("host=127.0.0.1 port=%d user=repmgr dbname=repmgr", w.b.port), "--force-rewind")
	w.awaitState("STANDBY_READY", w.b)
	w.passedThrough(before, "PRIMARY_FAILED", "NEW_PRIMARY", "REJOINING", "STANDBY_READY")
	if lost := w.balance(w.b, s.LastChange); lost == 0 {
		t.Error("nothing was lost, so that nothing was shown of the loss that was told")
	}
	w.neverPromoted()
}
