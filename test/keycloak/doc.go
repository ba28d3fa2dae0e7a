// Command keycloak boots the official Keycloak distribution against a real PostgreSQL pair through pgtether, with nothing but the JDBC
// URL changed, and does what an identity operator's users do: a realm, users, a client, logins, refreshes, logouts.
//
// It prints each step with its time and what Keycloak's pooled sessions look like in /status, and ends with exit code 0 only if every
// answer was the one Keycloak gives when its database is well. It leaves no process behind; -keep stays up until Ctrl-C.
//
// With -failover the primary is killed under a load of logins, refreshes, logouts and password changes while pgtether promotes by itself. It
// prints the errors that users saw, the longest stall, the time to the first success, and, asked of a Keycloak that was started anew, which
// acknowledged logouts and password changes hold no longer: none with synchronous replication, else none that the stated loss excludes.
//
// With -switchovers the writer is changed as planned, there and back, under a fixed rate of logins, refreshes, userinfo and admin reads, and
// logouts. For each change it prints the requests that failed, the longest stall, the sessions that were kept and how long the change took; in
// the end whether a user who was logged out before it, one who was disabled, and one whose password was changed are so after it. A failed request,
// a session that was not kept, a stall above 1 s or a fact that no longer holds ends it with exit code 1.
//
// Fetching and building the distribution is scripts/keycloak.sh's part.
package main
