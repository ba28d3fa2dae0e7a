package decision

import "time"

// Verdict is the result of one criterion. Only Pass and NotNeeded let a change happen.
type Verdict uint8

const (
	// Unknown: the facts are missing, stale or unreadable.
	Unknown Verdict = iota
	// Pass: the facts show it.
	Pass
	// Fail: the facts show the opposite.
	Fail
	// NotNeeded: the question does not depend on it.
	NotNeeded
)

// String returns the word used in the API.
func (v Verdict) String() string {
	switch v {
	case Pass:
		return "pass"
	case Fail:
		return "fail"
	case NotNeeded:
		return "not_needed"
	default:
		return "unknown"
	}
}

// Criterion is one condition of a change with the facts it was judged by.
type Criterion struct {
	Name    string
	Verdict Verdict
	// Value and Threshold are printed with their units; empty when there is none.
	Value     string
	Threshold string
	// Node is whose fact it is; empty when it is pgtether's own.
	Node string
	// Age is how old the fact is; unknown when the criterion rests on no observation.
	Age Opt[time.Duration]
	// Explanation is one sentence.
	Explanation string
	// Overridden: it does not pass, and an operator took that upon himself.
	Overridden bool
}

// ChangeEvent is what a decision is about.
type ChangeEvent string

const (
	// EventNone: nothing has happened; the facts are judged as they are.
	EventNone ChangeEvent = ""
	// EventPrimaryDead: the writer is dead, or is taken to be.
	EventPrimaryDead ChangeEvent = "primary_dead"
	// EventSwitchover: an operator wants another writer.
	EventSwitchover ChangeEvent = "switchover"
)

// Question is what Decide is asked.
type Question struct {
	// Event is EventNone for the present situation; otherwise the question is "what if".
	Event ChangeEvent
	// To names the candidate; empty lets the engine choose.
	To string
}

// Risk is the risk of the change.
type Risk string

// The risks.
const (
	RiskLow    Risk = "LOW"
	RiskMedium Risk = "MEDIUM"
	RiskHigh   Risk = "HIGH"
)

// Decision says whether the writer may be changed, and what it would cost.
type Decision struct {
	At    Instant
	Epoch Opt[uint64]
	State State
	// Writer is the one the epoch names, open or not.
	Writer    Opt[string]
	Candidate Opt[string]
	Event     ChangeEvent
	// Safe is true for SAFE, false for BLOCKED.
	Safe     bool
	Risk     Risk
	Lossless Lossless
	// LossBytes is unknown when no figure can be given.
	LossBytes Opt[uint64]
	// RelaxedCommits is the number that Lossless "relaxed" speaks of.
	RelaxedCommits Opt[uint64]
	Criteria       []Criterion
	// Blocking names the criteria that neither pass nor are not needed nor are overridden, in the order of Criteria.
	Blocking []string
	// Overridden names those that do not pass and are overridden.
	Overridden []string
	NextAction string
	// IfPrimaryDies is the answer to Question{Event: EventPrimaryDead}, shortened.
	IfPrimaryDies Outlook
}

// Outlook is a shortened Decision.
type Outlook struct {
	Safe      bool
	Risk      Risk
	Lossless  Lossless
	LossBytes Opt[uint64]
	Blocking  []string
}
