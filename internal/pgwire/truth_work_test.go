package pgwire_test

import (
	"fmt"
	"math/rand/v2"

	"github.com/jackc/pgx/v5/pgproto3"
)

// truthSchema is what the workload works on. Its COPY targets accept rows, refuse a row, or refuse every COPY before it reads anything.
const truthSchema = `
	CREATE TABLE rows (x serial PRIMARY KEY, y int);
	CREATE TABLE parent (x int PRIMARY KEY);
	CREATE TABLE child (x int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
	CREATE TABLE copied (x int);
	CREATE TABLE early (x int);
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not today'; END $$;
	CREATE TRIGGER refuse BEFORE INSERT ON early EXECUTE FUNCTION refuse();
	GRANT ALL ON ALL TABLES IN SCHEMA public TO keycloak;
	GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO keycloak`

// truthWork makes up what an application does. Everything is legal protocol, much of it fails.
type truthWork struct {
	rng      *rand.Rand
	prepared int
	serial   int // of this session's prepared transactions
	session  int
}

func (w *truthWork) pick(choices ...string) string { return choices[w.rng.IntN(len(choices))] }

func (w *truthWork) sql() string {
	switch w.rng.IntN(12) {
	case 0:
		return w.pick("INSERT INTO rows (y) VALUES (1)", "INSERT INTO rows VALUES (-1), (-1)") // the second breaks the primary key
	case 1:
		return w.pick("COMMIT", "END", "commit work", "/* done */ COMMIT")
	case 2, 3:
		return w.pick("BEGIN", "BEGIN", "START TRANSACTION", "BEGIN ISOLATION LEVEL SERIALIZABLE", "begin read only")
	case 4:
		return w.pick("ROLLBACK", "ABORT", "COMMIT AND CHAIN", "ROLLBACK AND CHAIN")
	case 5:
		return w.pick("SAVEPOINT s", "ROLLBACK TO SAVEPOINT s", "RELEASE SAVEPOINT s")
	case 6:
		return w.pick("SELECT 1/0", "SELEC", "SELECT * FROM nosuch", "INSERT INTO rows VALUES ('x')")
	case 7:
		return "INSERT INTO child VALUES (-1)" // fails when its transaction commits
	case 8:
		return w.pick("SET application_name = 'a'", "SET TimeZone = 'UTC'", "LISTEN c", "NOTIFY c, 'x'", "DO $$ BEGIN RAISE NOTICE 'n'; END $$")
	case 9:
		return w.pick("", "-- nothing", "COPY copied TO STDOUT", "COPY (SELECT generate_series(1, 300)) TO STDOUT")
	case 10:
		w.serial++
		return w.pick(fmt.Sprintf("PREPARE TRANSACTION 'p%d-%d'", w.session, w.serial), fmt.Sprintf("ROLLBACK PREPARED 'p%d-%d'", w.session, w.serial-1),
			fmt.Sprintf("COMMIT PREPARED 'p%d-%d'", w.session, w.serial-2))
	}
	return w.pick("SELECT 1", "SELECT generate_series(1, 400)", "SELECT pg_sleep(0.001)", "VALUES (1, 2)")
}

// pipeline returns messages and the number of ReadyForQuery they ask for.
func (w *truthWork) pipeline() (list []pgproto3.FrontendMessage, ready int) {
	for range 1 + w.rng.IntN(4) {
		switch w.rng.IntN(8) {
		case 0, 1:
			list = append(list, &pgproto3.Query{String: w.sql()})
		case 2:
			list = append(list, &pgproto3.Query{String: w.sql() + "; " + w.sql() + ";" + w.sql()})
		case 3:
			list = append(list, &pgproto3.FunctionCall{Function: 2026}) // pg_backend_pid
		case 4:
			list = append(list, &pgproto3.Sync{})
		case 5: // what is left of a COPY is ignored
			list = append(list, &pgproto3.CopyData{Data: []byte("7\n")}, &pgproto3.Flush{}, &pgproto3.Query{String: ""})
		default:
			list = append(list, w.batch()...)
		}
		ready++
	}
	return list, ready
}

// batch is extended-protocol messages and what ends them: Sync, or a Query if none of them can fail.
func (w *truthWork) batch() []pgproto3.FrontendMessage {
	var list []pgproto3.FrontendMessage
	for range 1 + w.rng.IntN(3) {
		name, portal := "", w.pick("", "", "p")
		if w.rng.IntN(4) == 0 {
			if w.rng.IntN(2) == 0 || w.prepared == 0 {
				w.prepared++
				list = append(list, &pgproto3.Parse{Name: fmt.Sprintf("s%d", w.prepared), Query: w.sql()})
			}
			name = fmt.Sprintf("s%d", 1+w.rng.IntN(w.prepared))
		} else {
			list = append(list, &pgproto3.Parse{Query: w.sql()})
		}
		list = append(list, &pgproto3.Bind{DestinationPortal: portal, PreparedStatement: name})
		if w.rng.IntN(2) == 0 {
			list = append(list, &pgproto3.Describe{ObjectType: 'P', Name: portal})
		}
		list = append(list, &pgproto3.Execute{Portal: portal, MaxRows: uint32(w.rng.IntN(3))})
		switch w.rng.IntN(8) {
		case 0:
			list = append(list, &pgproto3.Flush{})
		case 1:
			list = append(list, &pgproto3.Close{ObjectType: 'S', Name: name})
		case 2:
			list = append(list, &pgproto3.Execute{Portal: portal})
		}
	}
	return append(list, &pgproto3.Sync{})
}

// mixed is extended-protocol messages, a Query and a Sync: the server skips the Query if they fail.
func (w *truthWork) mixed() (list []pgproto3.FrontendMessage, ready int) {
	sql, ready := "SELECT 1", 2
	if w.rng.IntN(2) == 0 {
		sql, ready = "SELEC", 1
	}
	list = []pgproto3.FrontendMessage{&pgproto3.Parse{Query: sql}, &pgproto3.Bind{}, &pgproto3.Execute{}}
	return append(list, &pgproto3.Query{String: w.pick("ROLLBACK", "SELECT 1/0")}, &pgproto3.Sync{}), ready
}
