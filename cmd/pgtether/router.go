package main

import (
	"context"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"github.com/pgtether/pgtether/decision"
	"github.com/pgtether/pgtether/health"
	"github.com/pgtether/pgtether/internal/control"
	"github.com/pgtether/pgtether/internal/pgwire"
	"github.com/pgtether/pgtether/proxy"
)

// router lets the control loop drive the data plane, and answers the data plane's questions about the writer. It satisfies control.Router.
type router struct {
	server *proxy.Server
	log    *slog.Logger
	probes *probes
	// view is the control loop's picture; set before the data plane serves.
	view func() control.View
	// open is the route that was opened last.
	open atomic.Pointer[openedRoute]
}

// openedRoute is a route and when it was opened.
type openedRoute struct {
	proxy.Route
	at time.Time
}

// lossless are the engine's words in the data plane's.
var lossless = map[decision.Lossless]proxy.Lossless{decision.LosslessProven: proxy.LosslessProven, decision.LosslessRelaxed: proxy.LosslessRelaxed}

// Open sends logins to the node under the epoch, and moves the sessions there that waited.
func (r *router) Open(epoch uint64, node, address string, kept decision.Lossless, moved func(decision.SessionCounts)) {
	route := proxy.Route{Epoch: epoch, Node: node, Address: address}
	r.open.Store(&openedRoute{Route: route, at: time.Now()})
	if err := r.server.Open(route); err != nil {
		// The engine never opens an epoch twice after a cut; if it did, holding is the safe answer.
		r.log.Error("route refused", "epoch", epoch, "node", node, "err", err)
		return
	}
	r.server.Relocate(epoch, lossless[kept], func(n proxy.Relocated) {
		moved(decision.SessionCounts{Moved: uint64(n.Moved), Ended: uint64(n.Ended)})
	})
}

// Hold keeps new logins waiting.
func (r *router) Hold(why decision.HoldReason) { r.server.Hold(string(why)) }

// Refuse refuses logins at once.
func (r *router) Refuse(decision.HoldReason) { r.server.Refuse() }

// Drain stops sessions at the end of their transaction.
func (r *router) Drain(epoch uint64, drained func()) { r.server.Drain(epoch, drained) }

// Undrain lets them go on.
func (r *router) Undrain(epoch uint64) { r.server.Undrain(epoch) }

// cutReasons are the engine's words in the words of the wire.
var cutReasons = map[decision.CutReason]pgwire.Reason{
	decision.CutWriterLost:  pgwire.WriterLost,
	decision.CutLossyChange: pgwire.LossyChange,
	decision.CutDrained:     pgwire.Drained,
}

// Cut closes every path of every epoch up to epoch.
func (r *router) Cut(epoch uint64, why decision.CutReason) control.CutReport {
	reason, ok := cutReasons[why]
	if !ok {
		reason = pgwire.WriterLost
	}
	ended := r.server.Cut(epoch, reason)
	return control.CutReport{Ended: ended, LastByteAge: r.heardAge(epoch)}
}

// DataPlane says what the forwarding paths know of the epoch that was opened last, also once it is cut.
func (r *router) DataPlane() control.DataPlane {
	plane := control.DataPlane{HeardAge: -1, Relaxed: -1}
	if route := r.open.Load(); route != nil {
		plane.HeardAge = r.heardAge(route.Epoch)
		if n, known := r.server.RelaxedCommits(route.Epoch); known {
			plane.Relaxed = int64(min(n, math.MaxInt64))
		}
	}
	if n, draining := r.server.Draining(); draining {
		plane.Left = decision.Some(decision.SessionsLeft{Waiting: uint64(n.Waiting), InTransaction: uint64(n.InTransaction), Active: uint64(n.Active + n.Idle),
			Opaque: uint64(n.Opaque)})
	}
	return plane
}

// heardAge says how long ago a client last heard a backend of the epoch. Before the first byte the opening counts: nobody can have heard
// anything earlier. It is negative for an epoch that was never opened here.
func (r *router) heardAge(epoch uint64) time.Duration {
	if age, ok := r.server.HeardAge(epoch); ok {
		return age
	}
	if route := r.open.Load(); route != nil && route.Epoch == epoch {
		return time.Since(route.at)
	}
	return -1
}

// writerAlive asks the epoch's writer on a fresh connection whether it still is the writer.
func (r *router) writerAlive(ctx context.Context, epoch uint64) bool {
	route, status := r.open.Load(), r.view().Status
	if route == nil || route.Epoch != epoch || status.Epoch != decision.Some(epoch) {
		return false
	}
	system, known := status.SystemID.Get()
	timeline, named := status.Timeline.Get()
	return known && named && r.probes.proves(ctx, route.Node, system, timeline)
}

// writer returns how to probe the node that sessions are pinned to; false while there is none. In a drain logins are held, and no writer is named,
// but its paths are open.
func (r *router) writer() (health.Target, bool) {
	route := r.open.Load()
	if route == nil || !r.server.IsOpen(route.Epoch) {
		return health.Target{}, false
	}
	return r.probes.target(route.Node)
}

// cancelAllowed says whether a cancel request may reach the writer. Where commits wait for a standby that is not there, a cancel would make the
// server report a commit as done that is on one node only.
func (r *router) cancelAllowed(epoch uint64) bool {
	status := r.view().Status
	// While open transactions are waited for, a statement that holds a switchover up may be cancelled.
	waitedFor := status.State == decision.Promoting && (status.Step == decision.Checking || status.Step == decision.Draining) && status.Planned.Known
	if status.Writes != decision.WritesOpen && !waitedFor || status.Epoch != decision.Some(epoch) {
		return false
	}
	last, known := status.LastKnown.Get()
	if !known {
		return false
	}
	names, known := last.Settings.SynchronousStandbyNames.Get()
	if !known {
		return false
	}
	inSync, known := last.Sync.Get()
	return names == "" || (known && len(inSync) > 0)
}
