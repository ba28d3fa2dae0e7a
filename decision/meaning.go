package decision

// Meaning says what a state means to a user, for documents and pages.
func (s State) Meaning() string {
	switch s {
	case PrimaryActive:
		return "the writer is proven and open; no standby could take over now (`/decision` says why)"
	case StandbyReady:
		return "the writer is proven and open; a standby passes every criterion that is not about the writer's death"
	case PrimaryFailed:
		return "the writer does not prove itself; new logins are held"
	case Promoting:
		return "pgtether changes the writer; in mode `observe` only to complete what was begun in another mode"
	case NewPrimary:
		return "the new writer is open; the old node is not back as its standby"
	case Rejoining:
		return "the old node follows the new timeline and catches up"
	default:
		return ""
	}
}

// Meaning says what a step means to a user.
func (s Step) Meaning() string {
	switch s {
	case Confirming:
		return "the writer fails, starts up, or does not prove itself; `stable_for` or `primary_start_timeout` runs"
	case Blocked:
		return "a criterion fails, or what the nodes say contradicts itself; `/decision` says which"
	case Adopting:
		return "another node is promoted by others, or is awaited; also the step before the first writer was seen"
	case Checking:
		return "the criteria pass; the change begins (a switchover: the nodes are asked once more)"
	case Draining:
		return "the end of the epoch is made durable (a switchover: open transactions may end, idle sessions wait); can be undone"
	case Cutting:
		return "the paths of the epoch are closed, those to clients first; can be undone, under a fresh epoch"
	case Reprobing:
		return "the old writer is asked once more; if it answers a failover is undone"
	case Fencing:
		return "the old writer is fenced as far as it can be reached; can be undone"
	case Sampling:
		return "what the candidate has received stands still (a switchover: it has replayed the old writer's end), and the criteria are judged once more; can be undone"
	case StepPromoting:
		return "the promotion is on disk and asked for; never undone, the target never changes"
	case Verifying:
		return "the promoted node shows its timeline and that it can commit; never undone"
	case Opening:
		return "the next epoch is made durable and opened; never undone"
	case Halted:
		return "the promotion cannot be completed; logins are refused until an operator decides or the target verifies"
	default:
		return ""
	}
}

// Meaning says when a situation holds, for documents.
func (s situation) Meaning() string {
	switch s {
	case sitNoWriter:
		return "there has been no epoch, and no node qualifies yet"
	case sitConflict:
		return "what the nodes say contradicts itself: two primaries and no epoch opened since the start, two systems, two promotions; nobody becomes the writer"
	case sitAdopt:
		return "exactly one consistent primary is there; the next epoch names it as soon as that is on disk"
	case sitWell:
		return "the epoch's writer is proven, or was and nothing speaks against it (53300, a probe that cannot log in, a late probe)"
	case sitProving:
		return "the epoch on disk has not been opened since the start, and its writer is not proven or the other nodes have not been seen"
	case sitUnproven:
		return "the writer failed, lives again, and does not say whether it is the primary"
	case sitFailing:
		return "every probe of the writer is silent or refused, not yet for `stable_for`"
	case sitStarting:
		return "the writer says that it starts up or shuts down, not yet for `primary_start_timeout`"
	case sitStale:
		return "no probe of the writer has come back in time"
	case sitIsolated:
		return "the writer failed for `stable_for`, and a standby still receives from it"
	case sitAwaiting:
		return "the writer failed for `stable_for`, and others must promote (mode `observe`)"
	case sitUndecided:
		return "the writer failed for `stable_for`, and a criterion of a promotion does not pass (modes `auto`, `manual`)"
	case sitNotPrimary:
		return "the writer's node answers and is in recovery, on another timeline, or another system: its epoch ends"
	case sitUnconfigured:
		return "the writer's node has left the configuration, or has another address: its epoch ends"
	case sitSuccessor:
		return "a node was promoted from the epoch's timeline: the epoch ends, and the node is followed once the old writer no longer answers as primary"
	case sitSuperseded:
		return "the epoch's timeline was left by a promotion, and the promoted node does not answer"
	case sitClosed:
		return "the epoch has ended, and no node proves to be the next writer"
	case sitPromotable:
		return "the criteria of a promotion pass, or an operator overrides those that do not (modes `auto`, `manual`)"
	case sitOrdered:
		return "an operator has ordered a switchover, that is on disk, and the writer is well"
	case sitChecking:
		return "a switchover has begun, and the nodes have not been asked since"
	case sitDraining:
		return "a failover has begun, and the end of the epoch is not on disk yet; a switchover waits for open transactions"
	case sitCutting:
		return "the paths of the epoch are not closed yet, and its end is on disk (a switchover: or is being written)"
	case sitReprobing:
		return "the paths are closed, and the writer has not been asked since"
	case sitFencing:
		return "the writer gave no sign of life (a switchover: has said where it is), and the fence is not done with"
	case sitSampling:
		return "what the candidate has received has not stood still yet (a switchover: the old writer's end is not replayed), or a criterion is not known"
	case sitPromoting:
		return "the promotion is on disk, and the target is not seen as the primary that was asked for"
	case sitVerifying:
		return "the target is the primary that was asked for, and has not shown yet that it can commit"
	case sitOpening:
		return "the target has verified, or an operator named the writer, and the next epoch is not on disk yet"
	case sitHalted:
		return "the target contradicts what was asked for, or did not verify within `promote_timeout`"
	default:
		return ""
	}
}
