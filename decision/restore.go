package decision

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// SnapshotVersion is the version of Snapshot's fields and meaning. It grows when a field is added, removed or means something else; a snapshot
// of another version is refused, never guessed at.
const SnapshotVersion = 2

// ErrSnapshot is returned for a snapshot that no engine of this version can have made.
var ErrSnapshot = errors.New("not a snapshot that this version can go on from")

// Snapshot is the whole state of an engine between two Steps: an engine restored from it answers every further event exactly as the one that it
// was taken of. It holds facts and decisions, never a secret. It may share memory with the engine that neither of them ever changes.
type Snapshot struct {
	Version    int
	Config     Config
	Nodes      []NodeSnapshot
	Now        Instant
	Started    bool
	FreshAfter Instant
	Watching   Instant
	StalledFor time.Duration

	State            State
	Step             Step
	Since, StepSince Instant

	Record Record
	// RecordNoted and PendingNoted are Promotion.Noted of the two records, which is no part of a record's own rendering.
	RecordNoted, PendingNoted bool
	Dirty                     bool
	Pending                   Opt[PersistSnapshot]
	DiskErr, KeepErr          string
	RetryDisk, RetryCut       bool

	Opened              uint64
	OpenID, RememberID  uint64
	Cutting             Opt[CutSnapshot]
	CutNoted, CutFailed uint64
	Ending              EndingSnapshot
	CutDone             uint64
	SilentFrom          Opt[Instant]
	Ended               uint64

	Plane     DataPlane
	PlaneAt   Instant
	LastKnown Opt[LastKnown]
	Restored  Opt[uint64]

	SuccessorSince Opt[Instant]
	Failed         Opt[Instant]
	Drained        Opt[Instant]
	Cut            Opt[Instant]
	Adopted        Opt[Instant]

	Change    Opt[ChangeSnapshot]
	Approval  Opt[ApprovalSnapshot]
	Confirmed []ConfirmationSnapshot
	Restore   ErrandSnapshot
	Unfence   ErrandSnapshot
	SyncSaid  string
	Ordered   bool
	LateFence Opt[uint64]
	KeptAt    Instant

	ConflictsEnded Opt[Instant]

	Pace     time.Duration
	AutoWhy  string
	DiskSaid string
	NextID   uint64
}

// NodeSnapshot is what the engine believes about one node.
type NodeSnapshot struct {
	Node        Node
	Seen        bool
	Observation Observation
	Class       uint8
	Told        Instant

	FailingSince, StartingSince, PrimarySince, MuteSince Opt[Instant]

	ServerID          string
	LastRole          Role
	LastTimeline      Opt[uint32]
	Upstream          string
	Streamed          bool
	Written, Replayed TrackSnapshot
	Settings          Settings
	Blind, Quarantine string
}

// TrackSnapshot is how a position grew over the last minute: a ring of samples, of which Last is the newest.
type TrackSnapshot struct {
	At     []Instant
	Pos    []LSN
	Last   int
	Moved  Instant
	Newest LSN
}

// PersistSnapshot is a Persist whose outcome is awaited.
type PersistSnapshot struct {
	ID           uint64
	Record       Record
	Turns, Stale bool
}

// CutSnapshot is a Cut whose outcome is awaited.
type CutSnapshot struct{ ID, Epoch uint64 }

// EndingSnapshot is why the epoch that is cut next ends.
type EndingSnapshot struct {
	Cause, Message string
	Reason         CutReason
}

// ApprovalSnapshot is an operator's word that a change may happen.
type ApprovalSnapshot struct {
	Target    string
	Overrides []string
}

// ConfirmationSnapshot is a position with the relaxed commits that had been counted by then.
type ConfirmationSnapshot struct {
	LSN     LSN
	Relaxed uint64
	At      Instant
}

// ErrandSnapshot is an action whose outcome is awaited.
type ErrandSnapshot struct {
	ID   uint64
	Busy bool
	Sent Opt[Instant]
	Done bool
	Err  string
}

// ChangeSnapshot is a change of the writer that is under way.
type ChangeSnapshot struct {
	Kind      ChangeKind
	Target    Node
	Automatic bool
	Approval  Opt[ApprovalSnapshot]
	Began     Instant

	Drain              ErrandSnapshot
	CutAt              Opt[Instant]
	Fence              ErrandSnapshot
	FencedAt           Opt[Instant]
	Fenced             Opt[bool]
	FenceSay           string
	Received, Replayed Opt[LSN]
	Still              Instant
	Sampled            bool
	End                Opt[LSN]
	EndSeen, Flushed   bool

	Promote, Verify ErrandSnapshot
	Requested       Instant
	Polled          Instant
	Contradiction   string
	Resolved        Opt[Node]
	Steps           []StepTime
}

// WriterOpen says whether the state is one of those in which the writer is open for new logins.
func (s State) WriterOpen() bool { return s.open() }

// both turns what an Opt holds into something else, and keeps whether it is known.
func both[A, B any](o Opt[A], turn func(A) B) Opt[B] { return Opt[B]{V: turn(o.V), Known: o.Known} }

// each turns every element.
func each[A, B any](list []A, turn func(A) B) []B {
	if list == nil {
		return nil
	}
	out := make([]B, len(list))
	for i, a := range list {
		out[i] = turn(a)
	}
	return out
}

// Snapshot returns the whole state. It changes nothing.
func (e *Engine) Snapshot() Snapshot {
	return Snapshot{
		Version: SnapshotVersion, Config: e.cfg.clone(), Nodes: each(e.views, view.snapshot), Now: e.now, Started: e.started,
		FreshAfter: e.freshAfter, Watching: e.watching, StalledFor: e.stalledFor,
		State: e.state, Step: e.step, Since: e.since, StepSince: e.stepSince,
		Record: e.rec.clone(), RecordNoted: e.rec.Promotion.V.Noted, PendingNoted: e.pending.V.rec.Promotion.V.Noted, Dirty: e.dirty,
		Pending: both(e.pending, pendingPersist.snapshot), DiskErr: e.diskErr, KeepErr: e.keepErr, RetryDisk: e.retryDisk, RetryCut: e.retryCut,
		Opened: e.opened, OpenID: e.openID, RememberID: e.rememberID,
		Cutting:  both(e.cutting, func(c pendingCut) CutSnapshot { return CutSnapshot{c.id, c.epoch} }),
		CutNoted: e.cutNoted, CutFailed: e.cutFailed, Ending: EndingSnapshot{e.ending.cause, e.ending.message, e.ending.reason},
		CutDone: e.cutDone, SilentFrom: e.silentFrom, Ended: e.ended,
		Plane: e.plane, PlaneAt: e.planeAt, LastKnown: both(e.lastKnown, LastKnown.clone), Restored: e.restored,
		SuccessorSince: e.successorSince, Failed: e.marks.failed, Drained: e.marks.drained, Cut: e.marks.cut, Adopted: e.marks.adopted,
		Change: both(e.change, change.snapshot), Approval: both(e.approval, approval.snapshot),
		Confirmed: each(e.confirmed, func(c confirmation) ConfirmationSnapshot { return ConfirmationSnapshot{c.lsn, c.relaxed, c.at} }),
		Restore:   e.restore.snapshot(), Unfence: e.unfence.snapshot(), ConflictsEnded: e.conflictsEnded, SyncSaid: e.syncSaid, Ordered: e.ordered, LateFence: e.lateFence, KeptAt: e.keptAt,
		Pace: e.pace, AutoWhy: e.autoWhy, DiskSaid: e.diskSaid, NextID: e.nextID,
	}
}

// Restore returns an engine that goes on where the snapshot was taken. A snapshot that contradicts itself is an error: it may come from a file.
func Restore(s Snapshot) (e *Engine, err error) {
	if s.Version != SnapshotVersion {
		return nil, fmt.Errorf("restore snapshot of version %d, this is version %d: %w", s.Version, SnapshotVersion, ErrSnapshot)
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("restore snapshot: %w: %w", ErrSnapshot, err)
	}
	defer func() {
		if why := recover(); why != nil { // the engine's own promises, which a foreign snapshot may break
			e, err = nil, fmt.Errorf("restore snapshot: %w: %v", ErrSnapshot, why)
		}
	}()
	e = s.engine()
	if e.started { // before its first event an engine has not looked at its record yet
		e.checkInvariants(e.rec.Epoch)
	}
	return e, nil
}

// check finds what would make an engine fail that has not even begun.
func (s *Snapshot) check() error {
	if err := s.Config.Validate(); err != nil {
		return fmt.Errorf("check configuration: %w", err)
	}
	if err := s.Record.Validate(); err != nil {
		return err
	}
	if len(s.Nodes) != len(s.Config.Nodes) {
		return fmt.Errorf("check %d nodes for %d configured ones: %w", len(s.Nodes), len(s.Config.Nodes), ErrSnapshot)
	}
	for i, n := range s.Nodes {
		if n.Node != s.Config.Nodes[i] || n.Class > uint8(classPrimary) || !n.Written.whole() || !n.Replayed.whole() {
			return fmt.Errorf("check node %q: %w", n.Node.Name, ErrSnapshot)
		}
	}
	if !slices.Contains(States(), s.State) || !slices.Contains(steps, s.Step) {
		return fmt.Errorf("check state %d with step %d: %w", s.State, s.Step, ErrSnapshot)
	}
	return nil
}

// engine builds the engine without a look at whether it can be true.
func (s *Snapshot) engine() *Engine {
	e := &Engine{
		cfg: s.Config.clone(), views: each(s.Nodes, NodeSnapshot.view), now: s.Now, started: s.Started,
		freshAfter: s.FreshAfter, watching: s.Watching, stalledFor: s.StalledFor,
		state: s.State, step: s.Step, since: s.Since, stepSince: s.StepSince,
		rec: s.Record.clone(), dirty: s.Dirty,
		pending: both(s.Pending, PersistSnapshot.pending), diskErr: s.DiskErr, keepErr: s.KeepErr, retryDisk: s.RetryDisk, retryCut: s.RetryCut,
		opened: s.Opened, openID: s.OpenID, rememberID: s.RememberID,
		cutting:  both(s.Cutting, func(c CutSnapshot) pendingCut { return pendingCut{c.ID, c.Epoch} }),
		cutNoted: s.CutNoted, cutFailed: s.CutFailed, ending: ending{s.Ending.Cause, s.Ending.Message, s.Ending.Reason},
		cutDone: s.CutDone, silentFrom: s.SilentFrom, ended: s.Ended,
		plane: s.Plane, planeAt: s.PlaneAt, lastKnown: both(s.LastKnown, LastKnown.clone), restored: s.Restored,
		successorSince: s.SuccessorSince, marks: marks{s.Failed, s.Drained, s.Cut, s.Adopted},
		change: both(s.Change, ChangeSnapshot.change), approval: both(s.Approval, ApprovalSnapshot.approval),
		confirmed: each(s.Confirmed, func(c ConfirmationSnapshot) confirmation { return confirmation{c.LSN, c.Relaxed, c.At} }),
		restore:   s.Restore.errand(), unfence: s.Unfence.errand(), conflictsEnded: s.ConflictsEnded, syncSaid: s.SyncSaid, ordered: s.Ordered, lateFence: s.LateFence, keptAt: s.KeptAt,
		pace: s.Pace, autoWhy: s.AutoWhy, diskSaid: s.DiskSaid, nextID: s.NextID,
	}
	e.rec.Promotion.V.Noted, e.pending.V.rec.Promotion.V.Noted = s.RecordNoted, s.PendingNoted
	return e
}
