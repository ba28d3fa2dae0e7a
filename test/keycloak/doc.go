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
// Fetching and building the distribution is scripts/keycloak.sh's part.
package main
