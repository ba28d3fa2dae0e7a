// Package bench measures what the forwarding path costs: small round trips, large results and logins, once directly to a peer and once
// through the proxy in the same process.
//
// The peer speaks just enough of PostgreSQL's protocol to be one for the proxy (trust authentication, in_hot_standby off, canned answers), so
// that the difference between the two numbers is the proxy's own. It measures no PostgreSQL and nothing of the control side.
package bench
