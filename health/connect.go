package health

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

var (
	errOneDial    = errors.New("a probe dials once")
	errTLSRefused = wireError{text: "server does not offer TLS, which backend.tls demands"}
)

// link is one connection to a node. One goroutine at a time uses it.
type link struct {
	target Target
	guard  *guard
	raw    net.Conn       // the TCP connection below TLS
	pg     *pgconn.PgConn // nil until the server accepted the login
	locked bool           // the session holds the advisory lock
	// named are the names of the statements that the session has prepared, "" of those that it shall not; nil: of all.
	named map[string]string
	names int // that were given
	// severally is set when a statement has failed: no other is asked in one transaction with it.
	severally bool
	told      toldSettings
}

// connect makes one connection and logs in. Even when it fails the link tells what was seen; close releases it in both cases.
func connect(ctx context.Context, t Target, replication bool) (*link, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(t.Timeout)
	}
	l := &link{target: t, guard: &guard{}}
	l.guard.begin(deadline)
	cfg, err := l.config(replication)
	if err != nil {
		return l, err
	}
	l.pg, err = pgconn.ConnectConfig(ctx, cfg)
	return l, err
}

// template is what pgconn makes of a connection string in which everything is set. It insists on making its configuration itself, and looks
// at the environment, the home directory and a service file on the way. Of those only PGSERVICE cannot be overruled by the string.
var template = sync.OnceValues(func() (*pgconn.Config, error) {
	if service, ok := os.LookupEnv("PGSERVICE"); ok {
		os.Unsetenv("PGSERVICE")
		defer os.Setenv("PGSERVICE", service)
	}
	return pgconn.ParseConfig("host=invalid port=1 user=x password=x dbname=x connect_timeout=0 sslmode=disable sslcertmode=allow sslrootcert='' " +
		"sslcert='' sslkey='' sslnegotiation=postgres sslsni=1 target_session_attrs=any min_protocol_version=3.0 max_protocol_version=3.0 " +
		"channel_binding=prefer require_auth='' krbsrvname='' krbspn=''")
})

// config leaves nothing to pgconn's own ideas of where to connect, how often, and with what.
func (l *link) config(replication bool) (*pgconn.Config, error) {
	base, err := template()
	if err != nil {
		return nil, fmt.Errorf("prepare connection: %w", err)
	}
	t, cfg := l.target, base.Copy()
	cfg.User, cfg.Password, cfg.Database = t.User, t.Password, t.Database
	cfg.Fallbacks, cfg.TLSConfig, cfg.ConnectTimeout = nil, nil, 0
	cfg.ValidateConnect, cfg.AfterConnect, cfg.AfterNetConnect = nil, nil, nil
	cfg.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"invalid"}, nil }
	cfg.MaxProtocolMessageBodyLen = maxMessage
	cfg.RuntimeParams = l.parameters(replication)
	cfg.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) {
		if l.raw != nil {
			return nil, errOneDial // pgconn would send a CancelRequest when a query fails
		}
		return l.dial(ctx)
	}
	cfg.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		l.guard.src = r
		return pgproto3.NewFrontend(l.guard, w)
	}
	return cfg, nil
}

// parameters are the session's settings. They win over those of the role and the database, so that nobody's ALTER ROLE changes what a
// probe sees or makes it fail.
func (l *link) parameters(replication bool) map[string]string {
	millis := strconv.FormatInt(max(l.target.Timeout.Milliseconds(), 1), 10)
	p := map[string]string{
		"application_name":  l.target.applicationName(),
		"statement_timeout": millis,
		"lock_timeout":      millis,
		"client_encoding":   "UTF8",
		"DateStyle":         "ISO",
		"search_path":       "pg_catalog",
		// "serializable" as a role's default cannot be used on a standby.
		"default_transaction_isolation": "read committed",
		// A session whose machine is gone ends within about eleven seconds, not after the system's two hours: until then it is a rival, and has the lock.
		// Where the server cannot have one of them it says so in its log only.
		"tcp_keepalives_idle":     "5",
		"tcp_keepalives_interval": "2",
		"tcp_keepalives_count":    "3",
		"tcp_user_timeout":        "10000", // keepalive waits while an answer is not acknowledged
	}
	if replication {
		p["replication"] = "true"
	}
	return p
}

// dial connects to the one configured address and negotiates TLS on that connection. "prefer" goes on in clear when the server does not
// offer TLS; it does not dial again.
func (l *link) dial(ctx context.Context) (net.Conn, error) {
	dialer := net.Dialer{FallbackDelay: -1}
	conn, err := dialer.DialContext(ctx, "tcp", l.target.Address)
	if err != nil {
		return nil, err
	}
	l.raw = conn
	if l.target.TLSMode == "" || l.target.TLSMode == TLSDisable {
		return conn, nil
	}
	if err := conn.SetDeadline(l.guard.deadline); err != nil {
		return l.abandon(err)
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	encrypted, err := l.negotiateTLS(ctx, conn)
	if errors.Is(ctx.Err(), context.Canceled) {
		return l.abandon(context.Canceled)
	}
	if err != nil {
		return l.abandon(err)
	}
	// Nobody may set the deadline of a cancelled context over this one: stop reports whether that can still happen.
	if !stop() {
		return l.abandon(context.Cause(ctx))
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return l.abandon(err)
	}
	return encrypted, nil
}

func (l *link) abandon(err error) (net.Conn, error) {
	l.raw.Close()
	return nil, err
}

// negotiateTLS sends an SSLRequest and reads exactly one byte of answer: bytes that were sent ahead of the handshake become part of it and
// make it fail (CVE-2021-23222).
func (l *link) negotiateTLS(ctx context.Context, conn net.Conn) (net.Conn, error) {
	request := (&pgproto3.SSLRequest{})
	packet, err := request.Encode(nil)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(packet); err != nil {
		return nil, err
	}
	var answer [1]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return nil, err
	}
	switch answer[0] {
	case 'S':
		l.guard.answered = true
		encrypted := tls.Client(conn, l.target.TLSConfig)
		if err := encrypted.HandshakeContext(ctx); err != nil {
			return nil, handshakeError(err)
		}
		return encrypted, nil
	case 'N':
		l.guard.answered = true
		if l.target.TLSMode == TLSPrefer {
			return conn, nil
		}
		return nil, errTLSRefused
	default:
		return nil, l.readRefusal(conn, answer[0])
	}
}

// readRefusal reads what came in place of an answer to the SSLRequest: PostgreSQL's error, or another protocol.
func (l *link) readRefusal(conn net.Conn, first byte) error {
	g := l.guard
	g.src = conn
	g.observe([]byte{first})
	for buf := make([]byte, 512); !g.answered && g.err == nil; {
		if _, err := g.Read(buf); err != nil {
			return err
		}
	}
	if g.err != nil {
		return g.err
	}
	return wireError{text: "error in answer to the SSLRequest"}
}

// handshakeError tells a handshake that the network broke from one that failed for what was said in it.
func handshakeError(err error) error {
	if isNetwork(err) {
		return err
	}
	return wireError{text: "TLS handshake: " + err.Error()}
}

// major is the server's major version.
func (l *link) major() int { return majorVersion(l.pg.ParameterStatus("server_version")) }

// open reports whether the link can take another round.
func (l *link) open() bool { return l != nil && l.pg != nil && !l.pg.IsClosed() }

// close ends the connection, politely while ctx allows, and returns when nothing of it is left behind.
func (l *link) close(ctx context.Context) {
	if l.raw == nil {
		return
	}
	if l.pg != nil {
		if l.pg.IsBusy() {
			l.raw.Close() // in the middle of an answer there is nothing polite to say
		}
		l.pg.Close(ctx) // does nothing when pgconn has given the connection up itself
	}
	l.raw.Close()
	if l.pg != nil {
		<-l.pg.CleanupDone()
	}
}

// endedMeanwhile reports whether the server ended the session while nobody was asking. What it said then may be old: it is no answer to
// this round. Changed parameters and notices, which may arrive at any time, are read and dropped.
func (l *link) endedMeanwhile(ctx context.Context) bool {
	for range maxUnsolicited {
		if l.pg.Frontend().ReadBufferLen() == 0 && !readable(l.raw) {
			return false
		}
		brief, cancel := context.WithTimeout(ctx, briefly)
		msg, err := l.pg.ReceiveMessage(brief)
		cancel()
		if _, failed := msg.(*pgproto3.ErrorResponse); failed || err != nil && !pgconn.Timeout(err) {
			return true
		}
		if err != nil {
			return false // part of a message: the rest comes, or the round times out
		}
	}
	return true
}

const (
	maxUnsolicited = 100
	briefly        = 50 * time.Millisecond
)
