// Package decision decides which node may receive writes.
//
// It is a state machine: the caller feeds it Events in order and performs the Actions it returns, in order. It reads no clock, opens no
// socket, starts no goroutine, writes no log. For equal histories it returns equal actions, byte for byte.
//
// Guarantees, checked after every Step (invariant.go):
//   - at most one epoch is open at any instant, and an epoch names exactly one (system identifier, timeline, node, address);
//   - epochs only grow, and an epoch is opened only after the Persist that names it has been completed;
//   - an epoch that was cut is never opened again: the same node comes back under a fresh epoch;
//   - no writer is opened that has not proved, by an observation that is still fresh, to be the primary of that epoch;
//   - what is unknown satisfies no criterion;
//   - nothing is promoted before the paths of the epoch are closed and the record that names the target is on disk; from then on the target
//     never changes, promotion_requested is said once, and the old writer comes back only by an operator's word, under an epoch that nobody
//     was promised.
//
// It begins no promotion in mode observe, never guesses a fact that an observation did not hold, and never uses wall time.
//
// The loop that drives it:
//
//	e := decision.New(cfg, record, lastKnown)
//	for ev := range events {
//		for _, a := range e.Step(ev) {
//			perform(a) // Note, Remember, Hold, Open, Pace, ProbeNow, Answer, Checkpoint: at once, in order
//			           // Persist, Cut, Fence, Promote, Verify, RestoreSync: the outcome comes back as exactly one Completed
//		}
//	}
//
// docs/FAILOVER.md is generated from the tables of this package.
package decision
