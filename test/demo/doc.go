// Command demo tells the main job on a real PostgreSQL pair: an application is tied to the one writer, the writer is stopped, the
// standby is promoted by hand, and the old writer comes back believing it is still in charge.
//
// It starts a lab and `pgtether serve`, runs a small workload like a JDBC application's (a pool, explicit transactions, prepared
// statements), prints what happens with its numbers, and at the end compares every acknowledged row with both servers. It ends with exit
// code 0 only if nothing acknowledged is missing, no row was accepted by two writers and no client was sent to a read-only server. It
// leaves no process and no file behind. `pgtether lab --proxy` gives the same pair and proxy without the story.
package main
