package decision

import "time"

// Action is one thing the shell must do: Persist, Remember, Note, Hold, Open, Cut, Pace or ProbeNow. Actions of one Step are performed in
// the order in which they are returned; an action is begun only when those before it have been handed over (Note and Persist: made durable
// or reported as failed by Completed).
type Action interface {
	// Head returns the action's number and cause.
	Head() Header
}

// Header is what every action has.
type Header struct {
	// ID is unique in this run of the engine and grows.
	ID uint64
	// Cause is one word for what made the engine ask for it (Situation.String, an event's kind, ...).
	Cause string
}

// Head returns the action's number and cause.
func (h Header) Head() Header { return h }

// Persist asks for the record to be written durably (temporary file, fsync, rename, fsync of the folder). Its outcome must be reported by
// Completed. No second Persist is asked for before that.
type Persist struct {
	Header
	Record Record
}

// Remember asks for the last known position to be kept where a restart finds it. Best effort: nothing waits for it. A failure may be
// reported by Completed and shows as criterion state_durable.
type Remember struct {
	Header
	LastKnown LastKnown
}

// Note is an entry of /events and of the log; it is made durable before the action after it begins.
type Note struct {
	Header
	At    Instant
	Epoch Opt[uint64]
	// From and To are equal when the state did not change.
	From, To State
	Step     Step
	Kind     NoteKind
	// Message is one sentence; for a transition it is the Why of its row.
	Message string
	// Operands are the values the decision rested on, in a fixed order.
	Operands []Operand
}

// Operand is one value of a Note.
type Operand struct {
	Key string
	// Value is a string, bool, int64, uint64 or nil (unknown).
	Value any
}

// NoteKind is the closed list of kinds of /events that the engine uses.
type NoteKind string

// The kinds of notes.
const (
	NoteTransition  NoteKind = "transition"
	NoteStep        NoteKind = "step"
	NoteQuarantined NoteKind = "quarantined"
	NoteReleased    NoteKind = "released"
	NoteCut         NoteKind = "cut"
	NoteOpened      NoteKind = "opened"
	NoteReload      NoteKind = "reload"
	NoteStalled     NoteKind = "stalled"
)

// Hold asks the data plane to keep new logins waiting. Sessions of the open epoch go on. Repeating it changes nothing.
type Hold struct {
	Header
	// Why is the refusal reason for those that wait too long.
	Why HoldReason
}

// HoldReason is a reason of the closed list of refusals.
type HoldReason string

// HoldNoWriter: no writer is proven.
const HoldNoWriter HoldReason = "no_writer"

// Open asks the data plane to send logins to the node under the epoch. The same epoch may be opened again after a Hold, never after a Cut.
type Open struct {
	Header
	Epoch   uint64
	Node    string
	Address string
}

// Cut asks for every path of every epoch up to Epoch to be closed, client side first. Its outcome must be reported by Completed: when it
// is done not one byte reaches such a backend any more.
type Cut struct {
	Header
	Epoch  uint64
	Reason CutReason
}

// CutReason is the closed list of reasons for which sessions end by a cut; the words are those of the refusals on the wire.
type CutReason string

const (
	// CutWriterLost: the node is no longer the epoch's writer.
	CutWriterLost CutReason = "writer_lost"
	// CutLossyChange: another node takes over, and the change is not proven lossless.
	CutLossyChange CutReason = "lossy_change"
)

// Pace asks for the interval between probe rounds of every node.
type Pace struct {
	Header
	Interval time.Duration
}

// ProbeNow asks for a probe round of the node at once.
type ProbeNow struct {
	Header
	Node string
}
