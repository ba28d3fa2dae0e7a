package pgwire_test

import (
	"context"
	"flag"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/internal/pgwire"
)

// truth compares what the tracker says about a session with what the server says.
type truth struct {
	t       *testing.T
	relay   *relay
	client  *truthClient
	watcher *pgx.Conn
	work    *truthWork

	points, idle, inBlock, unsure, busy int
}

// activity is the server's word on the session.
func (s *truth) activity() (state string, inTransaction bool) {
	s.t.Helper()
	err := s.watcher.QueryRow(s.t.Context(), `SELECT state, xact_start IS NOT NULL FROM pg_stat_activity WHERE pid = $1`,
		int64(s.relay.pid)).Scan(&state, &inTransaction)
	if err != nil {
		s.t.Fatal(err)
	}
	return state, inTransaction
}

// rest compares at a point where the client has read all it expects and the server has been sent all of the client's bytes: a refused COPY is
// answered before its data have come. After a COPY that failed among Syncs the tracker may be busy without need.
func (s *truth) rest(mayBeUnsure bool) {
	s.t.Helper()
	for s.relay.forwarded.Load() != s.client.sent {
		time.Sleep(time.Millisecond)
	}
	state, inTransaction := s.activity()
	if err := s.relay.tracker.Broken(); err != nil {
		s.t.Fatal(err)
	}
	s.points++
	switch tr := &s.relay.tracker; {
	case tr.TxStatus() != s.client.status:
		s.t.Fatalf("status %q, the client was told %q", tr.TxStatus(), s.client.status)
	case tr.InTransaction() != strings.HasPrefix(state, "idle in transaction"), tr.TxStatus() == 'T' && !inTransaction, tr.TxStatus() == 'I' && inTransaction:
		s.t.Fatalf("in transaction: %t; server: state %q, transaction %t", tr.InTransaction(), state, inTransaction)
	case tr.InTransaction():
		if failed := strings.HasSuffix(state, "(aborted)"); failed != (tr.TxStatus() == 'E') || tr.Idle() {
			s.t.Fatalf("status %q, idle %t; server: state %q", tr.TxStatus(), tr.Idle(), state)
		}
		s.inBlock++
	case state == "idle" && tr.Idle():
		if tr.InDoubt() || tr.Running() {
			s.t.Fatalf("idle, in doubt %t, running %t", tr.InDoubt(), tr.Running())
		}
		s.idle++
	case state == "idle" && mayBeUnsure:
		s.unsure++
	default:
		s.t.Fatalf("idle: %t; server: state %q, transaction %t", tr.Idle(), state, inTransaction)
	}
}

// step does one thing and compares.
func (s *truth) step() {
	s.t.Helper()
	switch n := s.work.rng.IntN(20); {
	case n < 13:
		list, ready := s.work.pipeline()
		s.client.send(list...)
		s.client.ready(ready)
		s.rest(false)
	case n < 14:
		if s.client.status != 'E' {
			list, ready := s.work.mixed()
			s.client.send(list...)
			s.client.ready(ready)
			s.rest(false)
		}
	case n < 16:
		s.copySimple()
	case n < 18:
		s.copyExtended()
	case n < 19:
		s.underWay()
	default:
		s.unsynced()
	}
}

// data is what a client sends during a COPY; good if all of it is accepted.
func (s *truth) data() (list []pgproto3.FrontendMessage, good bool) {
	good = true
	for range s.work.rng.IntN(5) {
		switch s.work.rng.IntN(8) {
		case 0:
			list = append(list, &pgproto3.CopyData{Data: []byte("no number\n")})
			good = false
		case 1:
			list = append(list, &pgproto3.Flush{})
		default:
			list = append(list, &pgproto3.CopyData{Data: []byte(strings.Repeat("7\n", 1+s.work.rng.IntN(2000)))})
		}
	}
	if s.work.rng.IntN(4) == 0 {
		return append(list, &pgproto3.CopyFail{Message: "no"}), false
	}
	return append(list, &pgproto3.CopyDone{}), good
}

// copySimple is COPY FROM STDIN as most drivers do it, blind or after CopyInResponse.
func (s *truth) copySimple() {
	s.t.Helper()
	data, _ := s.data()
	sql := "COPY " + s.work.pick("copied", "copied", "early", "nosuch") + " FROM STDIN"
	if s.work.rng.IntN(4) == 0 {
		sql = "SELECT 1; " + sql + "; SELECT 2"
	}
	s.client.send(&pgproto3.Query{String: sql})
	if s.work.rng.IntN(2) == 0 {
		s.client.send(data...)
	} else if s.client.until('G', 'Z') == 'G' {
		s.copying()
		s.client.send(data...)
	} else {
		s.rest(false)
		return
	}
	s.client.ready(1)
	s.rest(false)
}

// copyExtended is COPY FROM STDIN as libpq does it in the extended protocol: a Sync behind Execute, and one behind CopyDone.
func (s *truth) copyExtended() {
	s.t.Helper()
	target := s.work.pick("copied", "copied", "early", "nosuch")
	s.client.send(&pgproto3.Parse{Query: "COPY " + target + " FROM STDIN"}, &pgproto3.Bind{}, &pgproto3.Describe{ObjectType: 'P'},
		&pgproto3.Execute{}, &pgproto3.Sync{})
	if s.client.until('G', 'Z') == 'Z' {
		s.rest(false)
		return
	}
	s.copying()
	data, good := s.data()
	s.client.send(append(data, &pgproto3.Sync{})...)
	if target == "early" { // failed before it read the first Sync: both are answered
		s.client.ready(2)
		s.rest(false)
		return
	}
	s.client.ready(1)
	s.rest(!good)
	s.client.send(&pgproto3.Query{String: "SELECT 1"})
	s.client.ready(1)
	s.rest(false) // the next answer ends the doubt
}

// copying looks at the session when the server has asked for data: the COPY may have failed since, but in the extended protocol only a Sync that
// is not on its way yet can end it.
func (s *truth) copying() {
	s.t.Helper()
	if s.relay.tracker.Idle() {
		if state, _ := s.activity(); state == "active" {
			s.t.Fatal("idle during a COPY")
		}
	}
	s.busy++
}

// underWay looks at the session while the server works: it waits for a lock that the watcher holds.
func (s *truth) underWay() {
	s.t.Helper()
	if s.client.status == 'E' {
		return
	}
	s.client.send(&pgproto3.Query{String: "SELECT pg_advisory_lock(1), pg_advisory_unlock(1)"})
	for waits := false; !waits; {
		s.ask(`SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND pid = $1`, &waits, int64(s.relay.pid))
	}
	if s.relay.tracker.Idle() || !s.relay.tracker.Running() {
		s.t.Fatalf("idle %t, running %t while the server works", s.relay.tracker.Idle(), s.relay.tracker.Running())
	}
	s.busy++
	var done any
	s.ask(`SELECT pg_advisory_unlock(1)::text`, &done)
	s.client.ready(1)
	s.ask(`SELECT pg_advisory_lock(1)::text`, &done)
	s.rest(false)
}

func (s *truth) ask(sql string, answer any, args ...any) {
	s.t.Helper()
	if err := s.watcher.QueryRow(s.t.Context(), sql, args...).Scan(answer); err != nil {
		s.t.Fatal(err)
	}
}

// unsynced looks at the session when everything is answered but the Sync has not been sent.
func (s *truth) unsynced() {
	s.t.Helper()
	if s.client.status == 'E' {
		return
	}
	s.client.send(&pgproto3.Parse{Query: "SELECT 1"}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Flush{})
	s.client.until('C')
	if state, inTransaction := s.activity(); s.relay.tracker.Idle() || state == "idle" || !inTransaction {
		s.t.Fatalf("idle %t before the Sync; server: state %q, transaction %t", s.relay.tracker.Idle(), state, inTransaction)
	}
	s.busy++
	s.client.send(&pgproto3.Sync{})
	s.client.ready(1)
	s.rest(false)
}

var sessions = flag.Int("sessions", 8, "random sessions against PostgreSQL")

// firstSeed is the model tests' -seed, or chosen.
func firstSeed(t *testing.T) uint64 {
	t.Helper()
	seed, err := strconv.ParseUint(flag.Lookup("seed").Value.String(), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if seed == 0 {
		seed = rand.Uint64() >> 16
	}
	return seed
}

// TestTheTrackerAgreesWithPostgreSQL runs random sessions and compares at every rest point with pg_stat_activity.
func TestTheTrackerAgreesWithPostgreSQL(t *testing.T) {
	node := truthNode(t)
	watcher, err := pgx.Connect(t.Context(), node.SuperDSN("keycloak"))
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Close(context.Background())
	if _, err := watcher.Exec(t.Context(), truthSchema+"; SELECT pg_advisory_lock(1)"); err != nil {
		t.Fatal(err)
	}
	seed := firstSeed(t)
	total := truth{}
	for i := range uint64(*sessions) {
		s := truthSession(t, node, watcher, seed+i)
		for range 60 {
			s.step()
		}
		s.relay.end()
		total.points, total.idle, total.inBlock = total.points+s.points, total.idle+s.idle, total.inBlock+s.inBlock
		total.unsure, total.busy = total.unsure+s.unsure, total.busy+s.busy
	}
	t.Logf("%d rest points: %d idle, %d in a block, %d unsure; %d looks at work under way", total.points, total.idle, total.inBlock, total.unsure, total.busy)
	if total.points < 300 || total.idle < 50 || total.inBlock < 50 || total.busy < 10 {
		t.Error("the workload does not reach what it is meant to")
	}
}

func truthNode(t *testing.T) *lab.Node {
	t.Helper()
	l, err := lab.Start(t.Context(), lab.Options{Single: true, Settings: map[string]string{"max_prepared_transactions": "200"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l.Node(lab.RegionA)
}

func truthSession(t *testing.T, node *lab.Node, watcher *pgx.Conn, seed uint64) *truth {
	t.Helper()
	t.Logf("seed %d", seed)
	r, conn := startRelay(t, node.AppDSN(), seed)
	return &truth{t: t, relay: r, client: newTruthClient(t, conn), watcher: watcher,
		work: &truthWork{rng: rand.New(rand.NewPCG(seed, 0)), session: int(seed % 1000000)}}
}

// TestWhatAServerSaysToAnIdleSessionIsKeptBack terminates an idle session and one that is at work.
func TestWhatAServerSaysToAnIdleSessionIsKeptBack(t *testing.T) {
	node := truthNode(t)
	watcher, err := pgx.Connect(t.Context(), node.SuperDSN("keycloak"))
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Close(context.Background())
	var done bool

	idle := truthSession(t, node, watcher, 1)
	idle.client.send(&pgproto3.Query{String: "SELECT 1"})
	idle.client.ready(1)
	idle.ask(`SELECT pg_terminate_backend($1, 60000)`, &done, int64(idle.relay.pid))
	if m, err := idle.client.frontend.Receive(); err == nil {
		t.Errorf("%T reached the client", m)
	}
	idle.relay.done.Wait()
	if kept := idle.relay.kept; len(kept) < 5 || kept[0] != 'E' {
		t.Errorf("kept back: %q", kept)
	} else if fields, err := pgwire.ParseErrorFields(kept[5:]); err != nil || fields.SQLState != "57P01" {
		t.Errorf("kept back: %q, %v", kept, err)
	}

	busy := truthSession(t, node, watcher, 2)
	busy.client.send(&pgproto3.Query{String: "BEGIN"})
	busy.client.ready(1)
	busy.ask(`SELECT pg_terminate_backend($1, 60000)`, &done, int64(busy.relay.pid))
	if busy.client.until('E') != 'E' || busy.relay.tracker.InDoubt() {
		t.Error("a session in a block did not get the server's word, or is in doubt")
	}
}
