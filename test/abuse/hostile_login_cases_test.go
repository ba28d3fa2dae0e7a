package abuse

import (
	"fmt"
	"strings"
)

// unproven is what is counted for a login that ends because its server did not prove to be the writer.
var unproven = refusedLogin("writer_unproven")

// nonsense is a server whose first words are no PostgreSQL server's. They end that login, and never reach its client.
func nonsense(name string, words ...string) hostile {
	return hostile{name: name, play: func(i *impostor) { i.say(words...); i.wait() }, want: "FATAL/57P03 closed", counts: unproven}
}

// passing is a server that does not answer as one that takes logins. The login is not answered either: it is tried again.
func passing(name string, play func(*impostor)) hostile {
	return hostile{name: name, play: play, does: []step{inAfter, leave}, want: "in closed", counts: leftIt}
}

// firstAnswers are servers whose first answer makes no sense.
func firstAnswers() []hostile {
	all := []hostile{
		nonsense("ReadyForQuery before authentication", ready),
		nonsense("a whole login without authentication", strings.TrimPrefix(loggedIn, authOK)),
		nonsense("an authentication request without a code", msg('R', "")),
		nonsense("an authentication request of three bytes", msg('R', "\x00\x00\x00")),
		nonsense("HTTP", "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"),
		nonsense("SSH", "SSH-2.0-OpenSSH_9.2\r\n"),
		nonsense("SMTP", "220 mail.example ESMTP\r\n"),
		nonsense("MySQL", "\x4a\x00\x00\x00\x0a8.0.36\x00"+strings.Repeat("x", 64)),
		nonsense("Redis", "-ERR unknown command\r\n"),
		nonsense("a TLS alert", "\x15\x03\x01\x00\x02\x02\x46"),
		nonsense("zero bytes", strings.Repeat("\x00", 4096)),
		nonsense("an error in the format of protocol 2", "Ecould not fork new process for connection\n\x00"),
		nonsense("an error without fields", msg('E', "")),
		nonsense("an error with a field that never ends", msg('E', "SFATAL\x00C57P03")),
		nonsense("an error with bytes after its end", msg('E', "SFATAL\x00C53300\x00Mno\x00\x00more")),
		nonsense("an error of a thousand fields", msg('E', strings.Repeat("Xy\x00", 1000)+"\x00")),
		nonsense("a negotiation without a body", msg('v', "")),
		nonsense("a negotiation that promises names", msg('v', word(version30)+word(7))),
		nonsense("a negotiation that promises 2 billion names", msg('v', word(version30)+word(1<<31-1))),
		nonsense("a negotiation of a later version", msg('v', word(version30+2)+word(0))),
		nonsense("a negotiation of another major version", msg('v', word(4<<16)+word(0))),
		nonsense("a negotiation with bytes to spare", msg('v', word(version30)+word(0)+"x")),
	}
	for _, typ := range []byte("DCITns123tAGHWVcdSK") {
		all = append(all, nonsense(fmt.Sprintf("%c before authentication", typ), msg(typ, "\x00\x00\x00\x00")))
	}
	for _, typ := range []byte{0, 'q', 'Q', 'p', 0x80, 0xff} {
		all = append(all, nonsense(fmt.Sprintf("a message of type %q", typ), msg(typ, "abcd")))
	}
	for _, code := range []int64{1, 2, 4, 6, 13, 99, 1 << 31, 1<<32 - 1} {
		all = append(all, nonsense(fmt.Sprintf("authentication request %d", code), msg('R', word(code)+"xxxx")))
	}
	for _, length := range []int64{0, 3, 30_001, 1 << 30, 1 << 31, -1} {
		for _, typ := range []byte("REN") {
			all = append(all, nonsense(fmt.Sprintf("%c of length %d", typ, length), lying(typ, length, strings.Repeat("x", 100))))
		}
	}
	return append(all, refusals()...)
}

// refusals are servers that say no, as PostgreSQL does. Their words pass unchanged.
func refusals() []hostile {
	refusal := func(name, words, want string) hostile {
		return hostile{name: name, play: func(i *impostor) { i.say(words) }, want: want, counts: serverRefused}
	}
	var all []hostile
	for _, state := range []string{"53300", "28000", "28P01", "3D000", "0A000", "08P01", "XX000", "57P04", "57014", "ZZZZZ"} {
		all = append(all, refusal("FATAL "+state, fatal(state), "FATAL/"+state+" closed"))
	}
	for _, state := range []string{"57P03", "57P01", "57P02"} {
		all = append(all, passing("FATAL "+state+", once", func(i *impostor) { i.say(fatal(state)) }))
	}
	forged := msg('E', "SFATAL\x00VFATAL\x00C57P03\x00Mno\ntime=2026 level=ERROR msg=forged \x1b[31m\x00\x00")
	all = append(all, passing("FATAL 57P03 with a line of a log in it, once", func(i *impostor) { i.say(forged) }))
	return append(all,
		refusal("an error without a SQLSTATE", msg('E', "SFATAL\x00VFATAL\x00Mno\x00\x00"), "FATAL/ closed"),
		refusal("an error of five bytes, which clients take for one of protocol 2", msg('E', "\x00"), "FATAL(2) closed"),
		refusal("an ERROR and no FATAL", says('E', "ERROR", "42601"), "ERROR/42601 closed"),
		refusal("a notice before the refusal", says('N', "NOTICE", "00000")+fatal("28000"), "NOTICE/00000 FATAL/28000 closed"),
		refusal("a message of 29,000 bytes", msg('E', "SFATAL\x00VFATAL\x00C28000\x00M"+strings.Repeat("m", 29000)+"\x00\x00"), "FATAL/28000 closed"),
		refusal("AuthenticationOk, then a refusal", authOK+fatal("3D000"), "R0 FATAL/3D000 closed"),
		refusal("two refusals", fatal("28000")+fatal("28P01"), "FATAL/28000 closed"),
	)
}

// silences are servers that go away, or say nothing, before their first answer is whole.
func silences() []hostile {
	return []hostile{
		passing("closes at once", func(*impostor) {}),
		passing("resets at once", func(i *impostor) { i.reset() }),
		passing("closes its side and listens", func(i *impostor) { _ = i.conn.CloseWrite(); i.wait() }),
		passing("never answers", func(i *impostor) { i.wait() }),
		passing("a byte, then nothing", func(i *impostor) { i.say("R"); i.wait() }),
		passing("half a message, then its end", func(i *impostor) { i.say(authOK[:7]) }),
		passing("half a message, then a reset", func(i *impostor) { i.say(authOK[:7]); pauseBriefly(); i.reset() }),
		passing("a message that drips without an end", func(i *impostor) {
			i.say(lying('E', 20000, ""))
			for i.conn.SetWriteDeadline(inAMoment()) == nil {
				if _, err := i.conn.Write([]byte("x")); err != nil {
					return
				}
				pauseBriefly()
			}
		}),
	}
}

// authentications are servers that have asked their client for something and then misbehave. The client has heard of them: it cannot be tried
// again without its knowledge.
func authentications() []hostile {
	answers := []step{hear('R'), send(msg('p', password+"\x00"))}
	asked := func(name string, then func(i *impostor)) hostile {
		return hostile{name: name, play: func(i *impostor) { i.say(askPassword); i.hear(); then(i) }, does: answers, want: "R3 FATAL/57P03 closed", counts: unproven}
	}
	words := func(name string, words ...string) hostile {
		return asked(name, func(i *impostor) { i.say(words...); i.wait() })
	}
	refusal := func(state string) hostile {
		h := words("the password, then FATAL "+state, fatal(state))
		h.want, h.counts = "R3 FATAL/"+state+" closed", serverRefused
		return h
	}
	loop := func(name, request, heard string, n int) hostile {
		h := hostile{name: fmt.Sprintf("%s %d times, then its end", name, n), want: fmt.Sprintf("%s*%d FATAL/57P03 closed", heard, n), counts: unproven}
		h.play = func(i *impostor) {
			for range n {
				i.say(request)
				i.hear()
			}
		}
		for range n {
			h.does = append(h.does, hear('R'), send(msg('p', password+"\x00")))
		}
		return h
	}
	tooLong := strings.Repeat(says('N', "NOTICE", "00000"), 1000)
	return []hostile{
		asked("the password, then its end", func(*impostor) {}),
		asked("the password, then a reset", func(i *impostor) { i.reset() }),
		asked("the password, then half a message", func(i *impostor) { i.say(authOK[:6]) }),
		words("the password, then ReadyForQuery", ready),
		words("the password, then a row", msg('D', short(0))),
		words("the password, then a negotiation", msg('v', word(version30)+word(0))),
		words("the password, then an unknown request", msg('R', word(99))),
		words("the password, then a length of -1", lying('R', -1, "")),
		words("the password, then an error without fields", msg('E', "")),
		words("the password, then a standby", authOK, reports("in_hot_standby", "on"), backendKey, ready),
		words("the password, then a key of three bytes", authOK, reports("in_hot_standby", "off"), msg('K', word(1)+"abc"), ready),
		refusal("28P01"), refusal("57P03"), refusal("57P01"), refusal("53300"),
		loop("asks for a password", askPassword, "R3", 50),
		loop("asks for MD5", msg('R', word(5)+"salt"), "R5", 50),
		loop("goes on with SASL", msg('R', word(11)+"r=x,s=eA==,i=1"), "R11", 50),
		loop("offers SASL", msg('R', word(10)+"SCRAM-SHA-256\x00\x00"), "R10", 50),
		loop("goes on with GSSAPI", msg('R', word(8)+"token"), "R8", 20),
		loop("wants SCRAM with a billion iterations", msg('R', word(11)+"r=x,s=eA==,i=1000000000"), "R11", 2),
		{name: "asks, and the client goes away", play: func(i *impostor) { i.say(askPassword); i.wait() }, does: []step{hear('R'), hangUp}, want: "R3 gone", counts: clientGone},
		{name: "a thousand notices, then a login", play: func(i *impostor) { i.say(tooLong, loggedIn); i.hear() }, does: []step{hear('Z'), leave},
			want: "NOTICE/00000*1000 R0 ZI closed", counts: leftIt},
		{name: "notices without an end", play: func(i *impostor) { i.flood(tooLong) }, does: []step{hear('N'), pause, hangUp}, want: "NOTICE/00000 gone", counts: clientGone},
	}
}

// readinesses are servers that have let their client in and then say what does not belong there.
func readinesses() []hostile {
	after := func(name string, words ...string) hostile {
		return nonsense(name, append([]string{authOK}, words...)...)
	}
	offToReady := reports("in_hot_standby", "off") + backendKey
	many := strings.Repeat(reports("name", strings.Repeat("v", 1000)), 300)
	return []hostile{
		after("AuthenticationOk twice", authOK),
		after("another authentication request", askPassword),
		after("a row", msg('D', short(0))),
		after("a CommandComplete", msg('C', "SELECT 1\x00")),
		after("a negotiation", msg('v', word(version30)+word(0))),
		after("a COPY", msg('G', "\x00"+short(0))),
		after("a type of its own", msg('q', "")),
		after("ready in a transaction", offToReady, msg('Z', "T")),
		after("ready in a failed transaction", offToReady, msg('Z', "E")),
		after("ready in a state that does not exist", offToReady, msg('Z', "?")),
		after("ready without a state", offToReady, msg('Z', "")),
		after("ready with two states", offToReady, msg('Z', "II")),
		after("a key without a secret", msg('K', word(1)), ready),
		after("a key of three bytes", msg('K', word(1)+"abc"), ready),
		after("a key of 257 bytes", msg('K', word(1)+strings.Repeat("k", 257)), ready),
		after("a report of 31,000 bytes", reports("name", strings.Repeat("v", 31000))),
		after("reports of 300 kB", many),
		after("notices of 300 kB", strings.Repeat(says('N', "NOTICE", strings.Repeat("n", 1000)), 300)),
		after("a length of -1", lying('S', -1, "")),
		after("a length of 1 GiB", lying('S', 1<<30, "x")),
		after("an error without fields", msg('E', "")),
		passing("its end, once", func(i *impostor) { i.say(authOK) }),
		passing("a standby, once", func(i *impostor) { i.say(authOK, reports("in_hot_standby", "on"), backendKey, ready); i.wait() }),
		passing("neither standby nor primary, once", func(i *impostor) { i.say(authOK, reports("in_hot_standby", "maybe"), ready); i.wait() }),
		passing("FATAL 57P03, once", func(i *impostor) { i.say(authOK, fatal("57P03")) }),
		{name: "a report without a value", play: func(i *impostor) { i.say(authOK, msg('S', "name"), offToReady, ready); i.hear() }, does: []step{inAfter, leave}, want: "in closed", counts: leftIt},
		{name: "two keys, the last one counts", play: func(i *impostor) { i.say(authOK, msg('K', word(7)+"abcd"), offToReady, ready); i.hear() },
			does: []step{inAfter, leave}, want: "in closed", counts: leftIt},
		{name: "no key at all", play: func(i *impostor) { i.say(authOK, reports("in_hot_standby", "off"), ready); i.hear() }, does: []step{inAfter, leave}, want: "in closed", counts: leftIt},
		{name: "a login that drips", play: func(i *impostor) {
			for n := range len(loggedIn) {
				i.say(loggedIn[n : n+1])
			}
			i.hear()
		}, does: []step{inAfter, leave}, want: "in closed", counts: leftIt},
	}
}

// proofs are servers that do not report in_hot_standby, as before PostgreSQL 14, and are asked.
func proofs() []hostile {
	columns := msg('T', short(1)+"pg_is_in_recovery\x00"+strings.Repeat("\x00", 18))
	row := func(value string) string { return msg('D', short(1)+word(int64(len(value)))+value) }
	done := msg('C', "SELECT 1\x00") + ready
	answers := func(name string, words ...string) hostile {
		return passing(name+", once", func(i *impostor) { i.say(authOK, backendKey, ready); i.hear(); i.say(words...); i.wait() })
	}
	proven := answers("false", columns, row("f"), done)
	proven.play = func(i *impostor) {
		i.say(authOK, backendKey, ready)
		i.hear()
		i.say(columns, row("f"), done)
		i.hear() // the client's Terminate
	}
	return []hostile{
		proven,
		answers("true", columns, row("t"), done),
		answers("no row", columns, done),
		answers("two rows", columns, row("f"), row("f"), done),
		answers("a row of false and one of true", columns, row("f"), row("t"), done),
		answers("a NULL", columns, msg('D', short(1)+word(-1)), done),
		answers("two columns", columns, msg('D', short(2)+word(1)+"f"+word(1)+"f"), done),
		answers("a row of length -7", columns, msg('D', short(1)+word(-7)), done),
		answers("a word", columns, row("false"), done),
		answers("an error", says('E', "ERROR", "42501"), ready),
		passing("its end, once", func(i *impostor) { i.say(authOK, backendKey, ready); i.hear() }),
		answers("a COPY", msg('G', "\x00"+short(0))),
		nonsense("rows without an end", authOK, backendKey, ready, columns, strings.Repeat(row("f"), 1000)),
		nonsense("a length of 2 GiB in the proof", authOK, backendKey, ready, lying('D', 1<<31, "")),
	}
}

// endsAtEveryStep are servers that are PostgreSQL up to a message, and then end.
func endsAtEveryStep() []hostile {
	var all []hostile
	reportsOf15 := 13 // before ReadyForQuery, besides AuthenticationOk and BackendKeyData
	for n := range reportsOf15 + 3 {
		all = append(all, passing(fmt.Sprintf("closes before message %d", n), func(i *impostor) {
			i.asReal(func(at int, _ byte) bool { return at == n })
		}))
	}
	for _, typ := range []byte("RSKZ") {
		all = append(all,
			passing(fmt.Sprintf("resets before the first %c", typ), func(i *impostor) {
				i.asReal(func(_ int, t byte) bool { return t == typ })
				i.reset()
			}),
			passing(fmt.Sprintf("closes in the middle of the first %c", typ), func(i *impostor) {
				if m := i.asReal(func(_ int, t byte) bool { return t == typ }); m != nil {
					i.say(string(m[:len(m)-1]))
				}
			}))
	}
	scram := []step{hear('R'), scramFinal(scramProof("keycloak"))}
	for n, want := range []string{"", "R10 ", "R10 R11 ", "R10 R11 R12 ", "R10 R11 R12 ", "R10 R11 R12 "} {
		h := hostile{name: fmt.Sprintf("SCRAM, closes before message %d", n), role: "keycloak", does: scram, want: want + "FATAL/57P03 closed", counts: unproven,
			play: func(i *impostor) { i.asReal(func(at int, _ byte) bool { return at == n }) }}
		if n == 0 {
			h.does, h.want, h.counts = append(h.does[:2:2], hear('Z'), leave), "R10 R11 R12 R0 ZI closed", leftIt
		}
		all = append(all, h)
	}
	return all
}
