//go:build linux

package proxy

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/internal/pgwire"
)

// limit ends hangs of the tests with real servers; nothing waits for it to pass.
const limit = 2 * time.Minute

func startLab(t *testing.T, opts lab.Options) (context.Context, *lab.Lab) {
	t.Helper()
	return startLabFor(t, limit, opts)
}

func startLabFor(t *testing.T, limit time.Duration, opts lab.Options) (context.Context, *lab.Lab) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	l, err := lab.Start(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return ctx, l
}

func routeTo(n *lab.Node, epoch uint64) Route {
	return Route{Epoch: epoch, Node: n.Name(), Address: n.Addr()}
}

// connect logs in through the proxy as the application does.
func connect(ctx context.Context, t testing.TB, dsn string) *pgconn.PgConn {
	t.Helper()
	c, err := pgconn.Connect(ctx, dsn)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

// ask runs one statement and returns its first value.
func ask(ctx context.Context, t testing.TB, c *pgconn.PgConn, sql string) string {
	t.Helper()
	results, err := c.Exec(ctx, sql).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	last := results[len(results)-1]
	if len(last.Rows) == 0 {
		return ""
	}
	return string(last.Rows[0][0])
}

// codeOf returns the SQLSTATE of an error, or "" when it has none.
func codeOf(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// recovers asks a node itself whether it is the writer.
func recovers(l *lab.Lab, name string) func(context.Context, uint64) bool {
	return func(ctx context.Context, _ uint64) bool {
		text, err := l.Node(name).QueryText(ctx, "postgres", "SELECT pg_is_in_recovery()")
		return err == nil && text == "f"
	}
}

func TestRealSessions(t *testing.T) {
	ctx, l := startLab(t, lab.Options{Single: true, // and no more connections than PostgreSQL's default: fewer than logins may be under way
		HBA: []string{"host all app_md5 all md5", "host all app_password all password", "host all app_trust all trust"}})
	a := l.Node(lab.RegionA)
	cfg := testConfig()
	cfg.Backend.ConnectTimeout = time.Second
	cfg.Hold.Login = 5 * time.Second
	h := startServer(t, cfg, Deps{WriterAlive: recovers(l, lab.RegionA)})
	h.open(routeTo(a, 1))
	dsn := l.AppDSNAt(h.addr)

	t.Run("the backend's own pid and reports", func(t *testing.T) {
		through, direct := connect(ctx, t, dsn), connect(ctx, t, l.AppDSNAt(a.Addr()))
		if got := ask(ctx, t, through, "SELECT pg_backend_pid()"); got != fmt.Sprint(through.PID()) {
			t.Errorf("the client was told pid %d, its backend is %s", through.PID(), got)
		}
		for _, name := range []string{"server_version", "in_hot_standby", "client_encoding", "TimeZone", "session_authorization", "integer_datetimes"} {
			if got, want := through.ParameterStatus(name), direct.ParameterStatus(name); got != want || got == "" {
				t.Errorf("%s is reported as %q, directly as %q", name, got, want)
			}
		}
	})
	t.Run("the server's own refusals", func(t *testing.T) {
		for replace, code := range map[string]string{":keycloak@": "28P01", "/keycloak?": "3D000"} {
			bad := strings.Replace(dsn, replace, replace[:1]+"wrong"+replace[len(replace)-1:], 1)
			if _, err := pgconn.Connect(ctx, bad); codeOf(err) != code {
				t.Errorf("%s: %v, want %s", replace, err, code)
			}
		}
	})
	t.Run("COPY both ways", func(t *testing.T) { copyBothWays(ctx, t, connect(ctx, t, dsn)) })
	t.Run("cancel", func(t *testing.T) {
		c := connect(ctx, t, dsn)
		running := make(chan error, 1)
		go func() { _, err := c.Exec(ctx, "SELECT pg_sleep(60)").ReadAll(); running <- err }()
		eventually(t, "the statement runs", func() bool { return activeLike(ctx, t, a, "pg_sleep") == "1" })
		if err := c.CancelRequest(ctx); err != nil {
			t.Error(err)
		}
		if err := <-running; codeOf(err) != "57014" {
			t.Errorf("the cancelled statement gave %v", err)
		}
		if got := ask(ctx, t, c, "SELECT 42"); got != "42" {
			t.Errorf("after the cancel: %q", got)
		}
	})
	t.Run("an administrator ends one idle session", func(t *testing.T) {
		c := connect(ctx, t, dsn)
		if err := a.Exec(ctx, "postgres", fmt.Sprintf("SELECT pg_terminate_backend(%d)", c.PID())); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it has ended", func() bool { return h.metric("pgtether_sessions_total", endedByServer) >= 1 })
		if _, err := c.Exec(ctx, "SELECT 1").ReadAll(); codeOf(err) != "57P01" {
			t.Errorf("the client learns %v, want the server's own 57P01", err)
		}
	})
	t.Run("a client that is gone", func(t *testing.T) {
		c := connect(ctx, t, dsn)
		c.Frontend().Send(queryMessage("SELECT pg_sleep(60) /* orphan */"))
		if err := c.Frontend().Flush(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the statement runs", func() bool { return activeLike(ctx, t, a, "orphan") == "1" })
		raw := c.Conn().(interface{ SetLinger(int) error })
		_ = raw.SetLinger(0)
		_ = c.Conn().Close()
		eventually(t, "it has been cancelled", func() bool { return activeLike(ctx, t, a, "orphan") == "0" })
	})
	t.Run("other ways to authenticate", func(t *testing.T) { authenticateOtherwise(ctx, t, a, dsn) })
	t.Run("a flood of logins without a password", func(t *testing.T) { floodRealServer(ctx, t, h, a, dsn) })
	t.Run("a frozen postmaster", func(t *testing.T) { freezeRealPostmaster(ctx, t, h, a, dsn) })
}

func authenticateOtherwise(ctx context.Context, t *testing.T, a *lab.Node, dsn string) {
	for _, method := range []string{"md5", "password", "trust"} {
		role := "app_" + method
		encryption := map[bool]string{true: "md5", false: "scram-sha-256"}[method == "md5"]
		if err := a.Exec(ctx, "postgres", "SET password_encryption = '"+encryption+"'; CREATE ROLE "+role+" LOGIN PASSWORD 'secret'"); err != nil {
			t.Fatal(err)
		}
		good := strings.Replace(dsn, "//keycloak:keycloak@", "//"+role+":secret@", 1)
		if got := ask(ctx, t, connect(ctx, t, good), "SELECT current_user"); got != role {
			t.Errorf("%s: logged in as %q", method, got)
		}
		c, err := pgconn.Connect(ctx, strings.Replace(good, ":secret@", ":wrong@", 1))
		if (codeOf(err) == "28P01") == (method == "trust") {
			t.Errorf("%s with a wrong password: %v", method, err)
		}
		if err == nil {
			_ = c.Close(ctx)
		}
	}
}

// activeLike counts the statements that a node runs and that hold the word.
func activeLike(ctx context.Context, t *testing.T, n *lab.Node, word string) string {
	t.Helper()
	count, err := n.QueryText(ctx, "postgres", "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%"+word+"%' AND pid <> pg_backend_pid()")
	if err != nil {
		t.Fatal(err)
	}
	return count
}

// copyBothWays sends random bytes through COPY and gets the same back.
func copyBothWays(ctx context.Context, t *testing.T, c *pgconn.PgConn) {
	ask(ctx, t, c, "CREATE TEMP TABLE blobs (b text)")
	raw := make([]byte, 2<<20)
	_, _ = rand.Read(raw)
	var text bytes.Buffer
	for line := raw; len(line) > 0; line = line[min(len(line), 3000):] {
		fmt.Fprintf(&text, "%x\n", line[:min(len(line), 3000)])
	}
	sent := sha256.Sum256(text.Bytes())
	if _, err := c.CopyFrom(ctx, bytes.NewReader(text.Bytes()), "COPY blobs FROM STDIN"); err != nil {
		t.Fatal(err)
	}
	got := sha256.New()
	if _, err := c.CopyTo(ctx, got, "COPY blobs TO STDOUT"); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Sum(nil), sent[:]) {
		t.Error("what came back is not what was sent")
	}
}

func floodRealServer(ctx context.Context, t *testing.T, h *harness, a *lab.Node, dsn string) {
	packet := startupPacket(pgwire.Version30, "user", "keycloak", "database", "keycloak")
	eventually(t, "nobody is there", func() bool { return h.clients() == 0 })
	before := h.cameIn()
	var flood []*testClient
	for range 2000 {
		c := h.dial()
		c.write(packet)
		flood = append(flood, c)
	}
	eventually(t, "the whole flood has come in", func() bool { return h.cameIn()-before >= len(flood) })
	start := time.Now()
	c, err := pgconn.Connect(ctx, dsn)
	// In the instant in which the flood arrives the server may have given its last connection away: then it is to be served when it tries again.
	for tries := 1; tries < 5 && codeOf(err) == "53300"; tries++ {
		c, err = pgconn.Connect(ctx, dsn)
	}
	took := time.Since(start)
	if err != nil {
		t.Fatalf("an honest login behind %d without a password: %v", len(flood), err)
	}
	t.Logf("an honest login behind %d without a password took %s", len(flood), took)
	if took > patience {
		t.Error("too long")
	}
	_ = c.Close(ctx)
	for _, c := range flood {
		_ = c.Close()
	}
	eventually(t, "all have left", func() bool { return h.underWay() == 0 })
	eventually(t, "the server has room again", func() bool {
		n, err := a.QueryText(ctx, "postgres", "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
		return err == nil && len(n) == 1
	})
}

// The pair: a node that is no writer is never handed out, and a change of writer loses no login.
func TestRealChangeOfWriter(t *testing.T) {
	ctx, l := startLab(t, lab.Options{})
	a, b := l.Node(lab.RegionA), l.Node(lab.RegionB)
	h := startServer(t, testConfig(), Deps{WriterAlive: recovers(l, lab.RegionA)})
	dsn := l.AppDSNAt(h.addr)

	h.open(routeTo(b, 1)) // which is a standby: it was mistaken for the writer, or has just been demoted
	if _, err := pgconn.Connect(ctx, dsn); codeOf(err) != "57P03" {
		t.Errorf("a login on a standby: %v", err)
	}
	if node := <-h.suspects; node != lab.RegionB || h.Stats().Open != 0 {
		t.Errorf("suspected %q; %+v", node, h.Stats())
	}
	h.Cut(1, pgwire.WriterLost)

	h.open(routeTo(a, 2))
	idle, inBlock := connect(ctx, t, dsn), connect(ctx, t, dsn)
	ask(ctx, t, inBlock, "BEGIN; CREATE TEMP TABLE x()")
	if err := a.Kill9Postmaster(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*pgconn.PgConn{"idle": idle, "in a block": inBlock} {
		_, err := c.Exec(ctx, "SELECT 1").ReadAll()
		for err == nil { // a backend notices the end of its postmaster when it gets round to it
			_, err = c.Exec(ctx, "SELECT 1").ReadAll()
		}
		if code := codeOf(err); code != "08006" && code != "08007" && code != "57P01" { // in a block the server's own words come first, if it has time for them
			t.Errorf("%s: the client learns %v", name, err)
		}
	}
	const waiting = 20
	var wg sync.WaitGroup
	results := make(chan error, waiting)
	for range waiting {
		wg.Go(func() {
			c, err := pgconn.Connect(ctx, dsn)
			if err == nil {
				_, err = c.Exec(ctx, "CREATE TEMP TABLE y()").ReadAll()
				_ = c.Close(ctx)
			}
			results <- err
		})
	}
	eventually(t, "all wait", func() bool { return h.Stats().Held >= waiting-1 })
	h.Cut(2, pgwire.WriterLost)
	if err := b.Promote(ctx); err != nil {
		t.Fatal(err)
	}
	h.open(routeTo(b, 3))
	opened := time.Now()
	wg.Wait()
	t.Logf("%d held logins were served within %s", waiting, time.Since(opened))
	for range waiting {
		if err := <-results; err != nil {
			t.Errorf("a held login: %v", err)
		}
	}
	for node := range h.suspects { // until the dead writer is named
		if node == lab.RegionA {
			break
		}
	}
}

// F04: with only the postmaster frozen, sessions go on and new logins wait; nobody hangs for ever.
func freezeRealPostmaster(ctx context.Context, t *testing.T, h *harness, a *lab.Node, dsn string) {
	c := connect(ctx, t, dsn)
	if err := a.FreezePostmaster(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if _, err := pgconn.Connect(ctx, dsn); codeOf(err) != "57P03" {
		t.Errorf("a login on a frozen postmaster: %v", err)
	}
	t.Logf("refused after %s", time.Since(start))
	if got := ask(ctx, t, c, "SELECT 42"); got != "42" {
		t.Errorf("the session: %q", got)
	}
	late := make(chan error, 1)
	go func() {
		c, err := pgconn.Connect(ctx, dsn)
		if err == nil {
			_ = c.Close(ctx)
		}
		late <- err
	}()
	eventually(t, "it waits", func() bool { return h.Stats().Held+h.underWay() >= 1 })
	if err := a.Thaw(); err != nil {
		t.Fatal(err)
	}
	if err := <-late; err != nil {
		t.Errorf("a login that waited for the thaw: %v", err)
	}
}

// TLS on both legs and SCRAM: with one certificate everywhere channel binding passes through the relay; with others the proxy answers SCRAM itself.
func TestRealSCRAMWithTLSOnBothLegs(t *testing.T) {
	t.Run("one certificate: channel binding is relayed", func(t *testing.T) {
		ctx, l := startLab(t, lab.Options{Single: true, TLS: lab.TLSShared})
		cfg := testConfig()
		cfg.Listen.TLS, cfg.Backend.TLS, cfg.Backend.CA = TLSRequire, BackendTLSVerifyFull, l.TLS().CAFile
		cfg.Listen.Cert, cfg.Listen.Key = l.TLS().ServerFiles(lab.RegionA)
		h := startServer(t, cfg, Deps{})
		h.open(routeTo(l.Node(lab.RegionA), 1))
		c := connect(ctx, t, l.AppDSNAt(h.addr)+"&channel_binding=require")
		if got := ask(ctx, t, c, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"); got != "t" {
			t.Errorf("the backend leg's encryption: %q", got)
		}
	})
	ctx, l := startLab(t, lab.Options{Single: true, TLS: lab.TLSPerNode})
	t.Run("the node's own TLS: channel binding is end to end", func(t *testing.T) { realPassthrough(ctx, t, l) })
	t.Run("other certificates: the proxy answers", func(t *testing.T) { realSCRAMProxy(ctx, t, l) })
}

func realSCRAMProxy(ctx context.Context, t *testing.T, l *lab.Lab) {
	a := l.Node(lab.RegionA)
	cfg := testConfig()
	cfg.Listen.TLS, cfg.Backend.TLS, cfg.Backend.CA, cfg.SCRAM = TLSRequire, BackendTLSVerifyFull, l.TLS().CAFile, SCRAMProxy
	var err error
	if cfg.Listen.Cert, cfg.Listen.Key, err = l.TLS().Issue("proxy"); err != nil {
		t.Fatal(err)
	}
	h := startServer(t, cfg, Deps{Verifier: storedOn(a)})
	h.open(routeTo(a, 1))
	dsn := l.AppDSNAt(h.addr)
	c := connect(ctx, t, dsn) // a client that could bind the channel
	if got := ask(ctx, t, c, "SELECT current_user"); got != "keycloak" {
		t.Errorf("logged in as %q", got)
	}
	for _, bad := range []string{strings.Replace(dsn, ":keycloak@", ":wrong@", 1), strings.Replace(dsn, "//keycloak:", "//nobody:", 1)} {
		if _, err := pgconn.Connect(ctx, bad); codeOf(err) != "28P01" {
			t.Errorf("a login that must fail: %v", err)
		}
	}
	if err := a.Exec(ctx, "postgres", "ALTER ROLE keycloak NOLOGIN"); err != nil {
		t.Fatal(err)
	}
	if _, err := pgconn.Connect(ctx, dsn); codeOf(err) != "28000" {
		t.Errorf("a role that may not log in: %v, want the server's own refusal", err)
	}
}

func realPassthrough(ctx context.Context, t *testing.T, l *lab.Lab) {
	h := startServer(t, passthroughConfig(), Deps{WriterAlive: recovers(l, lab.RegionA)})
	h.open(routeTo(l.Node(lab.RegionA), 1))
	c := connect(ctx, t, l.AppDSNAt(h.addr)+"&channel_binding=require")
	copyBothWays(ctx, t, c)
	if got := h.Stats(); got.Opaque != 1 {
		t.Errorf("stats: %+v", got)
	}
}
