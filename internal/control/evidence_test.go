package control

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgtether/pgtether/decision"
)

func onB(v View) bool { return open(v) && v.Status.Writer == decision.Some("region-b") }

func TestAFailoverLeavesABundleThatReplaysByteForByte(t *testing.T) {
	dir := t.TempDir()
	p := startPair(t, dir, decision.ModeAuto)
	p.ready()
	var recording bool
	if err := p.loop.ask(t.Context(), func() { recording = p.loop.recorder.on }); err != nil {
		t.Fatal(err)
	}
	if names := bundles(t, dir); len(names) != 0 || recording {
		t.Fatalf("bundles %q, recording %v while the writer is open", names, recording)
	}
	p.set(func() { p.dead = true })
	p.await("the standby is the writer", p.look, onB)
	p.stop()
	b, r := onlyBundle(t, dir)
	if b.Outcome != OutcomeOpened || b.Epoch != 2 || b.StateID != p.store.ID() || b.Version != "v0.0.0-test" {
		t.Errorf("%s of epoch %d under %s by %s", b.Outcome, b.Epoch, b.StateID, b.Version)
	}
	if got, want := moments(b), []Moment{MomentPromotable, MomentNoReturn, MomentOpened}; !slices.Equal(got, want) {
		t.Errorf("moments %q, want %q", got, want)
	}
	for _, kind := range []string{"transition", "cut", "promotion_requested", "opened"} {
		if !slices.Contains(kinds(b.Events), kind) {
			t.Errorf("no event %q among %q", kind, kinds(b.Events))
		}
	}
	if first := b.Events[0]; first.StateFrom != "STANDBY_READY" || first.StateTo != "PRIMARY_FAILED" {
		t.Errorf("the first event is %+v, not the one that closed the writer", first)
	}
	var said []decision.NoteKind
	for _, s := range r.Story {
		if s.Note != nil {
			said = append(said, s.Note.Kind)
		}
	}
	if !slices.Contains(said, decision.NotePromotionRequested) || !slices.Contains(said, decision.NoteOpened) {
		t.Errorf("the story tells %q", said)
	}
}

func TestTheBundleOfADecidedPromotionIsOnDiskBeforeThePromotionEnds(t *testing.T) {
	dir := t.TempDir()
	c := pairConfig(decision.ModeAuto)
	c.PromoteTimeout = 5 * time.Second // the bundle is read meanwhile
	p := startPairWith(t, dir, c)
	p.ready()
	p.set(func() { p.dead, p.refuses = true, errors.New("it refuses") })
	p.await("a bundle is there", p.look, func(View) bool { return len(bundles(t, dir)) == 1 && !strings.HasSuffix(bundles(t, dir)[0], ".new") })
	b, _ := onlyBundle(t, dir)
	if b.Outcome != OutcomeUnderWay || b.Epoch != 2 {
		t.Errorf("%s of epoch %d", b.Outcome, b.Epoch)
	}
	if got, want := moments(b), []Moment{MomentPromotable, MomentNoReturn}; !slices.Equal(got, want) {
		t.Errorf("moments %q, want %q", got, want)
	}
	p.await("the promotion is halted", p.look, func(v View) bool { return v.Status.Step == decision.Halted })
	p.stop()
	b, _ = onlyBundle(t, dir)
	if b.Outcome != OutcomeHalted || b.Decisions[len(b.Decisions)-1].Moment != MomentHalted {
		t.Errorf("%s, moments %q", b.Outcome, moments(b))
	}
}

func TestADiskThatTakesNoEvidenceDoesNotDelayAPromotion(t *testing.T) {
	dir := t.TempDir()
	hung := make(chan struct{})
	p := startPair(t, dir, decision.ModeAuto, func(p *pair) { p.evidence = hung })
	p.ready()
	p.set(func() { p.dead = true })
	p.await("the standby is the writer", p.look, onB)
	p.set(func() {
		t.Logf("pg_promote was sent %s after the record was on disk", p.promotes[0].Sub(p.noReturn).Round(time.Microsecond))
		if d := p.promotes[0].Sub(p.noReturn); d > 5*time.Second {
			t.Errorf("pg_promote was sent %s after the record was on disk", d)
		}
	})
	close(hung)
	p.stop()
	if b, _ := onlyBundle(t, dir); b.Outcome != OutcomeOpened {
		t.Errorf("outcome %s", b.Outcome)
	}
}

func TestEvidenceThatCannotBeWrittenIsLoggedAndStopsNoFailover(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, evidenceDir), nil, 0o600); err != nil { // a file where the folder should be
		t.Fatal(err)
	}
	p := startPair(t, dir, decision.ModeAuto)
	p.ready()
	p.set(func() { p.dead = true })
	p.await("the standby is the writer", p.look, onB)
	p.stop()
	if !strings.Contains(p.log.String(), "evidence is not on disk") {
		t.Error("nobody is told that the evidence is missing")
	}
}

func TestAPromotionByOthersIsEvidenceTooAndAWriterThatComesBackIsNone(t *testing.T) {
	dir := t.TempDir()
	p := startPair(t, dir, decision.ModeObserve)
	p.ready()
	p.set(func() { p.dead = true })
	p.await("logins are held", p.look, func(v View) bool { return !open(v) })
	p.set(func() { p.dead = false })
	p.await("the writer is back", p.look, open)
	if names := bundles(t, dir); len(names) != 0 {
		t.Fatalf("nothing was changed, and there is %q", names)
	}
	p.set(func() { p.dead, p.promoted = true, true })
	p.await("the promoted node is the writer", p.look, onB)
	p.stop()
	b, _ := onlyBundle(t, dir)
	if b.Outcome != OutcomeOpened || b.Decisions[len(b.Decisions)-1].Moment != MomentOpened {
		t.Errorf("%s, moments %q", b.Outcome, moments(b))
	}
}

func TestARecordThatGrowsTooLongBeginsAgainAndStillReplays(t *testing.T) {
	dir := t.TempDir()
	p := startPair(t, dir, decision.ModeAuto, func(p *pair) { p.loop.recorder.maxSteps = 12 })
	p.ready()
	p.set(func() { p.dead = true })
	p.await("the standby is the writer", p.look, onB)
	p.stop()
	var seen []Moment
	for _, name := range bundles(t, dir) {
		file, err := os.ReadFile(filepath.Join(dir, evidenceDir, name))
		if err != nil {
			t.Fatal(err)
		}
		b, err := ReadBundle(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Replay(renderPlainly); err != nil || len(b.Steps) > 12 {
			t.Errorf("%s of %d steps: %v", name, len(b.Steps), err)
		}
		seen = append(seen, moments(b)...)
	}
	for _, m := range []Moment{MomentPromotable, MomentNoReturn, MomentOpened} {
		if !slices.Contains(seen, m) {
			t.Errorf("moment %q is lost: %q", m, seen)
		}
	}
}

func TestAProcessThatEndsDuringAChangeLeavesWhatItRecorded(t *testing.T) {
	dir := t.TempDir()
	p := startPair(t, dir, decision.ModeAuto)
	p.ready()
	p.set(func() { p.dead, p.refuses = true, errors.New("it refuses") })
	p.await("the promotion is asked for", p.look, func(v View) bool { return v.Status.Step == decision.StepPromoting })
	p.stop()
	if b, _ := onlyBundle(t, dir); b.Outcome != OutcomeUnderWay {
		t.Errorf("outcome %s", b.Outcome)
	}
	q := startPair(t, dir, decision.ModeAuto, func(q *pair) { q.dead = true })
	q.await("the promotion is completed by the next run", q.look, onB)
	q.stop()
	names := bundles(t, dir)
	if len(names) != 2 {
		t.Fatalf("bundles %q, want one of each run", names)
	}
	file, err := os.ReadFile(filepath.Join(dir, evidenceDir, names[1]))
	if err != nil {
		t.Fatal(err)
	}
	b, err := ReadBundle(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Replay(renderPlainly); err != nil || b.Outcome != OutcomeOpened || b.Epoch != 2 {
		t.Errorf("%s of epoch %d: %v", b.Outcome, b.Epoch, err)
	}
}

func TestOnlyTheNewestBundlesAreKeptAndForeignFilesAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	p := startPair(t, dir, decision.ModeObserve)
	p.stop()
	f := newEvidenceFiles(dir, p.loop.cfg.Log)
	foreign := filepath.Join(dir, evidenceDir, "notes-of-the-operator.json")
	for i := range keepBundles + 7 {
		name := time.Date(2026, 3, 1, 8, 0, i, 0, time.UTC).Format(bundleTime) + "-epoch-1.json"
		if err := f.write(bundleJob{name, func() ([]byte, error) { return []byte("{}"), nil }}); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if err := errors.Join(os.WriteFile(foreign, nil, 0o600), os.WriteFile(filepath.Join(dir, evidenceDir, name+".new"), nil, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
	}
	names := bundles(t, dir)
	if len(names) != keepBundles+1 || names[0] != "20260301T080007.000Z-epoch-1.json" || names[keepBundles] != filepath.Base(foreign) {
		t.Fatalf("%d files, first %s, last %s", len(names), names[0], names[len(names)-1])
	}
}

func TestBundlesThatWaitForASlowDiskAreFewAndTheNewest(t *testing.T) {
	p := startPair(t, t.TempDir(), decision.ModeObserve)
	p.stop()
	dir := t.TempDir()
	f := newEvidenceFiles(dir, p.loop.cfg.Log)
	for _, i := range []int{1, 2, 2, 2, 3, 4, 5, 6} {
		f.put(fmt.Sprintf("20260301T080000.00%dZ-epoch-1.json", i), func() ([]byte, error) { return []byte("{}"), nil })
	}
	stop := make(chan struct{})
	close(stop)
	f.run(stop)
	if names := bundles(t, dir); len(names) != maxWaiting || !strings.Contains(names[0], "003Z") {
		t.Fatalf("written: %q", names)
	}
	if n := strings.Count(p.log.String(), "the disk is too slow"); n != 2 {
		t.Errorf("%d bundles are said to be lost, want 2", n)
	}
}
