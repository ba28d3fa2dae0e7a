package pgwire_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/internal/pgwire"
)

// recallTruth compares what the tracker remembers of a session with what its own backend says.
type recallTruth struct {
	t      *testing.T
	relay  *relay
	client *truthClient
	rng    *rand.Rand
	calm   bool // does one thing after the other, in no block, as a driver does that sets up its connection
	serial int
	told   []string

	points, named, unnamed, certain, settings, known int
}

func (s *recallTruth) pick(choices ...string) string { return choices[s.rng.IntN(len(choices))] }

func (s *recallTruth) name() string { return s.pick("a", "b", "c", "d", "E", "f g") }

// sql is a text for the extended protocol; each SELECT has a column that only it has.
func (s *recallTruth) sql() string {
	s.serial++
	switch s.rng.IntN(16) {
	case 0:
		return s.pick("SELECT nosuch", "SELECT 1 +", "SELECT 1; SELECT 2", "SELECT * FROM nosuch")
	case 1:
		return fmt.Sprintf("SELECT 1/(random()*0)::int AS u%d", s.serial)
	case 2:
		return "DEALLOCATE " + s.pick("a", "B", "c", `"E"`, `"f g"`, "PREPARE d", "nosuch")
	case 3:
		return s.pick("DEALLOCATE ALL", "DISCARD ALL", "")
	case 4, 5:
		return s.setting()
	case 6:
		return "INSERT INTO child VALUES (-1)" // fails when its transaction commits
	case 7:
		return s.pick("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT s", "COPY copied TO STDOUT")
	case 8:
		return "PREPARE " + s.pick("a", "b", "q") + " AS SELECT 1" // shares the names
	}
	return fmt.Sprintf("SELECT 1 AS u%d", s.serial)
}

func (s *recallTruth) setting() string {
	return s.pick("SET application_name = 'x y'", "SET timezone TO 'UTC'", "SET TIME ZONE 'Europe/Berlin'", "SET search_path = a, \"B c\"", "RESET timezone",
		"SET application_name TO nosuch", "RESET ALL", "SET timezone = 'no/such'", "SET my.var = 'x'", "RESET application_name", "SET LOCAL timezone = 'UTC'",
		"SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE")
}

// simple is a Query.
func (s *recallTruth) simple() pgproto3.FrontendMessage {
	text := s.sql()
	if s.rng.IntN(8) == 0 {
		text += ";" + s.sql()
	}
	return &pgproto3.Query{String: text}
}

// batch is extended-protocol messages without what ends them.
func (s *recallTruth) batch() (list []pgproto3.FrontendMessage) {
	for range 1 + s.rng.IntN(3) {
		name, portal := "", s.pick("", "", "", "p")
		if s.rng.IntN(2) == 0 {
			name = s.name()
		}
		switch s.rng.IntN(10) {
		case 0:
			list = append(list, &pgproto3.Close{ObjectType: 'S', Name: name})
			continue
		case 1:
			list = append(list, &pgproto3.Flush{})
		case 2:
		default:
			list = append(list, &pgproto3.Parse{Name: name, Query: s.sql()})
		}
		if s.rng.IntN(3) == 0 {
			continue
		}
		list = append(list, &pgproto3.Bind{DestinationPortal: portal, PreparedStatement: name})
		if s.rng.IntN(2) == 0 {
			list = append(list, &pgproto3.Describe{ObjectType: 'P', Name: portal})
		}
		list = append(list, &pgproto3.Execute{Portal: portal})
	}
	return list
}

// step sends one thing or several without waiting, and waits until all is answered: that is when a last Sync of its own kind is.
func (s *recallTruth) step() {
	s.t.Helper()
	var list []pgproto3.FrontendMessage
	if s.calm {
		s.calmly()
		return
	}
	for range 1 + s.rng.IntN(5)/3*s.rng.IntN(4) {
		switch s.rng.IntN(8) {
		case 0, 1:
			list = append(list, s.simple())
		case 2: // what a pool does with a connection
			list = append(list, &pgproto3.Parse{Query: s.setting()}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Sync{})
		default:
			list = append(append(list, s.batch()...), &pgproto3.Sync{})
		}
	}
	if s.rng.IntN(12) == 0 && s.client.status == 'I' { // a Query that is skipped if what is before it fails
		list = append(s.batch(), &pgproto3.Query{String: s.pick("SELECT 1", "DEALLOCATE ALL", "SELECT nosuch")}, &pgproto3.Sync{})
	}
	s.say(list)
	s.exchange(append(list, s.marker()...)...)
	if s.client.status != 'I' { // a boundary must be idle
		end := []pgproto3.FrontendMessage{&pgproto3.Query{String: "ROLLBACK"}}
		if s.rng.IntN(2) == 0 {
			end = []pgproto3.FrontendMessage{&pgproto3.Parse{Query: s.pick("COMMIT", "ROLLBACK")}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Sync{}}
		}
		s.say(end)
		s.exchange(append(end, s.marker()...)...)
	}
	s.compare()
}

// calmly sends one unit.
func (s *recallTruth) calmly() {
	s.t.Helper()
	text := s.setting()
	if s.serial++; s.rng.IntN(4) == 0 {
		text = fmt.Sprintf("SELECT 1/(random() < 0.5)::int AS u%d", s.serial)
	}
	var list []pgproto3.FrontendMessage
	switch s.rng.IntN(4) {
	case 0:
		list = append(list, &pgproto3.Query{String: text})
	case 1: // a statement that is prepared by name, runs several times and goes
		name := fmt.Sprintf("S_%d", s.rng.IntN(5))
		list = append(list, &pgproto3.Close{ObjectType: 'S', Name: name}, &pgproto3.Parse{Name: name, Query: text},
			&pgproto3.Bind{PreparedStatement: name}, &pgproto3.Execute{}, &pgproto3.Sync{})
	case 2: // one that may not exist
		list = append(list, &pgproto3.Bind{PreparedStatement: fmt.Sprintf("S_%d", s.rng.IntN(5))}, &pgproto3.Execute{}, &pgproto3.Sync{})
	default:
		list = append(list, &pgproto3.Parse{Query: text}, &pgproto3.Bind{}, &pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{}, &pgproto3.Sync{})
	}
	s.say(list)
	s.exchange(append(list, s.marker()...)...)
	s.compare()
}

func (s *recallTruth) say(list []pgproto3.FrontendMessage) {
	for _, m := range list {
		s.told = append(s.told, fmt.Sprintf("%T %+v", m, m))
	}
}

const (
	markerName = "__marker"
	answerTime = time.Minute // how long an answer may take on a loaded machine
)

// marker is a unit whose answer, an error about a name that nobody has, can be told from all others.
func (s *recallTruth) marker() []pgproto3.FrontendMessage {
	return []pgproto3.FrontendMessage{&pgproto3.Describe{ObjectType: 'S', Name: markerName}, &pgproto3.Sync{}}
}

// answer is what a backend has said.
type answer struct {
	rows   [][]string
	codes  []string // of errors
	fields []string // names of columns
	types  string   // of messages
}

// exchange sends what ends with a marker and reads all its answers.
func (s *recallTruth) exchange(list ...pgproto3.FrontendMessage) answer {
	s.t.Helper()
	s.client.send(list...)
	if err := s.client.conn.SetReadDeadline(time.Now().Add(answerTime)); err != nil {
		s.t.Fatal(err)
	}
	var a answer
	for marked := false; ; {
		m, err := s.client.frontend.Receive()
		if err != nil {
			s.failf("receive: %s; so far %+v, status %q, idle %t", err.Error(), a, s.client.status, s.relay.tracker.Idle())
		}
		switch m := m.(type) {
		case *pgproto3.ErrorResponse:
			a.codes = append(a.codes, m.Code)
			a.types += "E"
			marked = marked || strings.Contains(m.Message, markerName)
			if strings.HasPrefix(m.Message, "StartTransactionCommand") { // 18.4 fails the first message behind extended ones, a Query and a Sync
				s.client.send(s.marker()...)
			}
		case *pgproto3.BindComplete:
			a.types += "2"
		case *pgproto3.NoData:
			a.types += "n"
		case *pgproto3.RowDescription:
			for _, f := range m.Fields {
				a.fields = append(a.fields, string(f.Name))
			}
		case *pgproto3.DataRow:
			var row []string
			for _, v := range m.Values {
				row = append(row, string(v))
			}
			a.rows = append(a.rows, row)
		case *pgproto3.ReadyForQuery:
			s.client.status = m.TxStatus
			if marked {
				return a
			}
		}
	}
}

func (s *recallTruth) failf(format string, args ...any) {
	s.t.Helper()
	for _, line := range s.told {
		s.t.Log(line)
	}
	s.t.Fatalf(format, args...)
}

// recall asks the tracker, when its relay has forwarded everything.
func (s *recallTruth) recall() pgwire.Recall {
	s.t.Helper()
	for s.relay.forwarded.Load() != s.client.sent {
		time.Sleep(time.Millisecond)
	}
	if !s.relay.tracker.Idle() {
		s.failf("not idle, broken %v", s.relay.tracker.Broken())
	}
	return s.relay.tracker.Recall()
}

// ask runs a query by name, which leaves the unnamed statement alone.
func (s *recallTruth) ask(sql string) [][]string {
	s.t.Helper()
	a := s.exchange(append([]pgproto3.FrontendMessage{&pgproto3.Parse{Name: "__ask", Query: sql}, &pgproto3.Bind{PreparedStatement: "__ask"},
		&pgproto3.Execute{}, &pgproto3.Close{ObjectType: 'S', Name: "__ask"}, &pgproto3.Sync{}}, s.marker()...)...)
	if len(a.codes) != 1 {
		s.failf("ask %s: %v", sql, a.codes)
	}
	return a.rows
}

// compare is at an idle boundary.
func (s *recallTruth) compare() {
	s.t.Helper()
	r := s.recall()
	s.points++
	if !r.Unsure.Named {
		s.certain++
		var want, got []string
		for _, row := range s.ask("SELECT name, statement FROM pg_prepared_statements WHERE NOT from_sql AND name <> '__ask'") {
			want = append(want, row[0]+"="+row[1])
		}
		for _, p := range r.Named {
			got = append(got, p.Name+"="+p.Text)
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(want, got) {
			s.failf("named statements\n got %q\nwant %q", got, want)
		}
		s.named += len(got)
	} else if s.rng.IntN(2) == 0 { // so that it is certain again
		s.exchange(append([]pgproto3.FrontendMessage{&pgproto3.Query{String: "DEALLOCATE ALL"}}, s.marker()...)...)
		if r = s.recall(); r.Unsure.Named || len(r.Named) > 0 {
			s.failf("after DEALLOCATE ALL: %+v", r)
		}
	}
	s.compareUnnamed(r)
	s.compareSettings(r)
}

// compareUnnamed binds and describes the unnamed statement.
func (s *recallTruth) compareUnnamed(r pgwire.Recall) {
	s.t.Helper()
	if r.Unsure.Unnamed {
		s.failf("the unnamed statement is not certain: %+v", r)
	}
	a := s.exchange(append([]pgproto3.FrontendMessage{&pgproto3.Bind{DestinationPortal: "__bind"}, &pgproto3.Describe{ObjectType: 'S'}, &pgproto3.Sync{}},
		s.marker()...)...)
	if exists := a.codes[0] != "26000" || strings.HasPrefix(a.types, "2"); exists != (r.Unnamed != nil) {
		s.failf("the unnamed statement exists: %t; remembered: %+v", exists, r.Unnamed)
	}
	if r.Unnamed == nil {
		return
	}
	s.unnamed++
	_, column, has := strings.Cut(r.Unnamed.Text, " AS u")
	if has = has && strings.HasPrefix(r.Unnamed.Text, "SELECT"); has != (len(a.fields) == 1) || has && a.fields[0] != "u"+column {
		s.failf("the unnamed statement has the columns %q; remembered: %+v", a.fields, r.Unnamed)
	}
}

// compareSettings compares as long as no SET has come that the tracker says it does not know.
func (s *recallTruth) compareSettings(r pgwire.Recall) {
	s.t.Helper()
	if r.Unknown&(pgwire.UnknownSet|pgwire.UnknownSetInBlock|pgwire.UnknownSeveral|pgwire.UnknownOrder) != 0 {
		return
	}
	s.known++
	got := map[string]string{}
	for _, one := range r.Settings {
		s.settings++
		if got[one.Name] = strings.Join(one.Values, ", "); one.Name == "search_path" {
			got[one.Name] = `a, "B c"`
		}
		if one.Name == "my.var" && !slices.Contains(r.Custom, "my.var") {
			s.failf("my.var is set, and not among %q", r.Custom)
		}
	}
	delete(got, "my.var") // is not in pg_settings
	want := map[string]string{}
	for _, row := range s.ask("SELECT lower(name), setting FROM pg_settings WHERE source = 'session'") {
		want[row[0]] = row[1]
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		s.failf("settings\n got %q\nwant %q", got, want)
	}
}

// TestWhatIsRememberedIsWhatPostgreSQLHas runs random sessions, many of whose statements fail, and compares at every idle boundary with
// pg_prepared_statements, pg_settings and an attempt to bind the unnamed statement.
func TestWhatIsRememberedIsWhatPostgreSQLHas(t *testing.T) {
	node := truthNode(t)
	watcher, err := pgx.Connect(t.Context(), node.SuperDSN("keycloak"))
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Close(context.Background())
	if _, err := watcher.Exec(t.Context(), truthSchema); err != nil {
		t.Fatal(err)
	}
	total := recallTruth{}
	seed := firstSeed(t)
	for i := range uint64(*sessions) * 4 {
		s := recallSession(t, node, seed+i)
		s.calm = i%2 == 1
		for range 25 {
			s.step()
		}
		s.relay.end()
		total.points, total.certain, total.named = total.points+s.points, total.certain+s.certain, total.named+s.named
		total.unnamed, total.settings, total.known = total.unnamed+s.unnamed, total.settings+s.settings, total.known+s.known
	}
	t.Logf("%d boundaries: %d with certain named statements, %d of these in all, %d unnamed; %d with known settings, %d of these", total.points,
		total.certain, total.named, total.unnamed, total.known, total.settings)
	if total.certain*10 < total.points*9 || total.named < total.points/2 || total.unnamed < total.points/4 || total.settings < total.points/4 {
		t.Error("the workload does not reach what it is meant to")
	}
}

func recallSession(t *testing.T, node *lab.Node, seed uint64) *recallTruth {
	t.Helper()
	t.Logf("seed %d", seed)
	r, conn := startRelay(t, node.AppDSN(), seed)
	return &recallTruth{t: t, relay: r, client: newTruthClient(t, conn), rng: rand.New(rand.NewPCG(seed, 9))}
}

// rememberedNames are the named statements that a tracker remembers, in order.
func rememberedNames(t *testing.T, tracker *pgwire.Tracker) string {
	t.Helper()
	r := tracker.Recall()
	if r.Unsure != (pgwire.Unsure{}) || r.Unnamed != nil && r.Unnamed.Text == "" {
		t.Errorf("remembered: %+v", r)
	}
	var list []string
	for _, s := range r.Named {
		list = append(list, s.Name+"="+s.Text)
	}
	slices.Sort(list)
	return strings.Join(list, "; ")
}

// preparedNames are those that the driver's backend has.
func preparedNames(t *testing.T, c *pgx.Conn) string {
	t.Helper()
	results, err := c.PgConn().Exec(t.Context(), "SELECT name, statement FROM pg_prepared_statements WHERE NOT from_sql").ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, row := range results[0].Rows {
		list = append(list, string(row[0])+"="+string(row[1]))
	}
	slices.Sort(list)
	return strings.Join(list, "; ")
}
