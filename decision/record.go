package decision

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// RecordVersion is the version of Record's meaning; the shell refuses a file with another one.
const RecordVersion = 1

// Phase says what may be done with the record's epoch.
type Phase uint8

const (
	// PhaseNone: there has been no epoch yet.
	PhaseNone Phase = iota
	// PhaseOpen: the epoch may be opened, by its writer only.
	PhaseOpen
	// PhaseDrain: the epoch has ended or is ending; nothing is ever opened under it again.
	PhaseDrain
	// PhasePromoting: the epoch has ended, and the node that Promotion names becomes the next writer. The point of no return.
	PhasePromoting
)

// String returns the word used in the state file.
func (p Phase) String() string {
	switch p {
	case PhaseNone:
		return "none"
	case PhaseOpen:
		return "open"
	case PhaseDrain:
		return "drain"
	case PhasePromoting:
		return "promoting"
	default:
		return "invalid"
	}
}

// MarshalText renders the word.
func (p Phase) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads the word.
func (p *Phase) UnmarshalText(b []byte) error {
	return unmarshalWord(b, p, PhaseNone, PhaseOpen, PhaseDrain, PhasePromoting)
}

// Writer is what an epoch names: one node, one system identifier, one timeline.
type Writer struct {
	Node     string `json:"node"`
	Address  string `json:"address"`
	SystemID string `json:"system_id"`
	Timeline uint32 `json:"timeline"`
	// History lists the ended ancestors of Timeline, oldest first; unknown when it could not be read.
	History Opt[[]TimelineSwitch] `json:"history"`
}

// Fork returns the position at which the writer's timeline began; unknown for timeline 1 and when the history is unknown.
func (w Writer) Fork() Opt[LSN] {
	if h, ok := w.History.Get(); ok && len(h) > 0 {
		return Some(h[len(h)-1].At)
	}
	return Opt[LSN]{}
}

// Record is the content of the state file as far as the engine is concerned. All instants are on the clock of the run that made it;
// Shift brings them onto another run's clock.
type Record struct {
	Version int    `json:"version"`
	Epoch   uint64 `json:"epoch"`
	Phase   Phase  `json:"phase"`
	// Writer is the one that Epoch names.
	Writer Writer `json:"writer"`
	// Next is a descendant of the writer's timeline that was seen as primary: from then on the writer's own timeline has been left, and
	// its node does not come back as the writer on it.
	Next Opt[Writer] `json:"next"`
	// Previous is the node that was the writer before and is awaited as a standby of the new one; empty when none is.
	Previous string `json:"previous,omitempty"`
	// LastChange is the last change of the writer's node.
	LastChange Opt[Change] `json:"last_change"`
	// LastAutomatic is when the last automatic failover passed the point of no return (criterion not_flapping).
	LastAutomatic Opt[Instant] `json:"last_automatic"`
	// Promotion is known in PhasePromoting only.
	Promotion Opt[Promotion] `json:"promotion"`
	// Planned is the change that an operator has ordered, until its point of no return or its end.
	Planned Opt[Planned] `json:"planned"`
	// Paused: an operator has paused automation.
	Paused bool `json:"paused,omitempty"`
	// Fenced is the node on which pgtether has made transactions read-only, or was about to; empty when there is none. It is undone when the
	// node is the writer again or a standby.
	Fenced string `json:"fenced,omitempty"`
	// SyncNames is what synchronous_standby_names was on the writer before pgtether emptied it there; it is put back when the former writer
	// streams again.
	SyncNames string `json:"sync_names,omitempty"`
}

// Promotion is a promotion that has been decided for good. Its target never changes.
type Promotion struct {
	// Epoch is the one that the target is promoted for.
	Epoch   uint64     `json:"epoch"`
	Node    string     `json:"node"`
	Address string     `json:"address"`
	At      Instant    `json:"at_ns"`
	Kind    ChangeKind `json:"kind"`
	// Automatic is false when an operator approved it; Overridden names the criteria that he overrode.
	Automatic  bool     `json:"automatic"`
	Overridden []string `json:"overridden,omitempty"`
	// Received and Replayed are what the target had when the paths of the old epoch were closed and its position stood still.
	Received Opt[LSN] `json:"received_lsn"`
	Replayed Opt[LSN] `json:"replayed_lsn"`
	// What the change costs, computed from Received.
	Lossless       Lossless           `json:"lossless"`
	LossBytes      Opt[uint64]        `json:"data_loss_bytes"`
	LossFrom       Opt[LSN]           `json:"loss_from_lsn"`
	LossTo         Opt[LSN]           `json:"loss_to_lsn"`
	RelaxedCommits Opt[uint64]        `json:"relaxed_commits"`
	LastKnown      Opt[LSN]           `json:"last_known_primary_lsn"`
	LastKnownAge   Opt[time.Duration] `json:"last_known_age_ns"`
	// Fence says in words what became of the fence.
	Fence string `json:"fence"`
	// SyncNames is synchronous_standby_names on the target; when it is set it is emptied there before the target is opened.
	SyncNames string `json:"sync_names,omitempty"`
	// Noted is true when the event promotion_requested of this epoch is on disk. It is not part of the state file: the shell looks it up
	// among its events.
	Noted bool `json:"-"`
}

// ErrRecord is returned for a record that contradicts itself.
var ErrRecord = errors.New("the record contradicts itself")

// Validate says whether the record can be true.
func (r Record) Validate() error {
	switch {
	case r.Version != RecordVersion:
		return fmt.Errorf("check record version %d: %w", r.Version, ErrRecord)
	case r.Phase > PhasePromoting:
		return fmt.Errorf("check record phase %d: %w", r.Phase, ErrRecord)
	case (r.Phase == PhaseNone) != (r.Epoch == 0):
		return fmt.Errorf("check record phase %q with epoch %d: %w", r.Phase, r.Epoch, ErrRecord)
	case r.Phase != PhaseNone && (r.Writer.Node == "" || r.Writer.Address == "" || r.Writer.SystemID == "" || r.Writer.Timeline == 0):
		return fmt.Errorf("check record epoch %d without a whole writer: %w", r.Epoch, ErrRecord)
	case (r.Phase == PhasePromoting) != r.Promotion.Known:
		return fmt.Errorf("check record phase %q with promotion %t: %w", r.Phase, r.Promotion.Known, ErrRecord)
	}
	if p, ok := r.Planned.Get(); ok && (p.Node == "" || p.Address == "" || r.Phase != PhaseOpen && r.Phase != PhaseDrain) {
		return fmt.Errorf("check record planned change to %q in phase %q: %w", p.Node, r.Phase, ErrRecord)
	}
	if p, ok := r.Promotion.Get(); ok && (p.Epoch != r.Epoch+1 || p.Node == "" || p.Address == "" || p.Node == r.Writer.Node) {
		return fmt.Errorf("check record promotion of %q for epoch %d after %d: %w", p.Node, p.Epoch, r.Epoch, ErrRecord)
	}
	return nil
}

// Shift returns the record with every instant moved by d. A shell that restarts moves the instants of the earlier run into the past.
func (r Record) Shift(d time.Duration) Record {
	r = r.clone()
	if r.LastChange.Known {
		r.LastChange.V.At = r.LastChange.V.At.Add(d)
	}
	if r.LastAutomatic.Known {
		r.LastAutomatic.V = r.LastAutomatic.V.Add(d)
	}
	if r.Planned.Known {
		r.Planned.V.At = r.Planned.V.At.Add(d)
	}
	if r.Promotion.Known {
		r.Promotion.V.At = r.Promotion.V.At.Add(d)
	}
	return r
}

func (r Record) clone() Record {
	r.Writer = r.Writer.clone()
	if r.Next.Known {
		r.Next.V = r.Next.V.clone()
	}
	if r.LastChange.Known {
		r.LastChange.V.Steps = slices.Clone(r.LastChange.V.Steps)
	}
	r.Promotion.V.Overridden = slices.Clone(r.Promotion.V.Overridden)
	return r
}

func (w Writer) clone() Writer {
	w.History.V = slices.Clone(w.History.V)
	return w
}

// ChangeKind says how the writer was changed.
type ChangeKind string

// The kinds of changes.
const (
	ChangeFailover   ChangeKind = "failover"
	ChangeSwitchover ChangeKind = "switchover"
	ChangeAdopted    ChangeKind = "adopted"
)

// Lossless says what is known about commits that were acknowledged through pgtether and are not on the new writer.
type Lossless string

const (
	// LosslessProven: there are none.
	LosslessProven Lossless = "proven"
	// LosslessRelaxed: at most those that asked for less than synchronous replication.
	LosslessRelaxed Lossless = "relaxed"
	// LosslessBounded: at most DataLossBytes of write-ahead log.
	LosslessBounded Lossless = "bounded"
	// LosslessUnknown: no figure can be given.
	LosslessUnknown Lossless = "unknown"
)

// Change is a change of the writer's node.
type Change struct {
	At        Instant     `json:"at_ns"`
	Kind      ChangeKind  `json:"kind"`
	From      string      `json:"from"`
	To        string      `json:"to"`
	Epoch     uint64      `json:"epoch"`
	Lossless  Lossless    `json:"lossless"`
	LossBytes Opt[uint64] `json:"data_loss_bytes"`
	// LossCommits is an estimate of the commits in LossBytes.
	LossCommits Opt[uint64] `json:"data_loss_commits_estimate"`
	// LossFrom and LossTo bound the write-ahead log of the old timeline that may be lost.
	LossFrom       Opt[LSN]      `json:"loss_from_lsn"`
	LossTo         Opt[LSN]      `json:"loss_to_lsn"`
	RelaxedCommits Opt[uint64]   `json:"relaxed_commits"`
	Sessions       SessionCounts `json:"sessions"`
	// Steps are the times the change took, in order.
	Steps []StepTime `json:"steps"`
}

// SessionCounts says what a change did to sessions.
type SessionCounts struct {
	Moved   uint64 `json:"moved"`
	Ended   uint64 `json:"ended"`
	Refused uint64 `json:"refused"`
}

// StepTime is how long one step of a change took.
type StepTime struct {
	Step Step          `json:"step"`
	Took time.Duration `json:"took_ns"`
}

// LastKnown is what was last known about the open epoch's writer. It outlives the writer and, kept by Remember, a restart.
type LastKnown struct {
	Epoch uint64 `json:"epoch"`
	Node  string `json:"node"`
	// LSN is the writer's position at At or a little later.
	LSN LSN `json:"lsn"`
	// At is unknown when the shell cannot say how long it was down.
	At Opt[Instant] `json:"at_ns"`
	// Rate is the greatest number of bytes per second that was written in any second of the last 60.
	Rate Opt[uint64] `json:"rate"`
	// Sync lists the nodes whose standby was "sync" or "quorum" at At, by name; unknown when it could not be read.
	Sync Opt[[]string] `json:"sync"`
	// Settings are the writer's, for comparison with a candidate's after the writer has died.
	Settings Settings `json:"settings"`
	// Relaxed is how many relaxed commits of the epoch had been counted when the position was read, or a little earlier.
	Relaxed Opt[uint64] `json:"relaxed"`
}

// Shift returns the position with its instant moved by d.
func (k LastKnown) Shift(d time.Duration) LastKnown {
	k = k.clone()
	if k.At.Known {
		k.At.V = k.At.V.Add(d)
	}
	return k
}

func (k LastKnown) clone() LastKnown {
	k.Sync.V = slices.Clone(k.Sync.V)
	return k
}

// unmarshalWord sets *dst to the value whose String is b.
func unmarshalWord[T fmt.Stringer](b []byte, dst *T, values ...T) error {
	for _, v := range values {
		if v.String() == string(b) {
			*dst = v
			return nil
		}
	}
	return fmt.Errorf("parse %q: %w", b, ErrWord)
}

// ErrWord is returned for a word that is not in its closed list.
var ErrWord = errors.New("not a known word")
