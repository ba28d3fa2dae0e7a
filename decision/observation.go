package decision

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Instant is a point on the shell's monotonic clock, counted from the start of the engine. It never decreases.
type Instant time.Duration

// Sub returns the time that passed from o to i.
func (i Instant) Sub(o Instant) time.Duration { return time.Duration(i - o) }

// Add returns the instant d after i.
func (i Instant) Add(d time.Duration) Instant { return i + Instant(d) }

// Opt is a fact that may be unknown. Unknown is a value of its own: it satisfies no criterion and is rendered as null, never as 0.
type Opt[T any] struct {
	V     T    `json:"v"`
	Known bool `json:"known"`
}

// Some returns a known fact.
func Some[T any](v T) Opt[T] { return Opt[T]{V: v, Known: true} }

// Get returns the fact and whether it is known.
func (o Opt[T]) Get() (T, bool) { return o.V, o.Known }

// LSN is a position in the write-ahead log, in bytes. 0 is not a valid position in PostgreSQL; an unknown one is an Opt.
type LSN uint64

// String prints the position as PostgreSQL does ("0/16B3748").
func (l LSN) String() string {
	return strings.ToUpper(strconv.FormatUint(uint64(l>>32), 16) + "/" + strconv.FormatUint(uint64(l&0xffffffff), 16))
}

// ErrLSN is returned for text that is not a WAL position.
var ErrLSN = errors.New("not a WAL position")

// ParseLSN reads a position as PostgreSQL prints it.
func ParseLSN(s string) (LSN, error) {
	hi, lo, ok := strings.Cut(s, "/")
	if !ok {
		return 0, fmt.Errorf("parse %q: %w", s, ErrLSN)
	}
	h, err := strconv.ParseUint(hi, 16, 32)
	if err != nil {
		return 0, fmt.Errorf("parse %q: %w", s, ErrLSN)
	}
	l, err := strconv.ParseUint(lo, 16, 32)
	if err != nil {
		return 0, fmt.Errorf("parse %q: %w", s, ErrLSN)
	}
	return LSN(h<<32 | l), nil
}

// Evidence says what one way into a node yielded. Only silence and refusal can ever become "dead".
type Evidence uint8

const (
	// EvidenceUnknown means that nothing was tried (no detail) or nothing can be concluded (the detail says why).
	EvidenceUnknown Evidence = iota
	// Answers means that the probe succeeded.
	Answers
	// Alive means a well-formed PostgreSQL refusal (53300, 57P03, 28xxx, 3D000, ...): the server lives, the probe learned no facts.
	Alive
	// Silent means a timeout, or a reset or end of file before any answer.
	Silent
	// Refused means that TCP refused the connection: nobody listens. It proves nothing about sessions that are already open.
	Refused
)

// String returns the word used in the API and in metric labels.
func (e Evidence) String() string {
	switch e {
	case Answers:
		return "answers"
	case Alive:
		return "alive"
	case Silent:
		return "silent"
	case Refused:
		return "refused"
	default:
		return "unknown"
	}
}

// Attempt is the outcome of one way into a node in one probe round.
type Attempt struct {
	Evidence Evidence `json:"evidence"`
	// SQLState is set when PostgreSQL answered with an error.
	SQLState string `json:"sqlstate,omitempty"`
	// Detail says in words what happened; it never holds a secret.
	Detail string `json:"detail,omitempty"`
	// Took is the duration of the attempt.
	Took time.Duration `json:"took_ns"`
}

// Role is what a node says about itself.
type Role uint8

const (
	// RoleUnknown means that the node could not be asked.
	RoleUnknown Role = iota
	// RolePrimary means that the node is out of recovery.
	RolePrimary
	// RoleStandby means that the node is in recovery.
	RoleStandby
)

// String returns the word used in the API.
func (r Role) String() string {
	switch r {
	case RolePrimary:
		return "primary"
	case RoleStandby:
		return "standby"
	default:
		return "unknown"
	}
}

// TimelineSwitch is a line of a timeline history file: Timeline ended at At, where its child began.
type TimelineSwitch struct {
	Timeline uint32 `json:"timeline"`
	At       LSN    `json:"at"`
}

// Receiver is the standby's WAL receiver: the second witness of the primary's life.
type Receiver struct {
	// Running is true when pg_stat_wal_receiver has a row.
	Running bool `json:"running"`
	// Status is "streaming", "waiting" (not following), ...; empty when not running.
	Status string `json:"status,omitempty"`
	// MessageAge is how long ago the primary was last heard, by the standby's own clock.
	MessageAge Opt[time.Duration] `json:"message_age"`
	// Timeline is the received timeline.
	Timeline Opt[uint32] `json:"timeline"`
	// LatestEnd is the primary's position as last reported to the standby.
	LatestEnd Opt[LSN] `json:"latest_end"`
	// SenderHost and SenderPort name the upstream as the standby knows it.
	SenderHost string `json:"sender_host,omitempty"`
	SenderPort int    `json:"sender_port,omitempty"`
	// SlotName is the replication slot in use, if any.
	SlotName string `json:"slot_name,omitempty"`
}

// Sender is one row of pg_stat_replication on a primary.
type Sender struct {
	ApplicationName string `json:"application_name"`
	ClientAddr      string `json:"client_addr,omitempty"`
	State           string `json:"state"`
	// SyncState is "async", "potential", "sync" or "quorum".
	SyncState string             `json:"sync_state"`
	Sent      Opt[LSN]           `json:"sent"`
	Write     Opt[LSN]           `json:"write"`
	Flush     Opt[LSN]           `json:"flush"`
	Replay    Opt[LSN]           `json:"replay"`
	ReplayLag Opt[time.Duration] `json:"replay_lag"`
	ReplyAge  Opt[time.Duration] `json:"reply_age"`
}

// Settings are the server parameters that decide whether a node may be promoted and what a commit means there.
type Settings struct {
	MaxConnections          Opt[int] `json:"max_connections"`
	MaxWorkerProcesses      Opt[int] `json:"max_worker_processes"`
	MaxWalSenders           Opt[int] `json:"max_wal_senders"`
	MaxPreparedTransactions Opt[int] `json:"max_prepared_transactions"`
	MaxLocksPerTransaction  Opt[int] `json:"max_locks_per_transaction"`

	WalLogHints             Opt[bool]          `json:"wal_log_hints"`
	DataChecksums           Opt[bool]          `json:"data_checksums"`
	SynchronousStandbyNames Opt[string]        `json:"synchronous_standby_names"`
	SynchronousCommit       Opt[string]        `json:"synchronous_commit"`
	DefaultReadOnly         Opt[bool]          `json:"default_transaction_read_only"`
	WalReceiverTimeout      Opt[time.Duration] `json:"wal_receiver_timeout"`
	RecoveryMinApplyDelay   Opt[time.Duration] `json:"recovery_min_apply_delay"`
	// RelaxedRoles counts roles and databases whose own settings lower synchronous_commit (pg_db_role_setting).
	RelaxedRoles Opt[int] `json:"relaxed_roles"`
	// CanPromote is true when the probe's role may execute pg_promote.
	CanPromote Opt[bool] `json:"can_promote"`
	// CanSetSyncNames is true when the probe's role may ALTER SYSTEM SET synchronous_standby_names (PostgreSQL 15+).
	CanSetSyncNames Opt[bool] `json:"can_set_sync_names"`
}

// Observation is what one probe round learned about one node: facts only, no smoothing, no verdict.
//
// Every fact may be unknown; NULL for want of privilege is unknown, not "down".
type Observation struct {
	// Node is the configured name.
	Node string `json:"node"`
	// Began is when the round was started; facts are at least as young as this, but for Fresh.
	Began Instant `json:"began_ns"`
	// Took is the duration of the whole round.
	Took time.Duration `json:"took_ns"`

	// Persistent is the probe on the long-lived connection, Fresh the one on a new connection (or the last one, which is some seconds old
	// then, while all is as it was), Replication the IDENTIFY_SYSTEM on a physical replication connection.
	Persistent  Attempt `json:"persistent"`
	Fresh       Attempt `json:"fresh"`
	Replication Attempt `json:"replication"`
	// ProberStalled is set when the prober itself was late, so that silence may be its own fault.
	ProberStalled bool `json:"prober_stalled,omitempty"`

	Role     Role        `json:"role"`
	SystemID Opt[string] `json:"system_id"`
	// Timeline comes from IDENTIFY_SYSTEM or from the current WAL file's name, never from the control file (stale after a promotion).
	Timeline Opt[uint32] `json:"timeline"`
	// History lists the ended ancestors of Timeline, oldest first. It is known (maybe empty) when Timeline is 1 or was read with TIMELINE_HISTORY.
	History Opt[[]TimelineSwitch] `json:"history"`
	// ServerID tells two addresses of one server apart from two servers: start time, data directory and port.
	ServerID Opt[string] `json:"server_id"`
	// VersionNum is server_version_num (150012).
	VersionNum Opt[int] `json:"version_num"`
	// StartedAgo is the time since the postmaster started, by the node's own clock.
	StartedAgo Opt[time.Duration] `json:"started_ago"`
	// TransactionReadOnly is transaction_read_only on the fresh connection.
	TransactionReadOnly Opt[bool] `json:"transaction_read_only"`

	// CurrentLSN and FlushLSN are a primary's write and flush positions.
	CurrentLSN Opt[LSN] `json:"current_lsn"`
	FlushLSN   Opt[LSN] `json:"flush_lsn"`
	// ReceivedLSN is the greatest of received and replayed, ReplayedLSN the replayed position of a standby.
	ReceivedLSN Opt[LSN] `json:"received_lsn"`
	ReplayedLSN Opt[LSN] `json:"replayed_lsn"`
	// ReplayLag is the age of the last replayed transaction as the standby sees it; unknown when nothing is to be replayed.
	ReplayLag Opt[time.Duration] `json:"replay_lag"`
	// ReplayPaused is "not paused", "pause requested" or "paused".
	ReplayPaused Opt[string] `json:"replay_paused"`
	// ReplayWaits is what the standby's startup process waits for (pg_stat_activity.wait_event); empty while it works.
	ReplayWaits Opt[string] `json:"replay_waits"`
	// Receiver is known when pg_stat_wal_receiver could be read with values.
	Receiver Opt[Receiver] `json:"receiver"`
	// Senders is known when pg_stat_replication could be read with values.
	Senders Opt[[]Sender] `json:"senders"`

	// Rivals are the instances of other pgtether processes that watch this node, as their sessions name them; empty when there is none.
	Rivals Opt[[]string] `json:"rivals"`
	// AdvisoryLock is true while this pgtether holds the advisory lock of a primary that it keeps a connection to, false while another one does.
	AdvisoryLock Opt[bool] `json:"advisory_lock"`

	Settings Settings `json:"settings"`
}

// Evidence combines the ways in: any success is Answers, else any well-formed answer is Alive; Refused only when every way that was tried
// was refused, else Silent when every way failed. An attempt that was made and proved nothing (its evidence is unknown and it has a detail:
// another protocol answers there, or the prober could not even try) makes the whole unknown: silence needs every way to be silent.
func (o Observation) Evidence() Evidence {
	best := EvidenceUnknown
	refusedOnly, tried, inconclusive := true, false, false
	for _, a := range []Attempt{o.Persistent, o.Fresh, o.Replication} {
		switch a.Evidence {
		case Answers:
			return Answers
		case Alive:
			best = Alive
		case Silent:
			tried, refusedOnly = true, false
		case Refused:
			tried = true
		default:
			inconclusive = inconclusive || a.Detail != ""
		}
	}
	switch {
	case best == Alive:
		return Alive
	case !tried, inconclusive:
		return EvidenceUnknown
	case refusedOnly:
		return Refused
	default:
		return Silent
	}
}
