package proxy

import (
	"crypto/tls"
	"io"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgtether/pgtether/internal/pgwire"
)

// completed is the end of an answer with a tag.
func completed(tag string, status byte) string {
	return encode(&pgproto3.CommandComplete{CommandTag: []byte(tag)}, &pgproto3.ReadyForQuery{TxStatus: status})
}

func TestARelaxedCommitIsCountedBeforeItsClientIsTold(t *testing.T) {
	onEach(t, func(t *testing.T, newRig func(bool) *rig) {
		r := newRig(false).start()
		count := &r.pair.backend.relaxed.count
		ask := func(sql, answer string, want uint64) {
			t.Helper()
			r.client.write([]byte(simple(sql)))
			r.expect(r.server, simple(sql))
			r.server.write([]byte(answer))
			r.expect(r.client, answer[:len(answer)-len(ready)]) // the CommandComplete is what the client goes by
			if got := count.Load(); got != want {
				t.Errorf("after the client has heard of %q: %d relaxed commits, want %d", sql, got, want)
			}
			r.expect(r.client, answer[len(answer)-len(ready):])
		}
		for n := range uint64(50) {
			ask("BEGIN", completed("BEGIN", 'T'), n)
			ask("SET LOCAL synchronous_commit TO OFF", completed("SET", 'T'), n)
			ask("COMMIT", completed("COMMIT", 'I'), n+1)
			ask("DELETE FROM t", completed("DELETE 1", 'I'), n+1)
		}
	})
}

func TestTheCountBelongsToItsEpoch(t *testing.T) {
	pg := startFakePG(t, aPrimary)
	h := startServer(t, testConfig(), Deps{})
	count := func(epoch, want uint64, known bool) {
		t.Helper()
		if got, ok := h.RelaxedCommits(epoch); got != want || ok != known {
			t.Errorf("epoch %d: %d %t, want %d %t", epoch, got, ok, want, known)
		}
	}
	count(0, 0, false)
	count(1, 0, false)
	h.open(pg.route(1))
	count(1, 0, true)
	h.login().query("SELECT set_config('synchronous_commit', 'off', false)")
	count(1, 1, true)
	h.login().query("SELECT 1") // another session
	count(1, 1, true)
	h.Cut(1, pgwire.WriterLost)
	count(1, 1, true)
	h.open(pg.route(2))
	count(1, 0, false)
	count(2, 0, true)
	if got := h.metric("pgtether_relaxed_commits_total"); got != 1 {
		t.Errorf("the metric says %v", got)
	}
}

func TestASessionThatBeginsRelaxedIsCounted(t *testing.T) {
	pg := startFakePG(t, aPrimary)
	h := startServer(t, testConfig(), Deps{})
	h.open(pg.route(1))
	for i, params := range [][]string{{"synchronous_commit", "off"}, {"options", "-c synchronous_commit=local"}, {"options", "--synchronous-commit=off"}} {
		c := h.dial()
		c.write(startupPacket(pgwire.Version30, append([]string{"user", "app", "database", "db"}, params...)...))
		if got := c.messages(); got[len(got)-1] != "Z I" {
			t.Fatalf("%q: %q", params, got)
		}
		c.query("SELECT 1")
		if n, known := h.RelaxedCommits(1); n != uint64(i+1) || !known {
			t.Errorf("after %q: %d %t", params, n, known)
		}
	}
}

func TestNothingIsSaidOfAnEpochWithOpaqueSessions(t *testing.T) {
	pg := startFakePG(t, encrypted(t, "", aPrimary))
	h := startServer(t, passthroughConfig(), Deps{WriterAlive: alive})
	h.open(pg.route(1))
	if n, known := h.RelaxedCommits(1); n != 0 || !known {
		t.Fatalf("before: %d %t", n, known)
	}
	c := h.dial()
	c.write([]byte(sslRequest))
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	conn := tls.Client(c.Conn, &tls.Config{RootCAs: theCA().pool, ServerName: "localhost"})
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	if n, known := h.RelaxedCommits(1); known {
		t.Errorf("%d, though a session cannot be seen", n)
	}
	h.Cut(1, pgwire.WriterLost)
	if n, known := h.RelaxedCommits(1); known {
		t.Errorf("%d after the session has ended", n)
	}
	h.open(pg.route(2))
	if _, known := h.RelaxedCommits(2); !known {
		t.Error("the next epoch has none")
	}
}
