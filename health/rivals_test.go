package health

import (
	"context"
	"strings"
	"testing"

	"github.com/pgtether/pgtether/decision"
	"github.com/pgtether/pgtether/internal/lab"
)

// rivalsOf renders what a round says about other processes.
func rivalsOf(o decision.Observation) string {
	if !o.Rivals.Known {
		return "unknown"
	}
	return "[" + strings.Join(o.Rivals.V, " ") + "]"
}

// locksOf counts the advisory locks on a node.
func locksOf(ctx context.Context, t *testing.T, n *lab.Node) string {
	t.Helper()
	return one(ctx, t, n, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
}

// TestTwoProcessesSeeEachOther: a second pgtether that was started by mistake shows on every node, and on the primary by the lock.
func TestTwoProcessesSeeEachOther(t *testing.T) {
	ctx, l := startLab(t, lab.Options{})
	a, b := l.Node(lab.RegionA), l.Node(lab.RegionB)
	ta, tb := labTarget(l, lab.RegionA), labTarget(l, lab.RegionB)
	other := func(target Target) Target { target.Instance = "the-other"; return target }
	first, second := newProber(t), newProber(t)

	t.Run("alone: no rival, and the lock is taken once however many rounds there are", func(t *testing.T) {
		for range 3 {
			o := first.Probe(ctx, ta)
			same(t, "rivals", rivalsOf(o), "[]")
			same(t, "lock", o.AdvisoryLock, decision.Some(true))
		}
		same(t, "locks", locksOf(ctx, t, a), "1")
		must(t, a.Exec(ctx, "postgres", "SELECT 1/(count(*) = 1)::int FROM pg_locks, pg_control_system() WHERE locktype = 'advisory' "+
			"AND (classid::bigint << 32 | objid::bigint) = system_identifier # x'7067746574686572'::bit(64)::bigint"))
	})
	t.Run("the second sees the first, and that the lock is not its own", func(t *testing.T) {
		o := second.Probe(ctx, other(ta))
		same(t, "rivals", rivalsOf(o), "[test]")
		same(t, "lock", o.AdvisoryLock, decision.Some(false))
		o = first.Probe(ctx, ta)
		same(t, "rivals", rivalsOf(o), "[the-other]")
		same(t, "lock", o.AdvisoryLock, decision.Some(true))
	})
	t.Run("on a standby they see each other, and nobody takes a lock", func(t *testing.T) {
		one, two := newProber(t), newProber(t)
		same(t, "lock", one.Probe(ctx, tb).AdvisoryLock, decision.Opt[bool]{})
		o := two.Probe(ctx, other(tb))
		same(t, "rivals", rivalsOf(o), "[test]")
		same(t, "lock", o.AdvisoryLock, decision.Opt[bool]{})
		same(t, "rivals", rivalsOf(one.Probe(ctx, tb)), "[the-other]")
		same(t, "locks", locksOf(ctx, t, b), "0")
	})
	t.Run("a command that takes a look is nobody's rival and takes no lock", func(t *testing.T) {
		look := other(ta)
		look.Passing = true
		p := newProber(t)
		p.Probe(ctx, look)
		o := p.Probe(ctx, look) // its session is there
		same(t, "lock", o.AdvisoryLock, decision.Opt[bool]{})
		same(t, "rivals of the look", rivalsOf(o), "[test the-other]")
		same(t, "name", one(ctx, t, a, "SELECT string_agg(DISTINCT application_name, ' ' ORDER BY application_name) FROM pg_stat_activity WHERE usename = 'pgtether'"),
			"pgtether-check/the-other pgtether/test pgtether/the-other")
		same(t, "rivals", rivalsOf(first.Probe(ctx, ta)), "[the-other]")
	})
	t.Run("the server misses within seconds a process whose machine is gone", func(t *testing.T) {
		first.persistent.guard.begin(deadlineOf(ctx))
		set, err := first.persistent.one(ctx, "SELECT string_agg(name || ' ' || setting, ', ' ORDER BY name) AS together FROM pg_settings "+
			"WHERE name IN ('tcp_keepalives_idle', 'tcp_keepalives_interval', 'tcp_keepalives_count', 'tcp_user_timeout')")
		must(t, err)
		same(t, "settings", set["together"], "tcp_keepalives_count 3, tcp_keepalives_idle 5, tcp_keepalives_interval 2, tcp_user_timeout 10000")
	})
	t.Run("when the first is gone the second gets the lock on the session that it has", func(t *testing.T) {
		first.Close()
		// A session that ends gives up its locks before it leaves pg_stat_activity.
		probeUntil(ctx, t, second, other(ta), "the lock and no rival", func(o decision.Observation) bool {
			return o.AdvisoryLock == decision.Some(true) && rivalsOf(o) == "[]"
		})
		second.Probe(ctx, other(ta))
		same(t, "locks", locksOf(ctx, t, a), "1")
	})
	t.Run("an earlier session of its own that the server still has is no rival", func(t *testing.T) {
		p := newProber(t)
		o := p.Probe(ctx, other(ta))
		same(t, "rivals", rivalsOf(o), "[]")
		same(t, "lock", o.AdvisoryLock, decision.Opt[bool]{})
	})
	t.Run("a session of another role with such a name is no rival", func(t *testing.T) {
		c := connectAs(ctx, t, a.AppDSN(), "pgtether/impostor")
		defer c.Close(ctx)
		same(t, "rivals", rivalsOf(second.Probe(ctx, other(ta))), "[]")
	})
	t.Run("a promoted standby's kept session takes the lock there", func(t *testing.T) {
		p := newProber(t)
		same(t, "lock", p.Probe(ctx, tb).AdvisoryLock, decision.Opt[bool]{})
		must(t, b.Promote(ctx))
		same(t, "lock", p.Probe(ctx, tb).AdvisoryLock, decision.Some(true))
	})
}
