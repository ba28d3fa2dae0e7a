package decision

import (
	"errors"
	"fmt"
	"time"
)

// Mode says who decides that another node becomes the writer.
type Mode uint8

const (
	// ModeObserve follows what others (a person, another failover manager) promote.
	ModeObserve Mode = iota + 1
	// ModeManual promotes when an operator approves.
	ModeManual
	// ModeAuto promotes when every criterion passes.
	ModeAuto
)

// String returns the word used in the configuration and in the API.
func (m Mode) String() string {
	switch m {
	case ModeObserve:
		return "observe"
	case ModeManual:
		return "manual"
	case ModeAuto:
		return "auto"
	default:
		return "invalid"
	}
}

// ErrMode is returned for a word that names no mode.
var ErrMode = errors.New("not one of auto, manual, observe")

// ParseMode reads the word used in the configuration.
func ParseMode(s string) (Mode, error) {
	for _, m := range []Mode{ModeObserve, ModeManual, ModeAuto} {
		if s == m.String() {
			return m, nil
		}
	}
	return 0, fmt.Errorf("parse mode %q: %w", s, ErrMode)
}

// Node is a configured PostgreSQL server.
type Node struct {
	// Name is unique; it is what people call the node.
	Name string
	// Address is host:port. Another address under the same name is another server until it proves itself.
	Address string
}

// Config is everything an operator decides about the engine. It has no defaults: the configuration file's reader fills it in.
type Config struct {
	// Nodes in the order of the configuration; of two addresses of one server the first one counts.
	Nodes []Node
	Mode  Mode
	// TickInterval is how often the shell promises to send a Tick while time matters (see Engine.TickEvery).
	TickInterval time.Duration
	// ProbeInterval and ProbeTimeout are those of the probes; they bound how long an observation supports a decision.
	ProbeInterval time.Duration
	ProbeTimeout  time.Duration
	// StableFor is how long a failure must last without interruption before it counts.
	StableFor time.Duration
	// MaxLagBytes bounds what a change of writer may lose.
	MaxLagBytes uint64
	// RequireLossless refuses every change that is not proven lossless.
	RequireLossless bool
	// RequireFence refuses a failover while the old writer could not be fenced.
	RequireFence bool
	// FenceHook is true when the operator has a program that fences the old writer.
	FenceHook bool
	// AntiFlap is the least time between two automatic failovers; 0 turns it off.
	AntiFlap time.Duration
	// PromoteTimeout is how long a promotion may take before an operator is asked to decide.
	PromoteTimeout time.Duration
	// DrainTimeout is how long a planned change waits for open transactions, HoldSession how long clients are kept waiting by it altogether.
	DrainTimeout, HoldSession time.Duration
	// PrimaryStartTimeout is how long a server may say "starting up" (57P03) before it counts as failed.
	PrimaryStartTimeout time.Duration
}

// FastProbeInterval is the pace of probes while no writer is open.
const FastProbeInterval = 200 * time.Millisecond

// restTick is how often a Tick comes while time does not matter, if the probes leave room for it.
const restTick = 500 * time.Millisecond

// FreshFor is how long an observation supports a decision: two whole probe rounds.
func (c Config) FreshFor() time.Duration { return 2 * (c.ProbeInterval + c.ProbeTimeout) }

// StallAfter is the gap between two events above which the process counts as having been stalled.
func (c Config) StallAfter() time.Duration { return 2 * max(c.TickInterval, c.ProbeInterval) }

// Validate returns every reason why the configuration cannot be used, joined.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Nodes) == 0 {
		bad("no node is configured")
	}
	for i, n := range c.Nodes {
		if n.Name == "" || n.Address == "" {
			bad("node %d: name and address are needed", i+1)
		}
		for _, o := range c.Nodes[:i] {
			if o.Name == n.Name {
				bad("node %q is configured twice", n.Name)
			}
			if o.Address == n.Address {
				bad("nodes %q and %q have the same address %q", o.Name, n.Name, n.Address)
			}
		}
	}
	if c.Mode < ModeObserve || c.Mode > ModeAuto {
		bad("mode: %w", ErrMode)
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"tick interval", c.TickInterval}, {"probe interval", c.ProbeInterval}, {"probe timeout", c.ProbeTimeout},
		{"stable_for", c.StableFor}, {"primary_start_timeout", c.PrimaryStartTimeout}, {"promote_timeout", c.PromoteTimeout},
		{"drain timeout", c.DrainTimeout}, {"hold.session", c.HoldSession},
	} {
		if d.value <= 0 {
			bad("%s must be above 0, is %s", d.name, d.value)
		}
	}
	if c.AntiFlap < 0 {
		bad("anti_flap must not be negative, is %s", c.AntiFlap)
	}
	return errors.Join(errs...)
}

// clone returns a copy that shares no memory.
func (c Config) clone() Config {
	c.Nodes = append([]Node(nil), c.Nodes...)
	return c
}
