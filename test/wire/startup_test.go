package wire

import (
	"slices"
	"strings"
	"testing"

	pg "github.com/jackc/pgx/v5/pgproto3"
)

// startupScripts are connections up to the first ReadyForQuery, or to the refusal.
func startupScripts() []script {
	login := func(params ...string) func(r *run) {
		return func(r *run) {
			p := r.dial("a")
			p.send(startup(p.version, params...))
			p.end()
		}
	}
	leaving := func(params ...string) func(r *run) {
		return func(r *run) {
			p := r.dial("a")
			p.send(startup(p.version, params...))
			p.until("R")
			p.closeWrite()
			p.end()
		}
	}
	answered := func(params ...string) func(r *run) {
		return func(r *run) {
			p := r.dial("a")
			p.send(startup(p.version, params...))
			p.ready(1)
			p.ask("SELECT current_user, current_database()")
		}
	}
	return append(passwordScripts(), []script{
		{name: "the database's name defaults to the user's, and is not there", play: login("user", roleTrust)},
		{name: "a database that is not there", play: login("user", roleTrust, "database", "nosuch")},
		{name: "a role that is not there", play: leaving("user", "nosuch", "database", database)},
		{name: "a role that pg_hba.conf rejects", play: login("user", "unwelcome", "database", database)},
		{name: "a setting that is not there", play: login("user", roleTrust, "database", database, "nosuch_setting", "1")},
		{name: "a setting that is wrong", play: login("user", roleTrust, "database", database, "options", "-c work_mem=much")},
		{name: "an option that is not there", play: login("user", roleTrust, "database", database, "options", "--nosuch")},
		{name: "an encoding that is not there", play: login("user", roleTrust, "database", database, "client_encoding", "EBCDIC")},
		{name: "an empty database", play: login("user", roleTrust, "database", "")},
		{name: "parameters twice: the last one counts", play: answered("user", "nosuch", "database", "nosuch", "user", roleTrust, "database", database)},
		{name: "names longer than any", play: leaving("user", strings.Repeat("u", 70), "database", strings.Repeat("d", 70))},
		{name: "a statement behind the startup packet, in one segment", play: func(r *run) {
			p := r.dial("a")
			p.send(startup(p.version, "user", roleTrust, "database", database), "SELECT 'early'", terminate)
			p.end()
		}},
		{name: "physical replication", play: func(r *run) {
			p := r.dial("a")
			p.send(startup(p.version, "user", roleTrust, "database", database, "replication", "true"))
			p.ready(1)
			p.ask("SHOW wal_segment_size")
			p.ask("CREATE_REPLICATION_SLOT wire TEMPORARY PHYSICAL")
			p.ask("TIMELINE_HISTORY 99")
			p.ask("nonsense")
			p.send(terminate)
			p.end()
		}},
		{name: "logical replication's connection runs statements", play: func(r *run) {
			p := r.dial("a")
			p.send(startup(p.version, "user", roleTrust, "database", database, "replication", "database"))
			p.ready(1)
			p.ask("SELECT 1")
			p.ask("SHOW application_name")
			p.ask(parse("", "SELECT 1"), syncNow)
		}},
	}...)
}

// passwordScripts log in with passwords that can be sent as they are.
func passwordScripts() []script {
	cleartext := func(user, password string) func(r *run) {
		return func(r *run) {
			p := r.dial("a")
			p.send(startup(p.version, "user", user, "database", database))
			p.until("R")
			p.send(&pg.PasswordMessage{Password: password})
			if password != rolePassword {
				p.end()
				return
			}
			p.ready(1)
			p.ask("SELECT current_user")
		}
	}
	return []script{
		{name: "a password in clear", play: cleartext(roleClear, rolePassword)},
		{name: "a wrong password in clear", play: cleartext(roleClear, "wrong")},
		{name: "an empty password", play: cleartext(roleClear, "")},
		{name: "a wrong answer to MD5", play: cleartext(roleMD5, "md5wrong")},
		{name: "a Query in the place of a password", play: func(r *run) {
			p := r.dial("a")
			p.send(startup(p.version, "user", roleClear, "database", database))
			p.until("R")
			p.send("SELECT 1")
			p.end()
		}},
		{name: "SCRAM, begun with nonsense", play: func(r *run) {
			p := r.dial("a")
			p.send(startup(p.version, "user", roleSCRAM, "database", database))
			p.until("R")
			p.send(&pg.SASLInitialResponse{AuthMechanism: "SCRAM-SHA-256", Data: []byte("nonsense")})
			p.end()
		}},
		{name: "SCRAM, with a mechanism that nobody offered", play: func(r *run) {
			p := r.dial("a")
			p.send(startup(p.version, "user", roleSCRAM, "database", database))
			p.until("R")
			p.send(&pg.SASLInitialResponse{AuthMechanism: "PLAIN", Data: []byte("x")})
			p.end()
		}},
		{name: "SCRAM, with a proof that is wrong", play: func(r *run) {
			p := r.dial("a")
			p.send(startup(p.version, "user", roleSCRAM, "database", database))
			p.until("R")
			p.send(&pg.SASLInitialResponse{AuthMechanism: "SCRAM-SHA-256", Data: []byte("n,,n=,r=abcdefghijklmnopqrstuvwx")})
			first := string(p.until("R").body[4:])
			nonce, _, _ := strings.Cut(strings.TrimPrefix(first, "r="), ",")
			p.send(&pg.SASLResponse{Data: []byte("c=biws,r=" + nonce + ",p=" + strings.Repeat("A", 43) + "=")})
			p.end()
		}},
		{name: "a client that leaves instead of a password", play: func(r *run) {
			p := r.dial("a")
			p.send(startup(p.version, "user", roleClear, "database", database))
			p.until("R")
			p.closeWrite()
			p.end()
		}},
	}
}

// negotiationScripts are about versions, options and encryption: they say which version they speak themselves.
func negotiationScripts() []script {
	asking := func(version uint32, params ...string) func(r *run) {
		return func(r *run) {
			p := r.dial("a")
			p.send(startup(version, append(params, "user", roleTrust, "database", database)...))
			p.ready(1)
			p.ask("SELECT 1")
			p.send("SELECT pg_sleep(60)")
			r.sleeping(p)
			r.cancel(p.pid, p.secret)
			p.ready(1)
		}
	}
	return []script{
		{name: "3.0", play: asking(version30)},
		{name: "3.2", play: asking(version32)},
		{name: "3.9999", play: asking(3<<16 | 9999)},
		{name: "3.9999 with options", play: asking(3<<16|9999, "_pq_.test_protocol_negotiation", "", "_pq_.other", "value")},
		{name: "3.2 with options", play: asking(version32, "_pq_.other", "value")},
		{name: "3.0 with an option", play: asking(version30, "_pq_.other", "value")},
		{name: "3.0 with an option twice", play: asking(version30, "_pq_.other", "1", "_pq_.other", "2")},
		{name: "an option, and a database that is not there", play: func(r *run) {
			p := r.dial("a")
			p.send(startup(version32, "user", roleTrust, "database", "nosuch", "_pq_.other", "value"))
			p.end()
		}},
	}
}

// preludeScripts ask for encryption where there is none. GSSAPI is never offered by the proxy.
func preludeScripts() []script {
	return []script{
		{name: "SSLRequest, then in clear on the same connection", play: func(r *run) {
			p := r.dial("a")
			p.sendRaw(word(80877103))
			p.oneByte()
			p.send(startup(version30, "user", roleTrust, "database", database))
			p.ready(1)
		}},
		{name: "GSSENCRequest, then in clear on the same connection", play: func(r *run) {
			p := r.dial("a")
			p.sendRaw(word(80877104))
			p.oneByte()
			p.send(startup(version30, "user", roleTrust, "database", database))
			p.ready(1)
		}},
		{name: "both requests, one after the other", play: func(r *run) {
			for _, order := range [][]uint32{{80877103, 80877104}, {80877104, 80877103}} {
				p := r.dial("a")
				for _, code := range order {
					p.sendRaw(word(code))
					p.oneByte()
				}
				p.send(startup(version30, "user", roleTrust, "database", database))
				p.ready(1)
			}
		}},
	}
}

func TestLoginsAndRefusalsAreTheServers(t *testing.T) {
	s := pg15.start(t)
	direct, through := door{addr: s.node.Addr(), version: version30}, door{addr: s.inClear(t).Listen, version: version30}
	compare(t, s, direct, through, slices.Concat(startupScripts(), negotiationScripts()))
}

func TestVersionsAndKeysOfPostgreSQL18AreNegotiatedAsTheServerDoes(t *testing.T) {
	s := pg18.start(t)
	direct, through := door{addr: s.node.Addr(), version: version32}, door{addr: s.inClear(t).Listen, version: version32}
	compare(t, s, direct, through, slices.Concat(startupScripts(), negotiationScripts()))
}

// The lab's servers have a certificate; one without it is needed for the refusal of encryption.
func TestAProxyWithoutCertificateAnswersAsAServerWithoutOne(t *testing.T) {
	s := pg15.start(t)
	through := door{addr: s.inClear(t).Listen, version: version30}
	for _, script := range preludeScripts() {
		t.Run(script.name, func(t *testing.T) {
			for _, line := range script.transcript(t, s, through) {
				if strings.HasPrefix(line, "- byte") && line != "- byte 'N'" {
					t.Errorf("answered with %s", line)
				}
			}
		})
	}
}
