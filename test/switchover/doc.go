// Command switchover orders planned switchovers there and back while 32 TPC-B clients that connect again by themselves, and a JDBC pool of 20
// connections, write through pgtether. In between the lab makes the old writer a standby of the new one.
//
// A switchover counts only if every client committed within 5 s before it and within 5 s after it; one that does not is named, and ends the
// command with exit code 1, as does one that is not completed with nothing lost proven, an acknowledged transaction that is missing or there
// twice, balances that do not add up, and an end of a session that is not the one 08006 at its boundary.
//
//	switchover -n 20 [-sync]
//
// It prints, for each switchover, the longest stall and the errors of each kind of client. It leaves no process behind.
package main
