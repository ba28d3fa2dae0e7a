package proxy

import (
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/pgtether/pgtether/internal/scram"
)

// md5Prefix begins an MD5 hash as pg_authid.rolpassword has it; 32 hexadecimal digits follow.
const (
	md5Prefix    = "md5"
	md5HexLength = 2 * md5.Size
)

// errNotStored is returned for a text that PostgreSQL stores for no password.
var errNotStored = errors.New("no SCRAM verifier and no MD5 hash")

// Stored is what PostgreSQL stores as a role's password (pg_authid.rolpassword): a SCRAM verifier, which is of use together with one observed
// login, or an MD5 hash, which is as good as the password. The zero value is none. It prints as a placeholder.
type Stored struct {
	scram *scram.Verifier
	// md5 holds the 32 digits.
	md5 secret
}

// ParseStored reads what pg_authid.rolpassword holds. An error never shows it.
func ParseStored(text string) (Stored, error) {
	if digits, ok := strings.CutPrefix(text, md5Prefix); ok {
		if _, err := hex.DecodeString(digits); err != nil || len(digits) != md5HexLength || strings.ToLower(digits) != digits {
			return Stored{}, fmt.Errorf("read stored password: %w", errNotStored)
		}
		return Stored{md5: holdSecret([]byte(digits))}, nil
	}
	v, err := scram.ParseVerifier(text)
	if err != nil {
		return Stored{}, fmt.Errorf("read stored password: %w: %w", errNotStored, err)
	}
	return StoredVerifier(v), nil
}

// StoredVerifier returns a SCRAM verifier as Stored, which takes it over.
func StoredVerifier(v scram.Verifier) Stored { return Stored{scram: &v} }

// wipe overwrites what is stored, in every copy.
func (s Stored) wipe() {
	if s.scram != nil {
		s.scram.Wipe()
	}
	s.md5.wipe()
}

// String returns a placeholder.
func (s Stored) String() string { return withheld }

// Format writes the placeholder for every verb.
func (s Stored) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, withheld) }

// LogValue returns the placeholder.
func (s Stored) LogValue() slog.Value { return slog.StringValue(withheld) }

// appendMD5Answer appends the answer of a client that knows a role's MD5 hash to the server's salt: "md5" and md5(hash, salt) in hexadecimal digits
// (src/common/md5_common.c, pg_md5_encrypt). The password itself is not needed for it.
func appendMD5Answer(dst []byte, hash secret, salt [4]byte) []byte {
	var text [md5HexLength + len(salt)]byte
	copy(text[copy(text[:], hash.bytes()):], salt[:])
	sum := md5.Sum(text[:])
	clear(text[:])
	return hex.AppendEncode(append(dst, md5Prefix...), sum[:])
}
