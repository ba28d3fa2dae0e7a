package main

import "time"

// Outcome is what a client knows about a write of its own.
type Outcome uint8

const (
	// Acknowledged: the server said that it is committed.
	Acknowledged Outcome = iota + 1
	// Failed: it is certainly not committed.
	Failed
	// InDoubt: nobody told.
	InDoubt
)

// String returns the word of the report.
func (o Outcome) String() string {
	return [...]string{"invalid", "acknowledged", "failed", "in doubt"}[min(o, 3)]
}

// Key names a row: no two writes have the same.
type Key struct {
	Client int
	Seq    int64
}

// Op is one write.
type Op struct {
	Key
	// Invoke and Return are on the run's clock.
	Invoke, Return time.Duration
	Outcome        Outcome
	// Session numbers the client's session, over all clients.
	Session int
	// Relaxed: the client asked for less than the server's durability.
	Relaxed bool
	// Node is the server that the session was on, as its row says or, where that is not there, its login. Process is the server process that
	// wrote the row; 0 when it is not there.
	Node    string
	Process uint32
	// Heard is when the client had read the last byte of the server's answer.
	Heard time.Duration
	// Err is what the client was told.
	Err string
}

// Bytes is when bytes of the application passed to a server.
type Bytes struct {
	FirstTo, LastTo time.Duration
	Seen            bool
}

// Heard is what one session's client got from the server that it had logged in to.
type Heard struct {
	Client int
	Node   string
	// Last is when the client read the last byte that was not pgtether's own farewell.
	Last time.Duration
}

// Said is what pgtether says about the run.
type Said struct {
	// Requested counts the events promotion_requested by epoch.
	Requested map[uint64]int
	// Unexplained are transitions without operands or without a reason.
	Unexplained []string
	Lossless    string
	LossBytes   *uint64
	Kind        string
	To          string
	// Opened is when the epoch of the writer in the end was opened first; 0 when no event says so.
	Opened time.Duration
	// Detail holds what the last events rested on, newest last: where nothing was promoted they say why.
	Detail []string
}

// Run is everything that was recorded of one schedule.
type Run struct {
	Seed uint64
	Sync bool
	// Gray: the fault must not lead to a promotion. Promoted: the standby left recovery.
	Gray, Promoted bool
	// Planned: a switchover was ordered at the instant of the fault. Disturbed: something happened in the middle of it.
	Planned, Disturbed bool
	// Movable: pgtether knew the role's verifier, so that sessions could move.
	Movable bool
	// Mixed are answers that did not belong to the session that got them.
	Mixed []string
	Ops   []Op
	// Old and New are the old and the new writer.
	Old, New string
	// Rows are those of the server that is the writer in the end, with how often each is there.
	Rows map[Key]int
	// OldRows are those of the old writer, when it could be read afterwards; nil when not.
	OldRows map[Key]int
	Bytes   map[string]Bytes
	// Heard has one entry for each session.
	Heard []Heard
	Said  Said
	// Fault is when the fault was done, Healed when it was over. Limit is how long after it the first write may be acknowledged.
	Fault, Healed, Limit time.Duration
	// LoginLimit is how long a login may be left without an answer; Hung counts those that were left longer.
	LoginLimit time.Duration
	Hung       int
	// Clients is how many wrote; all of them must have committed within freshFor before the fault, and commit again.
	Clients int
	Steps   map[string]time.Duration
}
