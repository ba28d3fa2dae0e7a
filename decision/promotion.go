package decision

import (
	"fmt"
	"strings"
)

// identified says why the target does not show itself as the primary that was asked for; empty when it does: out of recovery, the same
// system, on a later timeline that left the old one no earlier than what was replayed when its position was sampled. (What had been received
// may end in the middle of a record, which a promotion drops: the timeline then begins before the received position.)
func (e *Engine) identified(c *change, p Promotion) string {
	v := e.viewOf(c.target.Name)
	switch {
	case v == nil || v.node != c.target:
		return fmt.Sprintf("%s at %s, which is being promoted, is not configured", c.target.Name, c.target.Address)
	case c.contradiction != "":
		return c.contradiction
	case e.class(v) == classStandby:
		return c.target.Name + " is in recovery still"
	case e.class(v) != classPrimary || !v.obs.SystemID.Known || !v.obs.Timeline.Known:
		return fmt.Sprintf("%s does not say whether it is promoted (%s)", c.target.Name, detail(v.obs))
	}
	if d, _, why := descent(e.rec.Writer, v.obs.Timeline, v.obs.History); d != Pass {
		return c.target.Name + ": " + why
	}
	return ""
}

// contradicts says why what the target shows can never become the primary that was asked for.
func (e *Engine) contradicts(c *change, p Promotion) string {
	v, w := e.viewOf(c.target.Name), e.rec.Writer
	if v == nil || v.node != c.target || e.class(v) != classPrimary {
		return ""
	}
	if id, ok := v.obs.SystemID.Get(); ok && id != w.SystemID {
		return fmt.Sprintf("%s has the system identifier %s, the epoch's is %s", c.target.Name, id, w.SystemID)
	}
	d, fork, why := descent(w, v.obs.Timeline, v.obs.History)
	switch {
	case d == Fail:
		return fmt.Sprintf("%s answers as primary, but %s", c.target.Name, why)
	case d == Pass && fork == 0:
		return fmt.Sprintf("%s answers as primary of the old timeline %d", c.target.Name, w.Timeline)
	case d == Pass && p.Replayed.Known && fork < p.Replayed.V:
		return fmt.Sprintf("%s left the old timeline at %s, before %s, which it had replayed already", c.target.Name, fork, p.Replayed.V)
	}
	return ""
}

// judgePromotion keeps in mind what the target shows. A contradiction is dropped when the target shows something else.
func (e *Engine) judgePromotion() {
	c, p := &e.change.V, e.rec.Promotion.V
	if v := e.viewOf(c.target.Name); v == nil || e.class(v) != classUnknown {
		c.contradiction = e.contradicts(c, p)
	}
	if r, ok := c.resolved.Get(); ok && e.notAlone(r) != "" {
		c.resolved = Opt[Node]{} // what the operator saw is no longer so
	}
	if c.verify.done && e.identified(c, p) != "" {
		c.verify = errand{} // it showed itself as something else since
	}
}

// notAlone says why a node is not the one that may end a halted promotion; empty when it is: it alone answers as primary, it is the old writer
// itself or left the old writer's timeline.
func (e *Engine) notAlone(n Node) string {
	i, w := e.node(n.Name), e.rec.Writer
	if i < 0 || e.views[i].node != n {
		return fmt.Sprintf("%s at %s is not configured", n.Name, n.Address)
	}
	v := &e.views[i]
	if e.class(v) != classPrimary || v.obs.SystemID != Some(w.SystemID) || !v.obs.Timeline.Known {
		return fmt.Sprintf("%s does not answer as the primary of this system (%s)", n.Name, detail(v.obs))
	}
	for k := range e.views {
		if k != i && e.class(&e.views[k]) == classPrimary && !e.sameServer(k, i) {
			return fmt.Sprintf("%s answers as primary too", e.views[k].node.Name)
		}
	}
	if n.Name == w.Node && e.standing(w, v) == standProven {
		return ""
	}
	switch d, fork, why := descent(w, v.obs.Timeline, v.obs.History); {
	case d != Pass:
		return fmt.Sprintf("%s does not continue the epoch's timeline: %s", n.Name, why)
	case fork == 0:
		return fmt.Sprintf("%s is a second primary of timeline %d, which is that of %s", n.Name, w.Timeline, w.Node)
	}
	return ""
}

// halted says why the promotion cannot be completed without an operator; empty while it may be. A target that verifies ends it.
func (e *Engine) halted() string {
	c, p := &e.change.V, e.rec.Promotion.V
	switch waited := e.now.Sub(c.requested); {
	case e.pending.Known && e.pending.V.turns, c.verify.done && c.contradiction == "":
		return ""
	case c.contradiction != "":
		return c.contradiction
	case e.viewOf(c.target.Name) == nil || e.viewOf(c.target.Name).node != c.target:
		return e.identified(c, p)
	case waited <= e.cfg.PromoteTimeout:
		return ""
	default:
		why := []string{e.identified(c, p), c.promote.err, c.verify.err}
		text := fmt.Sprintf("%s has not become the writer within %s", c.target.Name, e.cfg.PromoteTimeout)
		for _, w := range why {
			if w != "" {
				text += "; " + w
			}
		}
		return text
	}
}

// startPromotion asks for the promotion, once a second until the target is out of recovery: an answer that was lost, or a server that was
// busy, must not stop it, and asking twice for the same node does no harm.
func (e *Engine) startPromotion(c *change) {
	p := e.rec.Promotion.V
	// While the state cannot be written nobody knows for certain what is on disk.
	if v := e.viewOf(p.Node); c.promote.busy || e.diskErr != "" || v == nil || v.node != c.target || c.promote.sent.Known && e.now.Sub(c.promote.sent.V) < askAgain {
		return
	}
	a := Promote{Header: e.head("promotion"), Epoch: p.Epoch, Node: p.Node, Address: p.Address}
	c.promote = errand{id: a.ID, busy: true, sent: Some(e.now), err: c.promote.err}
	e.emit(a)
}

// noteRequest says, once in an epoch and before anything is asked of the target, that the point of no return is passed.
func (e *Engine) noteRequest() {
	p := &e.rec.Promotion.V
	if p.Noted {
		return
	}
	p.Noted = true
	e.remark(NotePromotionRequested, "promotion", e.promotionOperands(*p), "%s will be promoted for epoch %d, %s", p.Node, p.Epoch, lossText(*p))
}

// poll has the target asked again at once while its promotion is waited for: that takes a moment, and every moment is one without a writer.
func (e *Engine) poll(v *view) {
	c := &e.change.V
	if e.step != StepPromoting || v.node != c.target || v.class != classStandby || e.now.Sub(c.polled) < pollEvery {
		return
	}
	c.polled = e.now
	e.emit(ProbeNow{Header: e.head("promotion"), Node: v.node.Name})
}

// startVerify asks the promoted node to show that it can commit, once a second until it does.
func (e *Engine) startVerify(c *change) {
	p := e.rec.Promotion.V
	if c.verify.busy || c.verify.sent.Known && e.now.Sub(c.verify.sent.V) < askAgain {
		return
	}
	a := Verify{Header: e.head("verify"), Epoch: p.Epoch, Node: p.Node, Address: p.Address, SystemID: e.rec.Writer.SystemID, Above: e.rec.Writer.Timeline,
		EmptySyncNames: p.SyncNames != ""}
	c.verify = errand{id: a.ID, busy: true, sent: Some(e.now), err: c.verify.err}
	e.emit(a)
}

// promoteDone takes the outcome of pg_promote. Whatever it is, only the node itself shows whether it was promoted.
func (e *Engine) promoteDone(o Outcome) {
	c := &e.change.V
	if o.Err != "" && o.Err != c.promote.err {
		e.remark(NoteStep, "promotion", []Operand{{"error", o.Err}}, "pg_promote on %s: %s", c.target.Name, o.Err)
	}
	c.promote.take(o)
	e.emit(ProbeNow{Header: e.head("promotion"), Node: c.target.Name})
}

// verifyDone takes the outcome of the verifying write.
func (e *Engine) verifyDone(o Outcome) {
	c, p := &e.change.V, e.rec.Promotion.V
	was := c.verify.err
	c.verify.take(o)
	switch {
	case o.OK():
		v := e.viewOf(c.target.Name)
		if e.identified(c, p) != "" {
			return // it has shown itself as something else since, or left the configuration
		}
		ops := []Operand{{"node", p.Node}, {"timeline", uint64(v.obs.Timeline.V)}}
		if _, fork, _ := descent(e.rec.Writer, v.obs.Timeline, v.obs.History); fork != 0 {
			ops = append(ops, Operand{"fork_lsn", fork.String()})
		}
		e.remark(NotePromoted, "verify", ops, "%s is the primary of timeline %d and commits", p.Node, v.obs.Timeline.V)
	case o.Err != was:
		e.remark(NoteStep, "verify", []Operand{{"error", o.Err}}, "%s does not verify yet: %s", p.Node, o.Err)
	}
}

// promotionOperands are the values of the event promotion_requested.
func (e *Engine) promotionOperands(p Promotion) []Operand {
	return []Operand{{"target", p.Node}, {"from", e.rec.Writer.Node}, {"received_lsn", lsnValue(p.Received)}, {"replayed_lsn", lsnValue(p.Replayed)},
		{"last_known_primary_lsn", lsnValue(p.LastKnown)}, {"last_known_age_ms", msValue(p)}, {"data_loss_bytes", numberValue(p.LossBytes)},
		{"lossless", string(p.Lossless)}, {"relaxed_commits", numberValue(p.RelaxedCommits)}, {"fence", p.Fence},
		{"automatic", p.Automatic}, {"overridden", strings.Join(p.Overridden, ",")}}
}

func lsnValue(l Opt[LSN]) any {
	if !l.Known {
		return nil
	}
	return l.V.String()
}

func numberValue(n Opt[uint64]) any {
	if !n.Known {
		return nil
	}
	return n.V
}

func msValue(p Promotion) any {
	if !p.LastKnownAge.Known {
		return nil
	}
	return p.LastKnownAge.V.Milliseconds()
}

// lossText says what a promotion costs.
func lossText(p Promotion) string {
	switch {
	case p.Lossless == LosslessProven:
		return "proven lossless"
	case p.Lossless == LosslessRelaxed:
		return fmt.Sprintf("lossless but for at most %d commits that asked for less", p.RelaxedCommits.V)
	case p.LossBytes.Known:
		return fmt.Sprintf("at most %s may be lost", sizeText(p.LossBytes.V))
	}
	return "what may be lost cannot be said"
}
