// Command keycloak boots the official Keycloak distribution against a real PostgreSQL pair through pgtether, with nothing but the JDBC
// URL changed, and does what an identity operator's users do: a realm, users, a client, logins, refreshes, logouts.
//
// It prints each step with its time and what Keycloak's pooled sessions look like in /status, and ends with exit code 0 only if every
// answer was the one Keycloak gives when its database is well. It leaves no process behind; -keep stays up until Ctrl-C.
//
// Fetching and building the distribution is scripts/keycloak.sh's part.
package main
