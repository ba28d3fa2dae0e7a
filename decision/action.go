package decision

import "time"

// Action is one thing the shell must do: Persist, Remember, Note, Hold, Drain, Undrain, Open, Cut, Pace, ProbeNow, Fence, Promote, Verify, Unfence,
// EndConflicts, RestoreSync, Checkpoint or Answer. Actions of one Step are performed in
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

	// NoteCommand: an operator's command was taken. NoteRefused: one was refused.
	NoteCommand NoteKind = "command"
	NoteRefused NoteKind = "refused"
	// NotePromotionRequested: the point of no return; exactly one per epoch.
	NotePromotionRequested NoteKind = "promotion_requested"
	// NotePromoted: the target has verified.
	NotePromoted NoteKind = "promoted"
	// NoteUndone: a change was given up before anything irreversible.
	NoteUndone NoteKind = "undone"
	// NoteHalted: a promotion cannot be completed without an operator.
	NoteHalted NoteKind = "halted"
)

// Hold asks the data plane to keep new logins waiting. Sessions of the open epoch go on. Repeating it changes nothing.
type Hold struct {
	Header
	// Why is the refusal reason for those that wait too long.
	Why HoldReason
	// Refuse ends the waiting: logins, those that wait included, are refused at once.
	Refuse bool
}

// HoldReason is a reason of the closed list of refusals.
type HoldReason string

const (
	// HoldNoWriter: no writer is proven.
	HoldNoWriter HoldReason = "no_writer"
	// HoldPromoting: the writer is being changed.
	HoldPromoting HoldReason = "promoting"
)

// Drain asks the data plane to stop every session of the epoch at the end of its transaction, and to keep it waiting there: the backend stays its
// own, and nothing new starts on it. Its outcome must be reported, once, when no session is left that could be waited for. Undrain or Cut ends it.
type Drain struct {
	Header
	Epoch uint64
}

// Undrain asks for the sessions that a Drain stopped, or was to stop, to go on as if nothing had happened. Then the Drain has no outcome.
type Undrain struct {
	Header
	Epoch uint64
}

// Open asks the data plane to send logins to the node under the epoch. The same epoch may be opened again after a Hold, never after a Cut. Sessions
// that waited across the cut before it may be moved there, as far as Lossless allows it; the outcome, which nothing waits for, says how many were.
type Open struct {
	Header
	Epoch   uint64
	Node    string
	Address string
	// Lossless says what became of the commits that were acknowledged under earlier epochs.
	Lossless Lossless
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
	// CutDrained: an operator changes the writer; the session had the time to end its transaction.
	CutDrained CutReason = "drained"
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

// Fence asks for the old writer to be kept from accepting writes. Its outcome must be reported: without Err it is fenced.
type Fence struct {
	Header
	Epoch   uint64
	Node    string
	Address string
	// Hook asks for the operator's program, SQL for what can be done on the node itself.
	Hook, SQL bool
	// Target is the node that is to take over, for the operator's program.
	Target string
}

// Promote asks for pg_promote(false) on the node. The record that names it is durable, and so must the events be. It cannot be cancelled, it
// may take effect late, and it may be asked for again for the same node. Its outcome must be reported; an error does not mean that nothing
// happened.
type Promote struct {
	Header
	Epoch   uint64
	Node    string
	Address string
}

// Verify asks the promoted node to show that it can commit. Its outcome must be reported.
type Verify struct {
	Header
	Epoch    uint64
	Node     string
	Address  string
	SystemID string
	// Above is the timeline that was left: the node's own must be greater.
	Above uint32
	// EmptySyncNames asks for synchronous_standby_names to be emptied first: the standby that it names is gone.
	EmptySyncNames bool
}

// RestoreSync asks for synchronous_standby_names to be set back on the writer, because its standby streams again. Its outcome must be reported.
type RestoreSync struct {
	Header
	Node    string
	Address string
	Names   string
}

// Unfence asks for what a Fence by SQL did to be undone: the node is the writer again, or a standby that may become one. Its outcome must be
// reported.
type Unfence struct {
	Header
	Node    string
	Address string
}

// EndConflicts asks for the queries that hold replay back on a standby to be ended: the writer is gone, and nothing else keeps the standby from
// taking over. Best effort.
type EndConflicts struct {
	Header
	Node string
}

// Checkpoint asks for a checkpoint on the node, so that its control file names the new timeline. Best effort.
type Checkpoint struct {
	Header
	Node string
}

// Answer is what becomes of a command.
type Answer struct {
	Header
	CommandID uint64
	// Refusal is known when the command changed nothing.
	Refusal Opt[Refusal]
	// Message says in one sentence what happens now.
	Message string
}
