package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// commandBody is the answer to a command that was taken.
type commandBody struct {
	Message  string       `json:"message"`
	Decision decisionBody `json:"decision"`
}

// approveBody and resolveBody are what the proxy is told.
type approveBody struct {
	Epoch    uint64   `json:"epoch"`
	Target   string   `json:"target"`
	Override []string `json:"override"`
}

type resolveBody struct {
	Epoch  uint64 `json:"epoch"`
	Writer string `json:"writer"`
}

// epochFlag is an epoch that may be left out.
type epochFlag struct {
	epoch uint64
	given bool
}

func (e *epochFlag) add(cmd *cobra.Command) {
	cmd.Flags().Uint64Var(&e.epoch, "epoch", 0, "the epoch that was looked at; without it the one of now")
}

// of returns the epoch that was named, else the one that the decision is about.
func (e *epochFlag) of(d decisionBody) (uint64, error) {
	switch {
	case e.given:
		return e.epoch, nil
	case d.Epoch == nil:
		return 0, errors.New("there is no epoch yet: no writer was ever seen, and nothing can be decided")
	default:
		return *d.Epoch, nil
	}
}

func newApproveCommand() *cobra.Command {
	var flags clientFlags
	var epoch epochFlag
	var to string
	var override []string
	cmd := &cobra.Command{
		Use:   "approve --to NODE [--override CRITERION,...] [--epoch N]",
		Short: "let a failover happen that needs an operator, or that a criterion blocks",
		Long: `Let a failover happen: in mode manual, or in mode auto when a criterion blocks it.

--override names every criterion that blocks and that you take upon yourself; no_split_brain, same_system and timeline_descends can never
be overridden. Without --epoch the decision of now is shown first and its epoch is taken. With --epoch the command is refused if the
writer was changed since that epoch was looked at.

What was approved goes on in the events: pgtether events --follow.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if to == "" {
				return usageError(errors.New("--to must name the node that is to become the writer"))
			}
			for i, name := range override {
				if override[i] = strings.TrimSpace(name); override[i] == "" {
					return usageError(errors.New("--override must list names of criteria, with commas between them"))
				}
			}
			epoch.given = cmd.Flags().Changed("epoch")
			return flags.approve(cmd, epoch, to, override)
		},
	}
	flags.add(cmd)
	epoch.add(cmd)
	cmd.Flags().StringVar(&to, "to", "", "the node that is to become the writer")
	cmd.Flags().StringSliceVar(&override, "override", nil, "criteria that do not pass and that you take upon yourself")
	return cmd
}

// approve shows what is decided about now, takes its epoch, and sends the approval.
func (f *clientFlags) approve(cmd *cobra.Command, epoch epochFlag, to string, override []string) error {
	c, err := f.client()
	if err != nil {
		return err
	}
	defer c.http.CloseIdleConnections()
	var d decisionBody
	p := newPrinter(cmd.OutOrStdout())
	if !epoch.given {
		body, err := c.get(cmd.Context(), "/decision", nil)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(body, &d); err != nil {
			return fmt.Errorf("read the answer of %s: %w", c.base.JoinPath("/decision"), err)
		}
		if !f.json {
			if err := printDecision(p, body); err != nil {
				return err
			}
			p.line()
		}
	}
	n, err := epoch.of(d)
	if err != nil {
		return err
	}
	if !f.json {
		for _, line := range approval(n, to, override, d) {
			p.line(line...)
		}
	}
	if override == nil {
		override = []string{}
	}
	return f.command(cmd, c, p, "/admin/approve", approveBody{n, to, override})
}

// approval says what is about to be approved and, word for word, what is overridden by it.
func approval(epoch uint64, to string, override []string, d decisionBody) [][]cell {
	lines := [][]cell{{text(fmt.Sprintf("approving: %s becomes the writer after epoch %d", to, epoch))}}
	if len(override) == 0 {
		return append(lines, []cell{text("overriding: nothing")})
	}
	for _, name := range override {
		line := []cell{{"overriding: ", red}, text(name)}
		for _, c := range d.Criteria {
			if c.Name == name {
				line = append(line, text(" ("+c.Verdict+"): "+known(c.Explanation, asIs)))
			}
		}
		lines = append(lines, line)
	}
	return lines
}

func newResolveCommand() *cobra.Command {
	var flags clientFlags
	var epoch epochFlag
	var writer string
	cmd := &cobra.Command{
		Use:   "resolve --writer NODE [--epoch N]",
		Short: "end a halted promotion: name the node that is the primary",
		Long: `End a promotion that has halted, by naming the node that is the primary. It must alone answer as the primary of this system, and is opened
under a fresh epoch. A halted promotion also ends by itself when its target verifies after all.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if writer == "" {
				return usageError(errors.New("--writer must name the node that is the primary"))
			}
			epoch.given = cmd.Flags().Changed("epoch")
			return flags.resolve(cmd, epoch, writer)
		},
	}
	flags.add(cmd)
	epoch.add(cmd)
	cmd.Flags().StringVar(&writer, "writer", "", "the node that is the primary")
	return cmd
}

func (f *clientFlags) resolve(cmd *cobra.Command, epoch epochFlag, writer string) error {
	c, err := f.client()
	if err != nil {
		return err
	}
	defer c.http.CloseIdleConnections()
	var d decisionBody
	if !epoch.given {
		body, err := c.get(cmd.Context(), "/decision", nil)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(body, &d); err != nil {
			return fmt.Errorf("read the answer of %s: %w", c.base.JoinPath("/decision"), err)
		}
	}
	n, err := epoch.of(d)
	if err != nil {
		return err
	}
	return f.command(cmd, c, newPrinter(cmd.OutOrStdout()), "/admin/resolve", resolveBody{n, writer})
}

// newPlainCommand makes a command that tells the proxy one word.
func newPlainCommand(name, short, long string) *cobra.Command {
	var flags clientFlags
	cmd := &cobra.Command{
		Use: name, Short: short, Long: long, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := flags.client()
			if err != nil {
				return err
			}
			defer c.http.CloseIdleConnections()
			return flags.command(cmd, c, newPrinter(cmd.OutOrStdout()), "/admin/"+name, nil)
		},
	}
	flags.add(cmd)
	return cmd
}

func newAbortCommand() *cobra.Command {
	return newPlainCommand("abort", "undo a change of the writer that can still be undone",
		`Undo a change of the writer, until its promotion is asked for. If the change had begun by itself, automatic failover is paused with it,
because it would begin again at once: pgtether resume turns it on.`)
}

func newHoldCommand() *cobra.Command {
	return newPlainCommand("hold", "pause automatic failover, for maintenance; clients are not held",
		`Pause automatic failover until pgtether resume, through restarts as well. Clients are not held by it: the writer is served on, and if it
stops, logins wait as ever and nothing is promoted without pgtether approve.`)
}

func newResumeCommand() *cobra.Command {
	return newPlainCommand("resume", "turn automatic failover on again, and acknowledge the last one",
		`Turn automatic failover on again after pgtether hold or abort. It also acknowledges the last automatic failover, so that the next one need
not wait for failover.anti_flap.`)
}

// command sends a command and prints what became of it. A refusal of the decision engine carries the decision: what stands against the command
// is printed before the error ends the command.
func (f *clientFlags) command(cmd *cobra.Command, c *client, p *printer, path string, what any) error {
	body, err := c.post(cmd.Context(), path, nil, what)
	if f.json {
		if _, writeErr := cmd.OutOrStdout().Write(body); writeErr != nil {
			return errors.Join(err, fmt.Errorf("write: %w", writeErr))
		}
		return err
	}
	var answer commandBody
	if readErr := json.Unmarshal(body, &answer); err == nil && readErr != nil {
		return fmt.Errorf("read the answer of %s: %w", c.base.JoinPath(path), readErr)
	}
	if err != nil {
		if answer.Decision.Verdict != "" {
			p.against(answer.Decision)
		}
		return errors.Join(err, p.err)
	}
	p.line(cell{"done: ", green}, text(answer.Message))
	p.table(standing(answer.Decision))
	return p.err
}

// standing is where things stand after a command.
func standing(d decisionBody) [][]cell {
	rows := [][]cell{{text("state"), text(d.State + ", epoch " + known(d.Epoch, number))}}
	if len(d.Overridden) > 0 {
		rows = append(rows, []cell{text("overridden"), {strings.Join(d.Overridden, ", "), red}})
	}
	if next := known(d.NextAction, asIs); next != unknownText {
		rows = append(rows, words("next", next))
	}
	return rows
}

// against prints where things stand after a refusal, and every criterion that does not pass.
func (p *printer) against(d decisionBody) {
	p.table(standing(d))
	var open []criterion
	for _, c := range d.Criteria {
		if c.Verdict != "pass" && c.Verdict != "not_needed" {
			open = append(open, c)
		}
	}
	if len(open) > 0 {
		p.line()
		p.table(criteriaRows(open))
	}
}
