package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgtether/pgtether/decision"
	"github.com/pgtether/pgtether/internal/admin"
	"github.com/pgtether/pgtether/internal/control"
)

// maxEvidence bounds a file of evidence in bytes.
const maxEvidence = 64 << 20

// replayAnswer is what `decision --replay --json` prints.
type replayAnswer struct {
	Version    string                     `json:"pgtether"`
	StateID    string                     `json:"state_id"`
	Epoch      uint64                     `json:"epoch"`
	Outcome    control.Outcome            `json:"outcome"`
	Reproduced bool                       `json:"reproduced"`
	Difference string                     `json:"difference,omitempty"`
	Steps      int                        `json:"steps"`
	Decisions  []control.RecordedDecision `json:"decisions"`
}

// replay hands the engine everything that a bundle of evidence recorded, and compares. Exit code 1: it differs; 2: it cannot be replayed here.
func replay(cmd *cobra.Command, path string, asJSON bool) error {
	file, err := readEvidence(path)
	if err != nil {
		return usageError(fmt.Errorf("read evidence: %w", err))
	}
	b, err := control.ReadBundle(file)
	if err != nil {
		return usageError(fmt.Errorf("read %s: %w", path, err))
	}
	r, differs := b.Replay(admin.DecisionJSON)
	if differs != nil && b.Version != buildVersion() {
		differs = fmt.Errorf("%w (it was recorded by pgtether %s, this is %s)", differs, b.Version, buildVersion())
	}
	if asJSON {
		return errors.Join(differs, printReplayJSON(cmd.OutOrStdout(), b, r, differs))
	}
	p := newPrinter(cmd.OutOrStdout())
	printReplay(p, b, r)
	if differs != nil {
		return errors.Join(differs, p.err)
	}
	p.line(text(fmt.Sprintf("reproduced: %d steps, %d decisions, byte for byte", r.Steps, r.Decisions)))
	return p.err
}

func readEvidence(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	return io.ReadAll(io.LimitReader(f, maxEvidence+1))
}

func printReplayJSON(w io.Writer, b *control.Bundle, r control.Replayed, differs error) error {
	a := replayAnswer{Version: b.Version, StateID: b.StateID, Epoch: b.Epoch, Outcome: b.Outcome, Reproduced: differs == nil, Steps: r.Steps,
		Decisions: b.Decisions[:r.Decisions]}
	if differs != nil {
		a.Difference = differs.Error()
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(a); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// printReplay tells what happened: each transition with its time and why, the criteria that were decided by, and what the change cost.
func printReplay(p *printer, b *control.Bundle, r control.Replayed) {
	cfg := b.Snapshot.Config
	var nodes []string
	for _, n := range cfg.Nodes {
		nodes = append(nodes, n.Name+" at "+n.Address)
	}
	p.table([][]cell{
		words("recorded by", "pgtether "+b.Version+", state "+b.StateID),
		words("change", outcomeText(b)),
		words("mode", cfg.Mode.String()+"; "+strings.Join(nodes, ", ")),
	})
	p.line()
	rows := [][]cell{header("AT", "STEP", "STATE", "WHY")}
	if len(b.Events) > 0 {
		ev := b.Events[0]
		rows = append(rows, storyRow(ev.At, 0, placeText(ev.StateFrom, ev.StateTo, ev.Step), ev.StateTo, ev.Message))
	}
	for _, s := range r.Story {
		if n := s.Note; n != nil {
			rows = append(rows, storyRow(s.At, s.Step, placeText(n.From.String(), n.To.String(), n.Step.String()), n.To.String(), n.Message))
		} else {
			rows = append(rows, storyRow(s.At, s.Step, "decision", "", momentText(s)))
		}
	}
	p.table(rows)
	p.line()
	if s, ok := pointOfDecision(r.Story); ok {
		p.line(text("The decision, " + strings.ReplaceAll(string(s.Moment), "_", " ") + ":"))
		if err := printDecision(p, s.Decision); err != nil && p.err == nil {
			p.err = fmt.Errorf("read decision: %w", err)
		}
		p.line()
	}
	if loss, ok := lossStatement(r.Story); ok {
		p.line(text("What it cost: " + loss))
		p.line()
	}
}

func outcomeText(b *control.Bundle) string {
	words := map[control.Outcome]string{
		control.OutcomeUnderWay: "is being made the open one; the record ends there", control.OutcomeOpened: "is open",
		control.OutcomeUndone: "was left; the change was undone", control.OutcomeHalted: "is not open: the promotion halted and waits for an operator",
	}
	return fmt.Sprintf("epoch %d %s", b.Epoch, words[b.Outcome])
}

// storyRow is one line of the story. Step 0 is what is told by /events: it happened before the record begins.
func storyRow(at time.Time, step int, place, state, why string) []cell {
	row := words(at.UTC().Format("2006-01-02T15:04:05.000Z07:00"), number(step), place, why)
	if state != "" {
		row[2].colour = stateColour(state)
	}
	return row
}

func placeText(from, to, step string) string {
	if from != to {
		to = from + " -> " + to
	}
	if step != "" {
		to += "/" + step
	}
	return to
}

func momentText(s control.Passage) string {
	var d decisionBody
	if err := json.Unmarshal(s.Decision, &d); err != nil {
		return string(s.Moment)
	}
	return fmt.Sprintf("%s: %s, risk %s, lossless %s", strings.ReplaceAll(string(s.Moment), "_", " "), d.Verdict, d.Risk, cost(d.Lossless, d.DataLossBytes))
}

// pointOfDecision is the last decision before the point of no return, or, when none was passed, the first one that there is.
func pointOfDecision(story []control.Passage) (found control.Passage, ok bool) {
	for _, s := range story {
		if s.Note == nil && (!ok || s.Moment == control.MomentNoReturn) {
			found, ok = s, true
		}
	}
	return found, ok
}

// lossStatement is what was said of the loss when the promotion was decided, or when the promotion of others was followed.
func lossStatement(story []control.Passage) (statement string, ok bool) {
	for _, s := range story {
		if n := s.Note; n != nil && (n.Kind == decision.NotePromotionRequested || n.Kind == decision.NoteStep && strings.Contains(n.Message, "; lossless: ")) {
			statement, ok = n.Message, true
		}
	}
	return statement, ok
}
