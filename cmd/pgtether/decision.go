package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
)

// decisionBody is the part of GET /decision that people are shown.
type decisionBody struct {
	At            string         `json:"at"`
	Epoch         *uint64        `json:"epoch"`
	State         string         `json:"state"`
	Writer        *string        `json:"writer"`
	Candidate     *string        `json:"candidate"`
	Event         *string        `json:"event"`
	Verdict       string         `json:"verdict"`
	Risk          string         `json:"risk"`
	Lossless      string         `json:"lossless"`
	DataLossBytes *int64         `json:"data_loss_bytes"`
	Criteria      []criterion    `json:"criteria"`
	Blocking      []string       `json:"blocking"`
	Overridden    []string       `json:"overridden"`
	NextAction    *string        `json:"next_action"`
	IfPrimaryDies *ifPrimaryDies `json:"if_primary_dies"`
}

type criterion struct {
	Name        string          `json:"name"`
	Verdict     string          `json:"verdict"`
	Value       json.RawMessage `json:"value"`
	Threshold   json.RawMessage `json:"threshold"`
	Node        *string         `json:"node"`
	AgeMS       *int64          `json:"age_ms"`
	Explanation *string         `json:"explanation"`
	Overridden  bool            `json:"overridden"`
}

type ifPrimaryDies struct {
	Verdict       string   `json:"verdict"`
	Risk          string   `json:"risk"`
	Lossless      string   `json:"lossless"`
	DataLossBytes *int64   `json:"data_loss_bytes"`
	Blocking      []string `json:"blocking"`
}

func newDecisionCommand() *cobra.Command {
	var flags clientFlags
	var event, to, evidence string
	cmd := &cobra.Command{
		Use:   "decision [--what-if primary_dead|switchover [--to NODE]] | --replay FILE",
		Short: "show whether the writer may be changed now, what it would cost, and why",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			asked := cmd.Flags().Changed("what-if")
			switch {
			case cmd.Flags().Changed("replay"):
				return replay(cmd, evidence, flags.json)
			case !asked && cmd.Flags().Changed("to"):
				return usageError(errors.New("--to needs --what-if: the decision of now names its own candidate"))
			case !asked:
				return flags.show(cmd, "/decision", nil, printDecision)
			}
			return flags.whatIf(cmd, "--what-if", event, to)
		},
	}
	flags.add(cmd)
	cmd.Flags().StringVar(&event, "what-if", "", "ask about an event with today's facts: primary_dead or switchover; nothing is changed")
	cmd.Flags().StringVar(&to, "to", "", "with --what-if: the node that would become the writer")
	cmd.Flags().StringVar(&evidence, "replay", "", "replay a file of the evidence folder in the state directory, and compare: no proxy is asked")
	for _, other := range []string{"what-if", "to", "admin", "config"} {
		cmd.MarkFlagsMutuallyExclusive("replay", other)
	}
	cmd.AddCommand(newWhatIfCommand(&flags))
	return cmd
}

func newWhatIfCommand(flags *clientFlags) *cobra.Command {
	var event, to string
	cmd := &cobra.Command{
		Use:   "what-if --event primary_dead|switchover [--to NODE]",
		Short: "show the decision that an event would meet with today's facts; nothing is changed",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return flags.whatIf(cmd, "--event", event, to)
		},
	}
	cmd.Flags().StringVar(&event, "event", "", "what happens: primary_dead or switchover")
	cmd.Flags().StringVar(&to, "to", "", "the node that would become the writer")
	return cmd
}

// whatIf asks for the decision that an event would meet.
func (f *clientFlags) whatIf(cmd *cobra.Command, flag, event, to string) error {
	if event != "primary_dead" && event != "switchover" {
		return usageError(errors.New(flag + " must be primary_dead or switchover"))
	}
	query := url.Values{"event": {event}}
	if to != "" {
		query.Set("to", to)
	}
	return f.show(cmd, "/decision/what-if", query, printDecision)
}

func printDecision(p *printer, body []byte) error {
	var d decisionBody
	if err := json.Unmarshal(body, &d); err != nil {
		return err
	}
	rows := [][]cell{
		{text("verdict"), {d.Verdict, verdictColour(d.Verdict)}},
		{text("risk"), {d.Risk, riskColour(d.Risk)}},
		{text("lossless"), text(cost(d.Lossless, d.DataLossBytes))},
		{text("change"), text(known(d.Writer, asIs) + " -> " + known(d.Candidate, asIs) + event(d.Event))},
		{text("state"), text(d.State + ", epoch " + known(d.Epoch, number) + ", at " + d.At)},
	}
	if len(d.Blocking) > 0 {
		rows = append(rows, []cell{text("blocked by"), text(strings.Join(d.Blocking, ", "))})
	}
	if len(d.Overridden) > 0 {
		rows = append(rows, []cell{text("overridden"), {strings.Join(d.Overridden, ", ") + " (an operator took that upon himself)", red}})
	}
	if next := known(d.NextAction, asIs); next != unknownText {
		rows = append(rows, []cell{text("next"), text(next)})
	}
	if f := d.IfPrimaryDies; f != nil {
		rows = append(rows, []cell{text("if it dies"), text(forecast(*f))})
	}
	p.table(rows)
	p.line()
	p.table(criteriaRows(d.Criteria))
	return nil
}

func criteriaRows(criteria []criterion) [][]cell {
	rows := [][]cell{header("CRITERION", "VERDICT", "NODE", "VALUE", "THRESHOLD", "AGE", "EXPLANATION")}
	for _, c := range criteria {
		verdict := c.Verdict
		if c.Overridden {
			verdict += ", overridden"
		}
		row := words(c.Name, verdict, known(c.Node, asIs), scalar(c.Value), scalar(c.Threshold), known(c.AgeMS, millis), known(c.Explanation, asIs))
		row[1].colour = criterionColour(c.Verdict)
		rows = append(rows, row)
	}
	return rows
}

// scalar renders a JSON value of any type: text without its quotes, null as unknown, everything else as it is.
func scalar(raw json.RawMessage) string {
	if len(raw) == 0 || string(raw) == "null" {
		return unknownText
	}
	var s string
	if err := json.Unmarshal(raw, &s); err == nil {
		return orUnknown(s)
	}
	return string(raw)
}

// cost says in words what a change would lose.
func cost(lossless string, bytes *int64) string {
	switch {
	case lossless == "proven":
		return "proven: every acknowledged commit is on the candidate"
	case lossless == "relaxed":
		return "relaxed: every commit but those that asked for less"
	case lossless == "unknown" || bytes == nil:
		return lossless + ": no figure for the loss can be given"
	default:
		return lossless + ": at most " + size(*bytes) + " would be lost"
	}
}

func event(e *string) string {
	if e == nil || *e == "" {
		return ""
	}
	return " (" + *e + ")"
}

func forecast(f ifPrimaryDies) string {
	s := fmt.Sprintf("%s, risk %s, lossless %s", f.Verdict, f.Risk, cost(f.Lossless, f.DataLossBytes))
	if len(f.Blocking) > 0 {
		s += ", blocked by " + strings.Join(f.Blocking, ", ")
	}
	return s
}

func verdictColour(v string) colour {
	if v == "SAFE" {
		return green
	}
	return red
}

func riskColour(r string) colour {
	switch r {
	case "LOW":
		return green
	case "MEDIUM":
		return yellow
	default:
		return red
	}
}

func criterionColour(v string) colour {
	switch v {
	case "pass":
		return green
	case "not_needed":
		return plainText
	case "unknown":
		return yellow
	default:
		return red
	}
}
