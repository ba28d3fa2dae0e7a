// Package pgwire reads and writes the parts of the PostgreSQL frontend/backend protocol that a proxy must understand: startup packets,
// cancel keys, refusals, the boundaries of transactions in a stream of messages, and what the stream tells of its session's state.
//
// It guarantees that a startup packet is read to its last byte and not one byte further (what follows an SSLRequest in clear is an attack,
// CVE-2021-23214), that no length from the network makes it allocate, and that bytes it was only asked to look at are never changed.
// What it remembers of a session is bounded, and is either what the server has or marked as uncertain.
//
// It never opens a socket, keeps no connection and logs nothing: it works on io.Reader and byte slices. Names are those of the protocol's
// documentation; rules cite PostgreSQL's source where the documentation is silent.
package pgwire
