package scram

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
)

const (
	// verifierScheme begins every verifier that PostgreSQL stores for SCRAM.
	verifierScheme = "SCRAM-SHA-256"
	// MaxVerifierLength bounds a verifier's text in bytes. PostgreSQL's own are 133 bytes long; only a longer salt makes them longer.
	MaxVerifierLength = 1024
	// MaxSaltLength bounds a salt in bytes. PostgreSQL makes salts of 16.
	MaxSaltLength = 256
	// MaxIterations is the greatest iteration count that PostgreSQL can store (scram_iterations is an int). Nothing here iterates.
	MaxIterations = math.MaxInt32
)

// Verifier is a role's SCRAM secret as pg_authid.rolpassword holds it. It lets its owner check a client's proof and act as the role's
// server, and with one observed exchange log in as the role: treat it as the password. Its own formatting hides the keys, but fmt asks
// no method of a struct's unexported fields: there, keep a pointer to it.
type Verifier struct {
	// Iterations is the PBKDF2 iteration count, 1 to MaxIterations.
	Iterations int
	// Salt is 1 to MaxSaltLength bytes long.
	Salt []byte
	// StoredKey and ServerKey are KeyLength bytes long.
	StoredKey, ServerKey []byte
}

// ParseVerifier reads "SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>", salt and keys in canonical base64
// (src/common/scram-common.c, scram_build_secret). An error matches ErrInvalidVerifier and names the part, never its value.
func ParseVerifier(s string) (Verifier, error) {
	if len(s) > MaxVerifierLength {
		return Verifier{}, fmt.Errorf("%w: longer than %d bytes", ErrInvalidVerifier, MaxVerifierLength)
	}
	rest, ok := strings.CutPrefix(s, verifierScheme+"$")
	if !ok {
		return Verifier{}, fmt.Errorf("%w: does not begin with %s$", ErrInvalidVerifier, verifierScheme)
	}
	public, keys, ok := strings.Cut(rest, "$")
	if !ok {
		return Verifier{}, fmt.Errorf("%w: no keys after iterations and salt", ErrInvalidVerifier)
	}
	iterations, salt, ok := strings.Cut(public, ":")
	if !ok {
		return Verifier{}, fmt.Errorf("%w: no salt", ErrInvalidVerifier)
	}
	stored, server, ok := strings.Cut(keys, ":")
	if !ok {
		return Verifier{}, fmt.Errorf("%w: no server key", ErrInvalidVerifier)
	}
	var v Verifier
	if v.Iterations, ok = parseIterations([]byte(iterations)); !ok {
		return Verifier{}, fmt.Errorf("%w: iterations are not a number from 1 to %d", ErrInvalidVerifier, MaxIterations)
	}
	if v.Salt, ok = decodeStrict(salt); !ok || len(v.Salt) == 0 || len(v.Salt) > MaxSaltLength {
		return Verifier{}, fmt.Errorf("%w: salt is not base64 of 1 to %d bytes", ErrInvalidVerifier, MaxSaltLength)
	}
	if v.StoredKey, ok = decodeStrict(stored); !ok || len(v.StoredKey) != KeyLength {
		return Verifier{}, fmt.Errorf("%w: stored key is not base64 of %d bytes", ErrInvalidVerifier, KeyLength)
	}
	if v.ServerKey, ok = decodeStrict(server); !ok || len(v.ServerKey) != KeyLength {
		return Verifier{}, fmt.Errorf("%w: server key is not base64 of %d bytes", ErrInvalidVerifier, KeyLength)
	}
	return v, nil
}

// Validate checks the bounds of every field, for a Verifier that was not made by ParseVerifier.
func (v Verifier) Validate() error {
	switch {
	case v.Iterations < 1 || v.Iterations > MaxIterations:
		return fmt.Errorf("%w: iterations are not a number from 1 to %d", ErrInvalidVerifier, MaxIterations)
	case len(v.Salt) == 0 || len(v.Salt) > MaxSaltLength:
		return fmt.Errorf("%w: salt is not 1 to %d bytes long", ErrInvalidVerifier, MaxSaltLength)
	case len(v.StoredKey) != KeyLength || len(v.ServerKey) != KeyLength:
		return fmt.Errorf("%w: a key is not %d bytes long", ErrInvalidVerifier, KeyLength)
	}
	return nil
}

// Equal says, in constant time for equal lengths, whether both are the same verifier.
func (v Verifier) Equal(o Verifier) bool {
	same := subtle.ConstantTimeCompare(v.Salt, o.Salt) &
		subtle.ConstantTimeCompare(v.StoredKey, o.StoredKey) &
		subtle.ConstantTimeCompare(v.ServerKey, o.ServerKey)
	return same == 1 && v.Iterations == o.Iterations
}

// Fingerprint names the verifier in a map or cache without holding its keys. It is not for logs: with the salt, it lets a
// password be guessed offline.
func (v Verifier) Fingerprint() [sha256.Size]byte {
	return sha256.Sum256(v.appendSecret(nil))
}

// Challenge names the salt and iterations, which a server shows to everybody who tries to log in. PostgreSQL makes a new salt with each password.
func (v Verifier) Challenge() [sha256.Size]byte { return nameChallenge(v.Salt, v.Iterations) }

func nameChallenge(salt []byte, iterations int) [sha256.Size]byte {
	return sha256.Sum256(binary.BigEndian.AppendUint64(bytes.Clone(salt), uint64(iterations)))
}

// Clone returns a verifier that shares no bytes with v.
func (v Verifier) Clone() Verifier {
	return Verifier{
		Iterations: v.Iterations,
		Salt:       bytes.Clone(v.Salt), StoredKey: bytes.Clone(v.StoredKey), ServerKey: bytes.Clone(v.ServerKey),
	}
}

// Wipe overwrites both keys, in every copy that shares their bytes.
func (v Verifier) Wipe() {
	clear(v.StoredKey)
	clear(v.ServerKey)
}

// String names scheme and iterations only.
func (v Verifier) String() string {
	return verifierScheme + "$" + strconv.Itoa(v.Iterations) + ":" + redacted
}

// Format writes String for every verb.
func (v Verifier) Format(s fmt.State, _ rune) { writeRedacted(s, v.String()) }

// LogValue returns String.
func (v Verifier) LogValue() slog.Value { return slog.StringValue(v.String()) }

// MarshalText returns String: a verifier never leaves the process by an encoder.
func (v Verifier) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// appendSecret appends the text that PostgreSQL stores.
func (v Verifier) appendSecret(dst []byte) []byte {
	dst = append(dst, verifierScheme...)
	dst = append(dst, '$')
	dst = strconv.AppendInt(dst, int64(v.Iterations), 10)
	dst = append(dst, ':')
	dst = base64.StdEncoding.AppendEncode(dst, v.Salt)
	dst = append(dst, '$')
	dst = base64.StdEncoding.AppendEncode(dst, v.StoredKey)
	dst = append(dst, ':')
	return base64.StdEncoding.AppendEncode(dst, v.ServerKey)
}

// shows says whether a server-first message carries the verifier's salt and iterations.
func (v Verifier) shows(f serverFirst) bool {
	return f.iterations == v.Iterations && subtle.ConstantTimeCompare(f.salt, v.Salt) == 1
}

// parseIterations reads 1 to MaxIterations in plain decimal: no sign, no leading zero.
func parseIterations(b []byte) (int, bool) {
	if len(b) == 0 || len(b) > len("2147483647") || b[0] == '0' {
		return 0, false
	}
	n := int64(0)
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return int(n), n <= MaxIterations
}

// decodeStrict decodes canonical base64. Go's decoder skips line ends even when strict; PostgreSQL's does not.
func decodeStrict(s string) ([]byte, bool) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, false
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	return b, err == nil
}
