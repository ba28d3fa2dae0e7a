package health

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// The words of backend.tls. They mean what libpq's sslmode means.
const (
	// TLSDisable: never.
	TLSDisable = "disable"
	// TLSPrefer: when the server offers it; its certificate is not checked.
	TLSPrefer = "prefer"
	// TLSRequire: always; the certificate is checked against the CA only when one is configured, as libpq does.
	TLSRequire = "require"
	// TLSVerifyCA: always, and the certificate must come from the CA.
	TLSVerifyCA = "verify-ca"
	// TLSVerifyFull: as verify-ca, and the certificate must name the host that was dialed.
	TLSVerifyFull = "verify-full"
)

var tlsModes = []string{TLSDisable, TLSPrefer, TLSRequire, TLSVerifyCA, TLSVerifyFull}

// TLS is how connections to the nodes are encrypted: backend.tls, tls_ca, tls_cert and tls_key.
type TLS struct {
	// Mode is one of the TLS constants.
	Mode string
	// CAFile holds the certificates (PEM) that vouch for the nodes; empty means the system's.
	CAFile string
	// CertFile and KeyFile are the client's own certificate (PEM); both or neither.
	CertFile, KeyFile string
}

func (t TLS) validate() []error {
	var errs []error
	if !slices.Contains(tlsModes, t.Mode) {
		errs = append(errs, fmt.Errorf("backend.tls: unknown mode %q, want one of %s", t.Mode, strings.Join(tlsModes, ", ")))
	}
	if (t.CertFile == "") != (t.KeyFile == "") {
		errs = append(errs, errors.New("backend.tls_cert and backend.tls_key: both or neither must be set"))
	}
	return errs
}

// client reads the files and returns the configuration for one host, nil when TLS is disabled.
func (t TLS) client(host string) (*tls.Config, error) {
	if t.Mode == TLSDisable {
		return nil, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	if t.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("load client certificate: %w", err)
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read CA: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read CA %s: no certificate in it", t.CAFile)
		}
	}
	switch {
	case t.Mode == TLSVerifyFull:
	case t.Mode == TLSVerifyCA, t.Mode == TLSRequire && t.CAFile != "":
		cfg.InsecureSkipVerify = true // the name is not checked; the chain is, below
		cfg.VerifyConnection = chainOnly(cfg.RootCAs)
	default:
		cfg.InsecureSkipVerify = true
	}
	return cfg, nil
}

// chainOnly checks that the server's certificate comes from the roots (nil means the system's), whatever name it bears.
func chainOnly(roots *x509.CertPool) func(tls.ConnectionState) error {
	return func(cs tls.ConnectionState) error {
		opts := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
		for _, cert := range cs.PeerCertificates[1:] {
			opts.Intermediates.AddCert(cert)
		}
		_, err := cs.PeerCertificates[0].Verify(opts)
		return err
	}
}
