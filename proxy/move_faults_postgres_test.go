//go:build linux

package proxy

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/internal/pgwire"
)

// movable starts a proxy in front of the node with sessions that can be moved, each with a name of its own.
func movable(ctx context.Context, t *testing.T, l *lab.Lab, cfg Config, sessions int) (*harness, []*pgconn.PgConn) {
	t.Helper()
	h := startMoving(t, l, cfg)
	clients := make([]*pgconn.PgConn, sessions)
	for i := range clients {
		clients[i] = connect(ctx, t, l.AppDSNAt(h.addr))
		ask(ctx, t, clients[i], fmt.Sprintf("SET application_name = 'session %d'", i))
	}
	h.learned(sessions)
	return h, clients
}

// drainAll waits until every session waits.
func (h *harness) drainAll(epoch uint64) {
	h.t.Helper()
	over := h.startDrain(epoch)
	eventually(h.t, "every session waits", func() bool { return over() == 1 })
}

func TestARouteThatIsCutWhileSessionsMoveThereLeavesThemForTheNextOne(t *testing.T) {
	ctx, l := startLab(t, lab.Options{Single: true})
	a := l.Node(lab.RegionA)
	onEachForwarder(t, func(t *testing.T) {
		cfg := movingConfig()
		cfg.Continuity.MovesAtOnce = 4
		h, clients := movable(ctx, t, l, cfg, 40)
		h.drainAll(1)
		h.Cut(1, pgwire.Drained)
		var all sync.WaitGroup
		for epoch := uint64(2); epoch <= 6; epoch++ { // each of the first four is cut at some moment of the moves
			h.open(routeTo(a, epoch))
			all.Add(1)
			h.Relocate(epoch, LosslessProven, func(Relocated) { all.Done() })
			if epoch == 6 {
				break
			}
			time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond)
			h.drainAll(epoch)
			h.Cut(epoch, pgwire.Drained)
		}
		for i, c := range clients {
			equal(t, "the session's name", ask(ctx, t, c, "SHOW application_name"), fmt.Sprintf("session %d", i))
		}
		if n := h.metric("pgtether_sessions_moved_total", "moved"); n < 40 || h.Stats().Open != 40 {
			t.Errorf("%v moves, %+v", n, h.Stats())
		}
	})
}

func TestAWriterThatDoesNotAnswerEndsEachSessionAtItsTimeAndTheyMoveWhenItDoes(t *testing.T) {
	ctx, l := startLab(t, lab.Options{Single: true})
	a := l.Node(lab.RegionA)
	silent := startFakePG(t, func(c *fakeConn) { _, _ = io.Copy(io.Discard, c) })
	cfg := movingConfig()
	cfg.Backend.ConnectTimeout = 200 * time.Millisecond
	h, clients := movable(ctx, t, l, cfg, 3)
	h.drainAll(1)
	h.Cut(1, pgwire.Drained)
	h.open(silent.route(2))
	h.Relocate(2, LosslessProven, func(Relocated) {})
	time.Sleep(500 * time.Millisecond) // attempts that come to nothing
	h.Cut(2, pgwire.WriterLost)
	h.open(routeTo(a, 3))
	h.Relocate(3, LosslessProven, func(Relocated) {})
	for i, c := range clients {
		equal(t, "the session's name", ask(ctx, t, c, "SHOW application_name"), fmt.Sprintf("session %d", i))
	}
}

func TestAStatementThatCannotBeMadeAgainEndsItsSessionAlone(t *testing.T) {
	ctx, l := startLab(t, lab.Options{Single: true})
	a := l.Node(lab.RegionA)
	h, clients := movable(ctx, t, l, movingConfig(), 3)
	ask(ctx, t, clients[0], "CREATE TABLE short_lived (id int)")
	if _, err := clients[0].Prepare(ctx, "reads", "SELECT id FROM short_lived", nil); err != nil {
		t.Fatal(err)
	}
	h.drainAll(1)
	h.Cut(1, pgwire.Drained)
	if err := a.Exec(ctx, l.AppDatabase, "DROP TABLE short_lived"); err != nil {
		t.Fatal(err)
	}
	equal(t, "what becomes of them", h.reopen(2, a, LosslessProven), Relocated{Moved: 2, Ended: 1})
	if _, err := clients[0].Exec(ctx, "SELECT 1").ReadAll(); codeOf(err) != "08006" {
		t.Errorf("its session gives %v", err)
	}
	for i, c := range clients[1:] {
		equal(t, "the session's name", ask(ctx, t, c, "SHOW application_name"), fmt.Sprintf("session %d", i+1))
	}
	if n := h.metric("pgtether_sessions_moved_total", "failed"); n != 1 {
		t.Errorf("%v sessions are counted as failed", n)
	}
}

func TestAPasswordThatWasChangedIsNoticedBeforeTheMove(t *testing.T) {
	ctx, l := startLab(t, lab.Options{Single: true})
	a := l.Node(lab.RegionA)
	h, clients := movable(ctx, t, l, movingConfig(), 2)
	if err := a.Exec(ctx, "postgres", "ALTER ROLE keycloak PASSWORD 'another'"); err != nil {
		t.Fatal(err)
	}
	equal(t, "what becomes of them", h.change(1, a, LosslessProven), Relocated{})
	for _, c := range clients {
		if _, err := c.Exec(ctx, "SELECT 1").ReadAll(); codeOf(err) != "08006" {
			t.Errorf("a session whose password was changed gives %v", err)
		}
	}
	if n := h.metric("pgtether_sessions_moved_total", passwordChanged); n != 2 {
		t.Errorf("%v sessions are counted as %s", n, passwordChanged)
	}
}

func TestAClientThatLeavesWhileItWaitsLeavesNothingBehind(t *testing.T) {
	ctx, l := startLab(t, lab.Options{Single: true})
	a := l.Node(lab.RegionA)
	onEachForwarder(t, func(t *testing.T) {
		h, clients := movable(ctx, t, l, movingConfig(), 4)
		h.drainAll(1)
		h.Cut(1, pgwire.Drained)
		for _, c := range clients[:2] {
			_ = c.Conn().Close()
		}
		h.reopen(2, a, LosslessProven)
		eventually(t, "two sessions and two backends are left", func() bool {
			n, err := a.QueryText(ctx, "postgres", "SELECT count(*) FROM pg_stat_activity WHERE usename = 'keycloak'")
			return err == nil && n == "2" && h.Stats().Open == 2
		})
		for i, c := range clients[2:] {
			equal(t, "the session's name", ask(ctx, t, c, "SHOW application_name"), fmt.Sprintf("session %d", i+2))
		}
	})
}

func TestWhatAClientSendsWhileItsSessionMovesIsAnsweredThere(t *testing.T) {
	ctx, l := startLab(t, lab.Options{Single: true})
	a := l.Node(lab.RegionA)
	onEachForwarder(t, func(t *testing.T) {
		h, clients := movable(ctx, t, l, movingConfig(), 8)
		h.drainAll(1)
		answers := make([]chan string, len(clients))
		for i, c := range clients {
			answers[i] = make(chan string, 1)
			go func() {
				results, err := c.Exec(ctx, "SELECT current_setting('application_name') || repeat(' and more', 10000)").ReadAll()
				if err != nil || len(results) != 1 {
					answers[i] <- fmt.Sprint(err)
					return
				}
				answers[i] <- string(results[0].Rows[0][0][:9])
			}()
		}
		time.Sleep(20 * time.Millisecond)
		h.Cut(1, pgwire.Drained)
		equal(t, "what becomes of them", h.reopen(2, a, LosslessProven), Relocated{Moved: 8})
		for i := range clients {
			equal(t, "the answer", <-answers[i], fmt.Sprintf("session %d", i))
		}
	})
}

func TestAStopWhileSessionsWaitForTheirWriterEndsThemAtOnce(t *testing.T) {
	ctx, l := startLab(t, lab.Options{Single: true})
	h, clients := movable(ctx, t, l, movingConfig(), 4)
	h.drainAll(1)
	h.Cut(1, pgwire.Drained)
	began := time.Now()
	if err := h.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("the stop took %v", took)
	}
	for _, c := range clients {
		if _, err := c.Exec(ctx, "SELECT 1").ReadAll(); codeOf(err) != "08006" {
			t.Errorf("a session that waited gives %v", err)
		}
	}
}

func TestSessionsMoveWithTLSOnEitherLeg(t *testing.T) {
	ctx, l := startLab(t, lab.Options{Single: true, TLS: lab.TLSShared})
	a := l.Node(lab.RegionA)
	for name, legs := range map[string]struct{ client, backend bool }{"client": {true, false}, "backend": {false, true}, "both": {true, true}} {
		t.Run(name, func(t *testing.T) {
			cfg := movingConfig()
			sslmode := "disable"
			if legs.client {
				cfg.Listen.TLS, sslmode = TLSAllow, "require"
				cfg.Listen.Cert, cfg.Listen.Key = l.TLS().ServerFiles(lab.RegionA)
			}
			if legs.backend {
				cfg.Backend.TLS = BackendTLSRequire
			}
			h := startMoving(t, l, cfg)
			dsn, err := url.Parse(l.AppDSNAt(h.addr))
			if err != nil {
				t.Fatal(err)
			}
			q := dsn.Query()
			q.Set("sslmode", sslmode)
			dsn.RawQuery = q.Encode()
			c := connect(ctx, t, dsn.String())
			ask(ctx, t, c, "SET work_mem = '7MB'")
			h.learned(1)
			for epoch := uint64(1); epoch <= 3; epoch++ {
				equal(t, "what becomes of it", h.change(epoch, a, LosslessProven), Relocated{Moved: 1})
				equal(t, "work_mem", ask(ctx, t, c, "SHOW work_mem"), "7MB")
				encrypted := ask(ctx, t, c, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
				equal(t, "encryption of the backend's leg", encrypted, map[bool]string{true: "t", false: "f"}[legs.backend])
			}
		})
	}
}

func TestLoginsWaitUntilTheSessionsThatWereThereBeforeHaveMoved(t *testing.T) {
	ctx, l := startLab(t, lab.Options{Single: true, MaxConnections: 25})
	a := l.Node(lab.RegionA)
	h, clients := movable(ctx, t, l, movingConfig(), 15)
	h.drainAll(1)
	h.Cut(1, pgwire.Drained)
	logins := make([]chan error, 30) // more than the server has room for
	for i := range logins {
		logins[i] = make(chan error, 1)
		go func() {
			c, err := pgconn.Connect(ctx, l.AppDSNAt(h.addr))
			if err == nil {
				defer c.Close(ctx)
			}
			logins[i] <- err
		}()
	}
	eventually(t, "all of them are held", func() bool { return h.Stats().Held == len(logins) })
	equal(t, "what becomes of those that were there", h.reopen(2, a, LosslessProven), Relocated{Moved: 15})
	for i, c := range clients {
		equal(t, "the session's name", ask(ctx, t, c, "SHOW application_name"), fmt.Sprintf("session %d", i))
	}
	for _, done := range logins {
		if err := <-done; err != nil && codeOf(err) != "53300" {
			t.Errorf("a login that waited got %v", err)
		}
	}
}
