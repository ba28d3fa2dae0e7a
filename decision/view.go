package decision

import (
	"fmt"
	"time"
)

// view is what the engine believes about one node: the latest round, and how long things have been so without interruption.
type view struct {
	node Node
	// seen is false until the first round came back.
	seen bool
	// obs is the latest round; it supports a decision only while Engine.fresh says so.
	obs Observation
	// class is what obs means, fresh or not.
	class class
	// told is when the latest round that concluded anything began.
	told Instant

	// failingSince is the end of the first failing round after the last sign of life.
	failingSince Opt[Instant]
	// startingSince is when the node first said that it starts up, without any other answer since.
	startingSince Opt[Instant]
	// primarySince and muteSince are when the node first answered as a primary, or first did not say what it is, without interruption.
	primarySince Opt[Instant]
	muteSince    Opt[Instant]

	// serverID is the last known identity of the running server.
	serverID string
	// lastRole and lastTimeline are what the node last said about itself, however long ago.
	lastRole     Role
	lastTimeline Opt[uint32]
	// upstream is the host and port that the WAL receiver was last connected to, as the standby knows it; empty when it never told.
	upstream string
	// streamed is true when the WAL receiver was seen streaming since this server started.
	streamed bool
	// written and replayed follow the primary's and the standby's position.
	written, replayed track
	// settings are the last ones that were read.
	settings Settings

	// blind says why the probe cannot log in; it stays until a login succeeds or is refused for another reason.
	blind string
	// quarantine says why the node may not be the writer; it stays until an answer shows otherwise.
	quarantine string
}

// take brings in a round. The caller has checked that it is not older than the one before.
//
// Invariant: failingSince is known only if every round since then failed; likewise for the other series.
func (v *view) take(now Instant, o Observation, continues bool) {
	if !continues {
		v.interrupt()
	}
	if id, ok := o.ServerID.Get(); ok && id != v.serverID {
		v.streamed, v.serverID = false, id
	}
	v.seen, v.obs, v.class = true, o, classify(o)

	series := func(since *Opt[Instant], holds bool) {
		switch {
		case !holds:
			*since = Opt[Instant]{}
		case !since.Known:
			*since = Some(now)
		}
	}
	// A round that concludes nothing neither starts nor ends a failure. When the prober itself was late nobody was watching: all ends.
	if v.class != classUnknown {
		v.told = o.Began
		series(&v.failingSince, v.class == classFailing)
		series(&v.startingSince, v.class == classStarting)
		series(&v.primarySince, v.class == classPrimary)
		series(&v.muteSince, !v.class.tellsRole())
	} else if o.ProberStalled {
		v.interrupt()
	} else {
		series(&v.primarySince, false)
		series(&v.muteSince, true)
	}
	if r, ok := o.Receiver.Get(); ok && r.Running && r.Status == receiverStreaming {
		v.streamed = true
	}
	if r := o.Receiver.V; o.Receiver.Known && r.Running && r.SenderHost != "" {
		v.upstream = fmt.Sprintf("%s:%d", r.SenderHost, r.SenderPort)
	}
	if p, ok := o.CurrentLSN.Get(); ok && v.class == classPrimary {
		v.written.add(o.Began, p)
	}
	if p, ok := o.ReplayedLSN.Get(); ok && v.class == classStandby {
		v.replayed.add(o.Began, p)
	}
	if v.class.tellsRole() {
		v.settings, v.lastRole, v.lastTimeline = o.Settings, o.Role, o.Timeline
	}
	switch {
	case refusesProbe(o.Fresh):
		v.blind = o.Fresh.SQLState
	case o.Fresh.Evidence == Answers || o.Fresh.Evidence == Alive:
		v.blind = ""
	}
}

// interrupt ends every series: from here on nobody knows what happened in between.
func (v *view) interrupt() {
	v.failingSince, v.startingSince, v.primarySince, v.muteSince = Opt[Instant]{}, Opt[Instant]{}, Opt[Instant]{}, Opt[Instant]{}
}

// receiverStreaming is the status of a WAL receiver that follows its primary.
const receiverStreaming = "streaming"

// elapsed returns how long a series has lasted; 0 and false when there is none.
func elapsed(since Opt[Instant], now Instant) (d time.Duration, ok bool) {
	if !since.Known {
		return 0, false
	}
	return now.Sub(since.V), true
}
