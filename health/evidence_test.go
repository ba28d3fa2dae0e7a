package health

import (
	"context"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgtether/pgtether/decision"
)

// closedPort is an address where nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// slack is what a loaded machine may add to a deadline.
const slack = 10 * time.Second

func TestEvidenceOfWhatAServerDoes(t *testing.T) {
	const honest, short = 30 * time.Second, 400 * time.Millisecond
	huge := "\x7f\xff\xff\xff"
	column := pgproto3.FieldDescription{Name: []byte("in_recovery")}
	row := encoded(&pgproto3.DataRow{Values: [][]byte{make([]byte, 1000)}})
	for _, c := range []struct {
		name     string
		timeout  time.Duration
		steps    []step
		evidence decision.Evidence
		sqlState string
		detail   string
	}{
		{"too many connections", honest, []step{readStartup, fatal("53300", "sorry, too many clients already")}, decision.Alive, "53300", "sorry, too many clients already"},
		{"starting up", honest, []step{readStartup, fatal("57P03", "the database system is starting up")}, decision.Alive, "57P03", "starting up"},
		{"wrong password", honest, []step{readStartup, askSCRAM, readMessage, fatal("28P01", "password authentication failed")}, decision.Alive, "28P01", "password"},
		{"no such database", honest, []step{readStartup, fatal("3D000", `database "postgres" does not exist`)}, decision.Alive, "3D000", "does not exist"},
		{"error without a SQLSTATE", honest, []step{readStartup, say(&pgproto3.ErrorResponse{Severity: "FATAL", Message: "?"})}, decision.Alive, "", "FATAL"},
		{"error with nonsense for a SQLSTATE", honest, []step{readStartup, fatal("5\x1b[31", "x\ny\x1b[31m")}, decision.Alive, "", "FATAL: x?y?[31m"},
		{"cannot fork, in protocol 2", honest, []step{readStartup, send("Ecould not fork new process for connection: Resource temporarily unavailable\n\x00")}, decision.Alive, "", "could not fork new process"},
		{"answers the login, then nothing", short, []step{readStartup, askSCRAM, swallow}, decision.Alive, "", "answered, then: no answer in time"},
		{"answers the login, then closes", honest, []step{readStartup, askSCRAM, readMessage}, decision.Alive, "", "answered, then: connection closed"},
		{"ready, then silent", short, []step{readStartup, login(), swallow}, decision.Alive, "", "no answer in time"},
		{"ready, then an error for every question", honest, []step{readStartup, login(),
			failing("57014", "canceling statement due to statement timeout")},
			decision.Alive, "57014", "statement timeout"},
		{"ready before it was asked", honest, []step{readStartup, say(&pgproto3.ReadyForQuery{TxStatus: 'I'}), swallow}, decision.EvidenceUnknown, "", "does not speak"},
		{"ready before authentication", honest, []step{readStartup, askSCRAM, readMessage, say(&pgproto3.ReadyForQuery{TxStatus: 'I'}), swallow}, decision.Alive, "", "answered, then"},
		{"cannot prove that it knows the password", honest, []step{readStartup, askSCRAM, readMessage, iterations(4096), readMessage,
			say(&pgproto3.AuthenticationSASLFinal{Data: []byte("v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")}), swallow}, decision.Alive, "", "answered, then"},

		{"accepts and never answers", short, []step{swallow}, decision.Silent, "", "no answer in time"},
		{"closes at once", honest, []step{readStartup}, decision.Silent, "", "connection closed"},
		{"resets at once", honest, []step{readStartup, reset}, decision.Silent, "", ""},
		{"closes inside its first message", honest, []step{readStartup, send("R\x00\x00\x00\x08\x00")}, decision.Silent, "", "connection closed"},
		{"drips its first message", short, []step{readStartup, drip(strings.Repeat("R\x00\x00\x00\x17\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00", 50), 100*time.Millisecond), hang}, decision.Silent, "", "no answer in time"},

		{"speaks HTTP", honest, []step{readStartup, send("HTTP/1.1 400 Bad Request\r\n\r\n")}, decision.EvidenceUnknown, "", `does not speak PostgreSQL's protocol: "HTTP/"`},
		{"speaks SSH", honest, []step{send("SSH-2.0-OpenSSH_9.2\r\n"), swallow}, decision.EvidenceUnknown, "", "does not speak"},
		{"speaks a line that begins with E", honest, []step{readStartup, send("ERROR unknown command\r\n")}, decision.EvidenceUnknown, "", "does not speak"},
		{"an endless line that begins with E", honest, []step{readStartup, flood("E")}, decision.EvidenceUnknown, "", "does not speak"},
		{"claims a length of 2 GiB at once", honest, []step{readStartup, send("R" + huge), flood("x")}, decision.EvidenceUnknown, "", "does not speak"},
		{"claims a negative length", honest, []step{readStartup, send("R\xff\xff\xff\xff"), flood("x")}, decision.EvidenceUnknown, "", "does not speak"},
		{"claims a length of 0", honest, []step{readStartup, send("R\x00\x00\x00\x00"), swallow}, decision.EvidenceUnknown, "", "does not speak"},

		{"ten million SCRAM iterations", honest, []step{readStartup, askSCRAM, readMessage, iterations(10_000_000), swallow}, decision.Alive, "", `"10000000" SCRAM iterations`},
		{"more SCRAM iterations than fit in the time left", short, []step{readStartup, askSCRAM, readMessage, iterations(maxIterations), swallow}, decision.Alive, "", "SCRAM iterations"},
		{"a huge authentication request", honest, []step{readStartup, askSCRAM, readMessage, send("R\x00\x02\x00\x00"), flood("x")}, decision.Alive, "", "authentication request of 131072 bytes"},
		{"claims 2 GiB after the login", honest, []step{readStartup, login(), send("D" + huge), flood("x")}, decision.Alive, "", "message of 2147483647 bytes"},
		{"parameters without end", honest, []step{readStartup, say(&pgproto3.AuthenticationOk{}), flood(encoded(&pgproto3.ParameterStatus{Name: "name", Value: "value"}))}, decision.Alive, "", "more than 1048576 bytes"},
		{"notices without end", honest, []step{readStartup, say(&pgproto3.AuthenticationOk{}), flood(encoded(&pgproto3.NoticeResponse{Message: "hello"}))}, decision.Alive, "", "more than 1048576 bytes"},
		{"rows without end", honest, []step{readStartup, login(), announce(column), flood(row)}, decision.Alive, "", "more"},
		{"rows wider than described", honest, []step{readStartup, login(), announce(), say(&pgproto3.DataRow{Values: [][]byte{[]byte("f")}}), swallow}, decision.Alive, "", "answered, then"},
		{"a row that claims more columns than it has", honest, []step{readStartup, login(), announce(), send("D\x00\x00\x00\x06\xff\xff"), swallow}, decision.Alive, "", "answered, then"},
		{"an unknown message after the login", honest, []step{readStartup, login(), send("?\x00\x00\x00\x04"), swallow}, decision.Alive, "", "does not speak"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, c.steps...)
			began := time.Now()
			o := probeOnce(t, fakeTarget(f.addr, c.timeout))
			if took := time.Since(began); took > c.timeout+slack {
				t.Errorf("round took %s, want at most %s", took, c.timeout)
			}
			if took := time.Since(began); c.timeout == honest && took > honest/2 {
				t.Errorf("round took %s although everything was said at once", took)
			}
			for name, a := range map[string]decision.Attempt{"fresh": o.Fresh, "persistent": o.Persistent} {
				if a.Evidence != c.evidence || a.SQLState != c.sqlState || !strings.Contains(a.Detail, c.detail) {
					t.Errorf("%s = %s %q %q, want %s %q %q", name, a.Evidence, a.SQLState, a.Detail, c.evidence, c.sqlState, c.detail)
				}
				if strings.Contains(a.Detail, "secret-word") {
					t.Errorf("%s tells the password: %q", name, a.Detail)
				}
			}
			if got := o.Evidence(); got != c.evidence {
				t.Errorf("evidence of the round = %s, want %s", got, c.evidence)
			}
			if o.Role != decision.RoleUnknown || o.SystemID.Known || o.Timeline.Known {
				t.Errorf("facts out of nothing: %+v", o)
			}
		})
	}
}

func TestNobodyListensIsRefused(t *testing.T) {
	o := probeOnce(t, fakeTarget(closedPort(t), 5*time.Second))
	if o.Evidence() != decision.Refused || o.Fresh.Detail != "connection refused" {
		t.Errorf("evidence = %s %q, want refused", o.Evidence(), o.Fresh.Detail)
	}
}

// A full accept queue behaves like a dropped packet: the SYN is not answered.
func TestBlackholeIsSilentWithinTheDeadline(t *testing.T) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: sa.(*syscall.SockaddrInet4).Port}).String()
	for { // fill the queue until a connection is no longer taken
		conn, err := net.DialTimeout("tcp", addr, 200*time.Millisecond)
		if err != nil {
			break
		}
		defer conn.Close()
	}
	began := time.Now()
	o := probeOnce(t, fakeTarget(addr, 500*time.Millisecond))
	if took := time.Since(began); took > 500*time.Millisecond+slack {
		t.Errorf("round took %s", took)
	}
	if o.Evidence() != decision.Silent || o.Fresh.Detail != "no answer in time" {
		t.Errorf("evidence = %s %q, want silent", o.Evidence(), o.Fresh.Detail)
	}
}

func TestANameThatIsGoneIsSilentAndAResolverThatFailsProvesNothing(t *testing.T) {
	gone := classify(&net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "db", IsNotFound: true}}, &guard{}, 0)
	if gone.Evidence != decision.Silent || gone.Detail != "look up db: no such host" {
		t.Errorf("no such host = %s %q", gone.Evidence, gone.Detail)
	}
	failed := classify(&net.OpError{Op: "dial", Err: &net.DNSError{Err: "server misbehaving", Name: "db", IsTemporary: true, IsTimeout: true}}, &guard{}, 0)
	if failed.Evidence != decision.EvidenceUnknown || failed.Detail == "" {
		t.Errorf("resolver failure = %s %q, want unknown", failed.Evidence, failed.Detail)
	}
}

func TestOurOwnFaultsProveNothing(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.EADDRNOTAVAIL, syscall.EACCES, syscall.EPERM} {
		err := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", errno)}
		if a := classify(err, &guard{}, 0); a.Evidence != decision.EvidenceUnknown || a.Detail == "" {
			t.Errorf("%s = %s %q, want unknown with a detail", errno, a.Evidence, a.Detail)
		}
	}
	if a := classify(context.Canceled, &guard{}, 0); a.Evidence != decision.EvidenceUnknown {
		t.Errorf("cancelled = %s, want unknown", a.Evidence)
	}
	for _, errno := range []syscall.Errno{syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.ETIMEDOUT, syscall.ECONNRESET} {
		err := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", errno)}
		if a := classify(err, &guard{}, 0); a.Evidence != decision.Silent {
			t.Errorf("%s = %s, want silent", errno, a.Evidence)
		}
	}
}

func TestARoundIsCutShortByItsContext(t *testing.T) {
	f := newFake(t, swallow)
	p := NewProber(clock())
	defer p.Close()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	began := time.Now()
	o := p.Probe(ctx, fakeTarget(f.addr, time.Minute))
	if took := time.Since(began); took > slack {
		t.Errorf("cancelled round took %s", took)
	}
	if o.Evidence() != decision.EvidenceUnknown {
		t.Errorf("evidence = %s, want unknown: %+v", o.Evidence(), o)
	}
}

// What the server sent on the kept connection before a round is no sign of life in it.
func TestOldNewsIsNoAnswer(t *testing.T) {
	f := newFake(t, readStartup, login(), serve(told()), pause, say(&pgproto3.ParameterStatus{Name: "TimeZone", Value: "UTC"}), swallow)
	p := NewProber(clock())
	defer p.Close()
	target := fakeTarget(f.addr, 10*time.Second)
	o := p.Probe(t.Context(), target)
	answersEverywhere(t, o)
	same(t, "role", o.Role, decision.RoleStandby)
	for deadline := time.Now().Add(10 * time.Second); p.persistent.pg.Frontend().ReadBufferLen() == 0 && !readable(p.persistent.raw) && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	target.Timeout = 400 * time.Millisecond
	o = p.Probe(t.Context(), target)
	same(t, "persistent", o.Persistent.Evidence.String()+" "+o.Persistent.Detail, "silent no answer in time")
	same(t, "fresh", o.Fresh.Evidence, decision.Answers)
}

func TestAChangedTargetDropsTheKeptConnection(t *testing.T) {
	before := newFake(t, readStartup, login(), serve(told()), swallow)
	after := newFake(t, readStartup, fatal("57P03", "starting up"))
	p := NewProber(clock())
	defer p.Close()
	answersEverywhere(t, p.Probe(t.Context(), fakeTarget(before.addr, 10*time.Second)))
	dials := before.dials.Load()
	o := p.Probe(t.Context(), fakeTarget(after.addr, 10*time.Second))
	same(t, "persistent", o.Persistent.SQLState, "57P03")
	same(t, "dials to the old address", before.dials.Load(), dials)
}

func TestAPanicIsUnknownEvidence(t *testing.T) {
	p := NewProber(clock())
	r := &round{prober: p, target: fakeTarget("x", time.Second), results: make(chan wayResult, wayCount), lastBeat: time.Now()}
	r.start(t.Context(), fresh, func(context.Context) outcome { panic("boom") })
	res := <-r.results
	if res.attempt.Evidence != decision.EvidenceUnknown || res.attempt.Detail != "probe panicked: boom" {
		t.Errorf("attempt = %+v", res.attempt)
	}
}

func TestAHostileServerCannotMakeTheProberGrow(t *testing.T) {
	f := newFake(t, readStartup, say(&pgproto3.AuthenticationOk{}), func(c *fakeConn) error {
		for i := 0; ; i++ { // every parameter has another name: a map that keeps them all would grow
			name := strings.Repeat("n", 60) + string(rune('a'+i%26)) + time.Now().String()
			if err := say(&pgproto3.ParameterStatus{Name: name, Value: strings.Repeat("v", 1000)})(c); err != nil {
				return err
			}
		}
	})
	p := NewProber(clock())
	defer p.Close()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 8 {
		p.Probe(t.Context(), fakeTarget(f.addr, 5*time.Second))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 8<<20 {
		t.Errorf("heap grew by %d bytes", grown)
	}
}
