// Package lab runs a real two-region PostgreSQL pair on this machine, with faults on demand.
//
// Start gives a primary, region-a, and a hot standby, region-b, that streams from it through a physical slot, both under one
// temporary directory and on free loopback ports, with any PostgreSQL 13 or newer found on the machine. They are what a site
// would run in all that pgtether looks at (wal_log_hints, SCRAM, slots, a low wal_receiver_timeout) and differ only in what
// makes them fast and private: fsync is off, nothing listens beyond loopback.
//
// What it guarantees:
//
//   - Close ends every process, removes the directory and the shared memory, however the servers were treated before
//     (stopped, killed, frozen); it may be called twice and always returns.
//   - If the Go process itself is killed, the servers and the directory go too: a guardian process holds a pipe to us.
//   - A fault has happened when its method returns: a frozen process is seen stopped, a killed one is gone.
//   - Started as root, the servers run as an unprivileged account, as PostgreSQL demands.
//
// What it never does: touch a process or a file that is not its own, listen on anything but loopback, or skip quietly
// because no server was found. It is no tool for data that matters.
//
// A Relay stands between any two parties (a client and a node, a standby and its primary, a proxy and a node) and can fall
// silent, delay, refuse or reset, in one direction or both, and tell an observer when each byte passed.
//
// PostgreSQL 18 for protocol 3.2, where the machine has an older one: scripts/fetch-pg18.sh prints a directory for
// Options.BinDir. Those builds hold only initdb, pg_ctl and postgres; the lab then takes the base backup by PostgreSQL's
// low-level API instead of pg_basebackup and borrows psql from another installation.
package lab
