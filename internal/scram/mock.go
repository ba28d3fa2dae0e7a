package scram

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
)

const (
	// defaultIterations is what PostgreSQL uses unless scram_iterations says otherwise (SCRAM_SHA_256_DEFAULT_ITERATIONS).
	defaultIterations = 4096
	// defaultSaltLength is the length in bytes of the salts that PostgreSQL makes (SCRAM_DEFAULT_SALT_LEN).
	defaultSaltLength = 16
)

// Mock makes exchanges for roles that do not exist or have no SCRAM verifier, so that a stranger cannot find out which roles exist:
// the same messages, the same work, the same failure as with a wrong password, and each role name always shows the same salt. PostgreSQL
// does the same with its mock_authentication_nonce. The secret lives in this process; after a restart the fake salts are others.
//
// A Mock is safe for concurrent use.
type Mock struct {
	secret     [sha256.Size]byte
	iterations int
}

// NewMock makes a Mock with a fresh secret. Iterations should be those of the real verifiers; 0 stands for PostgreSQL's default.
func NewMock(iterations int) (*Mock, error) {
	if iterations == 0 {
		iterations = defaultIterations
	}
	if iterations < 1 || iterations > MaxIterations {
		return nil, fmt.Errorf("make mock authentication with %d iterations: %w", iterations, ErrInvalidVerifier)
	}
	m := &Mock{iterations: iterations}
	if _, err := rand.Read(m.secret[:]); err != nil {
		return nil, fmt.Errorf("make mock authentication secret: %w", err)
	}
	return m, nil
}

// Server returns an exchange for role that ends with ErrAuthenticationFailed, whatever the client proves.
func (m *Mock) Server(role string) *Server {
	return &Server{verifier: m.verifier(role), doomed: true, random: rand.Reader}
}

// String says nothing of the secret.
func (m Mock) String() string { return "SCRAM-SHA-256 mock authentication" }

// Format writes String for every verb.
func (m Mock) Format(f fmt.State, _ rune) { writeRedacted(f, m.String()) }

func (m *Mock) verifier(role string) Verifier {
	return Verifier{
		Iterations: m.iterations,
		Salt:       m.derive("salt", role)[:defaultSaltLength],
		StoredKey:  m.derive("stored key", role),
		ServerKey:  m.derive("server key", role),
	}
}

func (m *Mock) derive(purpose, role string) []byte {
	mac := hmac.New(sha256.New, m.secret[:])
	mac.Write([]byte(purpose))
	mac.Write([]byte{0})
	mac.Write([]byte(role))
	return mac.Sum(nil)
}
