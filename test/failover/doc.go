// Package failover shows, on real PostgreSQL pairs behind the built binary, what a client and an operator see when the writer goes away and
// when somebody else promotes the standby. It holds tests only.
package failover
