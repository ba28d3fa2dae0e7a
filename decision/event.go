package decision

import "fmt"

// Event is one input of the engine: Tick, Observed, Completed or Reconfigured. Every event carries the Instant at which it is handed in;
// Instants never decrease from one Step to the next.
type Event interface{ instant() Instant }

// Tick says that time has passed. The shell sends one whenever Engine.TickEvery has passed since the last.
type Tick struct {
	At Instant
	// DataPlane is what the forwarding paths know at that time.
	DataPlane DataPlane
}

// DataPlane holds what only the forwarding paths can know about the epoch that is not yet cut.
type DataPlane struct {
	// Heard is when a backend of that epoch last sent a byte to a client. A byte is a sign of life; it does not prove a primary.
	Heard Opt[Instant]
	// Relaxed counts the commits of that epoch that asked for less than synchronous replication. Unknown when they are not counted:
	// then no change is called lossless.
	Relaxed Opt[uint64]
	// Left is what becomes of the sessions of that epoch while a planned change waits for their transactions; unknown at other times.
	Left Opt[SessionsLeft]
}

// SessionsLeft counts sessions during a Drain.
type SessionsLeft struct {
	// Waiting have reached the end of their transaction and are kept there.
	Waiting uint64 `json:"waiting"`
	// InTransaction have a transaction open and are doing nothing; Active have a request under way.
	InTransaction uint64 `json:"in_transaction"`
	Active        uint64 `json:"active"`
	// Opaque cannot be looked into (tls = "passthrough"): they are not waited for.
	Opaque uint64 `json:"opaque"`
}

// String says it in words.
func (n SessionsLeft) String() string {
	text := fmt.Sprintf("%d sessions wait, %d are in a transaction, %d have a request under way", n.Waiting, n.InTransaction, n.Active)
	if n.Opaque > 0 {
		text += fmt.Sprintf(", %d cannot be looked into", n.Opaque)
	}
	return text
}

// Observed brings the result of one probe round of one node.
type Observed struct {
	At          Instant
	Observation Observation
}

// Completed brings the outcome of a Persist, Drain, Cut, Fence, Promote, Verify or RestoreSync, exactly once for each; for other actions it is optional.
type Completed struct {
	At       Instant
	ActionID uint64
	Outcome  Outcome
}

// Outcome is what became of an action.
type Outcome struct {
	// Err says in words what went wrong, without a secret; empty when the action is done.
	Err string
	// Detail (Fence) says in words what was done.
	Detail string
	// End (Fence) is a position of the old writer that everything which was committed there before the fence was done is on disk up to. Unknown:
	// that could not be made sure of.
	End Opt[LSN]
	// LastByte (Cut) is when a backend of the epoch last sent a byte to a client: a writer that was silent from then on acknowledged
	// nothing more. Unknown: the end of the cut counts.
	LastByte Opt[Instant]
	// Sessions counts what the action did to sessions (Cut: Ended; Open: Moved, Ended, Refused).
	Sessions SessionCounts
}

// OK says whether the action was done.
func (o Outcome) OK() bool { return o.Err == "" }

// Reconfigured brings a new, valid configuration.
type Reconfigured struct {
	At     Instant
	Config Config
}

// Commanded brings an operator's command. The answer is exactly one Answer with the same CommandID, in the same Step.
type Commanded struct {
	At        Instant
	CommandID uint64
	Command   Command
}

func (e Commanded) instant() Instant    { return e.At }
func (e Tick) instant() Instant         { return e.At }
func (e Observed) instant() Instant     { return e.At }
func (e Completed) instant() Instant    { return e.At }
func (e Reconfigured) instant() Instant { return e.At }
