// Command switchover orders planned switchovers there and back while clients write through pgtether: 32 TPC-B clients, a JDBC pool, and, when asked
// for, pgbench with prepared statements. In between the lab makes the old writer a standby of the new one.
//
// By default pgtether knows the role's verifier, and sessions move: no client may see a single error, and every connection must live on and be
// answered by another server process after each switchover. With -continuity=off each session that a switchover finds must end with one 08006 at its
// boundary, and its client connects again.
//
// A switchover that is undone, because probes were late, is ordered again; where sessions move nobody may notice that one either.
//
// A switchover counts only if every client committed within 5 s before it and within 5 s after it; one that does not is named, and ends the
// command with exit code 1, as does one that is not completed with nothing lost proven, an acknowledged transaction that is missing or there
// twice, balances that do not add up, and an error or a session that is not as said above.
//
//	switchover -n 20 [-sync] [-continuity=off] [-pool 50] [-pgbench 32]
//
// It prints, for each switchover, the longest stall, the errors and the sessions kept of each kind of client. What pgbench met is read, and judged,
// once it has ended. It leaves no process behind.
package main
