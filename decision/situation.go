package decision

// situation is what the facts add up to. Together with the present place it selects a row of the table; each situation belongs to exactly
// one step, or to the open states (placeFits).
type situation uint8

const (
	// sitNoWriter: there has been no epoch, and no node qualifies yet.
	sitNoWriter situation = iota + 1
	// sitConflict: what the nodes say contradicts itself; nobody may become the writer.
	sitConflict
	// sitAdopt: exactly one consistent primary is there; the next epoch names it.
	sitAdopt
	// sitWell: the epoch's writer is proven, or was and nothing speaks against it.
	sitWell
	// sitProving: the epoch on disk has not been opened in this run, and too little has been seen to do so.
	sitProving
	// sitUnproven: the writer failed, lives again, and does not say whether it is the primary.
	sitUnproven
	// sitFailing: every probe of the writer fails, not yet for stable_for.
	sitFailing
	// sitStarting: the writer says that it starts up or shuts down.
	sitStarting
	// sitStale: no probe of the writer has come back in time.
	sitStale
	// sitIsolated: the writer failed for stable_for and a standby still receives from it: only this proxy cannot see it.
	sitIsolated
	// sitAwaiting: the writer failed for stable_for; others must promote (mode observe).
	sitAwaiting
	// sitUndecided: the writer failed for stable_for; a criterion of a promotion does not pass (modes auto and manual).
	sitUndecided
	// sitNotPrimary: the writer's node answers and is not the epoch's writer.
	sitNotPrimary
	// sitUnconfigured: the writer's node has left the configuration, or has another address.
	sitUnconfigured
	// sitSuccessor: a node was promoted from the epoch's timeline, and pgtether follows.
	sitSuccessor
	// sitSuperseded: the epoch's timeline was left by a promotion, and the promoted node is not there.
	sitSuperseded
	// sitClosed: the epoch has ended, and no node proves to be the next writer.
	sitClosed
	// sitPromotable: the criteria of a promotion pass, or are overridden.
	sitPromotable
	// sitOrdered: the writer is well, and an operator has ordered another one.
	sitOrdered
	// sitChecking to sitHalted: pgtether changes the writer; each is the step of the same name.
	sitChecking
	sitDraining
	sitCutting
	sitReprobing
	sitFencing
	sitSampling
	sitPromoting
	sitVerifying
	sitOpening
	sitHalted
)

// String returns the word used as cause.
func (s situation) String() string {
	switch s {
	case sitNoWriter:
		return "no_writer_yet"
	case sitConflict:
		return "conflict"
	case sitAdopt:
		return "one_consistent_primary"
	case sitWell:
		return "writer_proven"
	case sitProving:
		return "writer_not_proven_yet"
	case sitUnproven:
		return "writer_alive_unproven"
	case sitFailing:
		return "writer_failing"
	case sitStarting:
		return "writer_starting"
	case sitStale:
		return "writer_not_probed"
	case sitIsolated:
		return "writer_unseen_here_only"
	case sitAwaiting:
		return "writer_gone"
	case sitUndecided:
		return "writer_gone_undecided"
	case sitNotPrimary:
		return "writer_not_primary"
	case sitUnconfigured:
		return "writer_unconfigured"
	case sitSuccessor:
		return "promoted_by_others"
	case sitSuperseded:
		return "timeline_left"
	case sitClosed:
		return "epoch_ended"
	case sitPromotable:
		return "criteria_pass"
	case sitOrdered:
		return "switchover_ordered"
	case sitChecking:
		return "checking"
	case sitDraining:
		return "draining"
	case sitCutting:
		return "cutting"
	case sitReprobing:
		return "reprobing"
	case sitFencing:
		return "fencing"
	case sitSampling:
		return "sampling"
	case sitPromoting:
		return "promoting"
	case sitVerifying:
		return "verifying"
	case sitOpening:
		return "opening"
	case sitHalted:
		return "halted"
	default:
		return "invalid"
	}
}

// place is where the engine rests in a situation; the zero Place for sitWell, which belongs to the open states, and for sitPromotable and sitOrdered,
// which are left at once.
func (s situation) place() Place {
	switch s {
	case sitWell, sitPromotable, sitOrdered:
		return Place{}
	case sitUnproven, sitFailing, sitStarting, sitStale:
		return confirming
	case sitConflict, sitIsolated, sitUndecided, sitNotPrimary, sitSuperseded:
		return blocked
	case sitChecking:
		return checking
	case sitDraining:
		return draining
	case sitCutting:
		return cutting
	case sitReprobing:
		return reprobing
	case sitFencing:
		return fencing
	case sitSampling:
		return sampling
	case sitPromoting:
		return promoting
	case sitVerifying:
		return verifying
	case sitOpening:
		return opening
	case sitHalted:
		return halted
	default:
		return adopting
	}
}

// placeFits says whether the engine may rest at a place in a situation.
func placeFits(p Place, s situation) bool {
	if s == sitWell {
		return p.State.open() && p.Step == StepNone
	}
	return p == s.place() && p != Place{}
}
