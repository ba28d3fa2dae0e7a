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
	"encoding/asn1"
	"errors"
	"math/big"
	"strconv"
	"strings"
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
		got, err := ServerEndPoint(cert.Raw)
		if err != nil || !bytes.Equal(got, c.want(cert.Raw)) {
			t.Errorf("%s: %x, %v", c.algorithm, got, err)
		}
	}
}

// framed returns the outer frame of a certificate with this signature algorithm around nothing of use.
func framed(t testing.TB, oid string, parameters any) []byte {
	t.Helper()
	var a algorithm
	for _, part := range strings.Split(oid, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			t.Fatal(err)
		}
		a.OID = append(a.OID, n)
	}
	if parameters != nil {
		a.Parameters.FullBytes = marshal(t, parameters)
	}
	return marshal(t, certificate{Signed: asn1.RawValue{FullBytes: marshal(t, "signed")}, Algorithm: a, Signature: asn1.BitString{Bytes: []byte{1}, BitLength: 8}})
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	der, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestServerEndPointUsesSHA256InPlaceOfMD5AndSHA1(t *testing.T) {
	for name, oid := range map[string]string{
		"MD5 with RSA": "1.2.840.113549.1.1.4", "SHA-1 with RSA": "1.2.840.113549.1.1.5", "SHA-1 with ECDSA": "1.2.840.10045.4.1",
		"SHA-1 with DSA": "1.2.840.10040.4.3", "SHA-256 with DSA": "2.16.840.1.101.3.4.3.2",
	} {
		der := framed(t, oid, nil)
		want := sha256.Sum256(der)
		if got, err := ServerEndPoint(der); err != nil || !bytes.Equal(got, want[:]) {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
}

func TestServerEndPointReadsTheHashOfPSS(t *testing.T) {
	der := framed(t, oidPSS, struct{}{}) // no parameters: SHA-1, replaced
	want := sha256.Sum256(der)
	if got, err := ServerEndPoint(der); err != nil || !bytes.Equal(got, want[:]) {
		t.Errorf("default hash: %x, %v", got, err)
	}
	for name, parameters := range map[string]any{
		"no sequence":   "text",
		"unknown hash":  pssParameters{Hash: algorithm{OID: asn1.ObjectIdentifier{1, 2, 3}}, Salt: 20, Field: 1},
		"none at all":   nil,
		"an odd number": 7,
	} {
		if got, err := ServerEndPoint(framed(t, oidPSS, parameters)); !errors.Is(err, ErrNoBindingHash) || got != nil {
			t.Errorf("%s: %x, %v; want ErrNoBindingHash", name, got, err)
		}
	}
}

func TestServerEndPointIsUndefinedForASignatureWithoutHash(t *testing.T) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := framed(t, "1.2.840.10045.4.3.2", nil)
	for name, der := range map[string][]byte{
		"Ed25519":          selfSigned(t, key, x509.PureEd25519).Raw,
		"MD2":              framed(t, "1.2.840.113549.1.1.2", nil),
		"unknown":          framed(t, "1.2.3.4", nil),
		"nothing":          nil,
		"garbage":          []byte("-----BEGIN CERTIFICATE-----"),
		"cut":              good[:len(good)-1],
		"bytes behind":     append(bytes.Clone(good), 0),
		"length of 4 GiB":  {0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0x00},
		"indefinite frame": {0x30, 0x80, 0x00, 0x00},
	} {
		if got, err := ServerEndPoint(der); !errors.Is(err, ErrNoBindingHash) || got != nil {
			t.Errorf("%s: %x, %v; want ErrNoBindingHash", name, got, err)
		}
	}
}

func FuzzServerEndPoint(f *testing.F) {
	f.Add(framed(f, "1.2.840.10045.4.3.2", nil))
	f.Add(framed(f, oidPSS, struct{}{}))
	f.Add(framed(f, oidPSS, pssParameters{Hash: algorithm{OID: asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}}, Salt: 20, Field: 1}))
	f.Fuzz(func(t *testing.T, der []byte) {
		got, err := ServerEndPoint(der)
		if (err == nil) == (got == nil) || len(got) > maxBindingLength {
			t.Fatalf("%d bytes, error %v", len(got), err)
		}
	})
}
