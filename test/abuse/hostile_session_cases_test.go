package abuse

import (
	"strings"
	"time"
)

func pauseBriefly() { time.Sleep(20 * time.Millisecond) }

func inAMoment() time.Time { return time.Now().Add(patience) }

// flood repeats words until the proxy has had enough.
func (i *impostor) flood(words string) {
	_ = i.conn.SetWriteDeadline(inAMoment())
	for {
		if _, err := i.conn.Write([]byte(words)); err != nil {
			return
		}
	}
}

// inSessions are servers that misbehave once a session is there. The proxy passes their words on as they are: the client decides what they mean.
// When it is over, the proxy's own words follow only where they cannot fall into the middle of a message.
func inSessions() []hostile {
	writerLost, inDoubt := lostWriter, counts{"logins pinned": 1, "sessions commit_in_doubt": 1, "refusals commit_in_doubt": 1}
	idle := func(name, want string, count counts, play func(i *impostor)) hostile {
		return hostile{name: name, play: func(i *impostor) { i.say(loggedIn); pauseBriefly(); play(i) }, does: []step{inAfter}, want: "in " + want, counts: count}
	}
	asked := func(name, sql, want string, count counts, play func(i *impostor)) hostile {
		return hostile{name: name, play: func(i *impostor) { i.say(loggedIn); i.hear(); play(i) }, does: []step{inAfter, send(query(sql))}, want: "in " + want, counts: count}
	}
	words := func(s ...string) func(*impostor) { return func(i *impostor) { i.say(s...) } }
	thenWait := func(s ...string) func(*impostor) { return func(i *impostor) { i.say(s...); i.hear() } }
	columns, row, done := msg('T', short(0)), msg('D', short(0)), msg('C', "SELECT 1\x00")
	left := func(h hostile, steps ...step) hostile { h.does = append(h.does, append(steps, leave)...); return h }
	return []hostile{
		idle("closes while idle", "FATAL/08006 closed", writerLost, words()),
		idle("resets while idle", "FATAL/08006 closed", writerLost, func(i *impostor) { i.reset() }),
		idle("FATAL 57P01 while idle, and the server lives on", "FATAL/57P01 closed", endedByServer, words(fatal("57P01"))),
		idle("FATAL 57P05 while idle", "FATAL/57P05 closed", endedByServer, words(fatal("57P05"))),
		idle("WARNING 57P02 while idle, and the server lives on", "WARNING/57P02 closed", endedByServer, words(says('N', "WARNING", "57P02"))),
		idle("half of a FATAL while idle, which is not passed on", "FATAL/08006 closed", writerLost, words(fatal("57P01")[:10])),
		idle("an error without fields while idle", "closed", endedByServer, words(msg('E', ""))),
		idle("a type that does not exist, while idle", "garbage closed", writerLost, words(msg('q', "abc"))),
		idle("a length of -1 while idle", "garbage closed", writerLost, words(lying('D', -1, "abc"))),
		idle("ReadyForQuery out of the blue", "ZI closed", writerLost, words(ready)),
		idle("a row out of the blue", "D FATAL/08006 closed", writerLost, words(row)),
		idle("HTTP while idle", "garbage closed", writerLost, words("TTP/1.1 200 OK\r\n\r\n")),
		asked("closes before the answer of a statement", "INSERT", "FATAL/08007 closed", inDoubt, words()),
		asked("resets before the answer of a statement", "INSERT", "FATAL/08007 closed", inDoubt, func(i *impostor) { i.reset() }),
		asked("closes in the middle of an answer", "INSERT", "T FATAL/08007 closed", inDoubt, words(columns)),
		asked("closes in the middle of a row", "SELECT", "T a part closed", inDoubt, words(columns, row[:6])),
		asked("closes after a tag and before ReadyForQuery", "COMMIT", "C FATAL/08007 closed", inDoubt, words(msg('C', "COMMIT\x00"))),
		asked("closes inside a transaction", "BEGIN", "C ZT FATAL/08006 closed", writerLost, words(msg('C', "BEGIN\x00"), msg('Z', "T"))),
		asked("a row of 60 MiB of which 100 bytes come", "SELECT", "T a part closed", inDoubt, words(columns, lying('D', 60<<20, strings.Repeat("x", 100)))),
		asked("a row of 2 GiB", "SELECT", "T garbage closed", inDoubt, words(columns, lying('D', 1<<31, "xxx"))),
		asked("a status that does not exist", "SELECT", "C Z? closed", inDoubt, words(done, msg('Z', "?"))),
		left(asked("a tag that says nothing", "SELECT", "C ZI closed", leftIt, thenWait(msg('C', "\x00"), ready)), hear('Z')),
		left(asked("ten thousand notices in an answer", "SELECT", "NOTICE/00000*10000 C ZI closed", leftIt,
			thenWait(strings.Repeat(says('N', "NOTICE", "00000"), 10000), done, ready)), hear('Z')),
		left(asked("ten thousand reports in an answer", "SELECT", "C ZI closed", leftIt, thenWait(strings.Repeat(reports("n", "v"), 10000), done, ready)), hear('Z')),
		left(asked("ten thousand notifications in an answer", "SELECT", "A*10000 C ZI closed", leftIt,
			thenWait(strings.Repeat(msg('A', word(1)+"channel\x00\x00"), 10000), done, ready)), hear('Z')),
		left(asked("an answer that drips", "SELECT", "T D C ZI closed", leftIt, func(i *impostor) {
			answer := columns + row + done + ready
			for n := range len(answer) {
				i.say(answer[n : n+1])
			}
			i.hear()
		}), hear('Z')),
		left(asked("closes its side after the answer", "SELECT", "T D C ZI FATAL/08006 closed", writerLost, func(i *impostor) {
			i.say(columns, row, done, ready)
			_ = i.conn.CloseWrite()
			i.wait()
		}), hear('Z'), hear('E')),
		{name: "rows without an end, and the client goes", play: func(i *impostor) { i.say(loggedIn); i.hear(); i.say(columns); i.flood(strings.Repeat(row, 1000)) },
			does: []step{inAfter, send(query("SELECT")), hear('D'), hangUp}, want: "in T D gone", counts: sum(lostClient, counts{"cancels forwarded": 1})},
	}
}
