package decision

import (
	"fmt"
	"time"
)

// work asks for what the place that was reached needs. Every visible effect waits for its record: the end of an epoch is on disk before the
// cut, its cut is complete before another epoch is written, and that is on disk before it is opened.
func (e *Engine) work(s *sight) {
	e.followed(s)
	if e.change.Known {
		e.workChange(s)
	}
	switch {
	case e.pending.Known || e.cutting.Known:
	case s.drain && e.rec.Phase == PhaseOpen:
		rec := e.rec.clone()
		rec.Phase = PhaseDrain
		if e.change.V.kind != ChangeSwitchover {
			rec.Planned = Opt[Planned]{}
		}
		if s.left >= 0 {
			rec.Next = Some(writerOf(&e.views[s.left]))
		}
		if e.persist(s.situation.String(), rec, true) {
			e.marks.drained = Some(e.now)
			e.ending = endingOf(s)
		}
	case e.rec.Phase == PhaseDrain && e.cutDone < e.rec.Epoch:
		e.startCut(s)
	case s.adopt >= 0 && !e.change.Known && e.rec.Phase != PhaseOpen:
		if e.persist(s.situation.String(), e.adoption(s), true) {
			e.marks.adopted = Some(e.now)
		}
	}
	if !e.pending.Known && e.dirty && e.persist("record_changed", e.rec.clone(), false) {
		e.dirty = false
	}
	e.putSyncBack(s)
	e.liftFence(s)
	e.freeReplay(s)
	e.setPace()
}

// followed keeps in mind since when a descendant is seen, has the old writer asked once more, and notes the descendant in the record: from
// now on the old timeline is not served again.
func (e *Engine) followed(s *sight) {
	if s.left >= 0 && e.rec.Phase == PhaseDrain {
		next := writerOf(&e.views[s.left])
		// What was seen first stays in force unless its own continuation is followed.
		if !e.rec.Next.Known || s.successor >= 0 && (e.rec.Next.V.Timeline != next.Timeline || e.rec.Next.V.Node != next.Node) {
			e.rec.Next, e.dirty = Some(next), true
		}
	}
	if s.successor < 0 {
		e.successorSince = Opt[Instant]{}
		return
	}
	if !e.successorSince.Known {
		e.successorSince = Some(e.now)
		e.emit(ProbeNow{Header: e.head(s.situation.String()), Node: e.rec.Writer.Node})
	}
}

// persist asks for the record to be made durable; false when a failed write waits for the next tick.
func (e *Engine) persist(cause string, rec Record, turns bool) bool {
	if e.retryDisk {
		return false
	}
	p := Persist{Header: e.head(cause), Record: rec.clone()}
	e.pending = Some(pendingPersist{id: p.ID, rec: rec, turns: turns})
	e.emit(p)
	return true
}

// ending is why the open epoch ends.
type ending struct {
	cause, message string
	reason         CutReason
}

func endingOf(s *sight) ending {
	n := ending{cause: s.situation.String(), message: s.message, reason: CutWriterLost}
	switch s.situation {
	case sitSuccessor:
		n.reason = CutLossyChange
	case sitCutting:
		n.cause, n.reason = "switchover", CutDrained
	}
	return n
}

// startCut closes the paths of the epoch whose end is on disk.
func (e *Engine) startCut(s *sight) {
	if e.retryCut {
		return
	}
	n := e.ending
	if e.cutNoted != e.rec.Epoch {
		e.cutNoted = e.rec.Epoch
		e.remark(NoteCut, n.cause, e.operands(s), "epoch %d is cut on %s: %s", e.rec.Epoch, e.rec.Writer.Node, n.message)
	}
	c := Cut{Header: e.head(n.cause), Epoch: e.rec.Epoch, Reason: n.reason}
	e.cutting = Some(pendingCut{id: c.ID, epoch: c.Epoch})
	e.emit(c)
}

// adoption returns the record of the next epoch, which names the node that was found.
func (e *Engine) adoption(s *sight) Record {
	v := &e.views[s.adopt]
	old, rec := e.rec.Writer, e.rec.clone()
	rec.Epoch, rec.Phase, rec.Writer, rec.Next = e.rec.Epoch+1, PhaseOpen, writerOf(v), Opt[Writer]{}
	if old.Node != rec.Writer.Node {
		rec.SyncNames = "" // it was emptied on another node
	}
	first := e.rec.Phase == PhaseNone
	message := s.message
	if !first && (old.Node != rec.Writer.Node || old.Timeline != rec.Writer.Timeline) {
		c := e.followedChange(old, rec)
		rec.LastChange = Some(c)
		message += fmt.Sprintf("; lossless: %s", c.Lossless)
		if c.LossBytes.Known {
			message += fmt.Sprintf(", at most %s lost", sizeText(c.LossBytes.V))
		}
	}
	if !first && old.Node != rec.Writer.Node && e.node(old.Node) >= 0 {
		rec.Previous = old.Node
	} else if rec.Previous == rec.Writer.Node {
		rec.Previous = ""
	}
	if e.diskErr != "" {
		return rec // said when it was tried first
	}
	e.remark(NoteStep, s.situation.String(), append(e.operands(s), Operand{"next_epoch", rec.Epoch}, Operand{"next_writer", rec.Writer.Node},
		Operand{"next_timeline", uint64(rec.Writer.Timeline)}), "epoch %d will name %s: %s", rec.Epoch, rec.Writer.Node, message)
	return rec
}

// followedChange states what following the new writer cost. The position that counts is where the new timeline left the old one: nothing that the
// old writer wrote after it is on the new one.
func (e *Engine) followedChange(old Writer, rec Record) Change {
	c := Change{At: e.now, Kind: ChangeAdopted, From: old.Node, To: rec.Writer.Node, Epoch: rec.Epoch, Lossless: LosslessUnknown,
		Sessions: SessionCounts{Ended: e.ended}, Steps: e.stepTimes()}
	if d, fork, _ := descent(old, Some(rec.Writer.Timeline), rec.Writer.History); d == Pass && fork != 0 {
		l := e.lossAt(rec.Writer.Node, Some(fork))
		c.Lossless, c.LossBytes, c.LossFrom, c.LossTo, c.RelaxedCommits = l.lossless, l.bytes, l.from, l.to, l.relaxed
	}
	return c
}

// stepTimes returns how long the steps took up to now; steps of an earlier run are left out.
func (e *Engine) stepTimes() (out []StepTime) {
	span := func(step Step, from, to Opt[Instant]) {
		if from.Known && to.Known {
			out = append(out, StepTime{step, to.V.Sub(from.V)})
		}
	}
	m := e.marks
	span(Confirming, m.failed, m.drained)
	span(Cutting, m.drained, m.cut)
	span(Adopting, m.cut, Some(e.now))
	return out
}

// rejoined ends the wait for the former writer.
func (e *Engine) rejoined(*sight) { e.rec.Previous, e.dirty = "", true }

// setPace asks for fast probes while no writer is open.
func (e *Engine) setPace() {
	want := e.cfg.ProbeInterval
	if !e.state.open() {
		want = min(want, FastProbeInterval)
	}
	if want != e.pace {
		e.pace = want
		e.emit(Pace{Header: e.head("pace"), Interval: want})
	}
}

// announce notes what changed beside the states: automation, and whether the state can be written.
func (e *Engine) announce() {
	if why := e.automationReason(); why != e.autoWhy {
		e.autoWhy = why
		if why == "" {
			e.remark(NoteStep, "automation_on", nil, "automation is on again")
		} else {
			e.remark(NoteStep, "automation_off", []Operand{{"reason", why}}, "automation is off: %s", why)
		}
	}
	if why := e.durableReason(); why != e.diskSaid {
		e.diskSaid = why
		if why == "" {
			e.remark(NoteStep, "state_durable", nil, "the state can be written again")
		} else {
			e.remark(NoteStep, "state_not_durable", []Operand{{"error", why}}, "the state cannot be written: an open epoch is served on, none is begun or ended")
		}
	}
}

// automationReason says why pgtether could not act on its own; empty when it could.
func (e *Engine) automationReason() string {
	if e.rec.Paused {
		return "an operator has paused it"
	}
	return e.hindrance()
}

// hindrance says why pgtether can change no writer, on its own or not; empty when it could.
func (e *Engine) hindrance() string {
	if why := e.rival(); why != "" {
		return why
	}
	for i := range e.views {
		if v := &e.views[i]; v.blind != "" {
			return fmt.Sprintf("%s refuses the probe's login (SQLSTATE %s): run configs/sql/probe-role.sql, check probe.user and pg_hba.conf", v.node.Name, v.blind)
		}
	}
	return ""
}

// durableReason says why the state cannot be written; empty when it can.
func (e *Engine) durableReason() string {
	if e.diskErr != "" {
		return e.diskErr
	}
	return e.keepErr
}

// operands are the values behind a situation, in a fixed order.
func (e *Engine) operands(s *sight) []Operand {
	if e.rec.Phase == PhaseNone {
		return []Operand{{"detail", s.message}}
	}
	ops := []Operand{{"writer", e.rec.Writer.Node}, {"standing", s.standing.String()}}
	if v := e.writerView(); v != nil {
		ops = append(ops, Operand{"evidence", v.obs.Evidence().String()})
		if d, ok := elapsed(v.failingSince, e.now); ok {
			ops = append(ops, Operand{"failing_ms", d.Milliseconds()}, Operand{"stable_for_ms", e.cfg.StableFor.Milliseconds()})
		}
		if d, ok := elapsed(v.startingSince, e.now); ok {
			ops = append(ops, Operand{"starting_ms", d.Milliseconds()}, Operand{"primary_start_timeout_ms", e.cfg.PrimaryStartTimeout.Milliseconds()})
		}
	}
	if k, ok := e.lastKnown.Get(); ok {
		ops = append(ops, Operand{"last_known_lsn", k.LSN.String()})
		if k.At.Known {
			ops = append(ops, Operand{"last_known_age_ms", max(0, e.now.Sub(k.At.V)).Milliseconds()})
		}
	}
	if s.unready != "" {
		ops = append(ops, Operand{"standby_lacks", s.unready})
	}
	return append(ops, Operand{"detail", s.message})
}

// sizeText prints a number of bytes for people.
func sizeText(n uint64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d bytes", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	case n < 1<<30:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	default:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	}
}

// ageText prints an age for people.
func ageText(d time.Duration) string { return d.Round(time.Millisecond).String() }
