package lab

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// TLS is the lab's certificate authority and where its files are. All keys belong to the servers' account and are readable by it
// (and root) alone.
type TLS struct {
	// CAFile is the authority's certificate, for sslrootcert and backend.tls_ca.
	CAFile string

	mode    TLSMode
	dir     string
	account account
	ca      *x509.Certificate
	caKey   *ecdsa.PrivateKey
}

// sharedName is the certificate of both nodes under TLSShared.
const sharedName = "server"

// prepareTLS makes the authority and the servers' certificates.
func (l *Lab) prepareTLS(context.Context) error {
	if l.opts.TLS == TLSOff {
		return nil
	}
	t := &TLS{mode: l.opts.TLS, dir: filepath.Join(l.dir, "tls"), account: l.account}
	if err := os.Mkdir(t.dir, 0o755); err != nil {
		return fmt.Errorf("make certificates: %w", err)
	}
	if err := t.makeAuthority(); err != nil {
		return err
	}
	names := []string{sharedName}
	if t.mode == TLSPerNode {
		names = []string{RegionA, RegionB}
	}
	for _, name := range names {
		if _, _, err := t.Issue(name); err != nil {
			return err
		}
	}
	l.tls = t
	return t.account.own(t.dir)
}

// ServerFiles returns the certificate and key of a node; under TLSShared they are the same for all, and a proxy that presents
// them keeps channel binding intact.
func (t *TLS) ServerFiles(node string) (certFile, keyFile string) {
	if t.mode == TLSShared {
		node = sharedName
	}
	return t.files(node)
}

func (t *TLS) files(name string) (certFile, keyFile string) {
	return filepath.Join(t.dir, name+".crt"), filepath.Join(t.dir, name+".key")
}

// Pool returns the authority for a tls.Config.
func (t *TLS) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(t.ca)
	return pool
}

func (t *TLS) makeAuthority() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make key of authority: %w", err)
	}
	template := certificateTemplate("pgtether lab authority")
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return fmt.Errorf("make authority: %w", err)
	}
	if t.ca, err = x509.ParseCertificate(der); err != nil {
		return fmt.Errorf("read authority: %w", err)
	}
	t.caKey, t.CAFile = key, filepath.Join(t.dir, "ca.crt")
	return t.account.writeFile(t.CAFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// Issue makes another certificate, for loopback addresses, localhost and its own name, fit for servers and clients: for a proxy
// that does not share the nodes', or for a role that logs in by certificate (the name is then the role).
func (t *TLS) Issue(name string) (certFile, keyFile string, err error) {
	if !nodeName.MatchString(name) {
		return "", "", fmt.Errorf("issue certificate %q: the name is to be of a-z, 0-9 and '-'", name)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", fmt.Errorf("make key of %s: %w", name, err)
	}
	template := certificateTemplate(name)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	template.DNSNames = []string{"localhost", name}
	template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	for i := byte(2); i < 32; i++ { // nodes may have loopback addresses of their own
		template.IPAddresses = append(template.IPAddresses, net.IPv4(127, 0, 0, i))
	}
	der, err := x509.CreateCertificate(rand.Reader, template, t.ca, &key.PublicKey, t.caKey)
	if err != nil {
		return "", "", fmt.Errorf("issue certificate %s: %w", name, err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", "", fmt.Errorf("encode key of %s: %w", name, err)
	}
	certFile, keyFile = t.files(name)
	if err := t.account.writeFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})); err != nil {
		return "", "", err
	}
	return certFile, keyFile, t.account.writeFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

// certificateTemplate is valid for a day around now: a lab is not kept.
func certificateTemplate(name string) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic("lab: invariant: crypto/rand never fails: " + err.Error())
	}
	return &x509.Certificate{
		SerialNumber:       serial,
		Subject:            pkix.Name{CommonName: name},
		NotBefore:          time.Now().Add(-time.Hour),
		NotAfter:           time.Now().Add(24 * time.Hour),
		SignatureAlgorithm: x509.ECDSAWithSHA256, // tls-server-end-point then hashes with SHA-256, which libpq and Go both know
	}
}
