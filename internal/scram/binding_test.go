package scram

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"math/big"
	"testing"
	"time"
)

func selfSigned(t testing.TB, signer crypto.Signer, algorithm x509.SignatureAlgorithm) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), SignatureAlgorithm: algorithm, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestServerEndPointHashesTheCertificateByItsOwnSignature(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sum256 := func(b []byte) []byte { s := sha256.Sum256(b); return s[:] }
	sum384 := func(b []byte) []byte { s := sha512.Sum384(b); return s[:] }
	sum512 := func(b []byte) []byte { s := sha512.Sum512(b); return s[:] }
	for _, c := range []struct {
		signer    crypto.Signer
		algorithm x509.SignatureAlgorithm
		want      func([]byte) []byte
	}{
		{rsaKey, x509.SHA256WithRSA, sum256},
		{rsaKey, x509.SHA384WithRSA, sum384},
		{rsaKey, x509.SHA512WithRSA, sum512},
		{rsaKey, x509.SHA256WithRSAPSS, sum256},
		{rsaKey, x509.SHA384WithRSAPSS, sum384},
		{rsaKey, x509.SHA512WithRSAPSS, sum512},
		{ecKey, x509.ECDSAWithSHA256, sum256},
		{ecKey, x509.ECDSAWithSHA384, sum384},
		{ecKey, x509.ECDSAWithSHA512, sum512},
	} {
		cert := selfSigned(t, c.signer, c.algorithm)
		got, err := ServerEndPoint(cert)
		if err != nil || !bytes.Equal(got, c.want(cert.Raw)) {
			t.Errorf("%s: %x, %v", c.algorithm, got, err)
		}
	}
}

func TestServerEndPointUsesSHA256InPlaceOfMD5AndSHA1(t *testing.T) {
	raw := []byte("any certificate")
	want := sha256.Sum256(raw)
	for _, a := range []x509.SignatureAlgorithm{x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1, x509.DSAWithSHA256} {
		got, err := ServerEndPoint(&x509.Certificate{Raw: raw, SignatureAlgorithm: a})
		if err != nil || !bytes.Equal(got, want[:]) {
			t.Errorf("%s: %x, %v", a, got, err)
		}
	}
}

func TestServerEndPointIsUndefinedForASignatureWithoutHash(t *testing.T) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, cert := range []*x509.Certificate{
		selfSigned(t, key, x509.PureEd25519),
		{Raw: []byte("x"), SignatureAlgorithm: x509.UnknownSignatureAlgorithm},
		{Raw: []byte("x"), SignatureAlgorithm: x509.MD2WithRSA},
	} {
		if got, err := ServerEndPoint(cert); !errors.Is(err, ErrNoBindingHash) || got != nil {
			t.Errorf("%s: %x, %v; want ErrNoBindingHash", cert.SignatureAlgorithm, got, err)
		}
	}
}
