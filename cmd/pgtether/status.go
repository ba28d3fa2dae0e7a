package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// statusBody is the part of GET /status that people are shown.
type statusBody struct {
	Cluster          string          `json:"cluster"`
	Version          string          `json:"version"`
	Instance         string          `json:"instance"`
	StartedAt        string          `json:"started_at"`
	Mode             string          `json:"mode"`
	Automation       string          `json:"automation"`
	AutomationReason *string         `json:"automation_reason"`
	State            string          `json:"state"`
	Step             *string         `json:"step"`
	Since            *string         `json:"since"`
	Message          *string         `json:"message"`
	Degraded         []string        `json:"degraded"`
	Epoch            *uint64         `json:"epoch"`
	Writer           *string         `json:"writer"`
	Writes           string          `json:"writes"`
	Timeline         *int64          `json:"timeline"`
	CrashLossBytes   *int64          `json:"crash_loss_bytes"`
	Nodes            []nodeBody      `json:"nodes"`
	Sessions         sessionsBody    `json:"sessions"`
	LastChange       *lastChangeBody `json:"last_change"`
	Switchover       *progressBody   `json:"switchover"`
}

// progressBody is how far a switchover has come.
type progressBody struct {
	Sessions *struct {
		Waiting       int64 `json:"waiting"`
		InTransaction int64 `json:"in_transaction"`
		Active        int64 `json:"active"`
	} `json:"sessions"`
	BytesToReplay *int64 `json:"bytes_to_replay"`
}

type nodeBody struct {
	Name            string  `json:"name"`
	Address         string  `json:"address"`
	Role            string  `json:"role"`
	Evidence        string  `json:"evidence"`
	EvidenceDetail  *string `json:"evidence_detail"`
	Quarantine      *string `json:"quarantine"`
	Timeline        *int64  `json:"timeline"`
	CurrentLSN      *string `json:"current_lsn"`
	ReceivedLSN     *string `json:"received_lsn"`
	ReplayedLSN     *string `json:"replayed_lsn"`
	LagBytes        *int64  `json:"lag_bytes"`
	DivergenceBytes *int64  `json:"divergence_bytes"`
	SyncState       *string `json:"sync_state"`
	Streaming       *bool   `json:"streaming"`
	ObservedAgeMS   *int64  `json:"observed_age_ms"`
}

type sessionsBody struct {
	Open          int64  `json:"open"`
	Active        int64  `json:"active"`
	Idle          int64  `json:"idle"`
	InTransaction int64  `json:"in_transaction"`
	Held          int64  `json:"held"`
	Opaque        int64  `json:"opaque"`
	Movable       *int64 `json:"movable"`
}

type lastChangeBody struct {
	At            string  `json:"at"`
	Kind          string  `json:"kind"`
	From          *string `json:"from"`
	To            *string `json:"to"`
	Epoch         *uint64 `json:"epoch"`
	Lossless      *string `json:"lossless"`
	DataLossBytes *int64  `json:"data_loss_bytes"`
	Commits       *int64  `json:"data_loss_commits_estimate"`
	LossFrom      *string `json:"loss_from_lsn"`
	LossTo        *string `json:"loss_to_lsn"`
	Relaxed       *int64  `json:"relaxed_commits"`
	Sessions      *struct {
		Moved   int64 `json:"moved"`
		Ended   int64 `json:"ended"`
		Refused int64 `json:"refused"`
	} `json:"sessions"`
	Steps []struct {
		Step string `json:"step"`
		MS   int64  `json:"ms"`
	} `json:"steps"`
}

func newStatusCommand() *cobra.Command {
	var flags clientFlags
	cmd := &cobra.Command{
		Use:   "status",
		Short: "show the state, the writer, every node and the sessions",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return flags.show(cmd, "/status", nil, printStatus)
		},
	}
	flags.add(cmd)
	return cmd
}

func printStatus(p *printer, body []byte) error {
	var s statusBody
	if err := json.Unmarshal(body, &s); err != nil {
		return err
	}
	state := s.State
	if step := known(s.Step, asIs); step != unknownText {
		state += "/" + step
	}
	rows := [][]cell{
		{text("cluster"), text(s.Cluster)},
		{text("state"), {state + ", since " + known(s.Since, asIs), stateColour(s.State)}},
		{text("writer"), text(writerLine(s))},
		{text("writes"), {s.Writes, writesColour(s.Writes)}},
		{text("mode"), text(s.Mode + ", automation " + s.Automation + inWords(s.AutomationReason))},
		{text("sessions"), text(sessionsLine(s.Sessions))},
		{text("last change"), text(known(s.LastChange, lastChange))},
		{text("crash loss"), text(known(s.CrashLossBytes, func(n int64) string { return "at most " + size(n) + " if the writer died now" }))},
		{text("proxy"), text("pgtether " + orUnknown(s.Version) + ", instance " + orUnknown(s.Instance) + ", started " + orUnknown(s.StartedAt))},
	}
	if s.LastChange != nil {
		at := slices.IndexFunc(rows, func(row []cell) bool { return row[0].text == "last change" })
		rows = slices.Insert(rows, at+1, words("its loss", lossInWords(*s.LastChange)))
	}
	if message := known(s.Message, asIs); message != unknownText {
		rows = append(rows, words("now", message))
	}
	if todo := toDo(s); todo != "" {
		rows = append(rows, []cell{text("to do"), {todo, red}})
	}
	p.table(rows)
	for _, d := range s.Degraded {
		p.line(cell{"warning: ", yellow}, text(d))
	}
	p.line()
	p.table(nodeRows(s.Nodes))
	for _, n := range s.Nodes {
		for _, note := range nodeNotes(n) {
			p.line(text(n.Name + ": " + note))
		}
	}
	return nil
}

func writerLine(s statusBody) string {
	if s.Writer == nil {
		return "none (last epoch " + known(s.Epoch, number) + ", timeline " + known(s.Timeline, number) + ")"
	}
	return *s.Writer + " (epoch " + known(s.Epoch, number) + ", timeline " + known(s.Timeline, number) + ")"
}

func inWords(reason *string) string {
	if reason == nil || *reason == "" {
		return ""
	}
	return ": " + *reason
}

func sessionsLine(s sessionsBody) string {
	line := fmt.Sprintf("%d open (%d active, %d idle, %d in a transaction), %d held", s.Open, s.Active, s.Idle, s.InTransaction, s.Held)
	if s.Open > 0 && s.Movable != nil {
		line += fmt.Sprintf("; %d of %d can be moved", *s.Movable, s.Open)
	}
	if s.Opaque > 0 {
		line += fmt.Sprintf(", %d that cannot be looked into (passthrough)", s.Opaque)
	}
	return line
}

func lastChange(c lastChangeBody) string {
	parts := []string{fmt.Sprintf("%s %s -> %s at %s, epoch %s, lossless %s",
		c.Kind, known(c.From, asIs), known(c.To, asIs), c.At, known(c.Epoch, number), known(c.Lossless, asIs))}
	if s := c.Sessions; s != nil {
		parts = append(parts, fmt.Sprintf("sessions: %d moved, %d ended, %d refused", s.Moved, s.Ended, s.Refused))
	}
	if len(c.Steps) > 0 {
		steps := make([]string, len(c.Steps))
		for i, s := range c.Steps {
			steps[i] = s.Step + " " + millis(s.MS)
		}
		parts = append(parts, "steps: "+strings.Join(steps, ", "))
	}
	return strings.Join(parts, "; ")
}

// lossInWords says what the last change cost, so that nobody has to know the four words.
func lossInWords(c lastChangeBody) string {
	from, to := known(c.From, asIs), known(c.To, asIs)
	switch known(c.Lossless, asIs) {
	case "proven":
		return "nothing: every commit that was acknowledged through pgtether is on " + to
	case "relaxed":
		count := ""
		if c.Relaxed != nil {
			count = "the " + number(*c.Relaxed) + " "
		}
		return "at most " + count + "commits that had asked for less than the rest (synchronous_commit off or local); every other " +
			"acknowledged commit is on " + to
	}
	if c.DataLossBytes == nil {
		return "unknown: it cannot be said what " + from + " had acknowledged and " + to + " lacks"
	}
	text := "at most " + size(*c.DataLossBytes) + " of write-ahead log that " + from + " may have acknowledged and " + to + " lacks"
	if c.LossFrom != nil && c.LossTo != nil {
		text += ", from " + *c.LossFrom + " to " + *c.LossTo
	}
	if c.Commits != nil {
		text += ", about " + number(*c.Commits) + " commits"
	}
	return text
}

// toDo says what only a person can do now; empty when there is nothing.
func toDo(s statusBody) string {
	step := known(s.Step, asIs)
	switch {
	case step == "halted":
		return "the promotion cannot be completed and logins are refused: find the node that is the primary, then pgtether resolve --writer NODE"
	case step == "blocked" && s.Mode != "observe":
		return "pgtether decision says what blocks; pgtether approve --to NODE --override CRITERION,... lets it happen all the same"
	case s.Automation == "paused":
		return "automatic failover is paused: pgtether resume turns it on again"
	default:
		return ""
	}
}

func nodeRows(nodes []nodeBody) [][]cell {
	rows := [][]cell{header("NODE", "ADDRESS", "ROLE", "EVIDENCE", "TIMELINE", "POSITION", "RECEIVED", "LAG", "SYNC", "STREAMING", "SEEN")}
	for _, n := range nodes {
		position := n.ReplayedLSN
		if n.CurrentLSN != nil {
			position = n.CurrentLSN
		}
		row := words(n.Name, n.Address, n.Role, n.Evidence, known(n.Timeline, number), known(position, asIs), known(n.ReceivedLSN, asIs),
			known(n.LagBytes, size), known(n.SyncState, asIs), known(n.Streaming, yesNo), known(n.ObservedAgeMS, func(ms int64) string { return millis(ms) + " ago" }))
		row[3].colour = evidenceColour(n.Evidence)
		rows = append(rows, row)
	}
	return rows
}

// nodeNotes says what does not fit into a column.
func nodeNotes(n nodeBody) []string {
	var notes []string
	if n.Quarantine != nil && *n.Quarantine != "" {
		notes = append(notes, "quarantined: "+*n.Quarantine)
	}
	if n.DivergenceBytes != nil && *n.DivergenceBytes > 0 {
		notes = append(notes, "has written "+size(*n.DivergenceBytes)+" that no other node has")
	}
	if n.Evidence != "answers" && n.EvidenceDetail != nil && *n.EvidenceDetail != "" {
		notes = append(notes, *n.EvidenceDetail)
	}
	return notes
}

func stateColour(state string) colour {
	switch state {
	case "STANDBY_READY":
		return green
	case "PRIMARY_FAILED", "PROMOTING":
		return red
	default:
		return yellow
	}
}

func writesColour(writes string) colour {
	if writes == "open" {
		return green
	}
	return red
}

func evidenceColour(evidence string) colour {
	switch evidence {
	case "answers":
		return green
	case "alive":
		return yellow
	default:
		return red
	}
}
