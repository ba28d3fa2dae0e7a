//go:build linux

package lab_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/pgtether/pgtether/internal/lab"
)

func readCertificate(t *testing.T, file string) *x509.Certificate {
	t.Helper()
	content, err := os.ReadFile(file)
	must(t, err)
	block, _ := pem.Decode(content)
	if block == nil {
		t.Fatalf("%s holds no certificate", file)
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	must(t, err)
	return certificate
}

// presented is the certificate that a node shows to the application.
func presented(t *testing.T, n *lab.Node) *x509.Certificate {
	t.Helper()
	ctx := within(t)
	c, err := pgx.Connect(ctx, strings.Replace(n.AppDSN(), "verify-ca", "verify-full", 1))
	must(t, err)
	defer c.Close(ctx)
	var encrypted bool
	must(t, c.QueryRow(ctx, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").Scan(&encrypted))
	if !encrypted {
		t.Errorf("the application talks to %s in clear", n.Name())
	}
	return c.PgConn().Conn().(*tls.Conn).ConnectionState().PeerCertificates[0]
}

func TestSharedCertificateOnBothNodes(t *testing.T) {
	_, l := start(t, lab.Options{TLS: lab.TLSShared, HBA: []string{"hostnossl all keycloak all reject"}})
	a, b := l.Node(lab.RegionA), l.Node(lab.RegionB)
	certFile, keyFile := l.TLS().ServerFiles(lab.RegionA)
	onDisk := readCertificate(t, certFile)
	if !presented(t, a).Equal(onDisk) || !presented(t, b).Equal(onDisk) {
		t.Error("the nodes do not present the shared certificate")
	}
	if otherCert, otherKey := l.TLS().ServerFiles(lab.RegionB); otherCert != certFile || otherKey != keyFile {
		t.Error("the nodes' files differ")
	}
	if _, err := tls.LoadX509KeyPair(certFile, keyFile); err != nil {
		t.Errorf("a proxy cannot present the same: %v", err)
	}
	_, err := pgx.Connect(within(t), strings.Replace(a.AppDSN(), "sslmode=verify-ca", "sslmode=disable", 1))
	wantState(t, err, "28000") // the extra pg_hba.conf line holds
}

func TestCertificatePerNode(t *testing.T) {
	_, l := start(t, lab.Options{TLS: lab.TLSPerNode})
	a, b := presented(t, l.Node(lab.RegionA)), presented(t, l.Node(lab.RegionB))
	if a.Equal(b) {
		t.Error("the nodes present the same certificate")
	}
	certFile, _, err := l.TLS().Issue("proxy")
	must(t, err)
	issued := readCertificate(t, certFile)
	if _, err := issued.Verify(x509.VerifyOptions{Roots: l.TLS().Pool(), DNSName: "localhost"}); err != nil {
		t.Errorf("another certificate is not from the same authority: %v", err)
	}
	if _, _, err := l.TLS().Issue("../escape"); err == nil {
		t.Error("a name may lead out of the directory")
	}
}

func TestStoredPasswordFollowsTheMethod(t *testing.T) {
	for method, prefix := range map[string]string{"md5": "md5", "trust": "SCRAM-SHA-256$"} {
		t.Run(method, func(t *testing.T) {
			ctx, l := start(t, lab.Options{Single: true, AppAuth: method})
			n := l.Node(lab.RegionA)
			stored := ask(t, ctx, n, "SELECT rolpassword FROM pg_authid WHERE rolname = 'keycloak'")
			if !strings.HasPrefix(stored, prefix) {
				t.Errorf("stored password begins %.14q, want %q", stored, prefix)
			}
			c, err := pgx.Connect(ctx, n.AppDSN())
			must(t, err)
			must(t, c.Close(ctx))
			wrong, err := pgx.Connect(ctx, strings.Replace(n.AppDSN(), ":keycloak@", ":wrong@", 1))
			if method == "trust" {
				must(t, err)
				must(t, wrong.Close(ctx))
				return
			}
			wantState(t, err, "28P01")
		})
	}
}
