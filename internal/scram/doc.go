// Package scram speaks SCRAM-SHA-256 (RFC 5802, RFC 7677) the way PostgreSQL does, from three seats.
//
// A Server answers a client's exchange with a role's verifier, so that the proxy need not offer channel binding for a certificate that
// is not its own. A Client logs in at a PostgreSQL server with a ClientKey and the verifier, without the password. An Observer watches an
// exchange that is relayed untouched and recovers the ClientKey when the verifier is known.
//
// It handles bodies of PostgreSQL messages: what follows type byte and length word of AuthenticationRequest ('R') and of
// SASLInitialResponse and SASLResponse ('p'). Types, lengths, sockets and deadlines are the caller's.
//
// Guarantees:
//   - Every length is checked against a bound before it is used, and nothing is allocated by a length that the peer claims.
//   - Proofs, signatures and keys are compared in constant time. The exchange for an unknown role (Mock) has the same messages and does
//     the same work as that for a wrong password.
//   - A Client answers nothing but SCRAM-SHA-256, proves itself only to a server that shows the verifier's salt and iterations, and calls a
//     login done only after the server has proved that it knows the ServerKey.
//   - No String, Format, MarshalText or LogValue of any type of this package prints key material.
//
// It never sees, asks for or derives a password, never runs PBKDF2, never logs, and starts no goroutine. It decides who may log in only
// in the Server; an Observer that cannot follow an exchange says so and has no effect on it.
package scram
