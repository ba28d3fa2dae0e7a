package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pgtether/pgtether/decision"
)

// ErrDiffers is returned when a replay does something else than what was recorded.
var ErrDiffers = errors.New("the replay differs from the record")

// Replayed is what a replay did, up to its end or to where it differs.
type Replayed struct {
	// Steps and Decisions count those that were the same.
	Steps, Decisions int
	// Story are the notes that the engine made, in order, beside the moments.
	Story []Passage
}

// Passage is one note of the engine, or a decision at one of the moments.
type Passage struct {
	// Step is the number of the step, counted from 1; 0 is the state that the recording began with.
	Step int
	At   time.Time
	// Note is set for a note; else Moment and Decision, as it was rendered, are.
	Note     *decision.Note
	Moment   Moment
	Decision json.RawMessage
}

// Replay restores the engine, hands it every recorded event again, and compares what each leads to with what was recorded: the digest of its
// actions, and each decision byte for byte. An engine that breaks one of its promises differs too.
func (b *Bundle) Replay(render Render) (r Replayed, err error) {
	e, err := decision.Restore(b.Snapshot)
	if err != nil {
		return r, fmt.Errorf("restore engine: %w", err)
	}
	due, err := b.decide(e, &r, b.Decisions, 0, render)
	if err != nil {
		return r, err
	}
	for i, ev := range b.inputs {
		actions, err := stepOnce(e, ev)
		if err != nil {
			return r, fmt.Errorf("step %d of %d (%s): %w: %w", i+1, len(b.inputs), b.Steps[i].Event.Type, ErrDiffers, err)
		}
		for _, a := range actions {
			if n, ok := a.(decision.Note); ok {
				r.Story = append(r.Story, Passage{Step: i + 1, At: b.Wall(n.At), Note: &n})
			}
		}
		sum, names, err := digest(actions)
		if err != nil {
			return r, err
		}
		if rec := b.Steps[i]; sum != rec.Digest {
			return r, fmt.Errorf("step %d of %d (%s): %w: recorded %s, now %s", i+1, len(b.inputs), rec.Event.Type, ErrDiffers, shownActions(rec.Actions,
				rec.Digest), shownActions(names, sum))
		}
		r.Steps++
		if due, err = b.decide(e, &r, due, i+1, render); err != nil {
			return r, err
		}
	}
	return r, nil
}

// decide compares the decisions that were recorded after a step, and returns those that are still to come.
func (b *Bundle) decide(e *decision.Engine, r *Replayed, due []RecordedDecision, step int, render Render) ([]RecordedDecision, error) {
	for len(due) > 0 && due[0].After == step {
		d := e.Decide(decision.Question{})
		now, err := oneLine(render(d, b.Wall))
		if err != nil {
			return due, err
		}
		recorded, err := oneLine(due[0].Body)
		if err != nil {
			return due, err
		}
		if !bytes.Equal(now, recorded) {
			return due, fmt.Errorf("decision %q after step %d of %d: %w: recorded %s, now %s", due[0].Moment, step, len(b.inputs), ErrDiffers, recorded, now)
		}
		r.Decisions++
		r.Story = append(r.Story, Passage{Step: step, At: b.Wall(d.At), Moment: due[0].Moment, Decision: due[0].Body})
		due = due[1:]
	}
	return due, nil
}

// stepOnce turns a broken promise of the engine into an error: the event comes from a file.
func stepOnce(e *decision.Engine, ev decision.Event) (actions []decision.Action, err error) {
	defer func() {
		if why := recover(); why != nil {
			err = fmt.Errorf("the engine stops: %v", why)
		}
	}()
	return e.Step(ev), nil
}

func oneLine(b []byte) ([]byte, error) {
	var out bytes.Buffer
	if err := json.Compact(&out, b); err != nil {
		return nil, fmt.Errorf("read decision: %w", ErrBundle)
	}
	return out.Bytes(), nil
}

func shownActions(names []string, sum string) string {
	if len(names) == 0 {
		return "nothing (" + short(sum) + ")"
	}
	return strings.Join(names, " ") + " (" + short(sum) + ")"
}

func short(sum string) string { return sum[:min(len(sum), 12)] }
