package scram

import (
	"errors"
	"fmt"
)

var (
	// ErrAuthenticationFailed means that the client's proof does not fit, or that the role is unknown (Mock): the two cannot be told
	// apart. PostgreSQL answers both with FATAL 28P01, `password authentication failed for user "..."`.
	ErrAuthenticationFailed = errors.New("check client proof: authentication failed")
	// ErrOutOfOrder means that a message came that the exchange does not expect now, or after its end.
	ErrOutOfOrder = errors.New("continue SCRAM exchange: message out of order")
	// ErrMalformed means that a message is not what RFC 5802 and PostgreSQL's protocol allow.
	ErrMalformed = errors.New("malformed SCRAM message")
	// ErrTooLong means that a message is longer than its bound. From a Server it comes together with ErrAuthenticationFailed, because
	// PostgreSQL answers so.
	ErrTooLong = errors.New("SCRAM message too long")
	// ErrInvalidVerifier means that a string is not a verifier as pg_authid.rolpassword holds it.
	ErrInvalidVerifier = errors.New("invalid SCRAM-SHA-256 verifier")
	// ErrStaleVerifier means that the server uses another salt or iteration count than the verifier: the password was changed since the
	// verifier was read, or it was never this role's.
	ErrStaleVerifier = errors.New("verifier does not match the server's salt and iterations")
	// ErrKeyMismatch means that a ClientKey is not the one that the verifier was made from.
	ErrKeyMismatch = errors.New("client key does not match the verifier")
	// ErrNotSCRAM means that the server asked for another way to authenticate than SCRAM-SHA-256.
	ErrNotSCRAM = errors.New("server does not ask for SCRAM-SHA-256")
	// ErrIncomplete means that an exchange has not (yet) been seen from its beginning to AuthenticationOk.
	ErrIncomplete = errors.New("SCRAM exchange was not seen to its end")
	// ErrServerUnproven means that the server did not show that it knows the role's ServerKey: it may be anyone.
	ErrServerUnproven = errors.New("server did not prove that it knows the role's verifier")
	// ErrNoChannelBinding means that channel binding was asked for and the server does not offer it.
	ErrNoChannelBinding = errors.New("server does not offer SCRAM-SHA-256-PLUS")
	// ErrNoBindingHash means that a certificate's signature algorithm names no hash that tls-server-end-point could use.
	ErrNoBindingHash = errors.New("certificate has no hash for tls-server-end-point")
)

// SQLSTATEs with which PostgreSQL ends a SCRAM exchange (src/backend/libpq/auth-scram.c, auth-sasl.c).
const (
	stateProtocolViolation   = "08P01"
	stateFeatureNotSupported = "0A000"
)

// ExchangeError ends an exchange for a reason that PostgreSQL tells the client: the caller sends it as a FATAL ErrorResponse.
// It matches ErrMalformed with errors.Is.
type ExchangeError struct {
	// SQLState is the code that PostgreSQL uses for this error.
	SQLState string
	// Message and Detail are PostgreSQL's words. Detail may be empty. Neither holds more of the peer's bytes than one character.
	Message, Detail string
}

// Error returns message and detail in one line.
func (e *ExchangeError) Error() string {
	if e.Detail == "" {
		return e.Message
	}
	return e.Message + ": " + e.Detail
}

// Is makes every ExchangeError match ErrMalformed.
func (e *ExchangeError) Is(target error) bool { return target == ErrMalformed }

func malformed(format string, args ...any) *ExchangeError {
	return &ExchangeError{
		SQLState: stateProtocolViolation,
		Message:  "malformed SCRAM message",
		Detail:   fmt.Sprintf(format, args...),
	}
}

func violation(message, detail string) *ExchangeError {
	return &ExchangeError{SQLState: stateProtocolViolation, Message: message, Detail: detail}
}

func unsupported(message string) *ExchangeError {
	return &ExchangeError{SQLState: stateFeatureNotSupported, Message: message}
}

// printable renders one byte of the peer's as PostgreSQL's sanitize_char does: in quotes, or as a number when it cannot be printed.
func printable(s []byte) string {
	switch {
	case len(s) == 0:
		return "0x00" // PostgreSQL reads the terminator here
	case s[0] >= 0x21 && s[0] <= 0x7e:
		return fmt.Sprintf("'%c'", s[0])
	default:
		return fmt.Sprintf("0x%02x", s[0])
	}
}
