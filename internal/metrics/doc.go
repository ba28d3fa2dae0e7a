// Package metrics holds every series that pgtether exposes, as typed fields and methods.
//
// It guarantees that
//
//   - every series exists from the first scrape on, at 0, for every value of its closed labels, so that an alert on a rate sees the first event;
//   - no label value from outside (a role, a database, an address, an error text) can ever create a series: an event with a label that is
//     not in the closed list is counted under pgtether_unlisted_labels_total and nowhere else;
//   - gauges that say what GET /status says are read at scrape time from the same snapshot, so that the two cannot disagree;
//   - counting takes no lock and allocates nothing.
//
// It never decides anything, never starts a goroutine, reads no clock, and uses no package-level registry.
//
// A fact that is unknown is NaN, never 0: a comparison with NaN is false, so no alert rests on a guess.
package metrics
