package decision

// State is one of the six failover states that users see.
type State uint8

const (
	// PrimaryActive: the writer is proven and open; no standby could take over now.
	PrimaryActive State = iota + 1
	// StandbyReady: the writer is proven and open; a standby passes every criterion that is not about the writer's death.
	StandbyReady
	// PrimaryFailed: the writer does not prove itself; new logins are held.
	PrimaryFailed
	// Promoting: the writer is being changed by pgtether. In mode observe it is entered only to complete what was begun in another mode.
	Promoting
	// NewPrimary: the new writer is open; the old node is not back as its standby.
	NewPrimary
	// Rejoining: the old node follows the new timeline and catches up.
	Rejoining
)

// States returns all states in the order of the enumeration.
func States() []State {
	return []State{PrimaryActive, StandbyReady, PrimaryFailed, Promoting, NewPrimary, Rejoining}
}

// String returns the word used in the API, in logs and in metric labels.
func (s State) String() string {
	switch s {
	case PrimaryActive:
		return "PRIMARY_ACTIVE"
	case StandbyReady:
		return "STANDBY_READY"
	case PrimaryFailed:
		return "PRIMARY_FAILED"
	case Promoting:
		return "PROMOTING"
	case NewPrimary:
		return "NEW_PRIMARY"
	case Rejoining:
		return "REJOINING"
	default:
		return "INVALID"
	}
}

// open says whether the state is one of those in which the writer is open for new logins.
func (s State) open() bool {
	return s == PrimaryActive || s == StandbyReady || s == NewPrimary || s == Rejoining
}

// Step is the smaller field inside a state. Cutting and Opening also name parts of an adoption in the times of a change (Change.Steps).
type Step uint8

const (
	// StepNone: the state has no steps.
	StepNone Step = iota
	// Confirming: the writer does not answer as such, and stable_for runs.
	Confirming
	// Blocked: a criterion fails, or what the nodes say contradicts itself.
	Blocked
	// Adopting: someone else promotes and pgtether waits for it, or follows it. Also the step before the first writer was seen.
	Adopting
	// Checking: the criteria pass; the change begins.
	Checking
	// Draining: the epoch's end is made durable.
	Draining
	// Cutting: the epoch's paths are closed.
	Cutting
	// Reprobing: the writer is asked once more whether it is alive.
	Reprobing
	// Fencing: the old writer is fenced as far as it can be reached.
	Fencing
	// Sampling: what the candidate has received is waited for to stand still, and the criteria are judged again.
	Sampling
	// StepPromoting: the promotion is durable, is asked for, and is waited for. From here on nothing is undone.
	StepPromoting
	// Verifying: the promoted node shows that it is the primary of a timeline that continues the old one, and that it can commit.
	Verifying
	// Opening: the new epoch is made durable and opened.
	Opening
	// Halted: the promotion cannot be completed; an operator must decide, unless the target verifies after all.
	Halted
)

// steps are all steps, in order.
var steps = []Step{StepNone, Confirming, Blocked, Adopting, Checking, Draining, Cutting, Reprobing, Fencing, Sampling, StepPromoting, Verifying, Opening, Halted}

// Steps returns every step that has a name.
func Steps() []Step { return append([]Step(nil), steps[1:]...) }

// String returns the word used in the API; empty for StepNone.
func (s Step) String() string {
	switch s {
	case StepNone:
		return ""
	case Confirming:
		return "confirming"
	case Blocked:
		return "blocked"
	case Adopting:
		return "adopting"
	case Checking:
		return "checking"
	case Draining:
		return "draining"
	case Cutting:
		return "cutting"
	case Reprobing:
		return "reprobing"
	case Fencing:
		return "fencing"
	case Sampling:
		return "sampling"
	case StepPromoting:
		return "promoting"
	case Verifying:
		return "verifying"
	case Opening:
		return "opening"
	case Halted:
		return "halted"
	default:
		return "invalid"
	}
}

// MarshalText renders the word.
func (s Step) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the word.
func (s *Step) UnmarshalText(b []byte) error {
	return unmarshalWord(b, s, steps...)
}

// Writes says what happens to a login now.
type Writes uint8

const (
	// WritesHeld: a writer is awaited, logins are held.
	WritesHeld Writes = iota
	// WritesOpen: logins go to the writer.
	WritesOpen
	// WritesRefused: an operator must decide, logins are refused at once.
	WritesRefused
)

// String returns the word used in the API.
func (w Writes) String() string {
	switch w {
	case WritesOpen:
		return "open"
	case WritesRefused:
		return "refused"
	default:
		return "held"
	}
}

// Automation says whether pgtether could act on its own.
type Automation uint8

const (
	// AutomationOn: nothing stands in the way.
	AutomationOn Automation = iota
	// AutomationOff: the reason is given beside it.
	AutomationOff
	// AutomationPaused: an operator has paused it.
	AutomationPaused
)

// String returns the word used in the API.
func (a Automation) String() string {
	switch a {
	case AutomationOff:
		return "off"
	case AutomationPaused:
		return "paused"
	default:
		return "on"
	}
}
