package failover

import (
	"bytes"
	"context"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/test/rig"
)

// onEpochOne holds while the first writer's epoch is the one that counts, open or held.
func onEpochOne(s rig.Status) bool { return s.Epoch != nil && *s.Epoch == 1 }

func TestAServerWhosePostmasterHangsStaysTheWriter(t *testing.T) {
	t.Parallel()
	w := newPair(t, lab.Options{})
	w.startOpen()
	c := w.mustLogin()
	w.exec(c, "CREATE TABLE t (k int)")
	w.must(w.a.FreezePostmaster())
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		w.exec(c, "INSERT INTO t VALUES (1)")
	}
	s, err := w.proxy.Status(w.ctx)
	w.must(err)
	if s.Writes != "open" || *s.Writer != lab.RegionA || *s.Epoch != 1 {
		t.Errorf("the writer still commits, and yet: %+v", s)
	}
	w.must(w.a.Thaw())
	w.exec(w.mustLogin(), "INSERT INTO t VALUES (2)")
}

// A login of a probe costs a server more than all that the probe asks, and two lines of its log.
func TestAPairThatIsWellIsLoggedIntoEveryFiveSeconds(t *testing.T) {
	t.Parallel()
	w := newPair(t, lab.Options{})
	w.must(w.a.Configure(map[string]string{"log_connections": "on"}))
	w.startOpen()
	w.await("a standby that could take over", func(s rig.Status) bool { return s.State == "STANDBY_READY" })
	logins := func() int {
		log, err := os.ReadFile(w.a.LogFile())
		w.must(err)
		return bytes.Count(log, []byte("connection authorized: user=pgtether"))
	}
	time.Sleep(2 * time.Second) // rounds that were asked for are over
	before := logins()
	if before == 0 {
		t.Fatal("no login of a probe is in the log: this test proves nothing")
	}
	time.Sleep(10 * time.Second)
	if made := logins() - before; made < 1 || made > 3 {
		t.Errorf("%d logins of probes in 10 s, want 2", made)
	}
}

func TestWhenOnlyThisProxyCannotSeeTheWriterSessionsAreLeftAloneAndLoginsHeld(t *testing.T) {
	t.Parallel()
	w := newPair(t, lab.Options{})
	relay, err := w.a.Relay()
	w.must(err)
	w.nodes = []rig.Node{{Name: lab.RegionA, Addr: relay.Addr()}, {Name: lab.RegionB, Addr: w.b.Addr()}}
	w.startOpen()
	c := w.mustLogin()
	w.exec(c, "CREATE TABLE t (k int)")
	relay.Blackhole()
	w.await("the state says that it is this proxy's own view", func(s rig.Status) bool { return s.State == "PRIMARY_FAILED" && s.Step == "blocked" })
	w.explained("standby_sees_primary_gone", lab.RegionB)
	insert := w.answer(c, "INSERT INTO t VALUES (1)")
	w.stays("nothing is cut or adopted", 2*time.Second, onEpochOne)
	select {
	case err := <-insert:
		t.Fatalf("the session did not wait: %s", sqlState(err))
	default:
	}
	w.must(relay.Heal())
	if err := <-insert; err != nil {
		t.Errorf("the session did not survive: %s", sqlState(err))
	}
	w.awaitOpen(lab.RegionA)
	w.stays("it is the same epoch", 200*time.Millisecond, onEpochOne)
}

func TestAFullServerIsNotADeadOne(t *testing.T) {
	t.Parallel()
	w := newPair(t, lab.Options{MaxConnections: 20})
	w.startOpen()
	var held []*pgx.Conn
	t.Cleanup(func() {
		for _, c := range held {
			_ = c.Close(context.Background())
		}
	})
	for range 40 { // superusers take the reserved slots too
		c, err := pgx.Connect(w.ctx, w.a.SuperDSN("postgres"))
		if err != nil {
			if sqlState(err) != "53300" {
				t.Fatal(err)
			}
			break
		}
		held = append(held, c)
	}
	if _, err := w.login(); sqlState(err) != "53300" {
		t.Errorf("a login at a full server got %s, want the server's own 53300", sqlState(err))
	}
	w.stays("the writer is open", 4*time.Second, func(s rig.Status) bool { return s.Writes == "open" && *s.Epoch == 1 })
}

func TestCrashRecoveryIsWaitedFor(t *testing.T) {
	t.Parallel()
	w := newPair(t, lab.Options{})
	w.startOpen()
	c := w.mustLogin()
	w.must(w.a.Kill9Child("checkpointer"))
	if _, err := c.Exec(w.ctx, "SELECT pg_sleep(60)"); err == nil {
		t.Error("a session outlived the crash of its server")
	}
	again := w.mustLogin() // held, or back at once: never refused
	if node := w.serverOf(again); node != lab.RegionA {
		t.Errorf("a new session is on %s", node)
	}
	w.awaitOpen(lab.RegionA)
	w.stays("it is the same epoch", time.Second, onEpochOne)
}

func TestAProbeThatCannotLogInDoesNotTakeTheWriterAway(t *testing.T) {
	t.Parallel()
	w := newPair(t, lab.Options{})
	w.startOpen()
	w.must(w.a.Exec(w.ctx, "postgres", "ALTER ROLE "+w.lab.ProbeUser+" NOLOGIN"))
	w.must(w.a.Exec(w.ctx, "postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '"+w.lab.ProbeUser+"'"))
	s := w.await("the probe is blind", func(s rig.Status) bool { return s.Nodes[0].Role == "unknown" })
	if s.Writes != "open" {
		t.Errorf("a blind probe closed the writer: %+v", s)
	}
	w.exec(w.mustLogin(), "SELECT 1")
	w.explained("automation_on")
	w.stays("the writer is open", 2*time.Second, func(s rig.Status) bool { return s.Writes == "open" && *s.Epoch == 1 })
}

func TestALostStateBeginsAnewWithTheOneConsistentPrimary(t *testing.T) {
	t.Parallel()
	w := newPair(t, lab.Options{})
	w.startOpen()
	before, err := w.proxy.Status(w.ctx)
	w.must(err)
	w.proxy.Kill()
	w.dir += "-elsewhere"
	w.start()
	s := w.awaitOpen(lab.RegionA)
	if *s.Epoch != 1 || s.StateID == before.StateID {
		t.Errorf("epoch %d under %s, before %s", *s.Epoch, s.StateID, before.StateID)
	}
}
