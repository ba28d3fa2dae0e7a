// Package abuse shows what pgtether does when a client, a server or an operator gives it what it should not get. It holds tests only.
//
// The inputs are tables, each row with a name, what is sent, what must come back and what must be counted. What a client sends goes twice:
// straight to a real PostgreSQL and through the built binary in front of it. Both must give the same answer; where pgtether means to give
// another one, the row names a difference from the one list of intended differences, and says what PostgreSQL gives. Hostile servers
// stand where the node should be and let only the probes and honest clients through to the real one.
//
// After every input an honest client logs in, and after all of them the process has given back its memory, descriptors and goroutines.
package abuse
