// Package health finds out what one PostgreSQL node says about itself.
//
// A Prober makes one attempt on each way in and returns what it learned as a value, a decision.Observation: over the connection it
// keeps, over a fresh one, and, when the ordinary ways do not tell enough, over a physical replication connection, which PostgreSQL still
// answers when all ordinary slots are taken. A Watcher calls it on a schedule and hands the values on. While all is well it does so by a Glance, which
// leaves the fresh connection out for FreshEvery.
//
// What it guarantees:
//
//   - A round ends by its deadline, whatever the server does: nothing, garbage, one byte a second, claims of huge lengths.
//   - A round dials the configured address and no other, once for each way in; no environment variable, password file or service
//     file changes where it goes or as whom.
//   - Evidence is what the wire showed in this round; that of a Glance's fresh connection may be as old as FreshEvery. "Refused" and "silent"
//     need the network's word for it; one well-formed answer of PostgreSQL makes it "alive"; what is neither (a foreign protocol, a failure of
//     our own) stays "unknown", which proves nothing.
//   - A fact that the role may not see, or that does not parse, is unknown. No fact is guessed, smoothed or remembered beyond what
//     cannot have changed; but for the parameters of a Glance, of which those that no configuration file sets may be as old as FreshEvery.
//   - A hostile server can neither crash the process nor make it hold more than a small, fixed amount of memory and CPU.
//
// An Operator does to a node what a change of writer needs: promote, prove, fence, and what belongs to these. It is apart from the probes, and
// nothing of it happens unless it is called.
//
// What it never does: decide anything, change a node or write to it but by an Operator's call (a prober takes one advisory lock on a primary,
// so that two processes notice each other), retry what changes a node, or read a timeline from the control file, which is stale right after a
// promotion.
//
// An Attempt whose evidence is unknown and whose detail is empty was not made; with a detail it was made and proved nothing.
package health
