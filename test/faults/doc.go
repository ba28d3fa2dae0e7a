// Command faults is the judge: it does one seeded fault after the other to real PostgreSQL pairs with pgtether in front, while clients write
// through it, and holds what was acknowledged, what is in the tables, what passed to which server and what pgtether said about it against the
// promises.
//
// The checker (check.go) is a function of the recorded run and knows nothing of pgtether's inside. It is checked itself, against stand-ins
// that are known to be bad.
//
// A run counts only when every client had committed within the 5 s before the fault; one that does not is named, left out of the figures, and
// ends the command with exit code 1. Afterwards every client must commit, on the writer in force, what it began after the new epoch was open or,
// where nothing was promoted, after the fault was healed.
//
// That no byte of the old writer reaches a client after the cut is judged by when each client read its last one. The end of the cut has no event,
// and a client may read late what was sent in time, so the line is drawn where the new epoch is opened: a byte that passes between the cut and
// the opening is not found. The byte log of what the old writer sends is no evidence here: a server that thaws sends its last answers to a
// connection that has long been closed.
//
// In most runs with -switchovers pgtether knows the role's verifier, so that sessions move. Which server made a write is read from its row then, and
// what a client heard is judged by the writes that were acknowledged: what it heard last before its session ended in the middle of one is not.
// Every session has a setting of its own, which is part of its answers: one that gets another's is found, as is one that goes on although
// something that it was acknowledged is missing.
//
//	faults -seed 7 -n 50 [-sync]     random schedules; ends with exit code 1 when a promise was broken
//	faults -gray -n 20               faults that must not lead to a promotion, each n times
//	faults -rto -n 20 [-sync]        kill -9 under load: how long until the first acknowledged write on the new writer
//	faults -switchovers -n 30 [-sync] switchovers ordered under load, most of them disturbed by the death of pgtether or of a server
//
// It prints its seed, leaves no process behind, and never touches a server that it did not start.
package main
