package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgtether/pgtether/decision"
)

// switchOrder is what the flags of a switchover say.
type switchOrder struct {
	clientFlags
	to      string
	force   bool
	timeout time.Duration
	dryRun  bool
}

// dryRunBody is the answer to a dry run.
type dryRunBody struct {
	Decision decisionBody `json:"decision"`
	Refused  *struct {
		Message string `json:"message"`
	} `json:"refused"`
	Plan []struct {
		Step string `json:"step"`
		Does string `json:"does"`
	} `json:"plan"`
	Findings []struct {
		Node     *string `json:"node"`
		Severity string  `json:"severity"`
		What     string  `json:"what"`
		Hint     *string `json:"hint"`
	} `json:"findings"`
}

func newSwitchoverCommand() *cobra.Command {
	var o switchOrder
	cmd := &cobra.Command{
		Use:   "switchover --to NODE [--dry-run] [--force] [--timeout 10s]",
		Short: "change the writer as planned: open transactions end, nothing is lost, and it can be stopped",
		Long: `Change the writer as planned. First the nodes are asked, and every criterion, what else there is to know, and what will happen are shown;
--dry-run ends there. Then open transactions have --timeout (or drain.timeout) to end while idle sessions wait; the old writer is
fenced, the standby replays its end, and is promoted.

Ctrl-C asks for it to be undone, which works until the promotion is asked for: then that is said, and it goes on. When open transactions do
not end in time it is undone, unless --force closes their connections.

Exit codes: 0 the node is the writer, 1 refused or undone, or an operator must decide.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case o.to == "":
				return usageError(errors.New("--to must name the node that is to become the writer"))
			case cmd.Flags().Changed("timeout") && o.timeout <= 0:
				return usageError(errors.New("--timeout must be above 0"))
			}
			return o.run(cmd)
		},
	}
	o.add(cmd)
	cmd.Flags().StringVar(&o.to, "to", "", "the node that is to become the writer")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "say what would happen, and change nothing")
	cmd.Flags().BoolVar(&o.force, "force", false, "close the connections of transactions that do not end in time, instead of undoing it")
	cmd.Flags().DurationVar(&o.timeout, "timeout", 0, "how long open transactions have to end (otherwise drain.timeout)")
	return cmd
}

// query is the order as the proxy takes it.
func (o *switchOrder) query(dry bool) url.Values {
	q := url.Values{"region": {o.to}}
	if o.force {
		q.Set("force", "true")
	}
	if o.timeout > 0 {
		q.Set("timeout", o.timeout.String())
	}
	if dry {
		q.Set("dry_run", "true")
	}
	return q
}

func (o *switchOrder) run(cmd *cobra.Command) error {
	c, err := o.client()
	if err != nil {
		return err
	}
	defer c.http.CloseIdleConnections()
	p := newPrinter(cmd.OutOrStdout())
	if o.dryRun || !o.json {
		why, err := o.preview(cmd, c, p)
		if err != nil || o.dryRun && why == "" {
			return err
		}
		if why != "" {
			return fmt.Errorf("the switchover is blocked, and nothing was changed: %s", why)
		}
	}
	// From here on an interrupt asks for it to be undone.
	interrupted, stop := signal.NotifyContext(context.WithoutCancel(cmd.Context()), syscall.SIGINT, syscall.SIGTERM)
	defer func() { stop() }()
	body, err := c.post(cmd.Context(), "/admin/switch", o.query(false), nil)
	if o.json {
		if _, writeErr := cmd.OutOrStdout().Write(body); writeErr != nil {
			return errors.Join(err, fmt.Errorf("write: %w", writeErr))
		}
	}
	var begun struct {
		ID       uint64       `json:"id"`
		Message  string       `json:"message"`
		Decision decisionBody `json:"decision"`
	}
	if readErr := json.Unmarshal(body, &begun); err == nil && readErr != nil {
		return fmt.Errorf("read the answer of %s: %w", c.base.JoinPath("/admin/switch"), readErr)
	}
	if err != nil {
		if begun.Decision.Verdict != "" && !o.json {
			p.against(begun.Decision)
		}
		return errors.Join(err, p.err)
	}
	if o.json {
		p = newPrinter(io.Discard)
	}
	p.line()
	p.line(text(begun.Message))
	w := watcher{order: o, client: c, p: p, since: begun.ID, began: time.Now()}
	return errors.Join(w.watch(cmd.Context(), interrupted, stop), p.err)
}

// preview shows what would happen, and says why it may not; empty when it may.
func (o *switchOrder) preview(cmd *cobra.Command, c *client, p *printer) (why string, err error) {
	body, err := c.post(cmd.Context(), "/admin/switch", o.query(true), nil)
	if err != nil {
		return "", err
	}
	var d dryRunBody
	if err := json.Unmarshal(body, &d); err != nil {
		return "", fmt.Errorf("read the answer of %s: %w", c.base.JoinPath("/admin/switch"), err)
	}
	if o.json {
		_, err := cmd.OutOrStdout().Write(body)
		return d.blocked(), err
	}
	whole, err := json.Marshal(d.Decision)
	if err != nil {
		return "", fmt.Errorf("write decision: %w", err)
	}
	if err := printDecision(p, whole); err != nil {
		return "", err
	}
	d.print(p)
	return d.blocked(), p.err
}

// blocked says what keeps the switchover from happening.
func (d *dryRunBody) blocked() string {
	if d.Refused != nil {
		return d.Refused.Message
	}
	for _, f := range d.Findings {
		if f.Severity == "blocker" {
			return f.What
		}
	}
	return ""
}

// print shows what was found, and the plan.
func (d *dryRunBody) print(p *printer) {
	if len(d.Findings) > 0 {
		p.line()
		rows := [][]cell{header("FOUND", "NODE", "WHAT")}
		for _, f := range d.Findings {
			what := f.What
			if f.Hint != nil {
				what += ". " + *f.Hint
			}
			rows = append(rows, []cell{{f.Severity, findingColour(f.Severity)}, text(known(f.Node, asIs)), text(what)})
		}
		p.table(rows)
	}
	p.line()
	rows := [][]cell{header("STEP", "WHAT HAPPENS")}
	for _, s := range d.Plan {
		rows = append(rows, words(s.Step, s.Does))
	}
	p.table(rows)
}

func findingColour(severity string) colour {
	switch severity {
	case "blocker":
		return red
	case "warning":
		return yellow
	}
	return plainText
}

const (
	// watchEvery is how often progress is asked for.
	watchEvery = 200 * time.Millisecond
	// silentFor is how long the proxy may give no answer before the command gives up: it may be starting again.
	silentFor = 30 * time.Second
	// openWithin is how long the writer may take to be open again once the switchover was undone.
	openWithin = 30 * time.Second
)

// watch shows how it goes until it has ended. An interrupt asks for it to be undone.
func (w *watcher) watch(ctx, interrupted context.Context, stop func()) error {
	answered := time.Now()
	for {
		over, err := w.look(ctx)
		var exit *exitError
		switch {
		case err == nil && !over:
			answered = time.Now()
		case !over && errors.As(err, &exit) && exit.code == exitUnreachable && time.Since(answered) < silentFor:
		case !over && err != nil:
			return fmt.Errorf("%w; whether the switchover goes on is not known: pgtether status, pgtether events", err)
		default:
			return err
		}
		select {
		case <-interrupted.Done():
			stop()
			interrupted = context.WithoutCancel(ctx) // a second one ends the command as usual
			w.abort(ctx)
		case <-time.After(watchEvery):
		}
	}
}

// watcher follows one switchover.
type watcher struct {
	order *switchOrder
	*client
	p      *printer
	since  uint64
	began  time.Time
	said   string
	undone string
	gaveUp time.Time // when it was seen to be undone
	lost   int       // how often it was seen to be over without an event that says so
}

// look prints what has happened since, and says whether it has ended.
func (w *watcher) look(ctx context.Context) (over bool, err error) {
	body, err := w.get(ctx, "/events", url.Values{"since": {number(w.since)}})
	if err != nil {
		return false, err
	}
	var answer struct {
		Events []eventBody `json:"events"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return false, fmt.Errorf("read events: %w", err)
	}
	body, err = w.get(ctx, "/status", nil)
	if err != nil {
		return false, err
	}
	var s statusBody
	if err := json.Unmarshal(body, &s); err != nil {
		return false, fmt.Errorf("read status: %w", err)
	}
	for _, e := range answer.Events {
		w.since = e.Seq
		w.say(known(e.Step, asIs), e.Message)
		switch e.Kind {
		case "undone":
			w.undone, w.gaveUp = e.Message, time.Now()
		case "halted":
			return true, fmt.Errorf("an operator must decide: %s (pgtether decision)", known(s.Message, asIs))
		}
	}
	switch {
	case w.undone != "" && s.Writes == "open":
		return true, errors.New(w.undone)
	case w.undone != "" && time.Since(w.gaveUp) > openWithin:
		return true, fmt.Errorf("%s; no writer is open since: %s (pgtether decision)", w.undone, known(s.Message, asIs))
	case w.undone == "" && s.Switchover == nil && s.Writes == "open" && known(s.Writer, asIs) != w.order.to:
		if w.lost++; w.lost > 2 { // the event may have come after the question for events
			return true, fmt.Errorf("the writer is %s (pgtether events)", known(s.Writer, asIs))
		}
	case w.undone == "" && s.Switchover == nil && s.Writes == "open" && s.LastChange != nil && known(s.Writer, asIs) == w.order.to:
		w.done(s)
		return true, nil
	}
	w.progress(s)
	return false, nil
}

func (w *watcher) say(step, what string) {
	w.p.line(text(fmt.Sprintf("%6.1fs  %-10s %s", time.Since(w.began).Seconds(), step, what)))
}

// progress says whom it waits for, when that has changed.
func (w *watcher) progress(s statusBody) {
	if s.Switchover == nil {
		return
	}
	var text string
	switch n := s.Switchover; {
	case n.Sessions != nil:
		text = fmt.Sprintf("%d sessions wait; %d are in a transaction, %d have a request under way (pgtether sessions)", n.Sessions.Waiting,
			n.Sessions.InTransaction, n.Sessions.Active)
	case n.BytesToReplay != nil && *n.BytesToReplay > 0:
		text = size(*n.BytesToReplay) + " to replay"
	default:
		return
	}
	if text != w.said {
		w.said = text
		w.say(known(s.Step, asIs), text)
	}
}

// abort asks for it to be undone.
func (w *watcher) abort(ctx context.Context) {
	body, err := w.post(ctx, "/admin/abort", nil, nil)
	if err == nil {
		w.say("", "asked for it to be undone")
		return
	}
	var refusal struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &refusal) == nil && refusal.Error.Message != "" {
		w.say("", "it cannot be undone any more: "+refusal.Error.Message)
		return
	}
	w.say("", "asking for it to be undone failed: "+err.Error())
}

// done says what it came to and what is left for a person to do.
func (w *watcher) done(s statusBody) {
	w.p.line()
	w.p.line(cell{"done: ", green}, text(lastChange(*s.LastChange)))
	from := known(s.LastChange.From, asIs)
	var old, writer decision.Node
	for _, n := range s.Nodes {
		switch n.Name {
		case from:
			old = decision.Node{Name: n.Name, Address: n.Address}
		case w.order.to:
			writer = decision.Node{Name: n.Name, Address: n.Address}
		}
	}
	if old.Name == "" {
		return
	}
	w.p.line()
	w.p.line(text(fmt.Sprintf("%s is fenced and no standby yet. To make it one (its fence is undone when it is; docs/OPERATIONS.md):", from)))
	for _, line := range decision.Rejoin(old, writer) {
		w.p.line(text("  " + line))
	}
}
