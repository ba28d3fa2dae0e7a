//go:build linux

package proxy

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/internal/pgwire"
)

// movingConfig moves sessions after a lossless change.
func movingConfig() Config {
	cfg := testConfig()
	cfg.Continuity.Mode, cfg.Verifiers = MoveLossless, VerifiersAsked
	return cfg
}

// startMoving starts a proxy whose first epoch is open on region-a.
func startMoving(t *testing.T, l *lab.Lab, cfg Config) *harness {
	t.Helper()
	a := l.Node(lab.RegionA)
	h := startServer(t, cfg, Deps{WriterAlive: recovers(l, lab.RegionA), Verifier: storedOn(a)})
	h.open(routeTo(a, 1))
	return h
}

// change drains the open epoch, cuts it and opens the next one on the node, as a planned change does, and returns what became of the sessions that
// waited. It waits for as many sessions as are said to be waiting when the drain is over.
func (h *harness) change(from uint64, to *lab.Node, lossless Lossless) Relocated {
	h.t.Helper()
	over := h.startDrain(from)
	eventually(h.t, "every session waits", func() bool { return over() == 1 })
	h.Cut(from, pgwire.Drained)
	return h.reopen(from+1, to, lossless)
}

// reopen opens the epoch on the node.
func (h *harness) reopen(epoch uint64, to *lab.Node, lossless Lossless) (r Relocated) {
	h.t.Helper()
	h.open(routeTo(to, epoch))
	if h.stranded.size() == 0 {
		return r
	}
	done := make(chan Relocated, 1)
	h.Relocate(epoch, lossless, func(r Relocated) { done <- r })
	select {
	case r = <-done:
	case <-time.After(patience):
		h.t.Fatal("the sessions were neither moved nor ended")
	}
	return r
}

// learned waits until every session's credential is there.
func (h *harness) learned(sessions int) {
	h.t.Helper()
	eventually(h.t, "every session can be moved", func() bool { return h.Movable() == sessions && h.Stats().Idle == sessions })
}

func TestIdleSessionsMoveWithAllThatTheyHave(t *testing.T) {
	ctx, l := startLab(t, lab.Options{Single: true, HBA: []string{"host all app_md5 all md5", "host all app_password all password", "host all app_trust all trust"}})
	a := l.Node(lab.RegionA)
	onEachForwarder(t, func(t *testing.T) {
		h := startMoving(t, l, movingConfig())
		var clients []*pgconn.PgConn
		for i := range 20 {
			c := connect(ctx, t, l.AppDSNAt(h.addr))
			ask(ctx, t, c, fmt.Sprintf("SET work_mem = '%dMB'; SET application_name = 'client %d'; SET my.own = 'value %d'", 5+i, i, i))
			if _, err := c.Prepare(ctx, "named", "SELECT $1::int + 1", nil); err != nil {
				t.Fatal(err)
			}
			clients = append(clients, c)
		}
		h.learned(20)
		before := make([]string, len(clients))
		for i, c := range clients {
			before[i] = ask(ctx, t, c, "SELECT pg_backend_pid()")
		}
		equal(t, "moved", h.change(1, a, LosslessProven), Relocated{Moved: 20})
		for i, c := range clients {
			equal(t, "work_mem", ask(ctx, t, c, "SHOW work_mem"), fmt.Sprintf("%dMB", 5+i))
			equal(t, "application_name", ask(ctx, t, c, "SHOW application_name"), fmt.Sprintf("client %d", i))
			equal(t, "my.own", ask(ctx, t, c, "SHOW my.own"), fmt.Sprintf("value %d", i))
			result := c.ExecPrepared(ctx, "named", [][]byte{[]byte("41")}, nil, nil).Read()
			if result.Err != nil || string(result.Rows[0][0]) != "42" {
				t.Fatalf("the prepared statement: %v", result.Err)
			}
			if pid := ask(ctx, t, c, "SELECT pg_backend_pid()"); pid == before[i] {
				t.Error("a session has the backend that was cut")
			}
		}
		eventually(t, "the old backends are gone", func() bool {
			n, err := a.QueryText(ctx, "postgres", "SELECT count(*) FROM pg_stat_activity WHERE usename = 'keycloak'")
			return err == nil && n == "20"
		})
		if n := h.metric("pgtether_sessions_moved_total", "moved"); n != 20 {
			t.Errorf("%v sessions are counted as moved", n)
		}
	})
}

func TestWhatAMoveOwesToAClientOutlivesTheNextMove(t *testing.T) {
	ctx, l := startLab(t, lab.Options{Single: true})
	a := l.Node(lab.RegionA)
	onEachForwarder(t, func(t *testing.T) {
		h := startMoving(t, l, movingConfig())
		c := connect(ctx, t, l.AppDSNAt(h.addr))
		h.learned(1)
		equal(t, "told at the login", c.ParameterStatus("is_superuser"), "off")
		if err := a.Exec(ctx, "postgres", "ALTER ROLE keycloak SUPERUSER"); err != nil {
			t.Fatal(err)
		}
		equal(t, "moved", h.change(1, a, LosslessProven), Relocated{Moved: 1})
		equal(t, "moved again", h.change(2, a, LosslessProven), Relocated{Moved: 1})
		equal(t, "the server's own word", ask(ctx, t, c, "SHOW is_superuser"), "on")
		equal(t, "told after the moves", c.ParameterStatus("is_superuser"), "on")
		if err := a.Exec(ctx, "postgres", "ALTER ROLE keycloak NOSUPERUSER"); err != nil {
			t.Fatal(err)
		}
	})
}

func TestWhatTheOldServerSaidToAnIdleClientReachesItAfterTheMove(t *testing.T) {
	ctx, l := startLab(t, lab.Options{Single: true})
	a := l.Node(lab.RegionA)
	onEachForwarder(t, func(t *testing.T) {
		configure := func(sql, want string) {
			t.Helper()
			for _, s := range []string{sql, "SELECT pg_reload_conf()"} {
				if err := a.Exec(ctx, "postgres", s); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "the server has read its settings", func() bool {
				got, err := a.QueryText(ctx, "postgres", "SHOW IntervalStyle")
				return err == nil && got == want
			})
		}
		h := startMoving(t, l, movingConfig())
		c := connect(ctx, t, l.AppDSNAt(h.addr))
		h.learned(1)
		configure("ALTER SYSTEM SET IntervalStyle = 'iso_8601'", "iso_8601") // its backend reports it when it is asked for the session's state
		equal(t, "moved", h.change(1, a, LosslessProven), Relocated{Moved: 1})
		equal(t, "the server's own word", ask(ctx, t, c, "SHOW IntervalStyle"), "iso_8601")
		equal(t, "what the client was told", c.ParameterStatus("IntervalStyle"), "iso_8601")
		configure("ALTER SYSTEM RESET IntervalStyle", "postgres")
	})
}

func TestAMovedSessionIsCancelledOnItsNewBackend(t *testing.T) {
	ctx, l := startLab(t, lab.Options{Single: true})
	a := l.Node(lab.RegionA)
	h := startMoving(t, l, movingConfig())
	c := connect(ctx, t, l.AppDSNAt(h.addr))
	h.learned(1)
	equal(t, "moved", h.change(1, a, LosslessProven), Relocated{Moved: 1})
	running := make(chan error, 1)
	go func() { _, err := c.Exec(ctx, "SELECT pg_sleep(60)").ReadAll(); running <- err }()
	eventually(t, "the statement runs", func() bool { return activeLike(ctx, t, a, "pg_sleep") == "1" })
	if err := c.CancelRequest(ctx); err != nil {
		t.Error(err)
	}
	if err := <-running; codeOf(err) != "57014" {
		t.Errorf("the cancelled statement gave %v", err)
	}
}

func TestSessionsThatCannotBeMovedEndWithTheirReasonAndTheOthersMove(t *testing.T) {
	ctx, l := startLab(t, lab.Options{Single: true})
	a := l.Node(lab.RegionA)
	onEachForwarder(t, func(t *testing.T) {
		h := startMoving(t, l, movingConfig())
		reasons := map[string]string{
			"CREATE TEMP TABLE mine (id int)": "temp_objects", "LISTEN news": "listening", "SELECT pg_advisory_lock(4711)": "advisory_lock",
			"DECLARE kept CURSOR WITH HOLD FOR SELECT 1": "holdable_cursor",
		}
		stuck := map[string]*pgconn.PgConn{}
		for sql := range reasons {
			c := connect(ctx, t, l.AppDSNAt(h.addr))
			ask(ctx, t, c, sql)
			stuck[sql] = c
		}
		free := connect(ctx, t, l.AppDSNAt(h.addr))
		h.learned(5)
		equal(t, "moved", h.change(1, a, LosslessProven), Relocated{Moved: 1})
		for sql, c := range stuck {
			if _, err := c.Exec(ctx, "SELECT 1").ReadAll(); codeOf(err) != "08006" {
				t.Errorf("after %s: %v", sql, err)
			}
			if n := h.metric("pgtether_sessions_moved_total", reasons[sql]); n != 1 {
				t.Errorf("%v sessions are counted as %s", n, reasons[sql])
			}
		}
		equal(t, "the one that was moved", ask(ctx, t, free, "SELECT 'here'"), "here")
	})
}

func TestAfterALossyChangeEverySessionThatWaitedEnds(t *testing.T) {
	ctx, l := startLab(t, lab.Options{Single: true})
	a := l.Node(lab.RegionA)
	for mode, moved := range map[ContinuityMode]int{MoveLossless: 0, MoveRelaxed: 1, MoveAlways: 1} {
		t.Run(string(mode), func(t *testing.T) {
			cfg := movingConfig()
			cfg.Continuity.Mode = mode
			h := startMoving(t, l, cfg)
			c := connect(ctx, t, l.AppDSNAt(h.addr))
			h.learned(1)
			equal(t, "what becomes of it", h.change(1, a, LosslessRelaxed), Relocated{Moved: moved, Ended: 1 - moved})
			_, err := c.Exec(ctx, "SELECT 1").ReadAll()
			if want := map[bool]string{false: "08006"}[moved == 1]; codeOf(err) != want {
				t.Errorf("its next statement gives %v, want %q", err, want)
			}
		})
	}
}

func TestADrainThatIsUndoneLeavesEachSessionOnItsBackend(t *testing.T) {
	ctx, l := startLab(t, lab.Options{Single: true})
	onEachForwarder(t, func(t *testing.T) {
		h := startMoving(t, l, movingConfig())
		c := connect(ctx, t, l.AppDSNAt(h.addr))
		h.learned(1)
		pid := ask(ctx, t, c, "SELECT pg_backend_pid()")
		for range 3 {
			over := h.startDrain(1)
			eventually(t, "it waits", func() bool { return over() == 1 })
			h.Undrain(1)
			equal(t, "backend", ask(ctx, t, c, "SELECT pg_backend_pid()"), pid)
			equal(t, "statements", ask(ctx, t, c, "SELECT count(*) FROM pg_prepared_statements"), "0")
		}
	})
}

func TestASessionWaitsForItsWriterNoLongerThanHoldSession(t *testing.T) {
	ctx, l := startLab(t, lab.Options{Single: true})
	cfg := movingConfig()
	cfg.DrainTimeout, cfg.Hold.Session = 50*time.Millisecond, 3100*time.Millisecond
	h := startMoving(t, l, cfg)
	c := connect(ctx, t, l.AppDSNAt(h.addr))
	h.learned(1)
	over := h.startDrain(1)
	eventually(t, "it waits", func() bool { return over() == 1 })
	began := time.Now()
	h.Cut(1, pgwire.Drained)
	if list := h.Sessions(); len(list) != 1 || list[0].State != "waiting" {
		t.Errorf("after the cut it is listed as %+v", list)
	}
	_, err := c.Exec(ctx, "SELECT 1").ReadAll()
	if took := time.Since(began); codeOf(err) != "08006" || took < 2*time.Second {
		t.Errorf("after %v: %v", took, err)
	}
	if n := h.metric("pgtether_sessions_moved_total", "timed_out"); n != 1 {
		t.Errorf("%v sessions are counted as timed out", n)
	}
}

// equal demands that two values are the same.
func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}
