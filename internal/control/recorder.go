package control

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"

	"github.com/pgtether/pgtether/decision"
)

const (
	// maxRecordedSteps and maxRecordedBytes bound what is kept while no writer is open. At either of them the record begins again with a fresh
	// snapshot, so that what is written always replays from its start.
	maxRecordedSteps = 10_000
	maxRecordedBytes = 4 << 20
	// maxBundleEvents bounds the entries of /events in a bundle.
	maxBundleEvents = 1000
)

// Evidence is what the loop needs to record changes of the writer.
type Evidence struct {
	// Version names this build.
	Version string
	// Render prints a decision as /decision does; without it nothing is recorded.
	Render Render
}

// recorder keeps what a replay needs: the engine's state when the writer stopped being open, and every event since. While a writer is open it keeps
// nothing. It belongs to the goroutine that owns the engine; files are written by another one.
type recorder struct {
	evidence Evidence
	stateID  string
	clock    *Clock
	events   *EventLog
	files    *evidenceFiles
	log      *slog.Logger

	on    bool           // a writer is not open, and everything is recorded
	state decision.State // after the last Step
	// known is the last change before the recording began.
	known decision.Opt[decision.Change]
	// since is the last entry of /events before the recording began.
	since uint64

	draft  draft
	turned uint64 // the epoch whose point of no return has been recorded
	due    bool   // the draft is to be written once the actions of the Step are performed

	maxSteps, maxBytes int
}

// draft is a bundle that grows. Its lists only ever get longer, so that what was handed over for writing stays as it was.
type draft struct {
	began     decision.Instant
	snapshot  json.RawMessage
	steps     []json.RawMessage
	decisions []RecordedDecision
	bytes     int
	epoch     uint64
	outcome   Outcome
}

func newRecorder(cfg Config) *recorder {
	r := &recorder{
		evidence: cfg.Evidence, stateID: cfg.Store.ID(), clock: cfg.Clock, events: cfg.Events, log: cfg.Log,
		files: newEvidenceFiles(cfg.Store.Dir(), cfg.Log), maxSteps: maxRecordedSteps, maxBytes: maxRecordedBytes,
	}
	return r
}

// start records from the engine's first event on: no writer is open yet.
func (r *recorder) start(e *decision.Engine) {
	s := e.Status()
	r.state, r.known, r.since = s.State, s.LastChange, r.events.Newest()
	r.begin(e)
}

// begin takes the snapshot that everything from now on is replayed from. Without one nothing is recorded, and nothing else is hurt.
func (r *recorder) begin(e *decision.Engine) {
	r.on, r.draft, r.due = false, draft{}, false
	if r.evidence.Render == nil {
		return
	}
	s := e.Snapshot()
	b, err := marshal(s)
	if err != nil {
		r.log.Error("evidence is not recorded", "err", fmt.Errorf("encode engine state: %w", err))
		return
	}
	r.on, r.draft = true, draft{began: s.Now, snapshot: b, bytes: len(b)}
}

// stepped takes one Step, before its actions are performed.
func (r *recorder) stepped(e *decision.Engine, ev decision.Event, actions []decision.Action) {
	was := r.state
	for _, a := range actions {
		if n, ok := a.(decision.Note); ok {
			r.state = n.To
		}
	}
	switch open := r.state.WriterOpen(); {
	case was.WriterOpen() && !open:
		r.known, r.since = e.Status().LastChange, r.events.Newest()
		r.begin(e) // the Step that closed the writer is told by its entries of /events
	case !r.on:
		return
	default:
		r.append(ev, actions)
	}
	if !r.on {
		return
	}
	r.moments(e, actions)
	switch {
	case r.state.WriterOpen():
		r.opened(e)
	case len(r.draft.steps) >= r.maxSteps || r.draft.bytes >= r.maxBytes:
		if len(r.draft.decisions) > 0 {
			r.put()
		}
		r.begin(e)
	}
}

// append adds one event with the digest of what it led to.
func (r *recorder) append(ev decision.Event, actions []decision.Action) {
	event, err := encodeEvent(ev)
	var step RecordedStep
	if err == nil {
		step = RecordedStep{Event: event}
		step.Digest, step.Actions, err = digest(actions)
	}
	var b json.RawMessage
	if err == nil {
		b, err = marshal(step)
	}
	if err != nil {
		r.on = false
		r.log.Error("evidence is not recorded any further", "err", err)
		return
	}
	r.draft.steps, r.draft.bytes = append(r.draft.steps, b), r.draft.bytes+len(b)
}

// moments keeps the decision at the moments that count.
func (r *recorder) moments(e *decision.Engine, actions []decision.Action) {
	for _, a := range actions {
		switch a := a.(type) {
		case decision.Persist:
			if p, ok := a.Record.Promotion.Get(); ok && p.Epoch != r.turned {
				r.turned = p.Epoch
				r.decide(e, MomentNoReturn)
			}
		case decision.Note:
			switch {
			case a.Kind == decision.NotePromotionRequested:
				r.ended(OutcomeUnderWay, a.Epoch.V)
			case a.Kind == decision.NoteUndone:
				r.decide(e, MomentUndone)
				r.ended(OutcomeUndone, a.Epoch.V)
			case a.Kind == decision.NoteHalted:
				r.decide(e, MomentHalted)
				r.ended(OutcomeHalted, a.Epoch.V)
			case a.From != decision.Promoting && a.To == decision.Promoting:
				r.decide(e, MomentPromotable)
				r.draft.epoch = a.Epoch.V
			}
		}
	}
}

func (r *recorder) decide(e *decision.Engine, m Moment) {
	d := RecordedDecision{Moment: m, After: len(r.draft.steps), Body: r.evidence.Render(e.Decide(decision.Question{}), r.clock.Wall)}
	r.draft.decisions = append(r.draft.decisions, d)
	r.draft.bytes += len(d.Body)
}

func (r *recorder) ended(o Outcome, epoch uint64) {
	r.draft.outcome, r.draft.epoch, r.due = o, epoch, true
}

// opened ends the recording: of a writer that came back without a change nothing is kept.
func (r *recorder) opened(e *decision.Engine) {
	c := e.Status().LastChange
	changed := c.Known && (!r.known.Known || r.known.V.Epoch != c.V.Epoch)
	if changed {
		r.ended(OutcomeOpened, c.V.Epoch)
	}
	r.due = r.draft.outcome != ""
	if r.due {
		r.decide(e, MomentOpened)
	}
}

// performed writes what is due. The actions of the Step, a promotion among them, are under way by now.
func (r *recorder) performed() {
	if r.due {
		r.put()
	}
	r.due = false
	if r.state.WriterOpen() {
		r.on, r.draft = false, draft{}
	}
}

// stopped keeps what was recorded of a change that the end of the process interrupts.
func (r *recorder) stopped() {
	if r.on && len(r.draft.decisions) > 0 {
		r.put()
	}
}

// put hands the draft over for writing. Nothing of it is written before that, and this does not wait for it.
func (r *recorder) put() {
	d := r.draft
	if d.outcome == "" {
		d.outcome = OutcomeUnderWay
	}
	events := r.events.Since(r.since, maxBundleEvents)
	name := r.clock.Wall(d.began).UTC().Format(bundleTime) + fmt.Sprintf("-epoch-%d.json", d.epoch)
	head := bundleHead{Version: r.evidence.Version, StateID: r.stateID, Epoch: d.epoch, Outcome: d.outcome, ClockBegan: r.clock.Wall(0).UTC()}
	steps, decisions := slices.Clip(d.steps), slices.Clip(d.decisions)
	r.files.put(name, func() ([]byte, error) { return layOut(head, d.snapshot, steps, decisions, events) })
}

// bundleTime begins a bundle's name: in UTC, so that names sort by time.
const bundleTime = "20060102T150405.000Z"
