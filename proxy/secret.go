package proxy

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

// secret holds bytes that amount to a password. Copies share them, so wipe ends all of them; clone makes a secret of its own. No formatting of it,
// or of what it is a part of, shows the bytes. The zero value holds nothing.
type secret struct {
	// held is a pointer to a pointer because fmt asks no method of an unexported field: it walks in, and follows one pointer at most.
	held **[]byte
}

// holdSecret takes the bytes over: they are the secret's from here on.
func holdSecret(b []byte) secret {
	p := &b
	return secret{held: &p}
}

// bytes returns the secret's own bytes.
func (s secret) bytes() []byte {
	if s.held == nil {
		return nil
	}
	return **s.held
}

func (s secret) clone() secret {
	if s.held == nil {
		return secret{}
	}
	return holdSecret(append([]byte(nil), s.bytes()...))
}

// wipe overwrites the bytes, in every copy. It may be called more than once.
func (s secret) wipe() { clear(s.bytes()) }

// equal compares in constant time for equal lengths.
func (s secret) equal(o secret) bool { return subtle.ConstantTimeCompare(s.bytes(), o.bytes()) == 1 }

// withheld is what stands for a secret wherever it is printed.
const withheld = "[redacted]"

// String returns a placeholder.
func (s secret) String() string { return withheld }

// Format writes the placeholder for every verb.
func (s secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, withheld) }

// LogValue returns the placeholder.
func (s secret) LogValue() slog.Value { return slog.StringValue(withheld) }
