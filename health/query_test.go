package health

import (
	"errors"
	"testing"
	"time"

	"github.com/pgtether/pgtether/decision"
	"github.com/pgtether/pgtether/internal/lab"
)

// A round is one transaction to the server. Where a site has revoked something it is as many as there are statements, and what they tell is the same.
func TestAStatementThatFailsSparesTheOthers(t *testing.T) {
	denied := errors.New("permission denied")
	for _, c := range []struct {
		name          string
		fails         []int
		first, second int64 // transactions on the kept connection
	}{
		{"none", nil, 1, 1},
		{"the first but one", []int{askSystem}, 1 + statementCount - 2, statementCount},
		{"one in the middle", []int{askPrivileges}, 1 + statementCount - askPrivileges - 1, statementCount},
		{"the last", []int{askStartup}, 1, statementCount},
		{"two", []int{askSettings, askRivals}, 1 + statementCount - askSettings - 1, statementCount},
	} {
		t.Run(c.name, func(t *testing.T) {
			answers := whole()
			for _, i := range c.fails {
				answers[i].err = denied
			}
			f := newFake(t, readStartup, login(), always(answers))
			p := newProber(t)
			target := fakeTarget(f.addr, 10*time.Second)
			ctx, r := t.Context(), &round{prober: p, target: target}
			for _, want := range []int64{c.first, c.second, c.second} {
				f.syncs.Store(0)
				out := r.askPersistent(ctx)
				same(t, "evidence", out.attempt.Evidence, decision.Answers)
				same(t, "transactions", f.syncs.Load(), want)
				o := out.facts.observation
				known := map[int]bool{askSystem: o.SystemID.Known, askSettings: o.Settings.MaxConnections.Known, askReceiver: o.Receiver.Known,
					askSenders: o.Senders.Known, askPrivileges: o.Settings.CanPromote.Known, askRivals: o.Rivals.Known, askStartup: o.ReplayWaits.Known, askCore: o.CurrentLSN.Known}
				for _, i := range c.fails {
					same(t, "known though it failed", known[i], false)
					delete(known, i)
				}
				for i, ok := range known {
					same(t, statements(15)[i]+": known", ok, true)
				}
			}
		})
	}
}

// The same with a server: what it has prepared, and under which name, is what the session believes.
func TestARoundOutlivesWhatASiteRevokes(t *testing.T) {
	ctx, l := startLab(t, lab.Options{})
	a := l.Node(lab.RegionA)
	p := newProber(t)
	target := labTarget(l, lab.RegionA)
	whole := func() decision.Observation {
		t.Helper()
		o := p.Probe(ctx, target)
		answersEverywhere(t, o)
		same(t, "senders known", o.Senders.Known, true)
		same(t, "rivals known", o.Rivals.Known, true)
		everySetting(t, o.Settings)
		return o
	}
	for range 2 {
		whole()
	}
	session := p.persistent
	same(t, "each on its own", session.severally, false)
	must(t, a.Exec(ctx, "postgres", "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC"))
	for range 2 {
		whole()
	}
	same(t, "each on its own", session.severally, true)
	must(t, a.Exec(ctx, "postgres", "GRANT EXECUTE ON FUNCTION pg_control_system() TO PUBLIC"))
	for range 2 {
		same(t, "system identifier known", whole().SystemID.Known, true)
	}
	same(t, "it is the same session", p.persistent == session, true)
}
