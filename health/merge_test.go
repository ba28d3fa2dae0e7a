package health

import (
	"testing"
	"time"

	"github.com/pgtether/pgtether/decision"
)

// roundOf is a round in which the ways gave these outcomes; an absent way was not tried.
func roundOf(p *Prober, outcomes map[way]outcome) *round {
	r := &round{prober: p, target: fakeTarget("x", time.Second)}
	for w, out := range outcomes {
		r.started[w], r.done[w], r.outcomes[w] = true, true, out
	}
	return r
}

func answered(role decision.Role, change func(*decision.Observation)) outcome {
	f := facts{sign: sign{role: role, started: decision.Some("1")}}
	f.observation = decision.Observation{Role: role, SystemID: decision.Some("7"), TransactionReadOnly: decision.Some(role == decision.RoleStandby)}
	if role == decision.RolePrimary {
		f.observation.Timeline = decision.Some(uint32(2))
	}
	if change != nil {
		change(&f.observation)
	}
	return outcome{attempt: decision.Attempt{Evidence: decision.Answers}, facts: f}
}

func identified(role decision.Role, systemID string, timeline uint32) outcome {
	return outcome{attempt: decision.Attempt{Evidence: decision.Answers}, identity: identity{
		systemID: systemID, timeline: timeline, role: role, position: decision.Some(decision.LSN(0x3000000)),
		history: decision.Some([]decision.TimelineSwitch{{Timeline: 1, At: 0x2000000}}),
	}}
}

var alive = outcome{attempt: decision.Attempt{Evidence: decision.Alive, SQLState: "53300"}}

func TestTheFreshConnectionsWordCounts(t *testing.T) {
	p := NewProber(clock())
	o := roundOf(p, map[way]outcome{
		persistent: answered(decision.RoleStandby, nil),
		fresh:      answered(decision.RolePrimary, nil), // promoted between the two
	}).observation()
	same(t, "role", o.Role, decision.RolePrimary)
	same(t, "read only", o.TransactionReadOnly, decision.Some(false))
	o = roundOf(p, map[way]outcome{persistent: answered(decision.RolePrimary, nil), fresh: alive}).observation()
	same(t, "role", o.Role, decision.RolePrimary)
	same(t, "read only", o.TransactionReadOnly, decision.Opt[bool]{})
}

func TestIdentityNeverContradictsTheSQLOfItsRound(t *testing.T) {
	for _, c := range []struct {
		name     string
		sql, id  outcome
		timeline decision.Opt[uint32]
		history  bool
	}{
		{"they agree", answered(decision.RolePrimary, nil), identified(decision.RolePrimary, "7", 2), decision.Some(uint32(2)), true},
		{"an old server does not tell its role", answered(decision.RolePrimary, nil), identified(decision.RoleUnknown, "7", 2), decision.Some(uint32(2)), true},
		{"another timeline", answered(decision.RolePrimary, nil), identified(decision.RolePrimary, "7", 3), decision.Some(uint32(2)), false},
		{"another system", answered(decision.RolePrimary, nil), identified(decision.RolePrimary, "8", 2), decision.Some(uint32(2)), false},
		{"a standby that was promoted in between", answered(decision.RoleStandby, nil), identified(decision.RolePrimary, "7", 2), decision.Opt[uint32]{}, false},
		{"a standby", answered(decision.RoleStandby, nil), identified(decision.RoleStandby, "7", 2), decision.Some(uint32(2)), true},
		{"a standby of another system", answered(decision.RoleStandby, nil), identified(decision.RoleStandby, "8", 2), decision.Opt[uint32]{}, false},
	} {
		o := roundOf(NewProber(clock()), map[way]outcome{fresh: c.sql, replication: c.id}).observation()
		if o.Timeline != c.timeline || o.History.Known != c.history || o.SystemID.V != "7" || o.Role != c.sql.facts.observation.Role {
			t.Errorf("%s: timeline %v, history %v, system %v, role %s", c.name, o.Timeline, o.History, o.SystemID, o.Role)
		}
	}
}

func TestIdentityAloneTellsTheRoleAndThePosition(t *testing.T) {
	o := roundOf(NewProber(clock()), map[way]outcome{persistent: alive, fresh: alive, replication: identified(decision.RolePrimary, "7", 2)}).observation()
	same(t, "role", o.Role, decision.RolePrimary)
	same(t, "flushed", o.FlushLSN, decision.Some(decision.LSN(0x3000000)))
	same(t, "received", o.ReceivedLSN, decision.Opt[decision.LSN]{})
	same(t, "timeline", o.Timeline, decision.Some(uint32(2)))
	o = roundOf(NewProber(clock()), map[way]outcome{fresh: alive, replication: identified(decision.RoleStandby, "7", 2)}).observation()
	same(t, "received", o.ReceivedLSN, decision.Some(decision.LSN(0x3000000)))
	same(t, "flushed", o.FlushLSN, decision.Opt[decision.LSN]{})
	o = roundOf(NewProber(clock()), map[way]outcome{fresh: alive, replication: identified(decision.RoleUnknown, "7", 2)}).observation()
	if o.Role != decision.RoleUnknown || o.FlushLSN.Known || o.ReceivedLSN.Known || !o.SystemID.Known {
		t.Errorf("a position without a role: %+v", o)
	}
}

func TestWhatIsRememberedHoldsForTheSameStartAndTimelineAlone(t *testing.T) {
	p := NewProber(clock())
	roundOf(p, map[way]outcome{fresh: answered(decision.RolePrimary, nil), replication: identified(decision.RolePrimary, "7", 2)}).observation()
	o := roundOf(p, map[way]outcome{fresh: answered(decision.RolePrimary, nil)}).observation()
	same(t, "history is remembered", o.History.Known, true)
	restarted := answered(decision.RolePrimary, nil)
	restarted.facts.started = decision.Some("2")
	same(t, "after a restart", roundOf(p, map[way]outcome{fresh: restarted}).observation().History.Known, false)
	next := answered(decision.RolePrimary, func(o *decision.Observation) { o.Timeline = decision.Some(uint32(3)) })
	same(t, "on another timeline", roundOf(p, map[way]outcome{fresh: next}).observation().History.Known, false)

	streaming := func(status string, timeline uint32) outcome {
		return answered(decision.RoleStandby, func(o *decision.Observation) {
			o.Receiver = decision.Some(decision.Receiver{Running: true, Status: status, Timeline: decision.Some(timeline)})
		})
	}
	roundOf(p, map[way]outcome{fresh: streaming("streaming", 2), replication: identified(decision.RoleStandby, "7", 2)}).observation()
	same(t, "streaming the same timeline", roundOf(p, map[way]outcome{fresh: streaming("streaming", 2)}).observation().Timeline, decision.Some(uint32(2)))
	same(t, "waiting", roundOf(p, map[way]outcome{fresh: streaming("waiting", 2)}).observation().Timeline.Known, false)
	same(t, "streaming another", roundOf(p, map[way]outcome{fresh: streaming("streaming", 3)}).observation().Timeline.Known, false)
	same(t, "no receiver", roundOf(p, map[way]outcome{fresh: answered(decision.RoleStandby, nil)}).observation().Timeline.Known, false)
}

func TestAServerThatRefusesReplicationIsNotAskedEverySecond(t *testing.T) {
	var at decision.Instant
	for name, c := range map[string]struct {
		out  outcome
		wait bool
	}{
		"no line in pg_hba.conf":        {outcome{attempt: decision.Attempt{Evidence: decision.Alive, SQLState: "28000"}}, true},
		"no REPLICATION":                {outcome{attempt: decision.Attempt{Evidence: decision.Alive, SQLState: "42501"}}, true},
		"no free slot for a walsender":  {outcome{attempt: decision.Attempt{Evidence: decision.Alive, SQLState: "53300"}}, false},
		"silent":                        {outcome{attempt: decision.Attempt{Evidence: decision.Silent}}, false},
		"another role than the SQL saw": {identified(decision.RoleStandby, "7", 1), false},
	} {
		p := NewProber(func() decision.Instant { return at })
		roundOf(p, map[way]outcome{fresh: answered(decision.RolePrimary, nil), replication: c.out}).observation()
		same(t, name+": waits", p.deniedUntil == at.Add(deniedPause), c.wait)
		at = at.Add(time.Hour)
	}
}

// withoutHistory is an identity whose history the server does not have, or, not gone, could not tell this time.
func withoutHistory(role decision.Role, timeline uint32, gone bool) outcome {
	out := identified(role, "7", timeline)
	out.identity.history, out.identity.historyGone = decision.Opt[[]decision.TimelineSwitch]{}, gone
	return out
}

func TestAHistoryThatTheServerLostIsNotAskedForEverySecond(t *testing.T) {
	var at decision.Instant
	p := NewProber(func() decision.Instant { return at })
	writer := answered(decision.RolePrimary, nil)
	asks := func() bool { return p.wanting || roundOf(p, nil).needsIdentity(wayResult{fresh, writer}) }

	roundOf(p, map[way]outcome{persistent: writer, fresh: writer, replication: withoutHistory(decision.RolePrimary, 2, false)}).observation()
	same(t, "asks again when the answer did not come", asks(), true)
	roundOf(p, map[way]outcome{persistent: writer, fresh: writer, replication: withoutHistory(decision.RolePrimary, 2, true)}).observation()
	same(t, "asks again when the file is gone", asks(), false)
	at = at.Add(deniedPause)
	same(t, "asks again after the pause", asks(), true)
}

// A promotion between the ways of one round makes them contradict each other. The next round must ask: until the history is known, nobody
// may write.
func TestAPromotionIsIdentifiedInTheNextRound(t *testing.T) {
	for name, before := range map[string]outcome{
		"the connection still saw the standby":    identified(decision.RoleStandby, "7", 1),
		"the standby's own history was lost":      withoutHistory(decision.RoleStandby, 1, true),
		"the history file was not there just yet": withoutHistory(decision.RolePrimary, 2, false),
	} {
		p := NewProber(func() decision.Instant { return 0 })
		promoted := answered(decision.RolePrimary, nil)
		o := roundOf(p, map[way]outcome{persistent: promoted, fresh: promoted, replication: before}).observation()
		same(t, name+": history", o.History.Known, false)
		same(t, name+": pause", p.deniedUntil, decision.Instant(0))
		same(t, name+": asks", p.wanting && roundOf(p, nil).needsIdentity(wayResult{fresh, promoted}), true)
	}
	p := NewProber(func() decision.Instant { return 0 })
	standby := answered(decision.RoleStandby, nil)
	roundOf(p, map[way]outcome{fresh: standby, replication: withoutHistory(decision.RoleStandby, 5, true)}).observation()
	promoted := answered(decision.RolePrimary, func(o *decision.Observation) { o.Timeline = decision.Some(uint32(6)) })
	same(t, "a lost history of the old timeline: asks", roundOf(p, nil).needsIdentity(wayResult{fresh, promoted}), true)
}

func TestReplicationIsNeededWhileTheIdentityIsNotKnown(t *testing.T) {
	p := NewProber(clock())
	for name, c := range map[string]struct {
		res  wayResult
		want bool
	}{
		"a primary on timeline 1": {wayResult{fresh, answered(decision.RolePrimary, func(o *decision.Observation) { o.Timeline = decision.Some(uint32(1)) })}, false},
		"a primary on timeline 2": {wayResult{fresh, answered(decision.RolePrimary, nil)}, true},
		"a standby":               {wayResult{persistent, answered(decision.RoleStandby, nil)}, true},
		"too many connections":    {wayResult{persistent, alive}, true},
		"refused":                 {wayResult{fresh, outcome{attempt: decision.Attempt{Evidence: decision.Refused}}}, false},
		"its own answer":          {wayResult{replication, alive}, false},
	} {
		same(t, name, roundOf(p, nil).needsIdentity(c.res), c.want)
	}
}
