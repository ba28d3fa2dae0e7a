package proxy

import (
	"context"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgtether/pgtether/internal/pgwire"
)

// untilQuery logs a client in and then plays the script at its first query.
func untilQuery(play func(c *fakeConn)) func(*fakeConn) {
	return func(c *fakeConn) {
		if !c.accept() {
			return
		}
		c.loggedIn("off")
		if typ, _, err := c.read(); err != nil || typ != 'Q' {
			return
		}
		play(c)
	}
}

// What a client is told when its server is gone without a word: in doubt where something may have been committed, else the class that pools evict on.
func TestASilentEndOfTheServerHasTheRightWords(t *testing.T) {
	reset := func(c *fakeConn) { _ = c.Conn.(*net.TCPConn).SetLinger(0) }
	row := encode(&pgproto3.DataRow{Values: [][]byte{[]byte("value")}})
	cases := []struct {
		name string
		sql  string
		play func(c *fakeConn)
		want []string
	}{
		{"while idle", "select", func(c *fakeConn) { c.send(done + ready) }, []string{"C SELECT 1", "Z I", fatal(pgwire.WriterLost)}},
		{"while idle, by a reset", "select", func(c *fakeConn) { c.send(done + ready); time.Sleep(50 * time.Millisecond); reset(c) },
			[]string{"C SELECT 1", "Z I", fatal(pgwire.WriterLost)}},
		{"inside a block", "begin", func(c *fakeConn) { c.send(done + readyInBlock) }, []string{"C SELECT 1", "Z T", fatal(pgwire.WriterLost)}},
		{"a statement outside a block is unanswered", "insert", func(*fakeConn) {}, []string{fatal(pgwire.CommitInDoubt)}},
		{"after a part of its answer", "insert", func(c *fakeConn) { c.send(row) }, []string{"D value", fatal(pgwire.CommitInDoubt)}},
		{"in the middle of a message", "insert", func(c *fakeConn) { c.send(row + row[:7]) }, []string{"D value", "EOF"}},
		{"a statement inside a block is unanswered", "begin", func(c *fakeConn) { c.send(done + readyInBlock); _, _, _ = c.read() },
			[]string{"C SELECT 1", "Z T", fatal(pgwire.WriterLost)}},
		{"a commit is unanswered", "begin", func(c *fakeConn) { c.send(done + readyInBlock); _, _, _ = c.read() }, []string{"C SELECT 1", "Z T", fatal(pgwire.CommitInDoubt)}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			pg := startFakePG(t, untilQuery(c.play))
			h := startServer(t, testConfig(), Deps{})
			h.open(pg.route(1))
			client := h.login()
			client.write(appendQuery(nil, c.sql))
			var got []string
			for len(got) < len(c.want) {
				got = append(got, client.messages()...)
				if strings.Contains(c.name, "unanswered") && got[len(got)-1] == "Z T" {
					next := map[bool]string{true: "commit", false: "update"}[strings.Contains(c.name, "commit")]
					client.write(appendQuery(nil, next))
				}
			}
			same(t, "the client's view", got, c.want)
			if got[len(got)-1] != "EOF" {
				if rest := client.end(); rest != "" {
					t.Errorf("more words: %q", rest)
				}
			}
			if node := <-h.suspects; node != "region-a" {
				t.Errorf("suspected %q", node)
			}
		})
	}
}

func TestWhatTheServerItselfSaysAtTheEndPassesAlone(t *testing.T) {
	deadlock := encode(&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "25P03", Message: "terminating connection due to idle-in-transaction timeout"})
	for name, c := range map[string]struct {
		play func(c *fakeConn)
		want string
	}{
		"idle session timeout":           {func(c *fakeConn) { c.send(done + ready + idleTimeout) }, done + ready + idleTimeout},
		"idle in transaction timeout":    {func(c *fakeConn) { c.send(done + readyInBlock + deadlock) }, done + readyInBlock + deadlock},
		"administrator, while it worked": {func(c *fakeConn) { c.send(terminated) }, terminated},
	} {
		t.Run(name, func(t *testing.T) {
			pg := startFakePG(t, untilQuery(c.play))
			h := startServer(t, testConfig(), Deps{})
			h.open(pg.route(1))
			client := h.login()
			client.write(appendQuery(nil, "select"))
			if got := client.end(); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
			eventually(t, "it is counted", func() bool { return h.metric("pgtether_sessions_total", endedByServer) == 1 })
			if h.refusals(pgwire.WriterLost) != 0 {
				t.Error("counted as a refusal of the proxy's own")
			}
		})
	}
}

// 57P01 to an idle session: an administrator has ended this one session, or the server is dying. A fresh look tells.
func TestAnUnaskedForEndIsJudgedByAFreshLook(t *testing.T) {
	play := func(words string) func(*fakeConn) {
		return untilQuery(func(c *fakeConn) { c.send(done + ready); c.send(words) })
	}
	t.Run("the server lives: passed on", func(t *testing.T) {
		var asked atomic.Uint64
		h := startServer(t, testConfig(), Deps{WriterAlive: func(_ context.Context, epoch uint64) bool { asked.Store(epoch); return true }})
		h.open(startFakePG(t, play(terminated)).route(7))
		client := h.login()
		client.write(appendQuery(nil, "select"))
		if got := client.end(); got != done+ready+terminated {
			t.Errorf("got %q", got)
		}
		if asked.Load() != 7 {
			t.Errorf("asked about epoch %d", asked.Load())
		}
	})
	for name, deps := range map[string]Deps{
		"the server is dying: not passed on": {WriterAlive: func(context.Context, uint64) bool { return false }},
		"nobody can tell: not passed on":     {},
	} {
		t.Run(name, func(t *testing.T) {
			for _, words := range []string{terminated, crashed} {
				h := startServer(t, testConfig(), deps)
				h.open(startFakePG(t, play(words)).route(1))
				client := h.login()
				same(t, "query", client.query("select"), []string{"C SELECT 1", "Z I"})
				same(t, "end", client.messages(), []string{fatal(pgwire.WriterLost)})
				if node := <-h.suspects; node != "region-a" {
					t.Errorf("suspected %q", node)
				}
			}
		})
	}
	t.Run("a warning that is followed by nothing: the session goes on", func(t *testing.T) {
		h := startServer(t, testConfig(), Deps{WriterAlive: func(context.Context, uint64) bool { return true }})
		h.open(startFakePG(t, untilQuery(func(c *fakeConn) { c.send(done + ready + crashed); c.serve() })).route(1))
		client := h.login()
		same(t, "query", client.query("select"), []string{"C SELECT 1", "Z I"})
		if m, err := client.message(); !strings.HasPrefix(m, "N WARNING 57P02") {
			t.Errorf("got %q, %v", m, err)
		}
		same(t, "query", client.query("hello"), []string{"D hello", "C SELECT 1", "Z I"})
		if got := h.Stats(); got.Open != 1 || got.Idle != 1 {
			t.Errorf("stats: %+v", got)
		}
	})
	t.Run("a cut during the look", func(t *testing.T) {
		looking := make(chan struct{})
		h := startServer(t, testConfig(), Deps{WriterAlive: func(ctx context.Context, _ uint64) bool { close(looking); <-ctx.Done(); return true }})
		h.open(startFakePG(t, play(terminated)).route(1))
		client := h.login()
		same(t, "query", client.query("select"), []string{"C SELECT 1", "Z I"})
		<-looking
		h.Cut(1, pgwire.LossyChange)
		same(t, "end", client.messages(), []string{fatal(pgwire.LossyChange)})
	})
}

func TestACutTellsEachSessionItsReason(t *testing.T) {
	pg := startFakePG(t, aPrimary)
	h := startServer(t, testConfig(), Deps{})
	h.open(pg.route(1))
	idle, inBlock, inDoubt := h.login(), h.login(), h.login()
	inBlock.query("begin")
	inDoubt.query("begin")
	inBlock.write(appendQuery(nil, "silent"))
	inDoubt.write(appendQuery(nil, "commit -- silent"))
	eventually(t, "both are active", func() bool { return h.Stats().Active == 2 })
	h.Cut(1, pgwire.LossyChange)
	same(t, "idle", idle.messages(), []string{fatal(pgwire.LossyChange)})
	same(t, "in a block", inBlock.messages(), []string{fatal(pgwire.LossyChange)})
	same(t, "with a commit unanswered", inDoubt.messages(), []string{fatal(pgwire.CommitInDoubt)})
	if h.metric("pgtether_sessions_total", "lossy_change") != 2 || h.metric("pgtether_sessions_total", "commit_in_doubt") != 1 {
		t.Error("not counted")
	}
	if h.Stats() != (Stats{}) {
		t.Errorf("left over: %+v", h.Stats())
	}
}

// A client that is gone has its running statement cancelled before its backend is closed: the server would run on.
func TestTheStatementOfAClientThatIsGoneIsCancelled(t *testing.T) {
	reset := func(c *testClient) {
		_ = c.Conn.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}
	cases := []struct {
		name    string
		queries []string
		deps    Deps
		last    string
		cancel  bool
	}{
		{"a statement is running", []string{}, Deps{}, string(appendQuery(nil, "silent")), true},
		{"idle", []string{"select"}, Deps{}, "", false},
		{"idle in a block", []string{"begin"}, Deps{}, "", false},
		{"it has said Terminate", []string{}, Deps{}, string(appendQuery(nil, "silent")) + string(sayTerminate), false},
		{"it could release a waiting commit", []string{}, Deps{CancelAllowed: func(uint64) bool { return false }}, string(appendQuery(nil, "silent")), false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			pg := startFakePG(t, aPrimary)
			h := startServer(t, testConfig(), c.deps)
			h.open(pg.route(1))
			client := h.login()
			for _, sql := range c.queries {
				client.query(sql)
			}
			client.write([]byte(c.last))
			if c.last != "" && !strings.HasSuffix(c.last, string(sayTerminate)) {
				eventually(t, "the statement runs", func() bool { return h.Stats().Active == 1 })
			}
			reset(client)
			if c.cancel {
				select {
				case key := <-pg.cancels:
					if key.PID != 1001 || string(key.Secret) != "kkkk" {
						t.Errorf("cancelled %d %q, want the backend's own key", key.PID, key.Secret)
					}
				case <-time.After(patience):
					t.Fatal("nothing was cancelled")
				}
			}
			eventually(t, "the backend is closed", func() bool { return pg.count() == 0 })
			eventually(t, "the session has ended", func() bool { return h.Stats().Open == 0 && h.clients() == 0 })
			if len(pg.cancels) != 0 {
				t.Error("cancelled")
			}
		})
	}
}

// The session's limits are free, and its key is worth nothing, as soon as it has ended.
func TestNothingIsLeftOfASession(t *testing.T) {
	pg := startFakePG(t, aPrimary)
	h := startServer(t, testConfig(), Deps{})
	h.open(pg.route(1))
	for range 50 {
		c := h.login()
		c.query("hello")
		c.write(sayTerminate)
		_, _ = io.Copy(io.Discard, c)
		_ = c.Close()
	}
	eventually(t, "all have ended", func() bool { return h.clients() == 0 && pg.count() == 0 })
	eventually(t, "no table knows any of them", func() bool {
		h.keys.mu.Lock()
		defer h.keys.mu.Unlock()
		h.roster.mu.Lock()
		defer h.roster.mu.Unlock()
		h.table.mu.Lock()
		defer h.table.mu.Unlock()
		return len(h.keys.byPID)+len(h.roster.logins)+len(h.roster.pinned)+len(h.table.alive) == 0
	})
}
