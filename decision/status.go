package decision

import "time"

// Status is a snapshot of everything the engine can say about itself. It shares no memory with the engine.
type Status struct {
	// At is the instant of the last event.
	At               Instant
	Mode             Mode
	Automation       Automation
	AutomationReason string
	State            State
	Step             Step
	// Since is when the state was entered.
	Since Instant
	// Epoch is unknown until the first adoption.
	Epoch Opt[uint64]
	// Writer names the node of the open epoch; unknown while logins are held.
	Writer Opt[string]
	Writes Writes
	// SystemID and Timeline are those of the epoch.
	SystemID Opt[string]
	Timeline Opt[uint32]
	Nodes    []NodeStatus
	// Degraded lists, in words, what is wrong with a writer that is served all the same.
	Degraded []string
	// Planned is the switchover that is ordered or under way.
	Planned    Opt[PlannedStatus]
	LastChange Opt[Change]
	LastKnown  Opt[LastKnown]
	// CrashLossBytes is what a crash of the writer now could lose (pgtether_failover_data_loss_bytes).
	CrashLossBytes Opt[uint64]
	// Message says in one sentence what is going on and what is waited for.
	Message string
}

// PlannedStatus is how far a switchover has come.
type PlannedStatus struct {
	To    string
	Force bool
	// Since is when it was ordered, Drain how long open transactions may take from the beginning of the drain on, and DrainLeft what is left of it
	// (unknown before and after).
	Since     Instant
	Drain     time.Duration
	DrainLeft Opt[time.Duration]
	// Sessions is known while they are waited for, ToReplay once the old writer's end is known.
	Sessions Opt[SessionsLeft]
	ToReplay Opt[uint64]
	// Undoable is false from the point of no return on.
	Undoable bool
}

// NodeStatus is what is known about one node now. Facts of a round that is no longer fresh are unknown.
type NodeStatus struct {
	Name     string
	Address  string
	Role     Role
	Evidence Evidence
	// EvidenceDetail says in words what each way in yielded.
	EvidenceDetail string
	// Quarantine says why the node may not be the writer; empty when it is not quarantined.
	Quarantine  string
	SystemID    Opt[string]
	Timeline    Opt[uint32]
	CurrentLSN  Opt[LSN]
	ReceivedLSN Opt[LSN]
	ReplayedLSN Opt[LSN]
	// LagBytes is how far a standby is behind the writer's last known position.
	LagBytes Opt[uint64]
	// DivergenceBytes is what a primary of a timeline that was left has written since.
	DivergenceBytes Opt[uint64]
	ReplayLag       Opt[time.Duration]
	SyncState       Opt[string]
	Streaming       Opt[bool]
	ObservedAge     Opt[time.Duration]
}
