package decision

import (
	"fmt"
	"slices"
	"strings"
)

// Command is an operator's word: Approve, Resolve, Abort, Pause or Resume.
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
	case Pause:
		e.rec.Paused, e.dirty = true, true
		message = "automatic failover is paused until it is resumed"
	case Resume:
		e.rec.Paused, e.rec.LastAutomatic, e.dirty = false, Opt[Instant]{}, true
		message = "automatic failover is on again, and the last one is acknowledged"
	default:
		panic(fmt.Sprintf("decision: invariant: unknown command %T", c))
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
	case e.state != PrimaryFailed || e.rec.Phase == PhaseNone:
		return "", refuse(RefusedNothingPending, "", "there is nothing to approve: the state is %s", e.state)
	case c.Epoch != e.rec.Epoch:
		return "", refuse(RefusedWrongEpoch, "look at /decision again and name its epoch", "the epoch is %d, not %d", e.rec.Epoch, c.Epoch)
	}
	a := approval{target: c.Target, overrides: slices.Clone(c.Override)}
	v := e.verdict(e.askFor(EventPrimaryDead, false, c.Target, Some(a)))
	if !v.Safe {
		return "", refuse(RefusedBlocked, "name what blocks in \"override\" to take it upon yourself, as far as it can be overridden",
			"%s is blocked by %s", c.Target, strings.Join(v.Blocking, ", "))
	}
	e.approval = Some(a)
	return fmt.Sprintf("%s is promoted as soon as the old paths are closed", c.Target), Opt[Refusal]{}
}

// resolve judges the operator's way out of a halted promotion.
func (e *Engine) resolve(c Resolve) (string, Opt[Refusal]) {
	i := e.node(c.Writer)
	p, promoting := e.rec.Promotion.Get()
	switch {
	case i < 0:
		return "", refuse(RefusedUnknownNode, "the nodes are listed by /status", "no node is called %q", c.Writer)
	case !promoting || e.step != Halted:
		return "", refuse(RefusedNothingPending, "", "nothing is halted: the state is %s", Place{e.state, e.step})
	case c.Epoch != p.Epoch:
		return "", refuse(RefusedWrongEpoch, "look at /status again and name its epoch", "the epoch is %d, not %d", p.Epoch, c.Epoch)
	case e.diskErr != "":
		return "", refuse(RefusedBlocked, "", "the state cannot be written: %s", e.diskErr)
	}
	v := &e.views[i]
	if e.class(v) != classPrimary || v.obs.SystemID != Some(e.rec.Writer.SystemID) || !v.obs.Timeline.Known {
		return "", refuse(RefusedNotProven, "promote it by hand first, or name the node that is the primary", "%s does not answer as the primary of this system (%s)",
			c.Writer, detail(v.obs))
	}
	for k := range e.views {
		if k != i && e.class(&e.views[k]) == classPrimary && !e.sameServer(k, i) {
			return "", refuse(RefusedNotProven, "stop one of them", "%s answers as primary too", e.views[k].node.Name)
		}
	}
	if w := e.rec.Writer; v.obs.Timeline.V != w.Timeline || v.node.Name != w.Node {
		if d, _, why := descent(w, v.obs.Timeline, v.obs.History); d != Pass {
			return "", refuse(RefusedNotProven, "", "%s does not continue the epoch's timeline: %s", c.Writer, why)
		}
	}
	e.change.V.resolved = Some(v.node)
	return fmt.Sprintf("%s alone answers as primary: it is opened under a fresh epoch", c.Writer), Opt[Refusal]{}
}

// abort undoes what can still be undone. An automatic change would begin again at once, so automation is paused with it.
func (e *Engine) abort() (string, Opt[Refusal]) {
	c, under := e.change.Get()
	switch {
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
