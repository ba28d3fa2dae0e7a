package failover

import (
	"strings"
	"testing"
	"time"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/test/rig"
)

// explained fails unless the criterion does not pass and says why in words that hold each of the given ones.
func (w *world) explained(criterion string, words ...string) {
	w.Helper()
	c := w.decision().Criterion(criterion)
	if c.Verdict == "pass" || c.Explanation == "" {
		w.Errorf("%s is %q: %q", criterion, c.Verdict, c.Explanation)
	}
	for _, word := range words {
		if !strings.Contains(c.Explanation, word) {
			w.Errorf("%s does not speak of %q: %q", criterion, word, c.Explanation)
		}
	}
}

func TestTwoPrimariesBeforeTheFirstEpochAreBothRefused(t *testing.T) {
	t.Parallel()
	w := newPair(t, lab.Options{})
	w.must(w.b.Promote(w.ctx))
	w.start()
	held := func(s rig.Status) bool { return s.Writes == "held" && s.Epoch == nil }
	w.await("both have been seen", func(s rig.Status) bool {
		return len(s.Nodes) == 2 && s.Nodes[0].Role == "primary" && s.Nodes[1].Role == "primary"
	})
	w.stays("neither is served", 4*time.Second, held)
	w.explained("no_split_brain", lab.RegionA, lab.RegionB)

	// One of the two goes: what is left is the one consistent primary.
	w.must(w.a.Stop(w.ctx, lab.Fast))
	w.awaitOpen(lab.RegionB)
}

func TestTheOldPrimaryOfALowerTimelineIsKeptOutAndTheWriterServedOn(t *testing.T) {
	t.Parallel()
	w := newPair(t, lab.Options{})
	w.startOpen()
	w.must(w.a.Kill9())
	w.must(w.b.Promote(w.ctx))
	w.awaitOpen(lab.RegionB)
	c := w.mustLogin()
	w.exec(c, "CREATE TABLE written_on_b (k int)")
	w.must(w.a.Start(w.ctx))
	s := w.await("the old primary is kept out", func(s rig.Status) bool { return s.Quarantine(lab.RegionA) != "" })
	if !strings.Contains(s.Quarantine(lab.RegionA), "timeline 1") {
		t.Errorf("the reason does not name the timeline: %q", s.Quarantine(lab.RegionA))
	}
	w.explained("no_split_brain", lab.RegionA)
	w.stays("the writer is served on", 2*time.Second, func(s rig.Status) bool { return s.Writes == "open" && *s.Writer == lab.RegionB && *s.Epoch == 2 })
	w.exec(c, "INSERT INTO written_on_b VALUES (1)") // the session was not touched
	if n, err := w.a.QueryText(w.ctx, w.lab.AppDatabase, "SELECT count(*) FROM pg_class WHERE relname = 'written_on_b'"); err != nil || n != "0" {
		t.Errorf("the old primary has %s such tables (%v)", n, err)
	}
}

func TestADescendantThatOthersPromotedWhileTheWriterLivesCutsItAndIsAdoptedOnceItIsGone(t *testing.T) {
	t.Parallel()
	w := newPair(t, lab.Options{})
	w.startOpen()
	c := w.mustLogin()
	w.exec(c, "CREATE TABLE t (k int)")
	w.must(w.b.Promote(w.ctx))
	w.await("the writer is cut", func(s rig.Status) bool { return s.Writes == "held" })
	if _, err := c.Exec(w.ctx, "INSERT INTO t VALUES (1)"); !strings.HasPrefix(sqlState(err), "08") {
		t.Errorf("a session of the cut epoch got %s, want class 08", sqlState(err))
	}
	w.stays("neither is served while both say they are primary", 3*time.Second, func(s rig.Status) bool { return s.Writes == "held" })
	w.explained("no_split_brain", lab.RegionB)
	w.must(w.a.Stop(w.ctx, lab.Fast))
	if s := w.awaitOpen(lab.RegionB); *s.Epoch < 2 {
		t.Errorf("epoch %d", *s.Epoch)
	}
}

func TestACopyOfTheWriterOnItsTimelineIsNotAWriter(t *testing.T) {
	t.Parallel()
	w := newPair(t, lab.Options{})
	address := w.b.Addr()
	w.startOpen()
	c := w.mustLogin()
	w.must(w.b.Stop(w.ctx, lab.Fast))
	_, err := w.lab.AddCopy(w.ctx, "copy", address, w.a)
	w.must(err)
	w.await("the copy is kept out", func(s rig.Status) bool { return s.Quarantine(lab.RegionB) != "" })
	w.stays("the writer is served on", 2*time.Second, func(s rig.Status) bool { return s.Writes == "open" && *s.Writer == lab.RegionA && *s.Epoch == 1 })
	w.exec(c, "SELECT 1")
	w.explained("no_split_brain", lab.RegionB)
}

func TestAServerOfAnotherClusterIsKeptOut(t *testing.T) {
	t.Parallel()
	w := newPair(t, lab.Options{})
	address := w.b.Addr()
	w.startOpen()
	w.must(w.b.Stop(w.ctx, lab.Fast))
	_, err := w.lab.AddCluster(w.ctx, "stranger", address)
	w.must(err)
	s := w.await("the stranger is kept out", func(s rig.Status) bool { return s.Quarantine(lab.RegionB) != "" })
	if !strings.Contains(s.Quarantine(lab.RegionB), "system identifier") {
		t.Errorf("the reason does not name the system identifier: %q", s.Quarantine(lab.RegionB))
	}
	// The writer goes too: a primary of another cluster is no substitute.
	w.must(w.a.Stop(w.ctx, lab.Fast))
	w.await("logins are held", func(s rig.Status) bool { return s.Writes == "held" })
	w.stays("the stranger is not opened", 4*time.Second, func(s rig.Status) bool { return s.Writes == "held" })
}

func TestTwoAddressesOfOneServerAreOneServer(t *testing.T) {
	t.Parallel()
	w := newPair(t, lab.Options{Single: true})
	relay, err := w.a.Relay()
	w.must(err)
	w.nodes = []rig.Node{{Name: lab.RegionA, Addr: w.a.Addr()}, {Name: lab.RegionB, Addr: relay.Addr()}}
	w.start()
	w.awaitOpen(lab.RegionA)
	s := w.await("the second address is kept out", func(s rig.Status) bool { return s.Quarantine(lab.RegionB) != "" })
	if !strings.Contains(s.Quarantine(lab.RegionB), lab.RegionA) {
		t.Errorf("the reason does not name the other one: %q", s.Quarantine(lab.RegionB))
	}
}

func TestAWriterThatWasDemotedInPlaceIsCutAndNotReplacedByItself(t *testing.T) {
	t.Parallel()
	w := newPair(t, lab.Options{})
	w.startOpen()
	c := w.mustLogin()
	w.must(w.a.Stop(w.ctx, lab.Fast))
	w.must(w.b.Promote(w.ctx))
	w.must(w.a.Demote(w.ctx, w.b))
	w.awaitOpen(lab.RegionB)
	if _, err := c.Exec(w.ctx, "SELECT 1"); err == nil {
		t.Error("a session lives on a node that is a standby now")
	}
	again := w.mustLogin()
	if node := w.serverOf(again); node != lab.RegionB {
		t.Errorf("a new session is on %s", node)
	}
	w.exec(again, "CREATE TABLE t (k int)")
}
