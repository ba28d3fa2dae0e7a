package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgtether/pgtether/internal/pgwire"
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
	eventually(t, "its end is logged", func() bool {
		return h.logs.lines("session end", "user=app", "database=db", "epoch=1", "node=region-a", "reason=client") == 1
	})
	if h.metric("pgtether_logins_total", loginPinned) != 1 || h.metric("pgtether_login_seconds") != 1 || h.metric("pgtether_hold_seconds") != 0 {
		t.Error("the login is not counted as it was")
	}
}

func TestTheStartupPacketIsReplayedAsItCame(t *testing.T) {
	got := make(chan []byte, 1)
	pg := startFakePG(t, func(c *fakeConn) {
		if c.accept() {
			got <- c.startup
			c.loggedIn("off")
		}
	})
	h := startServer(t, testConfig(), Deps{})
	h.open(pg.route(1))
	packet := startupPacket(pgwire.Version30, "options", "-c geqo=off", "user", "first", "application_name", "x", "user", "app", "database", "db", "TimeZone", "UTC")
	c := h.dial()
	c.write(packet)
	c.messages()
	if replayed := <-got; !bytes.Equal(replayed, packet) {
		t.Errorf("replayed %q\nwant     %q", replayed, packet)
	}
}

// The client gets one NegotiateProtocolVersion at most, whoever has something to negotiate, and a cancel key of the length that its version has.
func TestProtocolVersionsAreNegotiatedOnce(t *testing.T) {
	render := func(v pgwire.Version, options ...string) string {
		b := string((&pgwire.NegotiateProtocolVersion{Version: v, Unrecognized: options}).Append(nil))
		return strings.TrimRight("v "+strings.ReplaceAll(b[5:], "\x00", " "), " ")
	}
	old := func(c *fakeConn) { // a server before PostgreSQL 18
		if c.accept() {
			if c.startup[7] > 0 {
				c.send(string((&pgwire.NegotiateProtocolVersion{Version: pgwire.Version30}).Append(nil)))
				c.startup[7] = 0
			}
			c.loggedIn("off")
		}
	}
	greased := startupPacket(3<<16|9999, "user", "app", "_pq_.test", "", "_pq_.more", "x")
	cases := []struct {
		name   string
		server func(*fakeConn)
		packet []byte
		want   []string
	}{
		{"3.0 at a new server", aPrimary, startupPacket(pgwire.Version30, "user", "app"), []string{"K 1001 secret of 4"}},
		{"3.2 at a new server", aPrimary, startupPacket(pgwire.Version32, "user", "app"), []string{"K 1001 secret of 32"}},
		{"3.2 at an old server", old, startupPacket(pgwire.Version32, "user", "app"), []string{render(pgwire.Version30), "K 1001 secret of 4"}},
		{"3.9999 and options at a new server", aPrimary, greased, []string{render(pgwire.Version32, "_pq_.test", "_pq_.more"), "K 1001 secret of 32"}},
		{"3.9999 and options at an old server", old, greased, []string{render(pgwire.Version30, "_pq_.test", "_pq_.more"), "K 1001 secret of 4"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			pg := startFakePG(t, c.server)
			h := startServer(t, testConfig(), Deps{})
			h.open(pg.route(1))
			client := h.dial()
			client.write(c.packet)
			var got []string
			for _, m := range client.messages() {
				if m[0] == 'v' || m[0] == 'K' {
					got = append(got, m)
				}
			}
			same(t, "negotiation and key", got, c.want)
		})
	}
}

// asStandby is the script of a node that was demoted after it had been probed.
func asStandby(c *fakeConn) {
	if c.accept() {
		c.serveAs("on")
	}
}

// askRecovery is the script of a server before PostgreSQL 14, which answers pg_is_in_recovery with the letter.
func askRecovery(letter string) func(*fakeConn) {
	return func(c *fakeConn) {
		if !c.accept() {
			return
		}
		answerRecovery(c, letter)
	}
}

// answerRecovery is askRecovery from AuthenticationOk on.
func answerRecovery(c *fakeConn, letter string) {
	c.loggedIn("")
	if _, body, err := c.read(); err != nil || !strings.Contains(string(body), "pg_catalog.pg_is_in_recovery()") {
		return
	}
	c.sendMessages(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("pg_is_in_recovery")}}},
		&pgproto3.NoticeResponse{Severity: "NOTICE", Code: "00000", Message: "hello"},
		&pgproto3.DataRow{Values: [][]byte{[]byte(letter)}}, &pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}, &pgproto3.ReadyForQuery{TxStatus: 'I'})
	c.serve()
}

// G3: a node that was demoted between the probe and the login must never be handed to a client.
func TestALoginOnANodeThatIsNoWriterIsHeldAndServedByTheNextOne(t *testing.T) {
	for name, script := range map[string]func(*fakeConn){"in_hot_standby": asStandby, "query on PostgreSQL 13": askRecovery("t")} {
		t.Run(name, func(t *testing.T) {
			standby, primary := startFakePG(t, script), startFakePG(t, aPrimary)
			h := startServer(t, testConfig(), Deps{})
			h.open(standby.route(1))
			c := h.start()
			if node := <-h.suspects; node != "region-a" {
				t.Errorf("suspected %q", node)
			}
			eventually(t, "the login is held again", func() bool { return h.Stats().Held == 1 })
			h.Cut(1, pgwire.WriterLost)
			h.open(Route{Epoch: 2, Node: "region-b", Address: primary.addr})
			got := c.messages()
			if got[0] != "R 0" || got[len(got)-1] != "Z I" {
				t.Errorf("login: %q", got)
			}
			if primary.count() != 1 {
				t.Error("the session is not on the new writer")
			}
		})
	}
}

func TestALoginOnANodeThatIsNoWriterIsRefusedOnceItsPasswordWasAsked(t *testing.T) {
	pg := startFakePG(t, func(c *fakeConn) {
		if c.accept() {
			c.sendMessages(&pgproto3.AuthenticationCleartextPassword{})
			_, _, _ = c.read()
			c.loggedIn("on")
			c.serve()
		}
	})
	h := startServer(t, testConfig(), Deps{})
	h.open(pg.route(1))
	c := h.start()
	if m, _ := c.message(); m != "R 3" {
		t.Fatalf("got %q", m)
	}
	c.write(authFrame('p', []byte("secret\x00")))
	same(t, "end of the login", c.messages(), []string{fatal(pgwire.WriterUnproven)})
	if h.refusals(pgwire.WriterUnproven) != 1 || h.metric("pgtether_logins_total", loginRefused) != 1 {
		t.Error("not counted")
	}
}

func TestAWriterBeforePostgreSQL14IsProvenByAQuery(t *testing.T) {
	pg := startFakePG(t, askRecovery("f"))
	h := startServer(t, testConfig(), Deps{})
	h.open(pg.route(1))
	c := h.start()
	same(t, "login", c.messages(), []string{"R 0", "S server_version 15.0", "K 1001 secret of 4", "N NOTICE 00000 hello", "Z I"})
	same(t, "query", c.query("hello"), []string{"D hello", "C SELECT 1", "Z I"})
}

// A node that starts, stops or recovers says so as its first answer. The client must not see that: it waits.
func TestANodeThatTakesNoLoginsNowIsNotRelayed(t *testing.T) {
	for _, code := range []string{"57P03", "57P01"} {
		t.Run(code, func(t *testing.T) {
			refused := make(chan struct{}, 1000)
			serving := make(chan struct{})
			pg := startFakePG(t, func(c *fakeConn) {
				if !c.accept() {
					return
				}
				select {
				case <-serving:
					c.loggedIn("off")
					c.serve()
				default:
					c.sendMessages(&pgproto3.ErrorResponse{Severity: "FATAL", Code: code, Message: "the database system is starting up"})
					refused <- struct{}{}
				}
			})
			h := startServer(t, testConfig(), Deps{})
			h.open(pg.route(1))
			c := h.start()
			<-refused
			<-refused // it is tried again by itself
			close(serving)
			if got := c.messages(); got[0] != "R 0" || got[len(got)-1] != "Z I" {
				t.Errorf("login: %q", got)
			}
			eventually(t, "the wait is recorded", func() bool { return h.metric("pgtether_hold_seconds") == 1 })
		})
	}
}

func TestWhatTheServerSaysAgainstALoginPassesUnchanged(t *testing.T) {
	say := func(code string) *pgproto3.ErrorResponse {
		return &pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: code, Message: "the server's own words", Detail: "detail", Hint: "hint"}
	}
	cases := []struct {
		name   string
		script func(c *fakeConn)
		want   string
	}{
		{"too many connections as the first answer", func(c *fakeConn) { c.sendMessages(say("53300")) }, encode(say("53300"))},
		{"no pg_hba.conf entry", func(c *fakeConn) { c.sendMessages(say("28000")) }, encode(say("28000"))},
		{"wrong password", func(c *fakeConn) {
			c.sendMessages(&pgproto3.AuthenticationMD5Password{Salt: [4]byte{1, 2, 3, 4}})
			_, _, _ = c.read()
			c.sendMessages(say("28P01"))
		}, encode(&pgproto3.AuthenticationMD5Password{Salt: [4]byte{1, 2, 3, 4}}, say("28P01"))},
		{"no such database, after the authentication", func(c *fakeConn) {
			c.sendMessages(&pgproto3.NoticeResponse{Severity: "NOTICE", Message: "before"}, &pgproto3.AuthenticationOk{}, &pgproto3.ParameterStatus{Name: "a", Value: "b"}, say("3D000"))
		}, encode(&pgproto3.NoticeResponse{Severity: "NOTICE", Message: "before"}, &pgproto3.AuthenticationOk{}, &pgproto3.ParameterStatus{Name: "a", Value: "b"}, say("3D000"))},
		{"shutdown after the password was asked", func(c *fakeConn) {
			c.sendMessages(&pgproto3.AuthenticationCleartextPassword{})
			_, _, _ = c.read()
			c.sendMessages(say("57P01"))
		}, encode(&pgproto3.AuthenticationCleartextPassword{}, say("57P01"))},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			pg := startFakePG(t, func(f *fakeConn) {
				if f.accept() {
					c.script(f)
				}
			})
			h := startServer(t, testConfig(), Deps{})
			h.open(pg.route(1))
			client := h.start()
			client.write(authFrame('p', []byte("answer\x00")))
			if got := client.end(); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
			eventually(t, "it is counted", func() bool { return h.metric("pgtether_logins_total", loginServerRefused) == 1 })
			if h.Stats().Held != 0 || len(h.suspects) != 0 {
				t.Error("the node is suspected, or the login held")
			}
		})
	}
}

// A server that talks nonsense ends its own login only; PgBouncer 1.25.2 is killed by a ReadyForQuery before authentication.
func TestAServerThatTalksNonsenseEndsThatLoginOnly(t *testing.T) {
	huge := "S\x7f\xff\xff\xff" + strings.Repeat("x", 1000)
	for name, words := range map[string]string{
		"ReadyForQuery first":              ready,
		"no PostgreSQL":                    "HTTP/1.1 400 Bad Request\r\n\r\n",
		"length 0":                         "R\x00\x00\x00\x00",
		"negative length":                  "R\xff\xff\xff\xff",
		"huge message":                     huge,
		"unknown authentication":           "R\x00\x00\x00\x08\x00\x00\x00\x63",
		"short authentication request":     "R\x00\x00\x00\x05\x00",
		"error without fields":             "E\x00\x00\x00\x04",
		"rows instead of ReadyForQuery":    encode(&pgproto3.AuthenticationOk{}, &pgproto3.DataRow{}),
		"ready inside a transaction":       encode(&pgproto3.AuthenticationOk{}) + readyInBlock,
		"key of 3 bytes":                   encode(&pgproto3.AuthenticationOk{}) + "K\x00\x00\x00\x0b\x00\x00\x00\x01abc",
		"endless reports":                  encode(&pgproto3.AuthenticationOk{}) + strings.Repeat(encode(&pgproto3.ParameterStatus{Name: "n", Value: strings.Repeat("v", 1000)}), 300),
		"negotiation to a version unasked": "v\x00\x00\x00\x0c\x00\x03\x00\x02\x00\x00\x00\x00",
		"negotiation cut short":            "v\x00\x00\x00\x0c\x00\x03\x00\x00\x00\x00\x00\x09",
	} {
		t.Run(name, func(t *testing.T) {
			first := true
			pg := startFakePG(t, func(c *fakeConn) {
				if !c.accept() {
					return
				}
				if first {
					first = false
					c.send(words)
					_, _ = io.Copy(io.Discard, c)
					return
				}
				c.loggedIn("off")
				c.serve()
			})
			h := startServer(t, testConfig(), Deps{})
			h.open(pg.route(1))
			same(t, "login", h.start().messages(), []string{fatal(pgwire.WriterUnproven)})
			eventually(t, "that backend is closed", func() bool { return pg.count() == 0 })
			same(t, "next login's query", h.login().query("hello"), []string{"D hello", "C SELECT 1", "Z I"})
		})
	}
}

func TestWhatFollowsTheLoginInTheSameSegmentIsNotLost(t *testing.T) {
	pg := startFakePG(t, func(c *fakeConn) {
		if c.accept() {
			c.sendMessages(&pgproto3.AuthenticationOk{}, &pgproto3.ParameterStatus{Name: "in_hot_standby", Value: "off"}, &pgproto3.ReadyForQuery{TxStatus: 'I'},
				&pgproto3.NotificationResponse{Channel: "c", Payload: "early"})
			c.serve()
		}
	})
	h := startServer(t, testConfig(), Deps{})
	h.open(pg.route(1))
	c := h.dial()
	c.write([]byte(startup + simple("one") + simple("two"))) // and the client does not wait either
	same(t, "login without a key", c.messages(), []string{"R 0", "S in_hot_standby off", "Z I"})
	if m, err := c.message(); !strings.HasSuffix(m, "c early") {
		t.Errorf("after ReadyForQuery: %q, %v", m, err)
	}
	same(t, "first query", c.messages(), []string{"D one", "C SELECT 1", "Z I"})
	same(t, "second query", c.messages(), []string{"D two", "C SELECT 1", "Z I"})
}

// Answers to authentication requests pass in lock step, whatever the method.
func TestAuthenticationIsRelayedInLockStep(t *testing.T) {
	script := []struct{ request, answer string }{
		{encode(&pgproto3.AuthenticationSASL{AuthMechanisms: []string{"SCRAM-SHA-256"}}), "SCRAM-SHA-256\x00\x00\x00\x00\x05first"},
		{encode(&pgproto3.AuthenticationSASLContinue{Data: []byte("challenge")}), strings.Repeat("f", 60_000)},
		{encode(&pgproto3.AuthenticationSASLFinal{Data: []byte("v=proof")}), ""},
	}
	pg := startFakePG(t, func(c *fakeConn) {
		if !c.accept() {
			return
		}
		for _, step := range script {
			c.send(step.request)
			if step.answer == "" {
				continue
			}
			if typ, body, err := c.read(); err != nil || typ != 'p' || string(body) != step.answer {
				t.Errorf("the server got %q %.20q, %v", typ, body, err)
				return
			}
		}
		c.loggedIn("off")
		c.serve()
	})
	h := startServer(t, testConfig(), Deps{})
	h.open(pg.route(1))
	c := h.start()
	for _, step := range script {
		buf := make([]byte, len(step.request))
		if _, err := io.ReadFull(c, buf); err != nil || string(buf) != step.request {
			t.Fatalf("the client got %q, %v", buf, err)
		}
		if step.answer != "" {
			c.write(authFrame('p', []byte(step.answer)))
		}
	}
	if got := c.messages(); got[0] != "R 0" || got[len(got)-1] != "Z I" {
		t.Errorf("login: %q", got)
	}
}

// GSSAPI: after a token of the server's the client may have more to say or not, and nobody but the two knows.
func TestGSSAPIIsRelayedWhoeverSpeaksNext(t *testing.T) {
	for rounds := range 3 {
		pg := startFakePG(t, func(c *fakeConn) {
			if !c.accept() {
				return
			}
			c.sendMessages(&pgproto3.AuthenticationGSS{})
			for i := 0; i <= rounds; i++ {
				if _, body, err := c.read(); err != nil || string(body) != fmt.Sprint("token ", i) {
					t.Errorf("the server got %q, %v", body, err)
					return
				}
				c.sendMessages(&pgproto3.AuthenticationGSSContinue{Data: []byte("more")})
			}
			time.Sleep(10 * time.Millisecond) // not in the same segment
			c.loggedIn("off")
			c.serve()
		})
		h := startServer(t, testConfig(), Deps{})
		h.open(pg.route(1))
		c := h.start()
		if m, _ := c.message(); m != "R 7" {
			t.Fatalf("got %q", m)
		}
		for i := 0; i <= rounds; i++ {
			c.write(authFrame('p', []byte(fmt.Sprint("token ", i))))
			if m, _ := c.message(); m != "R 8" {
				t.Fatalf("got %q", m)
			}
		}
		if got := c.messages(); got[0] != "R 0" || got[len(got)-1] != "Z I" {
			t.Errorf("login: %q", got)
		}
	}
}

func TestAnImpossibleAnswerEndsTheLogin(t *testing.T) {
	for _, answer := range []string{"p\x00\x00\x00\x03", "p\x00\x01\x00\x00", "p\xff\xff\xff\xff"} {
		pg := startFakePG(t, withPassword)
		h := startServer(t, testConfig(), Deps{})
		h.open(pg.route(1))
		c := h.start()
		c.write([]byte(answer))
		same(t, fmt.Sprintf("answer %q", answer), c.messages(), []string{"R 3", fatal(pgwire.MalformedStartup)})
		eventually(t, "the backend is closed", func() bool { return pg.count() == 0 })
	}
}

// A client may send its startup packet and close its side at once; with a route open and room it still hears what the server has to say.
func TestAClientThatHasSaidAllStillHearsTheServersRefusal(t *testing.T) {
	pg := startFakePG(t, func(c *fakeConn) {
		if c.accept() {
			c.sendMessages(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "3D000", Message: "no such database"})
		}
	})
	h := startServer(t, testConfig(), Deps{})
	h.open(pg.route(1))
	for i := range 5 {
		h.hold.mu.Lock() // the login takes a while, as on a busy machine
		c := h.dial()
		c.write(startupPacket(pgwire.Version30, "user", "app", "database", "db"))
		if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
		h.hold.mu.Unlock()
		if said, err := c.message(); err != nil || !strings.Contains(said, "3D000") {
			t.Fatalf("client %d heard %q, %v", i, said, err)
		}
	}
	if gone := h.metric("pgtether_logins_total", loginClientGone); gone != 0 {
		t.Errorf("%v logins counted as given up by their client", gone)
	}
}

// The server's last word of SCRAM goes with what follows it; if nothing follows, it goes all the same.
func TestTheLastWordOfSCRAMIsNotLostWithItsServer(t *testing.T) {
	onEachForwarder(t, func(t *testing.T) {
		pg := startFakePG(t, func(c *fakeConn) {
			if !c.accept() {
				return
			}
			c.send(string(frameOf(authSASL, "SCRAM-SHA-256\x00\x00")))
			_, _, _ = c.read()
			c.send(string(frameOf(authSASLContinue, "first")))
			_, _, _ = c.read()
			c.send(string(frameOf(authSASLFinal, "v")) + "R")
		})
		h := startServer(t, testConfig(), Deps{})
		h.open(pg.route(1))
		c := h.start()
		var got []string
		for _, answer := range []string{"initial", "final", ""} {
			m, err := c.message()
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, m)
			if answer != "" {
				c.write(authFrame('p', []byte(answer)))
			}
		}
		same(t, "the client", append(got, c.messages()...), []string{"R 10", "R 11", "R 12", fatal(pgwire.WriterUnproven)})
	})
}
