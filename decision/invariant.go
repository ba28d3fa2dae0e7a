package decision

import "fmt"

// checkInvariants panics when the engine broke a promise in this Step. It runs after every Step, in production too: a proxy that stops is
// better than one that serves two writers.
func (e *Engine) checkInvariants(epochBefore uint64) {
	assert := func(ok bool, format string, args ...any) {
		if !ok {
			panic("decision: invariant: " + fmt.Sprintf(format, args...))
		}
	}
	assert(e.rec.Epoch >= epochBefore, "epoch went back from %d to %d", epochBefore, e.rec.Epoch)
	assert(e.rec.Validate() == nil, "the record contradicts itself: %+v", e.rec)
	assert((e.step != StepNone) == (e.state == PrimaryFailed || e.state == Promoting), "%s with step %q", e.state, e.step)
	assert((e.rec.Phase == PhasePromoting) == (e.rec.Promotion.Known && e.change.Known && e.change.V.target == Node{e.rec.Promotion.V.Node,
		e.rec.Promotion.V.Address}), "the record promotes %q and the change is %v", e.rec.Promotion.V.Node, e.change.V.target)
	assert(e.change.Known == (e.state == Promoting), "%s with change %v", e.state, e.change.Known)
	if e.state.open() {
		assert(e.rec.Phase == PhaseOpen && e.opened == e.rec.Epoch, "%s while epoch %d is %s and %d was opened", e.state, e.rec.Epoch, e.rec.Phase, e.opened)
		assert(e.cutDone < e.rec.Epoch && !e.cutting.Known, "%s while epoch %d is cut", e.state, e.rec.Epoch)
		assert(!e.pending.Known || !e.pending.V.turns, "%s while its end is being written", e.state)
		assert(e.node(e.rec.Writer.Node) >= 0, "%s while %s is not configured", e.state, e.rec.Writer.Node)
	}
	if e.pending.Known && e.pending.V.turns {
		e.checkTurn(assert, e.pending.V.rec)
	}
	noted := false
	for _, a := range e.out {
		switch a := a.(type) {
		case Note:
			noted = true
		case Open:
			assert(noted, "epoch %d is opened without a note before it", a.Epoch)
			assert(a.Epoch == e.rec.Epoch && a.Node == e.rec.Writer.Node && a.Address == e.rec.Writer.Address, "open names %d %s, the record %d %s", a.Epoch,
				a.Node, e.rec.Epoch, e.rec.Writer.Node)
			assert(a.Epoch > e.cutDone, "epoch %d is opened after it was cut", a.Epoch)
			st := e.standing(e.rec.Writer, e.writerView())
			assert(st == standProven || st == standServing, "epoch %d is opened on a writer that is %s", a.Epoch, st)
		case Promote:
			p := e.rec.Promotion.V
			assert(e.rec.Phase == PhasePromoting && p.Noted && a.Epoch == p.Epoch && a.Node == p.Node && a.Address == p.Address, "promotion of %s for %d, the record says %+v",
				a.Node, a.Epoch, p)
			assert(e.cutDone >= e.rec.Epoch && !e.cutting.Known, "promotion before epoch %d is cut", e.rec.Epoch)
		case Verify:
			p := e.rec.Promotion.V
			assert(e.rec.Phase == PhasePromoting && a.Epoch == p.Epoch && a.Node == p.Node && a.Address == p.Address, "verification of %s for %d, the record says %+v",
				a.Node, a.Epoch, p)
		case RestoreSync:
			assert(e.state.open() && a.Node == e.rec.Writer.Node && a.Names == e.rec.SyncNames, "names are put back on %s in %s", a.Node, e.state)
		case Fence:
			assert(e.rec.Phase == PhaseDrain && e.cutDone >= e.rec.Epoch && a.Node == e.rec.Writer.Node, "fence of %s while epoch %d on %s is %s", a.Node,
				e.rec.Epoch, e.rec.Writer.Node, e.rec.Phase)
		case Cut:
			assert(e.cutNoted == a.Epoch, "epoch %d is cut without a note before it", a.Epoch)
			assert(e.rec.Phase == PhaseDrain && a.Epoch == e.rec.Epoch, "cut of %d while epoch %d is %s", a.Epoch, e.rec.Epoch, e.rec.Phase)
		}
	}
}

// checkTurn checks the record that is to replace the present one.
func (e *Engine) checkTurn(assert func(bool, string, ...any), next Record) {
	assert(next.Validate() == nil, "the next record contradicts itself: %+v", next)
	switch next.Phase {
	case PhaseDrain:
		assert(next.Epoch == e.rec.Epoch && e.rec.Phase == PhaseOpen, "epoch %d ends while %d is %s", next.Epoch, e.rec.Epoch, e.rec.Phase)
	case PhasePromoting:
		assert(next.Epoch == e.rec.Epoch && e.rec.Phase == PhaseDrain, "a promotion after epoch %d begins while %d is %s", next.Epoch, e.rec.Epoch, e.rec.Phase)
		assert(e.cutDone >= e.rec.Epoch && !e.cutting.Known, "a promotion begins before epoch %d is cut", e.rec.Epoch)
	case PhaseOpen:
		p, promoted := e.rec.Promotion.Get()
		own := promoted && (next.Writer.Node != p.Node || next.Writer.Address != p.Address) // an operator named another node than the target
		fits := next.Epoch == e.rec.Epoch+1 && !own || own && next.Epoch == p.Epoch+1
		assert(fits && e.rec.Phase != PhaseOpen, "epoch %d begins while %d is %s", next.Epoch, e.rec.Epoch, e.rec.Phase)
		assert(e.cutDone >= e.rec.Epoch && !e.cutting.Known, "epoch %d begins before %d is cut", next.Epoch, e.rec.Epoch)
	default:
		assert(false, "a record goes back to %s", next.Phase)
	}
}
