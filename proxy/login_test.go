package proxy

import (
	"testing"
)

func TestALoginReachesTheWriterAndEverythingItSays(t *testing.T) {
	pg := startFakePG(t, aPrimary)
	h := startServer(t, testConfig(), Deps{})
	h.open(pg.route(1))
	c := h.start()
	same(t, "login", c.messages(), []string{"R 0", "S in_hot_standby off", "S server_version 15.0", "K 1001 secret of 4", "Z I"})
	same(t, "query", c.query("hello"), []string{"D hello", "C SELECT 1", "Z I"})
	same(t, "begin", c.query("begin"), []string{"D begin", "C SELECT 1", "Z T"})
	if got := h.Stats(); got.Open != 1 || got.InTransaction != 1 {
		t.Errorf("stats in a transaction: %+v", got)
	}
	same(t, "commit", c.query("commit"), []string{"D commit", "C SELECT 1", "Z I"})
	c.write(sayTerminate)
	if rest := c.end(); rest != "" {
		t.Errorf("after Terminate came %q", rest)
	}
	eventually(t, "the session is counted", func() bool { return h.metric("pgtether_sessions_total", endedByClient) == 1 })
	eventually(t, "the backend is closed", func() bool { return pg.count() == 0 })
	if n := h.logs.lines("session end", "user=app", "database=db", "epoch=1", "node=region-a", "reason=client"); n != 1 {
		t.Errorf("%d log lines for the session's end, want 1", n)
	}
}
