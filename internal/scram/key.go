package scram

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

// KeyLength is the length in bytes of every key, proof and signature of SCRAM-SHA-256.
const KeyLength = sha256.Size

const redacted = "[redacted]"

// ClientKey is what a role's password amounts to: who has it can log in as the role wherever the same verifier is stored.
//
// Copies share the bytes, so Wipe ends all of them; Clone makes an independent key.
// The zero value is no key. A ClientKey is not safe for use concurrent with Wipe.
type ClientKey struct {
	// held is a pointer to a pointer because fmt asks no method of an unexported field of an enclosing struct: it walks in, and follows
	// one pointer to an array when the verb does not fit.
	held **[KeyLength]byte
}

func holdKey(b [KeyLength]byte) ClientKey {
	p := &b
	return ClientKey{held: &p}
}

// bytes returns the key's own bytes, nil for the zero value.
func (k ClientKey) bytes() *[KeyLength]byte {
	if k.held == nil {
		return nil
	}
	return *k.held
}

// NewClientKey copies b into a key. It returns ErrKeyMismatch when b is not KeyLength long.
func NewClientKey(b []byte) (ClientKey, error) {
	if len(b) != KeyLength {
		return ClientKey{}, fmt.Errorf("take client key of %d bytes: %w", len(b), ErrKeyMismatch)
	}
	return holdKey([KeyLength]byte(b)), nil
}

// Clone returns a key of its own with the same bytes.
func (k ClientKey) Clone() ClientKey {
	if k.held == nil {
		return ClientKey{}
	}
	return holdKey(*k.bytes())
}

// Wipe overwrites the key and every copy of it (not its clones). It may be called more than once.
func (k ClientKey) Wipe() {
	if b := k.bytes(); b != nil {
		clear(b[:])
	}
}

// Matches says whether the key is the one that v was made from. A wiped or zero key matches no verifier.
func (k ClientKey) Matches(v Verifier) bool {
	b := k.bytes()
	if b == nil {
		return false
	}
	stored := sha256.Sum256(b[:])
	return subtle.ConstantTimeCompare(stored[:], v.StoredKey) == 1
}

// String returns a placeholder, never the key.
func (k ClientKey) String() string { return redacted }

// Format writes the placeholder for every verb.
func (k ClientKey) Format(s fmt.State, _ rune) { writeRedacted(s, redacted) }

// LogValue returns the placeholder.
func (k ClientKey) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns the placeholder.
func (k ClientKey) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// equalKeys compares in constant time.
func equalKeys(a, b *[KeyLength]byte) bool { return subtle.ConstantTimeCompare(a[:], b[:]) == 1 }

func writeRedacted(w io.Writer, s string) {
	_, _ = io.WriteString(w, s) // a formatter has nobody to report to
}

// sign returns HMAC(key, client-first-bare "," server-first "," client-final-without-proof): ClientSignature with the StoredKey,
// ServerSignature with the ServerKey (RFC 5802, 3).
func sign(key, clientFirstBare, serverFirst, clientFinalWithoutProof []byte) [KeyLength]byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(clientFirstBare)
	mac.Write([]byte{','})
	mac.Write(serverFirst)
	mac.Write([]byte{','})
	mac.Write(clientFinalWithoutProof)
	var sum [KeyLength]byte
	mac.Sum(sum[:0])
	return sum
}

// unmask recovers the ClientKey from a proof and says whether it fits the verifier. It does the same work in either case and
// returns a key only when it fits.
func unmask(v Verifier, proof *[KeyLength]byte, clientFirstBare, serverFirst, clientFinalWithoutProof []byte) (ClientKey, bool) {
	signature := sign(v.StoredKey, clientFirstBare, serverFirst, clientFinalWithoutProof)
	key := holdKey([KeyLength]byte{})
	subtle.XORBytes(key.bytes()[:], proof[:], signature[:])
	clear(signature[:])
	if !key.Matches(v) {
		key.Wipe()
		return ClientKey{}, false
	}
	return key, true
}

// mask is the inverse of unmask: the proof that shows knowledge of the key for this exchange.
func mask(k ClientKey, v Verifier, clientFirstBare, serverFirst, clientFinalWithoutProof []byte) [KeyLength]byte {
	proof := sign(v.StoredKey, clientFirstBare, serverFirst, clientFinalWithoutProof)
	subtle.XORBytes(proof[:], proof[:], k.bytes()[:])
	return proof
}
