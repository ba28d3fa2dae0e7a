package decision

// Place is a state and the step inside it.
type Place struct {
	State State
	Step  Step
}

// String returns the words used in documents: PRIMARY_FAILED/confirming.
func (p Place) String() string {
	if p.Step == StepNone {
		return p.State.String()
	}
	return p.State.String() + "/" + p.Step.String()
}

// Transition is a row of the table: how one place is left for another. Why is the log line, the text in the API and the label in the diagram.
type Transition struct {
	From []Place
	To   Place
	Why  string

	when func(*sight) bool
	// then runs after the move; nil when the move says it all.
	then func(*Engine, *sight)
}

var (
	active     = Place{State: PrimaryActive}
	ready      = Place{State: StandbyReady}
	newPrimary = Place{State: NewPrimary}
	rejoining  = Place{State: Rejoining}
	confirming = Place{PrimaryFailed, Confirming}
	blocked    = Place{PrimaryFailed, Blocked}
	adopting   = Place{PrimaryFailed, Adopting}

	checking  = Place{Promoting, Checking}
	draining  = Place{Promoting, Draining}
	cutting   = Place{Promoting, Cutting}
	reprobing = Place{Promoting, Reprobing}
	fencing   = Place{Promoting, Fencing}
	sampling  = Place{Promoting, Sampling}
	promoting = Place{Promoting, StepPromoting}
	verifying = Place{Promoting, Verifying}
	opening   = Place{Promoting, Opening}
	halted    = Place{Promoting, Halted}

	whileOpen   = []Place{active, ready, newPrimary, rejoining}
	whileClosed = []Place{confirming, blocked, adopting}
	// What is reversible can be undone; opening too leaves PROMOTING without opening, when the verified node is lost just then.
	whileUndoable  = []Place{checking, draining, cutting, reprobing, fencing, sampling}
	whilePromoting = []Place{promoting, verifying, opening, halted}
)

// Transitions returns the rows of the table, in the order in which they are tried; the first one that applies is taken.
func Transitions() []Transition { return append([]Transition(nil), transitions...) }

// is returns the condition that the situation is one of those given.
func is(any ...situation) func(*sight) bool {
	return func(s *sight) bool {
		for _, x := range any {
			if s.situation == x {
				return true
			}
		}
		return false
	}
}

// inPlanned returns the condition that the situation is that of a planned change.
func inPlanned(x situation) func(*sight) bool {
	return func(s *sight) bool { return s.planned && s.situation == x }
}

// inStep returns the condition that the situation belongs to a step of PRIMARY_FAILED.
func inStep(step Step) func(*sight) bool {
	return func(s *sight) bool { return s.situation.place() == Place{PrimaryFailed, step} }
}

// transitions is the table. Leaving an open state holds new logins; entering one opens the epoch of the record. What an epoch's end and
// beginning need besides (Persist, Cut) is asked for by Engine.work once the place is reached.
var transitions = []Transition{
	// An open epoch ends, or is doubted.
	{From: whileOpen, To: adopting, when: is(sitUnconfigured),
		Why: "the writer's node has left the configuration or has another address: its epoch ends"},
	{From: whileOpen, To: adopting, when: is(sitSuccessor),
		Why: "a node was promoted from the epoch's timeline by others: the epoch ends, and the promoted node is followed"},
	{From: whileOpen, To: blocked, when: is(sitConflict),
		Why: "more than one node was promoted from the epoch's timeline by others: the epoch ends, and none is followed"},
	{From: whileOpen, To: blocked, when: is(sitNotPrimary),
		Why: "the writer's node answers, and not as the primary of its epoch: the epoch ends"},
	{From: whileOpen, To: confirming, when: is(sitFailing, sitIsolated, sitAwaiting, sitUndecided),
		Why: "every probe of the writer fails: new logins wait, sessions go on"},
	{From: whileOpen, To: confirming, when: is(sitStarting),
		Why: "the writer says that it starts up or shuts down: new logins wait"},
	{From: whileOpen, To: confirming, when: is(sitStale),
		Why: "no probe of the writer has come back in time: new logins wait, sessions go on"},

	// An operator changes the writer.
	{From: whileOpen, To: checking, when: is(sitOrdered), then: (*Engine).beginPlanned,
		Why: "an operator has ordered a switchover: new logins wait, sessions go on, and the nodes are asked once more"},

	// The writer is open; what changes is who could take over.
	{From: []Place{newPrimary, rejoining}, To: active, when: func(s *sight) bool { return !s.previous },
		Why: "the old node has left the configuration: it is no longer awaited"},
	{From: []Place{newPrimary}, To: rejoining, when: func(s *sight) bool { return s.follows },
		Why: "the old node follows the new timeline"},
	{From: []Place{rejoining}, To: newPrimary, when: func(s *sight) bool { return !s.follows },
		Why: "the old node no longer follows the new timeline"},
	{From: []Place{rejoining}, To: ready, when: func(s *sight) bool { return s.rejoined && s.ready }, then: (*Engine).rejoined,
		Why: "the old node streams from the new writer, has caught up, and could take over"},
	{From: []Place{rejoining}, To: active, when: func(s *sight) bool { return s.rejoined && !s.ready }, then: (*Engine).rejoined,
		Why: "the old node streams from the new writer and has caught up; a criterion keeps it from taking over"},
	{From: []Place{active}, To: ready, when: func(s *sight) bool { return s.ready },
		Why: "a standby passes every criterion that is not about the writer's death"},
	{From: []Place{ready}, To: active, when: func(s *sight) bool { return !s.ready },
		Why: "no standby passes every criterion that is not about the writer's death"},

	// pgtether changes the writer itself.
	{From: whileClosed, To: checking, when: is(sitPromotable), then: (*Engine).begin,
		Why: "every criterion of a promotion passes, or an operator overrides those that do not: the change begins"},
	{From: []Place{checking}, To: draining, when: inPlanned(sitDraining), Why: "open transactions may end, idle sessions wait, nothing new starts"},
	{From: []Place{checking}, To: draining, when: is(sitDraining), Why: "the end of the epoch is made durable"},
	{From: []Place{checking, draining}, To: cutting, when: is(sitCutting), Why: "the paths of the epoch are closed, those to clients first"},
	{From: []Place{draining, cutting}, To: reprobing, when: inPlanned(sitReprobing), Why: "no path is left: the old writer is asked where it is"},
	{From: []Place{checking, draining, cutting}, To: reprobing, when: is(sitReprobing),
		Why: "no path is left: the old writer is asked once more whether it is alive"},
	{From: []Place{cutting, reprobing}, To: fencing, when: inPlanned(sitFencing), Why: "the old writer is fenced: nothing new is written there"},
	{From: []Place{checking, cutting, reprobing}, To: fencing, when: is(sitFencing), Why: "the old writer has been asked once more: it is fenced as far as it can be reached"},
	{From: []Place{reprobing, fencing}, To: sampling, when: inPlanned(sitSampling), Why: "the candidate must replay the old writer's end"},
	{From: []Place{checking, reprobing, fencing}, To: sampling, when: is(sitSampling), Why: "what the candidate has received is waited for to stand still"},
	{From: append([]Place{sampling, verifying, opening, halted}, whileClosed...), To: promoting, when: is(sitPromoting),
		Why: "the promotion is on disk: from here on nothing is undone, and the target never changes"},
	{From: append([]Place{sampling, promoting, opening, halted}, whileClosed...), To: verifying, when: is(sitVerifying),
		Why: "the target is out of recovery, on a timeline that continues the old one: it must show that it can commit"},
	{From: append([]Place{sampling, promoting, verifying, opening}, whileClosed...), To: halted, when: is(sitHalted),
		Why: "the promotion cannot be completed: an operator must decide"},
	{From: []Place{promoting, verifying, halted}, To: opening, when: is(sitOpening), Why: "the next epoch is made durable"},
	{From: []Place{opening}, To: newPrimary, when: func(s *sight) bool { return s.situation == sitWell && s.previous },
		Why: "the new writer is proven and its epoch is on disk; the old node is not back"},
	{From: []Place{opening}, To: active, when: is(sitWell), Why: "the writer that an operator named is proven and its epoch is on disk"},
	{From: []Place{checking, draining, cutting}, To: newPrimary, when: func(s *sight) bool { return s.situation == sitWell && s.previous },
		Why: "the change is undone before anything was cut: the writer's epoch goes on; the old node is not back as its standby"},
	{From: []Place{checking, draining, cutting}, To: active, when: is(sitWell), Why: "the change is undone before anything was cut: the writer's epoch goes on"},
	{From: whileUndoable, To: confirming, when: inStep(Confirming), Why: "the change is undone, and the writer's failure is confirmed anew"},
	{From: whileUndoable, To: blocked, when: inStep(Blocked), Why: "the change is undone, and what keeps it from beginning again must end first"},
	{From: whileUndoable, To: adopting, when: inStep(Adopting), Why: "the change is undone, and a node that answers as primary is looked for"},
	{From: []Place{opening}, To: confirming, when: inStep(Confirming), Why: "the new epoch is on disk, and its writer has stopped to prove itself"},
	{From: []Place{opening}, To: blocked, when: inStep(Blocked), Why: "the new epoch is on disk, and its writer contradicts it"},
	{From: []Place{opening}, To: adopting, when: inStep(Adopting), Why: "the new epoch is on disk, and its writer is not proven yet"},

	// A writer opens, or opens again.
	{From: whileClosed, To: newPrimary, when: func(s *sight) bool { return s.situation == sitWell && !s.opened && s.previous },
		Why: "the new writer is proven and its epoch is on disk; the old node is not back as its standby"},
	{From: whileClosed, To: active, when: func(s *sight) bool { return s.situation == sitWell && !s.opened },
		Why: "the node that the epoch on disk names is proven to be its writer"},
	{From: whileClosed, To: newPrimary, when: func(s *sight) bool { return s.situation == sitWell && s.previous },
		Why: "the writer is back before anything was changed; the old node is not back as its standby"},
	{From: whileClosed, To: active, when: is(sitWell),
		Why: "the writer is back before anything was changed: its epoch goes on"},

	// No writer is open; what changes is what is waited for.
	{From: []Place{adopting, blocked}, To: confirming, when: is(sitFailing),
		Why: "every probe of the writer fails; how long is counted anew"},
	{From: []Place{adopting, blocked}, To: confirming, when: is(sitStarting),
		Why: "the writer says that it starts up or shuts down: it is given primary_start_timeout"},
	{From: []Place{adopting, blocked}, To: confirming, when: is(sitStale),
		Why: "nothing fresh is known of the writer"},
	{From: []Place{adopting, blocked}, To: confirming, when: is(sitUnproven),
		Why: "the writer lives again and does not say whether it is the primary"},
	{From: []Place{confirming, adopting}, To: blocked, when: is(sitIsolated),
		Why: "the writer failed for stable_for, and a standby still receives from it: only this proxy cannot see it"},
	{From: []Place{confirming, adopting}, To: blocked, when: is(sitUndecided),
		Why: "the writer failed for stable_for, and a criterion of a promotion does not pass"},
	{From: []Place{confirming, blocked}, To: adopting, when: is(sitAwaiting),
		Why: "the writer failed for stable_for, and no standby is seen to receive from it: another node must be promoted by others"},
	{From: []Place{confirming, adopting}, To: blocked, when: is(sitNotPrimary),
		Why: "the writer's node answers, and not as the primary of its epoch"},
	{From: []Place{confirming, adopting}, To: blocked, when: is(sitConflict),
		Why: "what the nodes say contradicts itself: none is served"},
	{From: []Place{confirming, adopting}, To: blocked, when: is(sitSuperseded),
		Why: "the epoch's timeline was left by a promotion, and the promoted node is not there"},
	{From: []Place{confirming, blocked}, To: adopting, when: is(sitSuccessor),
		Why: "a node was promoted from the epoch's timeline by others: it is followed as soon as the old writer no longer answers as primary"},
	{From: []Place{confirming, blocked}, To: adopting, when: is(sitUnconfigured),
		Why: "the writer's node has left the configuration or has another address"},
	{From: []Place{confirming, blocked}, To: adopting, when: is(sitAdopt),
		Why: "exactly one consistent primary is there: it becomes the writer of the next epoch"},
	{From: []Place{confirming, blocked}, To: adopting, when: is(sitClosed),
		Why: "the epoch has ended, and no node proves to be the next writer"},
	{From: []Place{confirming, blocked}, To: adopting, when: is(sitProving),
		Why: "the writer of the epoch on disk is not proven yet"},
	{From: []Place{confirming, blocked}, To: adopting, when: is(sitNoWriter),
		Why: "what the nodes say no longer contradicts itself, and no writer has been seen yet"},
}
