package health

import (
	"context"
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgtether/pgtether/decision"
	"github.com/pgtether/pgtether/internal/lab"
)

// always serves round after round.
func always(answers []answer) step {
	round := serve(answers)
	return func(c *fakeConn) error {
		for {
			if err := round(c); err != nil {
				return err
			}
		}
	}
}

// A login costs a server more than all that a round asks: while nothing has changed, one in five seconds is enough.
func TestAGlanceLogsInEveryFiveSeconds(t *testing.T) {
	f := newFake(t, readStartup, login(), always(whole()))
	var now atomic.Int64
	p := NewProber(func() decision.Instant { return decision.Instant(now.Load()) })
	defer p.Close()
	target := fakeTarget(f.addr, 10*time.Second)
	answersEverywhere(t, p.Probe(t.Context(), target))
	f.dials.Store(0)
	for second, dials := range []int64{0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2} {
		now.Store(int64(time.Duration(second) * time.Second))
		o := p.Glance(t.Context(), target)
		answersEverywhere(t, o)
		same(t, "role", o.Role, decision.RolePrimary)
		same(t, "read only", o.TransactionReadOnly, decision.Some(false))
		if got := f.dials.Load(); got != dials {
			t.Errorf("after %d s: %d logins, want %d", second, got, dials)
		}
	}
	p.Probe(t.Context(), target)
	same(t, "logins after a Probe", f.dials.Load(), 3)
}

// whole are the answers of a primary on timeline 1: nothing about it is left to be asked.
func whole() []answer {
	answers := told()
	answers[askCore].rows = []row{{"version_num": "150012", "in_recovery": "f", "transaction_read_only": "off",
		"started": "1700000000000000", "started_ago": "5000000", "current_lsn": "0/3000060", "flush_lsn": "0/3000060", "wal_file": "000000010000000000000003"}}
	answers[askSettings].rows = append(answers[askSettings].rows, row{"name": "default_transaction_read_only", "setting": "off"}, row{"name": "synchronous_commit", "setting": "on"},
		row{"name": loadedName, "setting": "1700000000000000"})
	return answers
}

// set changes a parameter in the answers, as a reload does.
func set(answers []answer, name, value string) {
	show(answers, name, value)
	show(answers, loadedName, "1700000000500000")
}

// show changes what is told of a parameter.
func show(answers []answer, name, value string) {
	for _, r := range answers[askSettings].rows {
		if r["name"] == name {
			r["setting"] = value
		}
	}
}

// stopClock has the time of a prober stand still until the end of the test.
func stopClock(t *testing.T, p *Prober) {
	now := p.now
	t.Cleanup(func() { p.now = now })
	at := now()
	p.now = func() decision.Instant { return at }
}

// What the kept connection tells is no proof of a login any more when the server is another one, or in another role, or when new sessions may be others.
func TestAGlanceLogsInWhenSomethingHasChanged(t *testing.T) {
	for name, change := range map[string]func(a []answer){
		"nothing":                func([]answer) {},
		"another start":          func(a []answer) { a[askCore].rows[0]["started"] = "1700000000000001" },
		"no start":               func(a []answer) { delete(a[askCore].rows[0], "started") },
		"another role":           func(a []answer) { a[askCore].rows[0]["in_recovery"] = "t" },
		"a read-only session":    func(a []answer) { a[askCore].rows[0]["transaction_read_only"] = "on" },
		"sessions are fenced":    func(a []answer) { set(a, "default_transaction_read_only", "on") },
		"commits ask for less":   func(a []answer) { set(a, "synchronous_commit", "off") },
		"another setting of all": func(a []answer) { set(a, "max_connections", "50") },
	} {
		t.Run(name, func(t *testing.T) {
			later := whole()
			change(later)
			f := newFake(t, readStartup, login(), serve(whole()), always(later))
			p := newProber(t)
			target := fakeTarget(f.addr, 10*time.Second)
			answersEverywhere(t, p.Probe(t.Context(), target))
			if p.wanting || !p.proof.lasts(p.now()) {
				t.Fatal("the first round has proved nothing: this test proves nothing")
			}
			f.dials.Store(0)
			answersEverywhere(t, p.Glance(t.Context(), target))
			if logins := f.dials.Load(); (logins > 0) != (name != "nothing" && name != "another setting of all") {
				t.Errorf("%d logins", logins)
			}
		})
	}
}

// The old server still answers on the connection that is kept, and the address leads to another one: what the two tell is not mixed, and the old one is
// let go.
func TestFactsAreNotBorrowedFromAnotherServer(t *testing.T) {
	other := told()
	other[askCore].rows[0]["started"] = "1800000000000000"
	other[askSystem].rows[0]["system_identifier"] = "7400000000000000002"
	old := newFake(t, readStartup, login(), always(whole()))
	moved := newFake(t, readStartup, login(), always(other))
	p := newProber(t)
	target := fakeTarget(old.addr, 10*time.Second)
	answersEverywhere(t, p.Probe(t.Context(), target))
	p.persistent.target.Address, target.Address = moved.addr, moved.addr // as an address that moves does
	p.proof.found.started = decision.Some("another")                     // so that the login comes after the kept connection's answer
	o := p.Glance(t.Context(), target)
	answersEverywhere(t, o)
	same(t, "role", o.Role, decision.RoleStandby)
	same(t, "system identifier", o.SystemID, decision.Some("7400000000000000002"))
	same(t, "the old connection is kept for one round", p.persistent.open(), true)
	same(t, "two servers are a proof", p.proof.lasts(p.now()), false)
	same(t, "role", p.Probe(t.Context(), target).Role, decision.RoleStandby)
	same(t, "the old connection is kept", p.persistent.open(), false)
	same(t, "role on both", p.Probe(t.Context(), target).Role, decision.RoleStandby)
	same(t, "what both found is a proof", p.proof.lasts(p.now()), true)
}

// The kept session may end, and its server be gone, while the name is looked up.
func TestAGlanceOfANameSurvivesTheEndOfItsConnection(t *testing.T) {
	for range 50 {
		f := newFake(t, readStartup, login(), serve(whole()))
		_, port, _ := strings.Cut(f.addr, ":")
		p := newProber(t)
		p.resolve = func(context.Context, string, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		}
		target := fakeTarget("localhost:"+port, 10*time.Second)
		p.Probe(t.Context(), target) // after it the server has closed the connection
		p.wanting = false
		f.close()
		if e := p.Glance(t.Context(), target).Evidence(); e == decision.Answers {
			t.Errorf("evidence %s of a server that is gone", e)
		}
	}
}

// A name is where clients are led to at their next login: a glance must see that it has moved, though the old server answers on.
func TestAGlanceFollowsTheNameOfItsNode(t *testing.T) {
	f := newFake(t, readStartup, login(), always(whole()))
	_, port, _ := strings.Cut(f.addr, ":")
	p := newProber(t)
	target := fakeTarget("localhost:"+port, 10*time.Second)
	answersEverywhere(t, p.Probe(t.Context(), target))
	for _, c := range []struct {
		name   string
		found  []netip.Addr
		err    error
		logins int64
	}{
		{"where it led", []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("::ffff:127.0.0.1")}, nil, 0},
		{"elsewhere", []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil, 1},
		{"nowhere", nil, errors.New("no such host"), 1},
	} {
		p.resolve = func(_ context.Context, _, host string) ([]netip.Addr, error) {
			same(t, "host", host, "localhost")
			return c.found, c.err
		}
		f.dials.Store(0)
		answersEverywhere(t, p.Glance(t.Context(), target))
		same(t, c.name+": logins", f.dials.Load(), c.logins)
	}
	p.resolve = func(ctx context.Context, _, _ string) ([]netip.Addr, error) { // a resolver that hangs
		<-ctx.Done()
		return nil, ctx.Err()
	}
	target.Timeout = 2 * time.Second
	f.dials.Store(0)
	answersEverywhere(t, p.Glance(t.Context(), target))
	same(t, "no answer: logins", f.dials.Load(), 1)
}

// A login of which the server was asked before it changed, and a kept connection that was asked after it, prove nothing together.
func TestTwoAnswersThatDifferAreNoProof(t *testing.T) {
	with := func(change func(*facts)) outcome {
		o := outcome{attempt: decision.Attempt{Evidence: decision.Answers}, facts: facts{sign: sign{role: decision.RolePrimary, started: decision.Some("1")}}}
		change(&o.facts)
		return o
	}
	for name, c := range map[string]struct {
		change  func(*facts)
		stalled bool
		proves  bool
	}{
		"nothing":  {func(*facts) {}, false, true},
		"role":     {func(f *facts) { f.role = decision.RoleStandby }, false, false},
		"fenced":   {func(f *facts) { f.defaultReadOnly = decision.Some(true) }, false, false},
		"commits":  {func(f *facts) { f.synchronousCommit = decision.Some("off") }, false, false},
		"position": {func(f *facts) { f.observation.CurrentLSN = decision.Some(decision.LSN(7)) }, false, true},
		"stalled":  {func(*facts) {}, true, false},
	} {
		r := &round{prober: newProber(t), stalled: c.stalled}
		r.outcomes[persistent], r.outcomes[fresh] = with(func(*facts) {}), with(c.change)
		same(t, name+": proves", r.prove().lasts(0), c.proves)
	}
}

// A glance leaves time enough for the login that it may turn out to need.
func TestAGlanceWaitsNoLongerThanALoginLeaves(t *testing.T) {
	for _, c := range []struct{ took, timeout, want time.Duration }{
		{5 * time.Millisecond, time.Second, 250 * time.Millisecond},
		{400 * time.Millisecond, time.Second, 200 * time.Millisecond},
		{500 * time.Millisecond, time.Second, 0},
		{800 * time.Millisecond, time.Second, 0},
	} {
		same(t, c.took.String(), proof{attempt: decision.Attempt{Took: c.took}}.patience(c.timeout), c.want)
	}
}

// A statement that failed may or may not be known to the server under its name: it is asked without one, and the others are not disturbed.
func TestAStatementThatFailsIsAskedWithoutAName(t *testing.T) {
	var failed atomic.Bool
	var names atomic.Int64
	f := newFake(t, readStartup, login(), func(c *fakeConn) error {
		backend := pgproto3.NewBackend(c, c)
		for {
			m, err := backend.Receive()
			if err != nil {
				return err
			}
			switch m := m.(type) {
			case *pgproto3.Parse:
				if m.Name != "" {
					names.Add(1)
				}
			case *pgproto3.Sync:
				failed.Store(true)
				backend.Send(statementError("42501", "permission denied"))
				backend.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
				if err := backend.Flush(); err != nil {
					return err
				}
			}
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	l, err := connect(ctx, fakeTarget(f.addr, 10*time.Second), false)
	must(t, err)
	defer l.close(ctx)
	l.named = map[string]string{}
	for range 3 {
		answers, err := l.ask(ctx, []string{"SELECT 1", "SELECT 2"})
		must(t, err)
		for _, a := range answers {
			if a.err == nil || !strings.Contains(a.err.Error(), "permission denied") {
				t.Errorf("answer %+v, want the server's error", a)
			}
		}
	}
	same(t, "statements that were named", names.Load(), 2)
	same(t, "asked", failed.Load(), true)
}

// TestAGlanceSeesWhatAProbeSees: every fault is seen in the very round that a Probe sees it in.
func TestAGlanceSeesWhatAProbeSees(t *testing.T) {
	ctx, l := startLab(t, lab.Options{MaxConnections: 30})
	a, b := l.Node(lab.RegionA), l.Node(lab.RegionB)
	ta, tb := labTarget(l, lab.RegionA), labTarget(l, lab.RegionB)
	pa, pb := newProber(t), newProber(t)
	settled := func(t *testing.T, p *Prober, target Target) {
		t.Helper()
		probeUntil(ctx, t, p, target, "a round that leaves nothing to ask", func(decision.Observation) bool { return !p.wanting && p.proof.lasts(p.now()) })
	}
	logins := func(n *lab.Node) string {
		return one(ctx, t, n, "SELECT count(*) FROM regexp_matches(pg_read_file('"+n.LogFile()+"'), 'connection authorized: user=pgtether', 'g')")
	}
	must(t, a.Configure(map[string]string{"log_connections": "on"}))
	must(t, a.Await(ctx, "current_setting('log_connections') IN ('on', 'receipt,authentication,authorization')"))

	t.Run("a healthy pair is not logged into", func(t *testing.T) {
		settled(t, pa, ta)
		settled(t, pb, tb)
		before := logins(a)
		for range 3 {
			o := pa.Glance(ctx, ta)
			answersEverywhere(t, o)
			everySetting(t, o.Settings)
			same(t, "read only", o.TransactionReadOnly, decision.Some(false))
			same(t, "complete", complete(o), true)
			answersEverywhere(t, pb.Glance(ctx, tb))
		}
		same(t, "logins", logins(a), before)
		answersEverywhere(t, pa.Probe(ctx, ta))
		if logins(a) == before {
			t.Error("a Probe is not logged: this test proves nothing")
		}
	})
	t.Run("a killed session", func(t *testing.T) {
		settled(t, pa, ta)
		terminate(ctx, t, a, "usename = 'pgtether'")
		before := logins(a)
		answersEverywhere(t, pa.Glance(ctx, ta))
		if logins(a) == before {
			t.Error("nobody has logged in")
		}
	})
	t.Run("a session that hangs alone", func(t *testing.T) {
		settled(t, pa, ta)
		pid, err := strconv.Atoi(one(ctx, t, a, "SELECT min(pid) FROM pg_stat_activity WHERE usename = 'pgtether'"))
		must(t, err)
		must(t, syscall.Kill(pid, syscall.SIGSTOP))
		target := ta
		target.Timeout = 2 * time.Second
		o := pa.Glance(ctx, target)
		must(t, syscall.Kill(pid, syscall.SIGCONT))
		same(t, "persistent", o.Persistent.Evidence, decision.Silent)
		same(t, "fresh", o.Fresh.Evidence, decision.Answers)
		same(t, "role", o.Role, decision.RolePrimary)
	})
	t.Run("what a role asks for since the session began", func(t *testing.T) {
		for _, setting := range []string{"ALTER ROLE ALL SET synchronous_commit = local", "ALTER ROLE ALL RESET synchronous_commit"} {
			settled(t, pa, ta)
			must(t, a.Exec(ctx, "postgres", setting))
			pa.proof.at = pa.now() - decision.Instant(FreshEvery)
			want := newProber(t).Probe(ctx, ta).Settings.SynchronousCommit
			for range 3 { // the last asks a session that was opened anew
				same(t, setting, pa.Glance(ctx, ta).Settings.SynchronousCommit, want)
			}
		}
	})
	t.Run("a fence", func(t *testing.T) {
		settled(t, pa, ta)
		stopClock(t, pa) // no login is due
		must(t, a.Configure(map[string]string{"default_transaction_read_only": "on"}))
		must(t, a.Await(ctx, "current_setting('default_transaction_read_only') = 'on'"))
		o := roundsUntil(ctx, t, pa.Glance, ta, "the fence", func(o decision.Observation) bool { return o.Settings.DefaultReadOnly == decision.Some(true) })
		same(t, "read only", o.TransactionReadOnly, decision.Some(true))
		must(t, a.Configure(map[string]string{"default_transaction_read_only": "off"}))
		roundsUntil(ctx, t, pa.Glance, ta, "its end", func(o decision.Observation) bool { return o.TransactionReadOnly == decision.Some(false) })
	})
	t.Run("a setting that is reloaded", func(t *testing.T) {
		settled(t, pa, ta)
		stopClock(t, pa) // no login is due
		before := logins(a)
		for _, names := range []string{"nobody", ""} {
			must(t, a.Configure(map[string]string{"synchronous_standby_names": names}))
			roundsUntil(ctx, t, pa.Glance, ta, "the reload", func(o decision.Observation) bool { return o.Settings.SynchronousStandbyNames == decision.Some(names) })
		}
		everySetting(t, pa.Glance(ctx, ta).Settings)
		same(t, "logins", logins(a), before)
	})
	t.Run("a frozen postmaster", func(t *testing.T) {
		settled(t, pa, ta)
		must(t, a.FreezePostmaster())
		target := ta
		target.Timeout = 2 * time.Second
		for range 2 { // whoever relies on the last login is told of the next one's failure
			pa.proof.at = pa.now() - decision.Instant(FreshEvery)
			o := pa.Glance(ctx, target)
			same(t, "persistent", o.Persistent.Evidence, decision.Answers)
			same(t, "fresh", o.Fresh.Evidence, decision.Silent)
			if o.TransactionReadOnly.Known {
				t.Error("a login that failed tells what new sessions may do")
			}
		}
		must(t, a.Thaw())
		settled(t, pa, ta)
	})
	t.Run("a frozen server", func(t *testing.T) {
		must(t, a.FreezeAll())
		target := ta
		target.Timeout = time.Second
		o := pa.Glance(ctx, target)
		must(t, a.Thaw())
		same(t, "persistent", o.Persistent.Evidence, decision.Silent)
		same(t, "fresh", o.Fresh.Evidence, decision.Silent)
		same(t, "evidence", o.Evidence(), decision.Silent)
	})
	t.Run("a restart", func(t *testing.T) {
		settled(t, pa, ta)
		id := pa.Glance(ctx, ta).ServerID
		must(t, a.Stop(ctx, lab.Fast))
		must(t, a.Start(ctx))
		o := pa.Glance(ctx, ta)
		answersEverywhere(t, o)
		if o.ServerID == id {
			t.Errorf("server id %v is the one before the restart", id)
		}
	})
	t.Run("a promotion", func(t *testing.T) {
		settled(t, pb, tb)
		must(t, b.Promote(ctx))
		o := pb.Glance(ctx, tb)
		answersEverywhere(t, o)
		same(t, "role", o.Role, decision.RolePrimary)
		same(t, "timeline", known(t, "timeline", o.Timeline), 2)
		same(t, "history", len(known(t, "history", o.History)), 1)
		same(t, "read only", o.TransactionReadOnly, decision.Some(false))
	})
	t.Run("a killed server", func(t *testing.T) {
		settled(t, pa, ta)
		must(t, a.Kill9())
		o := pa.Glance(ctx, ta)
		same(t, "persistent", o.Persistent.Evidence, decision.Refused)
		same(t, "fresh", o.Fresh.Evidence, decision.Refused)
	})
}
