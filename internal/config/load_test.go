package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// certificate writes a self-signed certificate and its key.
func certificate(t *testing.T, dir, name string, from, until time.Time) (crt, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: until, DNSNames: []string{name},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	crt = writeIn(t, dir, name+".crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	key = writeIn(t, dir, name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})))
	return crt, key
}

// TestEveryShippedConfigurationLoads loads configs/*.toml, with the files that they name put where they say, below a folder of the test.
func TestEveryShippedConfigurationLoads(t *testing.T) {
	files, err := filepath.Glob("../../configs/*.toml")
	if err != nil || len(files) < 2 {
		t.Fatalf("found %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			etc := t.TempDir()
			writeIn(t, etc, "probe.password", "secret\n")
			writeIn(t, etc, "admin.token", "secret\n")
			certificate(t, filepath.Join(etc, "tls"), "server", testNow.AddDate(0, -1, 0), testNow.AddDate(1, 0, 0))
			ca, _ := certificate(t, filepath.Join(etc, "tls"), "ca", testNow.AddDate(0, -1, 0), testNow.AddDate(1, 0, 0))
			if err := os.Rename(ca, filepath.Join(etc, "tls", "nodes-ca.crt")); err != nil {
				t.Fatal(err)
			}
			path := writeIn(t, etc, filepath.Base(file), strings.ReplaceAll(string(data), "/etc/pgtether", etc))
			f, warnings, err := load(path, testSystem(nil), true)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(file, "production") && len(warnings) > 0 {
				t.Errorf("the configuration for production is warned about:\n%s", texts(warnings))
			}
			if len(f.Nodes) != 2 || f.Failover.Mode != "auto" {
				t.Errorf("loaded %+v", f)
			}
		})
	}
}

func TestWhatTheFileDoesNotSayIsTheDefault(t *testing.T) {
	f, _ := mustLoad(t, valid+"[limits]\nmax_clients = 7\n")
	want := Default()
	want.Limits.MaxClients = 7
	if f.Limits != want.Limits || f.Hold != want.Hold || f.Backend != want.Backend || f.Log != want.Log || f.Listen != want.Listen {
		t.Errorf("loaded %+v", f)
	}
	if f.Nodes[1] != (Node{Name: "region-b", Address: "10.0.0.12:5432"}) {
		t.Errorf("node = %+v", f.Nodes[1])
	}
}

func TestEveryNotationOfTOMLMeansTheSame(t *testing.T) {
	for _, document := range []string{
		valid,
		strings.ReplaceAll(valid, "\n", "\r\n"),
		"\ufeff" + valid,
		"node = [{name = 'region-a', address = '10.0.0.11:5432'}, {name = 'region-b', address = '10.0.0.12:5432'}]\n" +
			"probe.user = 'pgtether'\nfailover = {mode = 'observe'}\n",
	} {
		f, _ := mustLoad(t, document)
		if len(f.Nodes) != 2 || f.Nodes[0].Name != "region-a" || f.Probe.User != "pgtether" {
			t.Errorf("loaded %+v from\n%s", f, document)
		}
	}
}

func TestRelativePathsCountFromTheFolderOfTheFile(t *testing.T) {
	dir := t.TempDir()
	writeIn(t, dir, "secrets/token", "secret")
	path := writeIn(t, dir, "pgtether.toml", valid+"[admin]\ntoken_file = \"secrets/token\"\n[state]\ndir = \"state\"\n")
	f, _, err := load(path, testSystem(nil), true)
	if err != nil {
		t.Fatal(err)
	}
	if f.Admin.TokenFile != filepath.Join(dir, "secrets/token") || f.State.Dir != filepath.Join(dir, "state") {
		t.Errorf("paths are %q and %q", f.Admin.TokenFile, f.State.Dir)
	}
	if f.Listen.TLSCert != "" {
		t.Errorf("an empty path became %q", f.Listen.TLSCert)
	}
}

func TestSecretsComeFromTheEnvironmentToo(t *testing.T) {
	path := write(t, "pgtether.toml", valid)
	f, warnings, err := load(path, testSystem(map[string]string{EnvProbePassword: "p", EnvToken: "t"}), true)
	if err != nil {
		t.Fatal(err)
	}
	if f.ProbePassword().Reveal() != "p" || f.AdminToken().Reveal() != "t" {
		t.Errorf("secrets are %q and %q", f.ProbePassword().Reveal(), f.AdminToken().Reveal())
	}
	if strings.Contains(texts(warnings), "password") {
		t.Errorf("warned about a missing password: %s", texts(warnings))
	}
}

func TestTheTokenOfTheFileCountsBeforeThatOfTheEnvironment(t *testing.T) {
	dir := t.TempDir()
	writeIn(t, dir, "token", "of the file")
	path := writeIn(t, dir, "pgtether.toml", valid+"[admin]\ntoken_file = \"token\"\n")
	f, _, err := load(path, testSystem(map[string]string{EnvToken: "of a command"}), true)
	if err != nil || f.AdminToken().Reveal() != "of the file" {
		t.Errorf("token %q, %v", f.AdminToken().Reveal(), err)
	}
}

func TestACommandNeedsNoRightToReadTheServersSecrets(t *testing.T) {
	dir := t.TempDir()
	writeIn(t, dir, "token", "t")
	path := writeIn(t, dir, "pgtether.toml", strings.Replace(valid, `user = "pgtether"`, "user = \"pgtether\"\npassword_file = \"none\"", 1)+
		"[admin]\ntoken_file = \"token\"\n[listen]\ntls_cert = \"none\"\ntls_key = \"none\"\n")
	f, err := LoadForClient(path)
	if err != nil {
		t.Fatal(err)
	}
	if f.AdminToken().Reveal() != "t" || f.ProbePassword().IsSet() {
		t.Errorf("token %q, password set: %v", f.AdminToken().Reveal(), f.ProbePassword().IsSet())
	}
	if _, _, err := Load(path); err == nil {
		t.Error("the server started without its files")
	}
}

func TestWarningsSayWhatAnOperatorShouldKnow(t *testing.T) {
	dir := t.TempDir()
	oldCrt, oldKey := certificate(t, dir, "old", testNow.AddDate(-2, 0, 0), testNow.AddDate(0, -1, 0))
	soonCrt, soonKey := certificate(t, dir, "soon", testNow.AddDate(-1, 0, 0), testNow.AddDate(0, 0, 10))
	newCrt, newKey := certificate(t, dir, "new", testNow.AddDate(0, 0, 1), testNow.AddDate(1, 0, 0))
	open := writeIn(t, dir, "open", "secret")
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	grouped := writeIn(t, dir, "grouped", "secret")
	if err := os.Chmod(grouped, 0o640); err != nil {
		t.Fatal(err)
	}
	tlsWith := func(crt, key string) string { return fmt.Sprintf("[listen]\ntls_cert = %q\ntls_key = %q\n", crt, key) }
	for name, c := range map[string]struct {
		document, want string
		env            map[string]string
	}{
		"clear text":                   {valid, `listen.tls: clients of other machines connect without encryption`, nil},
		"no password":                  {valid, `probe.user: no password is known for "pgtether"`, nil},
		"one node":                     {strings.Replace(valid, "[[node]]\nname = \"region-b\"\naddress = \"10.0.0.12:5432\"\n", "", 1), "node: only one node is configured", nil},
		"open admin":                   {valid + "[admin]\naddress = \"0.0.0.0:7432\"\n", `admin.address: "0.0.0.0:7432" can be reached from other machines and no token is set`, nil},
		"open secret":                  {valid + fmt.Sprintf("[admin]\ntoken_file = %q\n", open), `has the mode 0644: other users can read or change the secret in it`, nil},
		"expired":                      {valid + tlsWith(oldCrt, oldKey), "expired on 2026-05-01", nil},
		"expires soon":                 {valid + tlsWith(soonCrt, soonKey), "expires on 2026-06-11", nil},
		"not yet valid":                {valid + tlsWith(newCrt, newKey), "is not valid before 2026-06-02", nil},
		"lossless, and others promote": {valid + "require_lossless = true\n", `12: failover.require_lossless: has no effect in mode "observe"`, nil},
		"a fence, and others promote":  {valid + "require_fence = true\n", `12: failover.require_fence: has no effect in mode "observe"`, nil},
		"logins give up too early": {strings.Replace(valid, "observe", "auto", 1) + "[hold]\nlogin = \"5s\"\n",
			"13: hold.login: hold.login (5s) is not longer than failover.stable_for (5s)", nil},
		"a failure takes too long": {strings.Replace(valid, "observe", "auto", 1) + "stable_for = \"1m\"\n",
			"12: failover.stable_for: hold.login (15s) is not longer than failover.stable_for (60s)", nil},
		"channel binding": {valid + tlsWith(soonCrt, soonKey), "auth.scram: with TLS on both legs", nil},
	} {
		path := write(t, "pgtether.toml", c.document)
		_, warnings, err := load(path, testSystem(c.env), true)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !strings.Contains(texts(warnings), c.want) {
			t.Errorf("%s: warnings are\n%swant %q", name, texts(warnings), c.want)
		}
	}
	quiet := strings.Replace(valid, `user = "pgtether"`, fmt.Sprintf("user = \"pgtether\"\npassword_file = %q", grouped), 1) +
		"[listen]\naddress = \"127.0.0.1:6432\"\n[admin]\naddress = \"0.0.0.0:7432\"\n"
	_, warnings, err := load(write(t, "pgtether.toml", quiet), testSystem(map[string]string{EnvToken: "t"}), true)
	if err != nil || len(warnings) > 0 {
		t.Errorf("a configuration without a fault: %v\n%s", err, texts(warnings))
	}
	_, warnings, err = load(write(t, "pgtether.toml", valid+tlsWith(soonCrt, soonKey)+"[auth]\nscram = \"relay\"\n"), testSystem(nil), true)
	if err != nil || strings.Contains(texts(warnings), "auth.scram") {
		t.Errorf("warned about SCRAM although the file says relay: %v\n%s", err, texts(warnings))
	}
}

func TestACertificateThatDoesNotFitItsKeyIsRefused(t *testing.T) {
	dir := t.TempDir()
	crt, _ := certificate(t, dir, "a", testNow.AddDate(0, -1, 0), testNow.AddDate(1, 0, 0))
	_, key := certificate(t, dir, "b", testNow.AddDate(0, -1, 0), testNow.AddDate(1, 0, 0))
	got := refusals(t, valid+fmt.Sprintf("[listen]\ntls = \"require\"\ntls_cert = %q\ntls_key = %q\n", crt, key), nil)
	if !strings.HasPrefix(got, "14: listen.tls_cert: ") || !strings.Contains(got, "are not a certificate and its key in PEM: tls: private key does not match public key") {
		t.Errorf("refused with %q", got)
	}
}

func TestListenersThatOverlapAreRefused(t *testing.T) {
	for _, c := range []struct {
		listen, admin string
		refused       bool
	}{
		{"127.0.0.1:6432", "127.0.0.1:6432", true},
		{"0.0.0.0:6432", "127.0.0.1:6432", true},
		{":6432", "10.0.0.1:6432", true},
		{"127.0.0.1:6432", "[::]:6432", true},
		{"localhost:6432", "127.0.0.1:6432", true},
		{"10.0.0.1:6432", "127.0.0.1:6432", false},
		{"10.0.0.1:6432", "10.0.0.1:7432", false},
		{"[::ffff:127.0.0.1]:6432", "127.0.0.1:6432", true},
	} {
		_, _, err := load(write(t, "pgtether.toml", valid+fmt.Sprintf("[listen]\naddress = %q\n[admin]\naddress = %q\n", c.listen, c.admin)),
			testSystem(map[string]string{EnvToken: "t"}), true)
		if (err != nil) != c.refused {
			t.Errorf("listen %s, admin %s: %v, want refused: %v", c.listen, c.admin, err, c.refused)
		}
	}
}
