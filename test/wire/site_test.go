package wire

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/test/rig"
)

var program string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "pgtether-wire-")
	if err == nil {
		program, err = rig.Build(context.Background(), dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	err = errors.Join(pg15.close(), pg18.close(), os.RemoveAll(dir))
	http.DefaultClient.CloseIdleConnections()
	if code == 0 { // a test that failed may have left something behind
		err = errors.Join(err, goleak.Find())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// site is one server with the proxies in front of it. It starts when a test first needs it and ends with all tests.
type site struct {
	// binDir finds the server's programs; "" is what the machine has.
	binDir func(context.Context) (string, error)

	once  sync.Once
	err   error
	lab   *lab.Lab
	node  *lab.Node
	admin *pgx.Conn

	mu      sync.Mutex
	proxies map[string]*rig.Proxy
}

var (
	pg15 = &site{binDir: func(context.Context) (string, error) { return "", nil }}
	pg18 = &site{binDir: lab.PG18BinDir}
)

// Roles of a site, named after how they log in; their password is "secret". The application's role is the lab's.
const (
	roleTrust = "trusty"
	roleMD5   = "hashed"
	roleClear = "clear"
	roleSCRAM = "scram"
)

const rolePassword = "secret"

// database is where the scripts work.
const database = "keycloak"

func (s *site) start(t *testing.T) *site {
	t.Helper()
	s.once.Do(func() { s.err = s.open() })
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s
}

func (s *site) open() error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	binDir, err := s.binDir(ctx)
	if err != nil {
		return err
	}
	s.lab, err = lab.Start(ctx, lab.Options{BinDir: binDir, Single: true, TLS: lab.TLSShared,
		HBA: []string{
			"host all " + roleTrust + " 127.0.0.0/8 trust",
			"host replication " + roleTrust + " 127.0.0.0/8 trust",
			"host all " + roleMD5 + " 127.0.0.0/8 md5",
			"host all " + roleClear + " 127.0.0.0/8 password",
			"host all unwelcome 127.0.0.0/8 reject",
		},
		Settings: map[string]string{"max_prepared_transactions": "10"},
	})
	if err != nil {
		return err
	}
	s.node = s.lab.Node(lab.RegionA)
	if s.admin, err = pgx.Connect(ctx, s.node.SuperDSN(database)); err != nil {
		return err
	}
	_, err = s.admin.Exec(ctx, strings.NewReplacer("PASSWORD", "PASSWORD '"+rolePassword+"'").Replace(`
		CREATE ROLE trusty LOGIN REPLICATION; CREATE ROLE clear LOGIN PASSWORD; CREATE ROLE scram LOGIN PASSWORD;
		SET password_encryption = 'md5'; CREATE ROLE hashed LOGIN PASSWORD; RESET password_encryption;
		CREATE ROLE unwelcome LOGIN; CREATE ROLE full LOGIN CONNECTION LIMIT 0 PASSWORD; CREATE ROLE late LOGIN PASSWORD VALID UNTIL '2001-01-01';
		GRANT CREATE ON DATABASE keycloak TO trusty; GRANT pg_signal_backend TO trusty;
		CREATE SCHEMA wire AUTHORIZATION trusty; ALTER ROLE trusty IN DATABASE keycloak SET search_path = wire, public;
		GRANT EXECUTE ON FUNCTION pg_stat_reset_shared(text) TO trusty;`))
	return err
}

func (s *site) close() error {
	if s.lab == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var errs []error
	for _, p := range s.proxies {
		errs = append(errs, p.Stop())
	}
	if s.admin != nil {
		errs = append(errs, s.admin.Close(ctx))
	}
	return errors.Join(append(errs, s.lab.Close())...)
}

// proxy returns the site's proxy of that name, started with these keys when it is first asked for.
func (s *site) proxy(t *testing.T, name, listenKeys, extra string) *rig.Proxy {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, ok := s.proxies[name]; ok {
		return p
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p, err := rig.Start(ctx, s.lab, rig.Options{Binary: program, Dir: filepath.Join(s.lab.Dir(), "proxy-"+name), ListenKeys: listenKeys, Extra: extra})
	if err != nil {
		t.Fatal(err)
	}
	if s.proxies == nil {
		s.proxies = map[string]*rig.Proxy{}
	}
	s.proxies[name] = p
	if _, err := p.Await(ctx, "writes are open", func(s rig.Status) bool { return s.Writes == "open" }); err != nil {
		t.Fatal(err)
	}
	return p
}

// The proxies.

// inClear encrypts on neither leg.
func (s *site) inClear(t *testing.T) *rig.Proxy {
	t.Helper()
	return s.proxy(t, "clear", "tls = \"disable\"\nreplication = true", "[backend]\ntls = \"disable\"\n")
}

// encrypted encrypts on both legs, with the server's own certificate.
func (s *site) encrypted(t *testing.T) *rig.Proxy {
	t.Helper()
	cert, key := s.lab.TLS().ServerFiles(s.node.Name())
	return s.proxy(t, "encrypted", listenTLS("allow", cert, key), fmt.Sprintf("[backend]\ntls = \"verify-full\"\ntls_ca = %q\n", s.lab.TLS().CAFile))
}

// through hands the client's TLS to the server.
func (s *site) through(t *testing.T) *rig.Proxy {
	t.Helper()
	return s.proxy(t, "passthrough", `tls = "passthrough"`, "")
}

func listenTLS(mode, cert, key string) string {
	return fmt.Sprintf("tls = %q\ntls_cert = %q\ntls_key = %q\nreplication = true", mode, cert, key)
}

// query asks the server itself, as superuser.
func (s *site) query(t *testing.T, sql string, args ...any) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	rows, err := s.admin.Query(ctx, sql, append([]any{pgx.QueryExecModeSimpleProtocol}, args...)...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	values, err := pgx.CollectRows(rows, pgx.RowToMap)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	for _, row := range values {
		for _, v := range row {
			return fmt.Sprint(v)
		}
	}
	return ""
}

// await asks until the server says true.
func (s *site) await(t *testing.T, sql string, args ...any) {
	t.Helper()
	for end := time.Now().Add(patience); s.query(t, sql, args...) != "true"; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s %v does not come true", sql, args)
		}
	}
}
