package scram

import (
	"crypto"
	_ "crypto/sha256" // links the hash that most certificates name
	_ "crypto/sha512" // links the hashes that the others name
	"crypto/x509"
	"fmt"
)

// maxBindingLength is the length in bytes of the longest hash that a certificate signature uses.
const maxBindingLength = 64

// ServerEndPoint returns the tls-server-end-point channel binding of a server certificate: its hash, by the hash function of its own
// signature, with SHA-256 in place of MD5 and SHA-1 (RFC 5929, 4.1). PostgreSQL computes the same (be_tls_get_certificate_hash).
//
// It returns ErrNoBindingHash for a signature without a hash of its own (Ed25519) or one that Go does not know: channel
// binding is then not defined, and PostgreSQL refuses it too.
func ServerEndPoint(cert *x509.Certificate) ([]byte, error) {
	hash, ok := bindingHash(cert.SignatureAlgorithm)
	if !ok {
		return nil, fmt.Errorf("hash certificate signed with %s: %w", cert.SignatureAlgorithm, ErrNoBindingHash)
	}
	h := hash.New()
	h.Write(cert.Raw)
	return h.Sum(nil), nil
}

func bindingHash(a x509.SignatureAlgorithm) (crypto.Hash, bool) {
	switch a {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1,
		x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.ECDSAWithSHA256, x509.DSAWithSHA256:
		return crypto.SHA256, true
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		return crypto.SHA384, true
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		return crypto.SHA512, true
	default:
		return 0, false
	}
}
