// Package wire shows that a client cannot tell pgtether from PostgreSQL. It holds tests only.
//
// Scripts of raw protocol messages run twice, straight to a real server and through the built binary in front of that server, and
// everything that came back is compared: every message, its body, their order, and how the connection ended. What must differ
// between any two connections (the number of the process, the secret, a nonce) is replaced by its name first, nothing else is. The
// number of the process has to be the backend's own, which the scripts ask the server for. PostgreSQL's own programs and drivers
// then do the same with what they print.
package wire
