package decision

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// about says what a criterion speaks of. STANDBY_READY means that every criterion about the standby passes.
type about uint8

const (
	// aboutDeath: the writer's failure. Taken as given in the question "what if the primary dies", not needed for a switchover.
	aboutDeath about = iota + 1
	// aboutStandby: the candidate and the cluster as it stands.
	aboutStandby
	// aboutPermission: whether pgtether may act, whatever the nodes are.
	aboutPermission
)

// String returns the words used in documents.
func (a about) String() string {
	switch a {
	case aboutDeath:
		return "the writer's failure"
	case aboutStandby:
		return "the standby"
	default:
		return "permission"
	}
}

// rule is a row of the table of criteria.
type rule struct {
	name  string
	about about
	// means is the condition under which it passes, for documents.
	means string
	judge func(*inquiry) Criterion
}

// inquiry is one question with the facts that its criteria are judged by.
type inquiry struct {
	e     *Engine
	event ChangeEvent
	// asked is set for "what if": the event has not happened.
	asked bool
	// writer and candidate are nil when there is none.
	writer, candidate *view
	// noCandidate says why candidate is nil.
	noCandidate string
	loss        loss
	// approval is the operator's word, if there is one.
	approval Opt[approval]
	// quiet asks for verdicts only.
	quiet bool
}

// rules is the table of criteria, in the order in which they are shown.
var rules = []rule{
	{"primary_unreachable", aboutDeath, "every probe of the writer, fresh and persistent, is silent or refused, and no backend of it answers a client (or it has said " +
		"\"starting up\" for longer than `primary_start_timeout`)", primaryUnreachable},
	{"failure_stable", aboutDeath, "that has lasted for `stable_for` without interruption; an answer, a restart of pgtether or a stall begins the count anew", failureStable},
	{"primary_start_grace", aboutDeath, "the writer does not say that it starts up or shuts down (57P03), or has said so for longer than `primary_start_timeout`", primaryStartGrace},
	{"standby_sees_primary_gone", aboutDeath, "the standby's WAL receiver has lost the writer too, and no other standby receives from it", standbySeesPrimaryGone},
	{"standby_healthy", aboutStandby, "the candidate answers new connections, is in recovery, and streams while the writer lives", standbyHealthy},
	{"same_system", aboutStandby, "the candidate has the epoch's system identifier and is not the writer's own server", sameSystem},
	{"timeline_descends", aboutStandby, "the candidate is on the epoch's timeline, with the same history", timelineDescends},
	{"no_split_brain", aboutStandby, "no node but the writer answers as primary of this system", noSplitBrain},
	{"replay_caught_up", aboutStandby, "what the candidate has received is replayed, or replays within seconds", replayCaughtUp},
	{"lag_within_limit", aboutStandby, "the candidate is at most `max_lag` behind the writer's position (once the writer is gone: behind its last known position plus its write " +
		"rate times the age of that position)", lagWithinLimit},
	{"replay_not_paused", aboutStandby, "nobody, and no parameter that is too small, has paused replay", replayNotPaused},
	{"promotable", aboutStandby, "the five parameters that would shut a promoted standby down are at least the writer's, pg_promote may be executed, and there is no apply delay", promotable},
	{"target_can_commit", aboutStandby, "synchronous_standby_names is empty on the candidate, or pgtether may set it", targetCanCommit},
	{"prober_trustworthy", aboutPermission, "pgtether itself was not stalled, and every node has been probed since", proberTrustworthy},
	{"state_durable", aboutPermission, "the state file can be written", stateDurable},
	{"automation_on", aboutPermission, "automation is not paused, and the probe can log in everywhere", automationOn},
	{"approved", aboutPermission, "the mode is auto, or an operator has approved", approved},
	{"loss_allowed", aboutPermission, "`require_lossless` is off, or the change is proven lossless", lossAllowed},
	{"not_flapping", aboutPermission, "the last automatic failover is longer ago than `anti_flap`", notFlapping},
	{"quorum", aboutPermission, "with several proxies, enough of them agree; not needed with one", quorum},
	{"old_writer_fenced", aboutPermission, "the old writer is fenced (before that is tried: `hooks.fence` is set); not needed without `require_fence`", oldWriterFenced},
}

// CriterionDoc is a row of the table of criteria, for documents and for metrics that list every name.
type CriterionDoc struct {
	Name string
	// About is what it speaks of: the writer's failure, the standby, permission.
	About string
	// Means is the condition under which it passes.
	Means string
}

// CriterionDocs returns the table of criteria in its order.
func CriterionDocs() []CriterionDoc {
	docs := make([]CriterionDoc, len(rules))
	for i, r := range rules {
		docs[i] = CriterionDoc{Name: r.name, About: r.about.String(), Means: r.means}
	}
	return docs
}

// judge judges all criteria.
func (q *inquiry) judge() []Criterion {
	out := make([]Criterion, 0, len(rules))
	for i := range rules {
		r := &rules[i]
		var c Criterion
		switch {
		case r.about == aboutDeath && q.event == EventSwitchover:
			c = Criterion{Verdict: NotNeeded, Explanation: "a switchover does not wait for the writer's death"}
		case r.about == aboutDeath && q.asked:
			c = Criterion{Verdict: Pass, Explanation: "taken as given: the question is what happens when the writer dies"}
		default:
			c = r.judge(q)
		}
		c.Name = r.name
		c.Overridden = (c.Verdict == Fail || c.Verdict == Unknown) && slices.Contains(q.approval.V.overrides, c.Name)
		out = append(out, c)
	}
	return out
}

// ask gathers the facts for a question. A change that is under way is asked about as it was begun.
func (e *Engine) ask(event ChangeEvent, asked bool, to string) *inquiry {
	if c, ok := e.change.Get(); ok && !asked {
		return e.askFor(event, asked, c.target.Name, c.approval)
	}
	return e.askFor(event, asked, to, Opt[approval]{})
}

// askFor gathers the facts for a question about a node, with what an operator overrides.
func (e *Engine) askFor(event ChangeEvent, asked bool, to string, word Opt[approval]) *inquiry {
	q := &inquiry{e: e, event: event, asked: asked, writer: e.writerView(), approval: word}
	q.candidate, q.noCandidate = e.candidate(to)
	var received Opt[LSN]
	name := ""
	if q.candidate != nil {
		name = q.candidate.node.Name
		received = e.receivedBy(q.candidate)
	}
	q.loss = e.lossAt(name, received)
	st := e.standing(e.rec.Writer, q.writer)
	if c, under := e.change.Get(); under && !asked && c.kind == ChangeSwitchover && c.sampled {
		q.loss = e.plannedLoss(&c)
	} else if under && !asked && c.kind == ChangeSwitchover && (c.fencedAt.Known || e.stopping()) && st != standProven {
		q.loss = loss{lossless: LosslessUnknown, why: e.sampleText(&c)}
	} else if event == EventSwitchover && q.writer != nil && st == standProven {
		q.loss = loss{lossless: LosslessProven, bytes: Some(uint64(0)), why: "the old writer is stopped and its end replayed before the promotion"}
	}
	return q
}

// receivedBy is how much of the epoch's timeline a node has: what a standby has received, or up to where a descendant left it.
func (e *Engine) receivedBy(v *view) Opt[LSN] {
	switch e.class(v) {
	case classStandby:
		return v.obs.ReceivedLSN
	case classPrimary:
		if d, fork, _ := descent(e.rec.Writer, v.obs.Timeline, v.obs.History); d == Pass && fork != 0 && v.obs.SystemID == Some(e.rec.Writer.SystemID) {
			return Some(fork)
		}
	}
	return Opt[LSN]{}
}

// candidate returns the node that would take over: the named one, or of the standbys one that passes the criteria about it and has received
// most; failing that any other node, so that the criteria can say what is wrong with it.
func (e *Engine) candidate(to string) (*view, string) {
	if e.rec.Phase == PhaseNone {
		return nil, "no writer is known yet"
	}
	if to != "" {
		switch i := e.node(to); {
		case i < 0:
			return nil, fmt.Sprintf("no node is called %q", to)
		case to == e.rec.Writer.Node:
			return nil, to + " is the writer"
		default:
			return &e.views[i], ""
		}
	}
	var others []*view
	for i := range e.views {
		if v := &e.views[i]; v.node.Name != e.rec.Writer.Node {
			others = append(others, v)
		}
	}
	if len(others) == 0 {
		return nil, "no other node is configured"
	}
	rank := func(v *view) int {
		switch {
		case v.quarantine != "":
			return 0
		case e.class(v) != classStandby:
			return 1
		case len(others) > 1 && e.standbyLacks(v) == "":
			return 3
		default:
			return 2
		}
	}
	return slices.MaxFunc(others, func(a, b *view) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.obs.ReceivedLSN.V, b.obs.ReceivedLSN.V))
	}), ""
}

// inquiryOf gathers the facts about a standby, whatever is planned. How far it is behind a writer that has not been heard of lately is estimated.
func (e *Engine) inquiryOf(v *view) *inquiry {
	return &inquiry{e: e, event: EventNone, writer: e.writerView(), candidate: v, loss: e.lossAt(v.node.Name, e.receivedBy(v)), quiet: true}
}

// standbyLacks names the criteria about the standby that a node does not pass; empty when it could take over.
func (e *Engine) standbyLacks(v *view) string {
	q := e.inquiryOf(v)
	var names []string
	for i := range rules {
		if r := &rules[i]; r.about == aboutStandby && r.judge(q).Verdict != Pass {
			names = append(names, r.name)
		}
	}
	return strings.Join(names, ",")
}

// standbyReady says whether a standby passes every criterion that is not about the writer's death, and names those that it does not pass.
func (e *Engine) standbyReady() (ready bool, unready string) {
	best, none := e.candidate("")
	if best == nil {
		return false, none
	}
	unready = e.standbyLacks(best)
	return unready == "", unready
}

// rejoining says whether the former writer follows the new timeline, and whether it streams and has caught up.
func (e *Engine) rejoining() (follows, caughtUp bool) {
	v, w := e.viewOf(e.rec.Previous), e.rec.Writer
	if v == nil || e.class(v) != classStandby || v.obs.SystemID != Some(w.SystemID) {
		return false, false
	}
	r := v.obs.Receiver.V
	onIt := v.obs.Timeline == Some(w.Timeline)
	follows = onIt || r.Running && r.Timeline == Some(w.Timeline)
	q := e.inquiryOf(v)
	caughtUp = onIt && r.Running && r.Status == receiverStreaming && replayCaughtUp(q).Verdict == Pass && lagWithinLimit(q).Verdict == Pass
	return follows, caughtUp
}

// of returns a criterion about a node with the age of what is known about it.
func (q *inquiry) of(v *view, verdict Verdict, format string, args ...any) Criterion {
	c := Criterion{Verdict: verdict}
	if q.quiet {
		return c
	}
	c.Explanation = fmt.Sprintf(format, args...)
	if v != nil {
		c.Node, c.Age = v.node.Name, q.e.age(v)
	}
	return c
}

// standby returns the candidate if it is seen as a standby; otherwise the criterion that says why nothing can be judged.
func (q *inquiry) standby() (*view, Criterion) {
	if q.candidate == nil {
		return nil, Criterion{Verdict: Unknown, Explanation: q.noCandidate}
	}
	if q.e.class(q.candidate) != classStandby {
		return nil, q.of(q.candidate, Unknown, "%s is not seen as a standby", q.candidate.node.Name)
	}
	return q.candidate, Criterion{}
}
