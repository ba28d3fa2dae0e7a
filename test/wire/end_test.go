package wire

// endScripts are how sessions come to their end.
func endScripts() []script {
	return append(endedByServerScripts(), []script{
		{name: "Terminate", play: func(r *run) {
			p := r.open("a")
			p.send(terminate)
			p.end()
		}},
		{name: "Terminate in the same segment as a Query", play: func(r *run) {
			p := r.open("a")
			p.send("CREATE TABLE served (i int)", terminate)
			p.end()
			b := r.open("b")
			b.ask("SELECT count(*) FROM served; DROP TABLE served")
		}},
		{name: "Terminate behind several statements that take their time", play: func(r *run) {
			p := r.open("a")
			p.send("SELECT pg_sleep(0.1)", parse("", "SELECT pg_sleep(0.1), 'extended'"), bind("", ""), execute(""), syncNow, "SELECT 1", terminate)
			p.end()
		}},
		{name: "Terminate behind messages without a Sync", play: func(r *run) {
			p := r.open("a")
			p.ask("CREATE TABLE unsynced (i int)")
			p.send(parse("", "INSERT INTO unsynced VALUES (1)"), bind("", ""), execute(""), terminate)
			p.end()
			b := r.open("b")
			b.ask("SELECT count(*) FROM unsynced; DROP TABLE unsynced")
		}},
		{name: "Terminate inside a block, and in a copy", play: func(r *run) {
			p := r.open("a")
			p.ask("BEGIN")
			p.send(terminate)
			p.end()
			b := copyTable(r)
			b.send("COPY t FROM STDIN")
			b.until("G")
			b.send(copyData("1\tone\n"), terminate)
			b.end()
		}},
		{name: "what follows Terminate is not read", play: func(r *run) {
			p := r.open("a")
			p.send(terminate, "SELECT 'too late'")
			p.end()
		}},
		{name: "half-close: what is under way is delivered", play: func(r *run) {
			p := r.open("a")
			p.send("SELECT pg_sleep(0.2), 'first'", "SELECT 'second'", parse("", "SELECT 'third'"), bind("", ""), execute(""), syncNow)
			p.closeWrite()
			p.end()
		}},
		{name: "half-close of an idle session, and in the middle of a message", play: func(r *run) {
			p := r.open("a")
			p.closeWrite()
			p.end()
			b := r.open("b")
			b.sendRaw([]byte("Q\x00\x00\x00\x20SELECT"))
			b.closeWrite()
			b.end()
		}},
		{name: "half-close inside a block and in a copy", play: func(r *run) {
			p := r.open("a")
			p.ask("BEGIN")
			p.closeWrite()
			p.end()
			b := copyTable(r)
			b.send("COPY t FROM STDIN")
			b.until("G")
			b.send(copyData("1\tone\n"))
			b.closeWrite()
			b.end()
		}},
		{name: "a large answer to a client that has half-closed", whole: true, play: func(r *run) {
			p := r.open("a")
			p.send("SELECT repeat('0123456789abcdef', 65536) FROM generate_series(1, 8)")
			p.closeWrite()
			p.end()
		}},
	}...)
}

// endedByServerScripts are ends that the server decides on; what it says has to arrive unchanged.
func endedByServerScripts() []script {
	terminated := func(before func(r *run, p *peer)) func(r *run) {
		return func(r *run) {
			p := r.open("a")
			before(r, p)
			r.site.query(r.T, "SELECT pg_terminate_backend($1)", int32(p.pid))
			p.end()
		}
	}
	return []script{
		{name: "an administrator ends an idle session", play: terminated(func(*run, *peer) {})},
		{name: "an administrator ends a session in a block", play: terminated(func(_ *run, p *peer) { p.ask("BEGIN") })},
		{name: "an administrator ends a session in a failed block", play: terminated(func(_ *run, p *peer) { p.ask("BEGIN; SELECT 1/0") })},
		{name: "an administrator ends a running statement", play: terminated(func(r *run, p *peer) {
			p.send("SELECT pg_sleep(60)")
			r.sleeping(p)
		})},
		{name: "an administrator ends a running statement in a pipeline", play: terminated(func(r *run, p *peer) {
			p.send("SELECT 1", "SELECT pg_sleep(60)", "SELECT 2")
			r.sleeping(p)
		})},
		{name: "an administrator ends a copy", play: terminated(func(r *run, p *peer) {
			p.ask("CREATE TEMP TABLE t (i int)")
			p.send("COPY t FROM STDIN")
			p.until("G")
			r.site.await(r.T, "SELECT wait_event = 'ClientRead' FROM pg_stat_activity WHERE pid = $1", int32(p.pid))
		})},
		{name: "a session ends itself", play: func(r *run) {
			p := r.open("a")
			p.send("SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(60)")
			p.end()
		}},
		{name: "idle_session_timeout", from: 14, play: func(r *run) {
			p := r.open("a")
			p.ask("SET idle_session_timeout = '50ms'")
			p.end()
		}},
		{name: "idle_in_transaction_session_timeout", play: func(r *run) {
			p := r.open("a")
			p.ask("SET idle_in_transaction_session_timeout = '50ms'")
			p.ask("BEGIN")
			p.end()
		}},
		{name: "transaction_timeout", from: 17, play: func(r *run) {
			p := r.open("a")
			p.ask("SET transaction_timeout = '500ms'")
			p.ask("BEGIN")
			p.end()
		}},
		{name: "statement_timeout and lock_timeout", play: func(r *run) {
			a, b := r.open("a"), r.open("b")
			a.ask("SET statement_timeout = '500ms'")
			a.ask("SELECT pg_sleep(60)")
			a.ask("RESET statement_timeout; BEGIN; SELECT pg_advisory_lock(77)")
			b.ask("SET lock_timeout = '30ms'; SELECT pg_advisory_lock(77)")
			a.ask("ROLLBACK; SELECT pg_advisory_unlock(77)")
		}},
		{name: "DROP DATABASE WITH FORCE", play: func(r *run) {
			r.site.query(r.T, "DROP DATABASE IF EXISTS victim")
			r.site.query(r.T, "CREATE DATABASE victim")
			p := r.dial("a")
			p.send(startup(p.version, "user", roleTrust, "database", "victim"))
			p.ready(1)
			r.site.query(r.T, "DROP DATABASE victim WITH (FORCE)")
			p.end()
		}},
		{name: "a lock that another session lets go", play: func(r *run) {
			a, b := r.open("a"), r.open("b")
			a.ask("BEGIN; SELECT pg_advisory_xact_lock(1)")
			b.ask("BEGIN; SELECT pg_advisory_xact_lock(2)")
			a.send("SELECT pg_advisory_xact_lock(2)")
			r.site.await(r.T, "SELECT EXISTS (SELECT FROM pg_locks WHERE pid = $1 AND NOT granted)", int32(a.pid))
			b.ask("SELECT 'not granted', pg_try_advisory_xact_lock(1)")
			b.ask("ROLLBACK")
			a.ready(1)
			a.ask("ROLLBACK")
		}},
	}
}
