package proxy

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/pgtether/pgtether/internal/pgwire"
)

// alpnPostgreSQL is the name that direct TLS must negotiate, so that a TLS client of another protocol cannot be led here.
const alpnPostgreSQL = "postgresql"

// settings is a configuration with everything loaded that it names. It never changes: a reload replaces it, sessions keep theirs.
type settings struct {
	Config
	// listenTLS is nil when the proxy cannot encrypt.
	listenTLS *tls.Config
	// backendTLS is the template for connections to nodes; nil with backend.tls = "disable".
	backendTLS *tls.Config
}

// load reads the files that the configuration names.
func load(cfg Config) (*settings, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &settings{Config: cfg}
	var err1, err2 error
	s.listenTLS, err1 = cfg.Listen.load(cfg.Limits.TLSHandshakes)
	s.backendTLS, err2 = cfg.Backend.load()
	return s, errors.Join(err1, err2)
}

func (c ListenConfig) load(handshakes int) (*tls.Config, error) {
	if c.Cert == "" {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(c.Cert, c.Key)
	if err != nil {
		return nil, fmt.Errorf("load listen.tls_cert %q and listen.tls_key %q: %w", c.Cert, c.Key, err)
	}
	if signer, ok := cert.PrivateKey.(crypto.Signer); ok {
		cert.PrivateKey = &boundedSigner{Signer: signer, slots: make(chan struct{}, handshakes)}
	}
	t := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{alpnPostgreSQL}}
	if c.ClientCA != "" {
		if t.ClientCAs, err = loadPool("listen.tls_client_ca", c.ClientCA); err != nil {
			return nil, err
		}
		t.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return t, nil
}

func (c BackendConfig) load() (*tls.Config, error) {
	if c.TLS == BackendTLSDisable {
		return nil, nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.Cert != "" {
		cert, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return nil, fmt.Errorf("load backend.tls_cert %q and backend.tls_key %q: %w", c.Cert, c.Key, err)
		}
		t.Certificates = []tls.Certificate{cert}
	}
	var err error
	if c.CA != "" {
		if t.RootCAs, err = loadPool("backend.tls_ca", c.CA); err != nil {
			return nil, err
		}
	}
	if c.TLS != BackendTLSVerifyFull {
		t.InsecureSkipVerify = true // the names are not compared; verify-ca checks the chain below, the others check nothing, as in libpq
	}
	if c.TLS == BackendTLSVerifyCA {
		roots := t.RootCAs
		t.VerifyConnection = func(state tls.ConnectionState) error { return verifyChain(state, roots) }
	}
	return t, nil
}

// verifyChain checks that the server's certificate was signed by one of the roots (nil: the system's), whatever name it bears.
func verifyChain(state tls.ConnectionState, roots *x509.CertPool) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("server showed no certificate")
	}
	between := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between})
	return err
}

func loadPool(key, file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", key, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("load %s %q: no certificate in it", key, file)
	}
	return pool, nil
}

// boundedSigner bounds the handshakes that are computed at once: the signature is what they cost. A handshake that waits for its client holds no
// slot, so silent ones keep nobody out.
type boundedSigner struct {
	crypto.Signer
	slots chan struct{}
}

// Sign implements crypto.Signer.
func (b *boundedSigner) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	b.slots <- struct{}{}
	defer func() { <-b.slots }()
	return b.Signer.Sign(rand, digest, opts)
}

// tlsSocket is a client's connection below TLS.
type tlsSocket struct {
	*net.TCPConn
	prefix []byte // what of it has been read already
	attempt
	out *quietWriter
}

func newTLSSocket(raw *net.TCPConn, prefix []byte) *tlsSocket {
	return &tlsSocket{TCPConn: raw, prefix: prefix, out: newQuietWriter(raw)}
}

// Read implements net.Conn.
func (s *tlsSocket) Read(b []byte) (int, error) {
	switch {
	case len(s.prefix) > 0:
		n := copy(b, s.prefix)
		s.prefix = s.prefix[n:]
		return n, nil
	case s.attempt.on:
		return s.attempt.read(b)
	default:
		return s.TCPConn.Read(b)
	}
}

// Write implements net.Conn.
func (s *tlsSocket) Write(b []byte) (int, error) { return s.out.Write(b) }

// encrypt does the server's side of a TLS handshake, whose first byte has been read.
func (c *clientLeg) encrypt(cfg *tls.Config, first byte) (tls.ConnectionState, error) {
	conn := tls.Server(newTLSSocket(c.raw, append([]byte{first}, c.ahead...)), cfg)
	c.ahead = nil
	if err := c.charge(func() error { return conn.HandshakeContext(c.ctx) }); err != nil {
		return tls.ConnectionState{}, err
	}
	c.conn = conn
	return conn.ConnectionState(), nil
}

// errTLSRefused: the node does not encrypt and the configuration wants it to.
var errTLSRefused = errors.New("server does not support TLS")

// encrypt negotiates TLS with the node as backend.tls says. It reads a single byte before the handshake: whatever a man in the middle adds to it in
// clear is taken for TLS and breaks the handshake (CVE-2021-23222). The error is a *backendError.
func (b *backend) encrypt(s *settings, deadline time.Time) error {
	if s.backendTLS == nil {
		return nil
	}
	_ = b.SetDeadline(deadline)
	answer, err := b.askTLS()
	switch {
	case err != nil:
	case answer == 'S':
		err = b.handshake(s.backendTLS, deadline)
	case answer == 'N' && s.Backend.TLS == BackendTLSPrefer:
	case answer == 'N':
		err = errTLSRefused
	default:
		err = fmt.Errorf("answer %q to an SSLRequest: %w", answer, errNonsense)
	}
	if err != nil {
		return &backendError{addr: b.addr, err: fmt.Errorf("encrypt: %w", err)}
	}
	return nil
}

func (b *backend) handshake(template *tls.Config, deadline time.Time) error {
	cfg := template.Clone()
	if host, _, err := net.SplitHostPort(b.addr); err == nil {
		cfg.ServerName = host
	}
	conn := tls.Client(b, cfg)
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	b.conn = conn
	return nil
}

// askTLS sends an SSLRequest and reads the one byte that answers it.
func (b *backend) askTLS() (byte, error) {
	if _, err := b.Write(pgwire.AppendSSLRequest(nil)); err != nil {
		return 0, err
	}
	var answer [1]byte
	_, err := io.ReadFull(b, answer[:])
	return answer[0], err
}
