package scram

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/asn1"
	"fmt"
	"hash"
)

// maxBindingLength is the length in bytes of the longest hash that a certificate signature uses.
const maxBindingLength = sha512.Size

// algorithm is an AlgorithmIdentifier (RFC 5280, 4.1.1.2).
type algorithm struct {
	OID        asn1.ObjectIdentifier
	Parameters asn1.RawValue `asn1:"optional"`
}

// certificate is the outer frame of an X.509 certificate (RFC 5280, 4.1): what is signed is not looked into.
type certificate struct {
	Signed    asn1.RawValue
	Algorithm algorithm
	Signature asn1.BitString
}

// pssParameters begins the parameters of RSASSA-PSS (RFC 4055, 3.1); the hash is SHA-1 when it is left out.
type pssParameters struct {
	Hash  algorithm     `asn1:"explicit,optional,tag:0"`
	Mask  asn1.RawValue `asn1:"explicit,optional,tag:1"`
	Salt  int           `asn1:"explicit,optional,tag:2,default:20"`
	Field int           `asn1:"explicit,optional,tag:3,default:1"`
}

const oidPSS = "1.2.840.113549.1.1.10"

// hashes maps the OIDs of signature algorithms, and of the hashes that RSASSA-PSS names, to the binding's hash. MD5 and SHA-1 are
// replaced by SHA-256 (RFC 5929, 4.1).
var hashes = map[string]func() hash.Hash{
	"1.2.840.113549.1.1.4":   sha256.New,    // md5WithRSAEncryption
	"1.2.840.113549.1.1.5":   sha256.New,    // sha1WithRSAEncryption
	"1.2.840.113549.1.1.14":  sha256.New224, // sha224WithRSAEncryption
	"1.2.840.113549.1.1.11":  sha256.New,    // sha256WithRSAEncryption
	"1.2.840.113549.1.1.12":  sha512.New384, // sha384WithRSAEncryption
	"1.2.840.113549.1.1.13":  sha512.New,    // sha512WithRSAEncryption
	"1.2.840.10045.4.1":      sha256.New,    // ecdsa-with-SHA1
	"1.2.840.10045.4.3.1":    sha256.New224, // ecdsa-with-SHA224
	"1.2.840.10045.4.3.2":    sha256.New,    // ecdsa-with-SHA256
	"1.2.840.10045.4.3.3":    sha512.New384, // ecdsa-with-SHA384
	"1.2.840.10045.4.3.4":    sha512.New,    // ecdsa-with-SHA512
	"1.2.840.10040.4.3":      sha256.New,    // dsa-with-sha1
	"2.16.840.1.101.3.4.3.1": sha256.New224, // dsa-with-sha224
	"2.16.840.1.101.3.4.3.2": sha256.New,    // dsa-with-sha256
	"1.3.14.3.2.26":          sha256.New,    // sha1
	"2.16.840.1.101.3.4.2.4": sha256.New224, // sha224
	"2.16.840.1.101.3.4.2.1": sha256.New,    // sha256
	"2.16.840.1.101.3.4.2.2": sha512.New384, // sha384
	"2.16.840.1.101.3.4.2.3": sha512.New,    // sha512
}

// ServerEndPoint returns the tls-server-end-point channel binding of a server certificate in DER (x509.Certificate.Raw): its hash, by the
// hash function of its own signature, with SHA-256 in place of MD5 and SHA-1 (RFC 5929, 4.1). PostgreSQL computes the same
// (be_tls_get_certificate_hash); for RSASSA-PSS only from version 16 on.
//
// It returns ErrNoBindingHash for what is no certificate and for a signature without a hash of its own (Ed25519): channel binding is
// then not defined, and PostgreSQL refuses it too.
func ServerEndPoint(der []byte) ([]byte, error) {
	var cert certificate
	if rest, err := asn1.Unmarshal(der, &cert); err != nil || len(rest) != 0 {
		return nil, fmt.Errorf("hash certificate of %d bytes: no DER of a certificate: %w", len(der), ErrNoBindingHash)
	}
	oid := cert.Algorithm.OID.String()
	if oid == oidPSS {
		oid = pssHash(cert.Algorithm.Parameters.FullBytes)
	}
	newHash, ok := hashes[oid]
	if !ok {
		return nil, fmt.Errorf("hash certificate with signature algorithm %s: %w", cert.Algorithm.OID, ErrNoBindingHash)
	}
	h := newHash()
	h.Write(der)
	return h.Sum(nil), nil
}

// pssHash returns the OID of the hash that RSASSA-PSS parameters name, "" when they cannot be read.
func pssHash(der []byte) string {
	var p pssParameters
	if rest, err := asn1.Unmarshal(der, &p); err != nil || len(rest) != 0 {
		return ""
	}
	if len(p.Hash.OID) == 0 {
		return "1.3.14.3.2.26"
	}
	return p.Hash.OID.String()
}
