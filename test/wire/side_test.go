package wire

import (
	"encoding/binary"
	"testing"
	"time"

	pg "github.com/jackc/pgx/v5/pgproto3"
)

// sideScripts are what goes on beside the queries of one session: notifications, large objects, function calls, cancels.
func sideScripts() []script {
	return append(cancelScripts(), []script{
		{name: "a notification from oneself bears one's own process", play: func(r *run) {
			p := r.open("a")
			p.ask("LISTEN wire")
			p.ask("NOTIFY wire, 'one'")
			p.ask("BEGIN; NOTIFY wire, 'two'; NOTIFY wire, 'two'; NOTIFY wire")
			p.ask("COMMIT")
			p.ask(parse("", "SELECT pg_notify('wire', $1)"), bind("", "", "three"), execute(""), syncNow)
			p.ask("SELECT pg_listening_channels(), pg_backend_pid(); UNLISTEN *")
			p.ask("NOTIFY wire, 'unheard'")
		}},
		{name: "a notification from another session, to an idle one and to one in a transaction", play: func(r *run) {
			a, b := r.open("a"), r.open("b")
			a.ask("LISTEN wire")
			b.ask("NOTIFY wire, 'while idle'")
			a.until("A")
			a.ask("BEGIN")
			b.ask("NOTIFY wire, 'while in a block'")
			a.ask("SELECT 1")
			a.ask("END")
		}},
		{name: "a change of a reported setting by somebody else", play: func(r *run) {
			p := r.open("a")
			r.site.query(r.T, "ALTER SYSTEM SET DateStyle = 'German'")
			r.site.query(r.T, "SELECT pg_reload_conf()")
			p.awaitShown("DateStyle", "German, DMY")
			r.site.query(r.T, "ALTER SYSTEM RESET DateStyle")
			r.site.query(r.T, "SELECT pg_reload_conf()")
			p.awaitShown("DateStyle", "ISO, MDY")
		}},
		{name: "large objects by SQL", play: func(r *run) {
			p := r.open("a")
			p.ask("BEGIN")
			p.ask("SELECT lo_from_bytea(424242, '\\x00010203'), lo_put(424242, 4, '\\xff')")
			p.ask("SELECT lo_open(424242, 393216), loread(0, 3), lo_tell(0), lo_lseek(0, 0, 0), lowrite(0, '\\x0909'), lo_close(0)")
			p.ask("SELECT lo_get(424242), lo_unlink(424242)")
			p.ask("ROLLBACK")
		}},
		{name: "large objects by function calls, as libpq does", play: largeObjectCalls},
		{name: "function calls, good and bad", play: func(r *run) {
			p := r.open("a")
			abs := r.function("abs(int4)")
			p.ask(&pg.FunctionCall{Function: abs, ArgFormatCodes: []uint16{1}, Arguments: [][]byte{int4(-7)}, ResultFormatCode: 1})
			p.ask(&pg.FunctionCall{Function: abs, Arguments: [][]byte{[]byte("-7")}})
			p.ask(&pg.FunctionCall{Function: abs, Arguments: [][]byte{nil}})
			p.ask(&pg.FunctionCall{Function: abs})
			p.ask(&pg.FunctionCall{Function: 4_000_000_000})
			p.ask("BEGIN")
			p.ask(&pg.FunctionCall{Function: abs, Arguments: [][]byte{[]byte("x")}})
			p.ask(&pg.FunctionCall{Function: abs, Arguments: [][]byte{[]byte("1")}})
			p.ask("ROLLBACK")
			p.send(&pg.FunctionCall{Function: abs, Arguments: [][]byte{[]byte("1")}}, "SELECT 1", &pg.FunctionCall{Function: abs, Arguments: [][]byte{[]byte("-2")}})
			p.ready(3)
		}},
	}...)
}

// awaitShown asks until the setting has the value, and writes down only the last answer.
func (p *peer) awaitShown(setting, value string) {
	p.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		mark := len(p.heard)
		p.send("SHOW " + setting)
		row := p.until("D")
		p.ready(1)
		if string(row.body[6:]) == value {
			return
		}
		p.heard = p.heard[:mark]
	}
	p.Fatalf("%s does not become %s", setting, value)
}

func int4(n int32) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }

// function is the number of one of PostgreSQL's own functions.
func (r *run) function(signature string) uint32 {
	r.Helper()
	var id uint32
	if err := r.site.admin.QueryRow(r.Context(), "SELECT $1::regprocedure::oid", signature).Scan(&id); err != nil {
		r.Fatal(err)
	}
	return id
}

func largeObjectCalls(r *run) {
	p := r.open("a")
	call := func(signature string, args ...[]byte) {
		p.ask(&pg.FunctionCall{Function: r.function(signature), ArgFormatCodes: []uint16{1}, Arguments: args, ResultFormatCode: 1})
	}
	p.ask("BEGIN")
	call("lo_create(oid)", int4(434343))
	call("lo_open(oid, int4)", int4(434343), int4(0x60000))
	call("lowrite(int4, bytea)", int4(0), make20k())
	call("lo_lseek(int4, int4, int4)", int4(0), int4(10), int4(0))
	call("loread(int4, int4)", int4(0), int4(5))
	call("lo_tell(int4)", int4(0))
	call("lo_truncate(int4, int4)", int4(0), int4(3))
	call("lo_close(int4)", int4(0))
	call("lo_unlink(oid)", int4(434343))
	call("loread(int4, int4)", int4(9), int4(5))
	p.ask("ROLLBACK")
}

// sleeping waits until the peer's statement sleeps.
func (r *run) sleeping(p *peer) {
	r.Helper()
	r.site.await(r.T, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep')", int32(p.pid))
}

// cancel sends a CancelRequest on a connection of its own and writes down what comes back: nothing.
func (r *run) cancel(pid uint32, secret []byte) {
	r.Helper()
	c := r.dial("cancel")
	b := binary.BigEndian.AppendUint32(nil, uint32(12+len(secret)))
	b = binary.BigEndian.AppendUint32(b, 80877102)
	b = binary.BigEndian.AppendUint32(b, pid)
	c.sendRaw(append(b, secret...))
	c.end()
}

func cancelScripts() []script {
	return []script{
		{name: "a cancel ends the running statement", play: func(r *run) {
			p := r.open("a")
			p.send("SELECT pg_sleep(60)")
			r.sleeping(p)
			r.cancel(p.pid, p.secret)
			p.ready(1)
			p.ask("SELECT 1")
		}},
		{name: "a cancel in a transaction, and in the middle of a pipeline", play: func(r *run) {
			p := r.open("a")
			p.ask("BEGIN")
			p.send(parse("", "SELECT pg_sleep(60)"), bind("", ""), execute(""), parse("", "SELECT 'skipped'"), bind("", ""), execute(""), syncNow, "SELECT 'failed block'")
			r.sleeping(p)
			r.cancel(p.pid, p.secret)
			p.ready(2)
			p.ask("ROLLBACK")
		}},
		{name: "a cancel with a wrong secret, of another session, of nobody does nothing", play: func(r *run) {
			a, b := r.open("a"), r.open("b")
			b.ask("SELECT pg_advisory_lock(78)")
			a.send("SELECT pg_advisory_lock(78)")
			r.site.await(r.T, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'advisory')", int32(a.pid))
			wrong := append([]byte(nil), a.secret...)
			wrong[len(wrong)-1] ^= 1
			r.cancel(a.pid, wrong)
			r.cancel(a.pid, b.secret)
			r.cancel(b.pid, a.secret)
			r.cancel(1, a.secret)
			b.ask("SELECT pg_advisory_unlock(78)")
			a.ready(1)
			a.ask("SELECT pg_advisory_unlock(78)")
		}},
		{name: "a cancel of an idle session does nothing to the next statement", play: func(r *run) {
			p := r.open("a")
			r.cancel(p.pid, p.secret)
			p.ask("SELECT pg_sleep(0.05)")
		}},
		{name: "pg_cancel_backend and pg_terminate_backend find the process that the client was told", play: func(r *run) {
			a, b := r.open("a"), r.open("b")
			a.send("SELECT pg_sleep(60)")
			r.sleeping(a)
			b.ask("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
			a.ready(1)
			if got := r.site.query(r.T, "SELECT pg_terminate_backend($1)", int32(a.pid)); got != "true" {
				r.Errorf("the server does not know process %d, which the client was told: %s", a.pid, got)
			}
			a.end()
		}},
	}
}

// The number in BackendKeyData is the backend's own: the one thing that the transcripts hide, held against the server here.
func TestTheProcessIsTheBackendsOwn(t *testing.T) {
	for _, s := range []*site{pg15.start(t), pg18.start(t)} {
		for _, addr := range []string{s.node.Addr(), s.inClear(t).Listen} {
			r := &run{T: t, site: s, door: door{addr: addr, version: version32}}
			p := r.open("a")
			p.send("SELECT pg_backend_pid()")
			row := p.until("D")
			p.ready(1)
			if got, want := (names{p.pid: "own"}).value(row.body[6:]), "<own>"; got != want {
				t.Errorf("BackendKeyData says %d, the backend says %s", p.pid, got)
			}
		}
	}
}
