// Command faults is the judge: it does one seeded fault after the other to real PostgreSQL pairs with pgtether in front, while clients write
// through it, and holds what was acknowledged, what is in the tables, what passed to which server and what pgtether said about it against the
// promises.
//
// The checker (check.go) is a function of the recorded run and knows nothing of pgtether's inside. It is checked itself, against stand-ins
// that are known to be bad.
//
//	faults -seed 7 -n 50 [-sync]     random schedules; ends with exit code 1 when a promise was broken
//	faults -gray -n 20               faults that must not lead to a promotion, each n times
//	faults -rto -n 20 [-sync]        kill -9 under load: how long until the first acknowledged write on the new writer
//
// It prints its seed, leaves no process behind, and never touches a server that it did not start.
package main
