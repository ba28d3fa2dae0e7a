package continuity

// Obstacle is a reason why a session cannot be brought along. The list is closed: its words are metric labels and log values.
type Obstacle string

// The obstacles, in the order in which they are looked for; a session with several gets the first.
const (
	// InRecovery: the backend is not a primary's; nothing that it says about the session is worth moving.
	InRecovery Obstacle = "in_recovery"
	// TempObjects: the session's temporary schema holds something.
	TempObjects Obstacle = "temp_objects"
	// Listening: the session listens; notifications of the time between two backends would be lost.
	Listening Obstacle = "listening"
	// HoldableCursor: a cursor WITH HOLD is open.
	HoldableCursor Obstacle = "holdable_cursor"
	// AdvisoryLock: the session holds an advisory lock; another session could get it in between.
	AdvisoryLock Obstacle = "advisory_lock"
	// TooMuchState: more than 1,000 settings or statements, or more than 4 MiB of them.
	TooMuchState Obstacle = "too_much_state"
	// CustomUnknown: the session may have custom settings whose names nobody knows; the server does not list them.
	CustomUnknown Obstacle = "custom_unknown"
	// PreparedUnclear: a prepared statement whose text is not certainly that of one statement, or does not certainly mean what it meant.
	PreparedUnclear Obstacle = "prepared_unclear"
	// PreparedInvalid: a prepared statement that the server itself could not run any more.
	PreparedInvalid Obstacle = "prepared_invalid"
	// UnnamedUnknown: there is an unnamed statement, and its text is not known for certain.
	UnnamedUnknown Obstacle = "unnamed_unknown"
	// StateUnreadable: the server refused to answer (statement_timeout, a missing right, a value that the client's encoding cannot express).
	StateUnreadable Obstacle = "state_unreadable"
)

// Obstacles returns the closed list.
func Obstacles() []Obstacle {
	return []Obstacle{
		InRecovery, TempObjects, Listening, HoldableCursor, AdvisoryLock, TooMuchState, CustomUnknown, PreparedUnclear, PreparedInvalid,
		UnnamedUnknown, StateUnreadable,
	}
}
