package failover

import (
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/test/rig"
	"github.com/pgtether/pgtether/test/tellers"
)

// verifiable gives pgtether the application role's verifier, without which it can move none of its sessions.
func (w *world) verifiable() {
	w.Helper()
	section, err := rig.Verifiers(w.ctx, w.a, w.TempDir(), w.lab.AppUser)
	w.must(err)
	w.extra += section
}

// moved fails unless every session lives on, and has met another backend by now.
func (w *world) moved(c *tellers.Crowd) {
	w.Helper()
	if ends := c.Ends(time.Time{}); len(ends) > 0 {
		w.Errorf("%d sessions ended, the first: %+v", len(ends), ends[0])
	}
	if moved, sessions := c.Moved(); moved != crowdSize || sessions != crowdSize {
		w.Errorf("%d of %d sessions met another backend, want all of %d", moved, sessions, crowdSize)
	}
}

func TestASwitchoverThereAndBackIsNoticedByNoClient(t *testing.T) {
	bothWays(t, "there and back", lab.Options{Settings: map[string]string{"wal_keep_size": "256MB"}}, func(t *testing.T, opts lab.Options) {
		w := newAuto(t, opts)
		w.verifiable()
		w.startOpen()
		load := w.crowd()
		writer, other := w.a, w.b
		for epoch := uint64(2); epoch <= 3; epoch++ {
			ordered := time.Now()
			w.switched(writer, other, epoch)
			w.must(load.Await(w.ctx, crowdSize, time.Now()))
			w.moved(load)
			w.Logf("to %s: longest stall %s", other.Name(), load.Longest(ordered, tellers.Everyone).Length().Round(time.Millisecond))
			w.must(writer.Rewind(w.ctx, other))
			w.rejoined(writer)
			w.must(load.Await(w.ctx, crowdSize, time.Now()))
			writer, other = other, writer
		}
		w.sound(load, writer)
	})
}

func TestASwitchoverThatIsUndoneAfterTheCutMovesEverySessionToTheSameNode(t *testing.T) {
	t.Parallel()
	w := newAuto(t, lab.Options{})
	w.verifiable()
	w.extra += "[hooks]\nfence = \"sleep 5\"\n" // so that it is there to be aborted however busy the machine is
	w.startOpen()
	load := w.crowd()
	w.must(w.proxy.Switch(w.ctx, lab.RegionB, ""))
	w.await("the old writer is being fenced", func(s rig.Status) bool { return s.Step == "fencing" })
	w.must(w.proxy.Abort(w.ctx))
	w.Log(w.undone())
	if s := w.awaitOpen(lab.RegionA); *s.Epoch < 2 {
		t.Errorf("it is epoch %d, want a fresh one", *s.Epoch)
	}
	w.must(load.Await(w.ctx, crowdSize, time.Now()))
	w.moved(load)
	w.notPromoted()
	w.sound(load, w.a)
}

func TestAWriterThatIsLostWhileSessionsWaitEndsThemUnlessTheFailoverLosesNothing(t *testing.T) {
	t.Parallel()
	w := newAuto(t, lab.Options{})
	w.verifiable()
	w.extra += "[hooks]\nfence = \"sleep 3\"\n"
	w.startOpen()
	load := w.crowd()
	w.must(w.proxy.Switch(w.ctx, lab.RegionB, ""))
	w.await("the old writer is being fenced", func(s rig.Status) bool { return s.Step == "fencing" })
	w.must(w.a.Kill9())
	s := w.await("a writer is open", func(s rig.Status) bool { return s.Writes == "open" && *s.Epoch > 1 })
	w.must(load.Await(w.ctx, crowdSize, time.Now()))
	w.Logf("writer %s, last change %+v, %d sessions ended", *s.Writer, s.LastChange, len(load.Ends(time.Time{})))
	if lossless := s.LastChange.Lossless; lossless != "proven" && len(load.Ends(time.Time{})) != crowdSize {
		t.Errorf("lossless is %s, and %d sessions of %d ended", lossless, len(load.Ends(time.Time{})), crowdSize)
	}
}

// TestAPasswordThatWasChangedIsFoundOutByTheLookupWhileTheSwitchoverDrains: the old server is asked once more, although logins are held by then.
func TestAPasswordThatWasChangedIsFoundOutByTheLookupWhileTheSwitchoverDrains(t *testing.T) {
	t.Parallel()
	w := newAuto(t, lab.Options{})
	psql := exec.CommandContext(w.ctx, "psql", "--no-psqlrc", "-q", "-v", "role="+w.lab.ProbeUser, "-d", w.a.SuperDSN("postgres"),
		"-f", filepath.Join("..", "..", "configs", "sql", "verifier-lookup.sql"))
	if out, err := psql.CombinedOutput(); err != nil {
		t.Fatalf("install the lookup: %v: %s", err, out)
	}
	w.extra += "[auth]\nverifier_lookup = \"pgtether.scram_verifier\"\n"
	w.startOpen()
	clients := []*pgx.Conn{w.mustLogin(), w.mustLogin()}
	w.await("both can be moved", func(rig.Status) bool {
		list, err := w.proxy.Sessions(w.ctx)
		w.must(err)
		return len(list) == 2 && list[0].Movable && list[1].Movable
	})
	self, err := pgx.Connect(w.ctx, w.a.AppDSN()) // a superuser's session, which ends a moment after its client, would block the switchover
	w.must(err)
	w.exec(self, "ALTER ROLE keycloak PASSWORD 'another'")
	w.must(self.Close(w.ctx))
	w.must(w.proxy.Switch(w.ctx, lab.RegionB, ""))
	w.await("the switchover is done", func(s rig.Status) bool { return s.Writes == "open" && *s.Epoch == 2 })
	for _, c := range clients {
		if _, err := c.Exec(w.ctx, "SELECT 1"); sqlState(err) != "08006" {
			t.Errorf("a session whose password was changed gives %v", err)
		}
	}
	if n, err := w.proxy.Counter(w.ctx, `pgtether_sessions_moved_total{result="password_changed"}`); n != 2 {
		t.Errorf("%v sessions are counted: %v", n, err)
	}
}
