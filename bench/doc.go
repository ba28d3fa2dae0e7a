// Package bench measures what the forwarding path costs: small round trips, pipelines, large results, COPY both ways and logins, directly to a peer
// and through the proxy on each of its forwarders, in the same process.
//
// The peer speaks just enough of PostgreSQL's protocol to be one for the proxy (trust authentication, in_hot_standby off, canned answers), so
// that the difference between the numbers is the proxy's own. It measures no PostgreSQL, nothing of the control side, and no memory: what idle
// sessions cost is for bench/peers to say, which measures processes.
package bench
