package decision

import "fmt"

// noteQuarantines brings every node's quarantine up to date. A quarantine is lifted only by an answer that shows otherwise: silence changes
// nothing.
func (e *Engine) noteQuarantines() {
	for i := range e.views {
		v := &e.views[i]
		why, decided := e.quarantineOf(i)
		if !decided || why == v.quarantine {
			continue
		}
		was := v.quarantine
		v.quarantine = why
		ops := []Operand{{"node", v.node.Name}}
		if t, ok := v.obs.Timeline.Get(); ok {
			ops = append(ops, Operand{"timeline", uint64(t)})
		}
		if id, ok := v.obs.SystemID.Get(); ok {
			ops = append(ops, Operand{"system_identifier", id})
		}
		if d, ok := e.divergence(v).Get(); ok {
			ops = append(ops, Operand{"divergence_bytes", d})
		}
		switch {
		case why == "":
			e.remark(NoteReleased, "released", append(ops, Operand{"was", was}), "%s is no longer quarantined", v.node.Name)
		case was == "":
			e.remark(NoteQuarantined, "quarantined", append(ops, Operand{"reason", why}), "%s is quarantined: %s", v.node.Name, why)
		default:
			e.remark(NoteQuarantined, "quarantined", append(ops, Operand{"reason", why}, Operand{"was", was}), "%s stays quarantined, for another reason: %s",
				v.node.Name, why)
		}
	}
}

// quarantineOf says why a node may not be the writer, and whether its latest answer is enough to say so.
func (e *Engine) quarantineOf(i int) (why string, decided bool) {
	v := &e.views[i]
	c := e.class(v)
	if c == classUnknown || c == classFailing || c == classStarting || c == classBlind {
		return "", false
	}
	if k := e.duplicateOf(i); k >= 0 {
		return fmt.Sprintf("it is the same server as %s: two addresses of one server", e.views[k].node.Name), true
	}
	if e.rec.Phase == PhaseNone {
		return "", true
	}
	w := e.rec.Writer
	if id, ok := v.obs.SystemID.Get(); ok && id != w.SystemID {
		return fmt.Sprintf("its system identifier is %s, this cluster's is %s", id, w.SystemID), true
	}
	if c == classBusy {
		return "", false
	}
	if c == classStandby {
		return "", true
	}
	return e.quarantineOfPrimary(v, w), true
}

// quarantineOfPrimary says why a node that answers as primary may not be the writer; empty when it is, or may become, the writer.
func (e *Engine) quarantineOfPrimary(v *view, w Writer) string {
	t, ok := v.obs.Timeline.Get()
	isWriter := v.node.Name == w.Node
	if p, ok := e.rec.Promotion.Get(); ok {
		if v.node.Name == p.Node {
			return ""
		}
		return fmt.Sprintf("it answers as primary while %s is being promoted, and epoch %d has ended", p.Node, e.rec.Epoch)
	}
	switch {
	case !ok && isWriter:
		return ""
	case !ok:
		return "it answers as primary and does not tell its timeline"
	case t < w.Timeline:
		why := fmt.Sprintf("it answers as primary of timeline %d, which was left when timeline %d began", t, w.Timeline)
		if d, ok := e.divergence(v).Get(); ok {
			why = fmt.Sprintf("it answers as primary of timeline %d, which was left at %s for timeline %d", t, leftAt(w, t).V, w.Timeline)
			if d == 0 {
				why += "; it has written nothing since"
			} else {
				why += "; it has written on since"
			}
		}
		return why
	case t == w.Timeline && (isWriter || e.node(w.Node) < 0):
		if d, _, why := descent(w, v.obs.Timeline, v.obs.History); d == Fail {
			return "it answers as primary, but " + why
		}
		return ""
	case t == w.Timeline:
		return fmt.Sprintf("it answers as primary of the epoch's own timeline %d, whose writer is %s", t, w.Node)
	}
	if d, _, why := descent(w, v.obs.Timeline, v.obs.History); d != Pass {
		return "it answers as primary, but " + why
	}
	wv := e.writerView()
	st := e.standing(w, wv)
	if ok, why := e.mayFollow(w, v, st, e.failureStable(wv)); !ok {
		return why
	}
	return ""
}

// divergence is what a primary of a timeline that was left has written since; unknown where that cannot be said.
func (e *Engine) divergence(v *view) Opt[uint64] {
	if e.rec.Phase == PhaseNone || e.class(v) != classPrimary || v.obs.SystemID != Some(e.rec.Writer.SystemID) || !v.obs.Timeline.Known {
		return Opt[uint64]{}
	}
	left, ok := leftAt(e.rec.Writer, v.obs.Timeline.V).Get()
	cur, known := v.obs.CurrentLSN.Get()
	if !ok || !known {
		return Opt[uint64]{}
	}
	return Some(uint64(max(cur, left) - left))
}
