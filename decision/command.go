package decision

import (
	"fmt"
	"slices"
	"strings"
)

// Command is an operator's word: Approve, Switch, Resolve, Abort, Pause or Resume.
type Command interface {
	// Name is the word used in events.
	Name() string
}

// Approve lets a blocked failover happen. It names the epoch that was looked at, the node that is to take over, and every criterion that
// blocks and is to be overridden.
type Approve struct {
	Epoch    uint64
	Target   string
	Override []string
}

// Resolve ends a halted promotion: the named node alone proves to be the primary, and is opened under a fresh epoch.
type Resolve struct {
	Epoch  uint64
	Writer string
}

// Abort undoes a change that can still be undone.
type Abort struct{}

// Pause turns automatic failover off until Resume. Clients are not held by it.
type Pause struct{}

// Resume turns automatic failover on again, and acknowledges the last automatic failover (criterion not_flapping).
type Resume struct{}

// Name returns "approve".
func (Approve) Name() string { return "approve" }

// Name returns "resolve".
func (Resolve) Name() string { return "resolve" }

// Name returns "abort".
func (Abort) Name() string { return "abort" }

// Name returns "hold", the operator's word for it.
func (Pause) Name() string { return "hold" }

// Name returns "resume".
func (Resume) Name() string { return "resume" }

// RefusalCode is the closed list of reasons for which a command is refused.
type RefusalCode string

// The reasons.
const (
	RefusedUnknownNode      RefusalCode = "unknown_node"
	RefusedUnknownCriterion RefusalCode = "unknown_criterion"
	RefusedNotOverridable   RefusalCode = "not_overridable"
	RefusedWrongEpoch       RefusalCode = "wrong_epoch"
	RefusedNothingPending   RefusalCode = "nothing_pending"
	RefusedUnderWay         RefusalCode = "under_way"
	RefusedIrreversible     RefusalCode = "irreversible"
	RefusedModeObserve      RefusalCode = "mode_observe"
	RefusedBlocked          RefusalCode = "blocked"
	RefusedNotProven        RefusalCode = "not_proven"
)

// Malformed says whether the command could never be right, whatever the state.
func (c RefusalCode) Malformed() bool { return c == RefusedUnknownNode || c == RefusedUnknownCriterion }

// Refusal says why a command changed nothing, and what would be right.
type Refusal struct {
	Code    RefusalCode
	Message string
	Hint    string
}

func refuse(code RefusalCode, hint, format string, args ...any) Opt[Refusal] {
	return Some(Refusal{Code: code, Message: fmt.Sprintf(format, args...), Hint: hint})
}

// neverOverridden are the criteria that no operator may override: what they guard against is a second writer or another cluster's data.
var neverOverridden = []string{"no_split_brain", "same_system", "timeline_descends"}

// command takes an operator's command. What it changes shows in the same Step; reply is called once the engine has settled.
func (e *Engine) command(ev Commanded) (reply func()) {
	var refusal Opt[Refusal]
	var message string
	switch c := ev.Command.(type) {
	case Approve:
		message, refusal = e.approve(c)
	case Resolve:
		message, refusal = e.resolve(c)
	case Abort:
		message, refusal = e.abort()
	case Switch:
		message, refusal = e.order(c)
	case Pause:
		e.rec.Paused, e.dirty = true, true
		message = "automatic failover is paused until it is resumed"
	case Resume:
		e.rec.Paused, e.rec.LastAutomatic, e.dirty = false, Opt[Instant]{}, true
		if p := &e.pending.V; e.pending.Known && p.rec.Phase != PhasePromoting {
			p.rec.LastAutomatic, p.stale = Opt[Instant]{}, true // what is being written holds the old one
		}
		message = "automatic failover is on again, and the last one is acknowledged"
	default:
		panic(fmt.Sprintf("decision: invariant: unknown command %T", c))
	}
	if e.dirty && e.diskErr != "" && !refusal.Known {
		message += "; that is not on disk yet, and a restart forgets it: " + e.diskErr
	}
	name := ev.Command.Name()
	if r, refused := refusal.Get(); refused {
		e.remark(NoteRefused, name, append(commandOperands(ev.Command), Operand{"code", string(r.Code)}), "%s is refused: %s", name, r.Message)
	} else {
		e.remark(NoteCommand, name, commandOperands(ev.Command), "%s: %s", name, message)
	}
	return func() {
		e.emit(Answer{Header: e.head(name), CommandID: ev.CommandID, Refusal: refusal, Message: message})
	}
}

// commandOperands are what an operator said.
func commandOperands(c Command) []Operand {
	switch c := c.(type) {
	case Approve:
		return []Operand{{"approved_epoch", c.Epoch}, {"target", c.Target}, {"override", strings.Join(c.Override, ",")}}
	case Switch:
		return []Operand{{"target", c.To}, {"force", c.Force}, {"drain_ms", c.Drain.Milliseconds()}}
	case Resolve:
		return []Operand{{"resolved_epoch", c.Epoch}, {"writer", c.Writer}}
	}
	return nil
}

// approve judges the operator's approval. A change that it lets happen begins in the same Step.
func (e *Engine) approve(c Approve) (string, Opt[Refusal]) {
	for _, name := range c.Override {
		switch {
		case !slices.Contains(CriterionNames(), name):
			return "", refuse(RefusedUnknownCriterion, "the criteria are listed by /decision", "no criterion is called %q", name)
		case slices.Contains(neverOverridden, name):
			return "", refuse(RefusedNotOverridable, "", "%s can never be overridden: it guards against a second writer or another cluster's data", name)
		}
	}
	switch {
	case e.node(c.Target) < 0:
		return "", refuse(RefusedUnknownNode, "the nodes are listed by /status", "no node is called %q", c.Target)
	case e.cfg.Mode == ModeObserve:
		return "", refuse(RefusedModeObserve, "promote the node with what manages it; pgtether follows", "the mode is observe: others promote")
	case e.state == Promoting:
		return "", refuse(RefusedUnderWay, "", "the writer is being changed already (%s)", e.step)
	case e.rec.Phase == PhaseNone:
		return "", refuse(RefusedNothingPending, "", "there is nothing to approve: no writer was ever known")
	case e.state != PrimaryFailed:
		return "", refuse(RefusedNothingPending, "", "there is nothing to approve: the state is %s", e.state)
	case e.diskErr != "":
		return "", refuse(RefusedBlocked, "", "nothing is promoted while the state cannot be written: %s", e.diskErr)
	case c.Target == e.rec.Writer.Node:
		return "", refuse(RefusedBlocked, "", "%s is the writer of epoch %d", c.Target, e.rec.Epoch)
	case c.Epoch != e.rec.Epoch:
		return "", refuse(RefusedWrongEpoch, "look at /decision again and name its epoch", "the epoch is %d, not %d", e.rec.Epoch, c.Epoch)
	}
	if v := e.viewOf(c.Target); e.class(v) == classPrimary {
		return e.approveFollowing(v)
	}
	if w := e.writerView(); w == nil || w.node.Address != e.rec.Writer.Address {
		return "", refuse(RefusedBlocked, "", "%s at %s, the writer of the epoch, is not configured", e.rec.Writer.Node, e.rec.Writer.Address)
	}
	a := approval{target: c.Target, overrides: slices.Clone(c.Override)}
	v := e.verdict(e.askFor(EventPrimaryDead, false, c.Target, Some(a)))
	if never := forbidden(v); len(never) > 0 {
		return "", refuse(RefusedBlocked, "look at /decision for what is wrong with it; nobody can override "+strings.Join(never, ", "),
			"%s is blocked by %s", c.Target, strings.Join(v.Blocking, ", "))
	}
	if !v.Safe {
		return "", refuse(RefusedBlocked, "name what blocks in \"override\" to take it upon yourself", "%s is blocked by %s", c.Target, strings.Join(v.Blocking, ", "))
	}
	e.approval = Some(a)
	if s := e.look(); s.situation != sitPromotable {
		e.approval = Opt[approval]{}
		return "", refuse(RefusedBlocked, "", "%s cannot be promoted now: %s", c.Target, s.message)
	}
	return fmt.Sprintf("%s is promoted as soon as the old paths are closed", c.Target), Opt[Refusal]{}
}

// approveFollowing accepts a promotion that others did although it lacks what the old writer is known to have written. From then on the old
// writer's timeline counts as left.
func (e *Engine) approveFollowing(v *view) (string, Opt[Refusal]) {
	if why := e.mayApproveFollowing(v); why != "" {
		return "", refuse(RefusedBlocked, "", "%s answers as primary and cannot be followed: %s", v.node.Name, why)
	}
	e.rec.Next, e.dirty = Some(writerOf(v)), true
	return v.node.Name + " is followed as soon as the old paths are closed", Opt[Refusal]{}
}

// mayApproveFollowing says why an operator may not accept a promotion that others did; empty when he may: it left the epoch's timeline, no
// other node answers as primary, and the old writer is gone.
func (e *Engine) mayApproveFollowing(v *view) string {
	w := e.rec.Writer
	switch next, ok := e.rec.Next.Get(); {
	case ok && !continues(next, v):
		return fmt.Sprintf("%s was seen as the primary of timeline %d before", next.Node, next.Timeline)
	case e.writerView() == nil:
		return w.Node + " is not configured"
	case !e.writerGone(e.standing(w, e.writerView()), e.failureStable(e.writerView())):
		return fmt.Sprintf("the writer %s is not known to be gone", w.Node)
	}
	if why := e.notAlone(v.node); why != "" {
		return why
	}
	return ""
}

// resolve judges the operator's way out of a halted promotion.
func (e *Engine) resolve(c Resolve) (string, Opt[Refusal]) {
	i := e.node(c.Writer)
	p, promoting := e.rec.Promotion.Get()
	switch {
	case i < 0:
		return "", refuse(RefusedUnknownNode, "the nodes are listed by /status", "no node is called %q", c.Writer)
	case !promoting || e.step != Halted || e.change.V.resolved.Known:
		return "", refuse(RefusedNothingPending, "", "nothing is halted: the state is %s", Place{e.state, e.step})
	case c.Epoch != p.Epoch:
		return "", refuse(RefusedWrongEpoch, "look at /status again and name its epoch", "the epoch is %d, not %d", p.Epoch, c.Epoch)
	case e.diskErr != "":
		return "", refuse(RefusedBlocked, "", "the state cannot be written: %s", e.diskErr)
	}
	if why := e.notAlone(e.views[i].node); why != "" {
		return "", refuse(RefusedNotProven, "name the node that alone is the primary of this system; stop or promote by hand what is not as it must be", "%s", why)
	}
	e.change.V.resolved = Some(e.views[i].node)
	return fmt.Sprintf("%s alone answers as primary: it is opened under a fresh epoch", c.Writer), Opt[Refusal]{}
}

// abort undoes what can still be undone. An automatic change would begin again at once, so automation is paused with it.
func (e *Engine) abort() (string, Opt[Refusal]) {
	c, under := e.change.Get()
	switch {
	case !under && e.rec.Planned.Known:
		e.countermand("an operator aborted it")
		return "the switchover is undone before it began", Opt[Refusal]{}
	case !under:
		return "", refuse(RefusedNothingPending, "", "the writer is not being changed")
	case e.rec.Phase == PhasePromoting || e.pending.Known && e.pending.V.rec.Phase == PhasePromoting:
		return "", refuse(RefusedIrreversible, "wait for its end; a promotion that cannot be completed halts, and resolve ends it",
			"the promotion of %s has been asked for and cannot be undone", c.target.Name)
	}
	e.undo("an operator aborted it")
	if !c.automatic {
		return "the change is undone", Opt[Refusal]{}
	}
	e.rec.Paused, e.dirty = true, true
	return "the change is undone, and automatic failover is paused until it is resumed", Opt[Refusal]{}
}
