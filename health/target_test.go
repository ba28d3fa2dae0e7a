package health

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgtether/pgtether/decision"
)

func validConfig() Config {
	return Config{User: "pgtether", Password: "secret-word", Database: "postgres", Interval: time.Second, Timeout: time.Second, TLS: TLS{Mode: TLSDisable}}
}

func TestConfigIsRefusedWithEveryMistakeNamed(t *testing.T) {
	for _, c := range []struct {
		change func(*Config)
		want   string
	}{
		{func(*Config) {}, ""},
		{func(c *Config) { c.User = "" }, "probe.user: missing"},
		{func(c *Config) { c.Database = "" }, "probe.database: missing"},
		{func(c *Config) { c.Password = "a\x00b" }, "probe.password: contains a zero byte"},
		{func(c *Config) { c.Interval = ms }, "probe.interval: 1ms is out of range, want 50ms to 1m0s"},
		{func(c *Config) { c.Timeout = time.Hour }, "probe.timeout: 1h0m0s is out of range, want 50ms to 1m0s"},
		{func(c *Config) { c.TLS.Mode = "on" }, `backend.tls: unknown mode "on", want one of disable, prefer, require, verify-ca, verify-full`},
		{func(c *Config) { c.TLS.CertFile = "x" }, "backend.tls_cert and backend.tls_key: both or neither must be set"},
		{func(c *Config) { c.User, c.Timeout = "", 0 }, "probe.user: missing\nprobe.timeout: 0s is out of range, want 50ms to 1m0s"},
	} {
		cfg := validConfig()
		c.change(&cfg)
		got := ""
		if err := cfg.Validate(); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("error %q, want %q", got, c.want)
		}
	}
}

func TestTargetRefusesWhatItCannotUse(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.pem")
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		address string
		tls     TLS
		want    string
	}{
		{"10.0.0.11", TLS{Mode: TLSDisable}, "address of node region-a: address 10.0.0.11: missing port in address"},
		{"db:5432", TLS{Mode: TLSVerifyCA, CAFile: missing}, "TLS for node region-a: read CA: open " + missing + ": no such file or directory"},
		{"db:5432", TLS{Mode: TLSVerifyCA, CAFile: empty}, "TLS for node region-a: read CA " + empty + ": no certificate in it"},
		{"db:5432", TLS{Mode: TLSPrefer, CertFile: missing, KeyFile: missing}, "TLS for node region-a: load client certificate: open " + missing + ": no such file or directory"},
	} {
		cfg := validConfig()
		cfg.TLS = c.tls
		if _, err := cfg.Target("region-a", c.address, "i"); err == nil || err.Error() != c.want {
			t.Errorf("error %q, want %q", err, c.want)
		}
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	cfg := validConfig()
	target, err := cfg.Target("region-a", "db:5432", "i")
	if err != nil {
		t.Fatal(err)
	}
	var logged strings.Builder
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "target", target, "config", cfg)
	for _, text := range []string{
		fmt.Sprint(target), fmt.Sprintf("%+v", target), fmt.Sprintf("%#v", target), fmt.Sprintf("%+v", []Target{target}), fmt.Sprintf("%#v", &target),
		fmt.Sprint(cfg), fmt.Sprintf("%+v", cfg), fmt.Sprintf("%#v", cfg), logged.String(),
	} {
		if strings.Contains(text, "secret-word") || !strings.Contains(text, "pgtether") {
			t.Errorf("printed %q", text)
		}
	}
}

func TestApplicationNameFitsIntoPostgreSQLs(t *testing.T) {
	for instance, want := range map[string]string{
		"proxy-1": "pgtether/proxy-1", "": "pgtether/", "a\nb\x00ü": "pgtether/a?b??", strings.Repeat("x", 100): "pgtether/" + strings.Repeat("x", 54),
	} {
		same(t, instance, Target{Instance: instance}.applicationName(), want)
	}
}

// TestNothingAroundTheProcessChangesWhereItGoes: pgconn, like libpq, listens to the environment, to a password file and to a service file.
func TestNothingAroundTheProcessChangesWhereItGoes(t *testing.T) {
	elsewhere := newFake(t, hang)
	host, port, _ := net.SplitHostPort(elsewhere.addr)
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, ".pgpass"), []byte("*:*:*:*:from-the-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"HOME": home, "PGHOST": host, "PGPORT": port, "PGHOSTADDR": host, "PGDATABASE": "other", "PGUSER": "other", "PGPASSWORD": "other", "PGPASSFILE": home + "/.pgpass",
		"PGSERVICE": "missing", "PGSERVICEFILE": home + "/missing", "PGSSLMODE": "verify-full", "PGSSLCERT": "/missing", "PGSSLKEY": "/missing", "PGSSLROOTCERT": "/missing",
		"PGSSLNEGOTIATION": "direct", "PGTARGETSESSIONATTRS": "standby", "PGOPTIONS": "-c work_mem=1", "PGAPPNAME": "other", "PGTZ": "Asia/Tokyo",
		"PGCONNECT_TIMEOUT": "nonsense", "PGMINPROTOCOLVERSION": "nonsense", "PGMAXPROTOCOLVERSION": "nonsense", "PGCHANNELBINDING": "nonsense", "PGREQUIREAUTH": "nonsense",
		"PGSSLCERTMODE": "nonsense",
	} {
		t.Setenv(name, value)
	}
	f := newFake(t, readStartup, fatal("57P03", "starting up"))
	target := fakeTarget(f.addr, 5*time.Second)
	target.Password = ""
	o := probeOnce(t, target)
	same(t, "evidence", o.Fresh.SQLState, "57P03")
	same(t, "dials elsewhere", elsewhere.dials.Load(), 0)
	same(t, "dials", f.dials.Load(), 3) // one for each way in
	for _, startup := range f.seen() {
		delete(startup, "replication")
		want := map[string]string{"user": "probe", "database": "postgres", "application_name": "pgtether/test", "statement_timeout": "5000", "lock_timeout": "5000",
			"client_encoding": "UTF8", "DateStyle": "ISO", "search_path": "pg_catalog", "default_transaction_isolation": "read committed",
			"tcp_keepalives_idle": "5", "tcp_keepalives_interval": "2", "tcp_keepalives_count": "3", "tcp_user_timeout": "10000"}
		if fmt.Sprint(startup) != fmt.Sprint(want) {
			t.Errorf("startup packet %v, want %v", startup, want)
		}
	}
	same(t, "PGSERVICE is left to others", os.Getenv("PGSERVICE"), "missing")
}

func TestAFailedStatementDialsNobody(t *testing.T) {
	f := newFake(t, readStartup, login(), untilSync(1)) // closes in the middle: pgconn would dial to send a CancelRequest
	o := probeOnce(t, fakeTarget(f.addr, 5*time.Second))
	same(t, "evidence", o.Fresh.Evidence, decision.Alive)
	same(t, "dials", f.dials.Load(), 3)
}

// selfSigned returns a certificate for a host and the path of its PEM.
func selfSigned(t *testing.T, host string) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "node"}, DNSNames: []string{host}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	if ip := net.ParseIP(host); ip != nil {
		template.DNSNames, template.IPAddresses = nil, []net.IP{ip}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	path := filepath.Join(t.TempDir(), "ca.pem")
	must(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, path
}

// sslRequest reads an SSLRequest and answers it.
func sslRequest(answer string) step {
	return func(c *fakeConn) error {
		if _, err := io.CopyN(io.Discard, c, 8); err != nil {
			return err
		}
		return send(answer)(c)
	}
}

// handshake continues in TLS.
func handshake(cert tls.Certificate) step {
	return func(c *fakeConn) error {
		encrypted := tls.Server(c.Conn, &tls.Config{Certificates: []tls.Certificate{cert}})
		c.Conn = encrypted
		return encrypted.Handshake()
	}
}

func TestTLSToTheNode(t *testing.T) {
	here, ca := selfSigned(t, "127.0.0.1")
	other, _ := selfSigned(t, "127.0.0.1")
	named, namedCA := selfSigned(t, "db.example")
	refuse := fatal("57P03", "starting up") // the login got through to PostgreSQL
	const starting = "alive 57P03"
	for _, c := range []struct {
		name   string
		tls    TLS
		steps  []step
		want   string
		detail string
	}{
		{"prefer takes TLS", TLS{Mode: TLSPrefer}, []step{sslRequest("S"), handshake(other), readStartup, refuse}, starting, ""},
		{"prefer goes on in clear on the same connection", TLS{Mode: TLSPrefer}, []step{sslRequest("N"), readStartup, refuse}, starting, ""},
		{"require does not", TLS{Mode: TLSRequire}, []step{sslRequest("N"), hang}, "alive ", "server does not offer TLS, which backend.tls demands"},
		{"require takes any certificate", TLS{Mode: TLSRequire}, []step{sslRequest("S"), handshake(other), readStartup, refuse}, starting, ""},
		{"require with a CA checks it", TLS{Mode: TLSRequire, CAFile: ca}, []step{sslRequest("S"), handshake(other), hang}, "alive ", "TLS handshake: "},
		{"verify-ca", TLS{Mode: TLSVerifyCA, CAFile: ca}, []step{sslRequest("S"), handshake(here), readStartup, refuse}, starting, ""},
		{"verify-ca takes any name", TLS{Mode: TLSVerifyCA, CAFile: namedCA}, []step{sslRequest("S"), handshake(named), readStartup, refuse}, starting, ""},
		{"verify-ca refuses another CA", TLS{Mode: TLSVerifyCA, CAFile: ca}, []step{sslRequest("S"), handshake(other), hang}, "alive ", "TLS handshake: "},
		{"verify-ca without a CA takes the system's", TLS{Mode: TLSVerifyCA}, []step{sslRequest("S"), handshake(here), hang}, "alive ", "TLS handshake: "},
		{"verify-full", TLS{Mode: TLSVerifyFull, CAFile: ca}, []step{sslRequest("S"), handshake(here), readStartup, refuse}, starting, ""},
		{"verify-full refuses another name", TLS{Mode: TLSVerifyFull, CAFile: namedCA}, []step{sslRequest("S"), handshake(named), hang}, "alive ", "TLS handshake: "},
		{"no answer to the SSLRequest", TLS{Mode: TLSRequire}, []step{swallow}, "silent ", "no answer in time"},
		{"closed after the SSLRequest", TLS{Mode: TLSRequire}, []step{sslRequest("")}, "silent ", "connection closed"},
		{"cannot fork", TLS{Mode: TLSRequire}, []step{sslRequest("Ecould not fork new process for connection: x\n\x00")}, "alive ", "could not fork new process for connection: x"},
		{"an error of protocol 3", TLS{Mode: TLSRequire}, []step{sslRequest(""), refuse}, "alive ", "error in answer to the SSLRequest"},
		{"another protocol", TLS{Mode: TLSRequire}, []step{sslRequest("HTTP/1.1 400 Bad Request\r\n"), hang}, "unknown ", "does not speak PostgreSQL's protocol"},
		{"bytes ahead of the handshake", TLS{Mode: TLSRequire}, []step{sslRequest("SR\x00\x00\x00\x08\x00\x00\x00\x00"), handshake(here), hang}, "alive ", "TLS handshake: "},
		{"hangs in the handshake", TLS{Mode: TLSRequire}, []step{sslRequest("S"), swallow}, "alive ", "answered, then: no answer in time"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, c.steps...)
			cfg := validConfig()
			cfg.TLS, cfg.Timeout = c.tls, 500*ms
			if c.want == starting || strings.Contains(c.detail, "handshake") {
				cfg.Timeout = 10 * time.Second
			}
			target, err := cfg.Target("region-a", f.addr, "test")
			must(t, err)
			o := probeOnce(t, target)
			if got := o.Fresh.Evidence.String() + " " + o.Fresh.SQLState; got != c.want || !strings.Contains(o.Fresh.Detail, c.detail) {
				t.Errorf("fresh = %s %q, want %s %q", got, o.Fresh.Detail, c.want, c.detail)
			}
			if n := f.dials.Load(); n > 3 {
				t.Errorf("%d dials for three ways in", n)
			}
		})
	}
}
