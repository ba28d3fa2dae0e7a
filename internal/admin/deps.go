package admin

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/pgtether/pgtether/decision"
)

// Deps is everything that the listener shows or sets in motion. All functions are called from many goroutines; those without a context must not
// block.
type Deps struct {
	Identity Identity
	// Token returns the token that a POST must show; empty when none is set. It is asked for each request, because a reload may change it.
	Token func() string
	// Ready says whether logins are accepted that can be served or held, and why or why not.
	Ready func() (ready bool, why string)
	// Exiting says whether the process is ending, so that new logins are refused.
	Exiting func() bool
	// Status and Decision return what the engine said after the last event.
	Status   func() decision.Status
	Decision func() decision.Decision
	// WhatIf asks the engine a question. It returns ErrUnavailable when there is nobody to ask any more.
	WhatIf func(ctx context.Context, q decision.Question) (decision.Decision, error)
	// Command hands an operator's command to the engine. It returns ErrUnavailable when there is nobody to take it any more.
	Command func(ctx context.Context, c decision.Command) (CommandReply, error)
	// Plan says what a switchover would do, step by step, and why it would be refused, if it would. It returns ErrUnavailable when there is nobody to
	// ask any more.
	Plan func(ctx context.Context, c decision.Switch) ([]decision.PlanStep, decision.Opt[decision.Refusal], error)
	// Preflight asks the nodes for what whoever orders a switchover to a node should know. It returns when ctx ends at the latest.
	Preflight func(ctx context.Context, to string) []Finding
	// Unfenceable asks the writer why a fence of it would be incomplete, so that a switchover would be undone after its sessions were ended; empty when
	// nothing speaks against it, or the writer does not answer before ctx ends.
	Unfenceable func(ctx context.Context) string
	// ListSessions lists the sessions of the data plane, with since when each is in a transaction as far as the writer says so in time.
	ListSessions func(ctx context.Context) []Session
	// Sessions counts the sessions of the data plane.
	Sessions func() Sessions
	// Events returns at most limit events with a number greater than since, oldest first. EventsNewest is the number of the newest, 0 when there is
	// none. EventsChanged returns a channel that is closed at the next event.
	Events        func(since uint64, limit int) []Event
	EventsNewest  func() uint64
	EventsChanged func() <-chan struct{}
	// Reload reads the configuration again. Its error says what is wrong with it, or is ErrUnavailable.
	Reload func(ctx context.Context) (Reloaded, error)
	// Wall turns an instant of the engine into the time of day.
	Wall func(decision.Instant) time.Time
	// Metrics serves /metrics.
	Metrics http.Handler
	Log     *slog.Logger
}

// Identity is what does not change while the process runs.
type Identity struct {
	// Cluster is cluster.name, Version the version of the build, Instance the name of this process, StateID that of its state.
	Cluster, Version, Instance, StateID string
	StartedAt                           time.Time
}

// Sessions is how many client connections are in which state.
type Sessions struct {
	Open          int `json:"open"`
	Active        int `json:"active"`
	Idle          int `json:"idle"`
	InTransaction int `json:"in_transaction"`
	Held          int `json:"held"`
	Read          int `json:"read"`
	Opaque        int `json:"opaque"`
	// Movable is how many of the open ones would be moved to another writer, as far as is known without asking their servers.
	Movable int `json:"movable"`
}

// Event is one thing that happened. Empty texts and a nil epoch are shown as null.
type Event struct {
	Seq                uint64
	At                 time.Time
	Epoch              *uint64
	StateFrom, StateTo string
	Step, Kind, Cause  string
	Message            string
	// Operands are the values that the event rests on, each as JSON.
	Operands map[string]json.RawMessage
}

// Reloaded is the outcome of a reload that was taken over.
type Reloaded struct {
	// Changes and Warnings are one line each, without secrets.
	Changes, Warnings []string
}

// ErrUnavailable is returned by a dependency that cannot answer any more, because the process is ending. It is shown as 503.
var ErrUnavailable = errors.New("pgtether is ending")
