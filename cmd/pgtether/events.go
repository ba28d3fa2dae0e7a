package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

const (
	// retryAfter is how long --follow waits before it asks again for a stream that has ended.
	retryAfter = time.Second
	// longestSilence is how long a stream may say nothing: the proxy gives a sign of life every 15 s, so one that is silent for longer is
	// broken without a word.
	longestSilence = time.Minute
	// usualEvents is how many events the proxy returns when it is not asked for a number.
	usualEvents = 1000
)

// eventBody is the part of an event that people are shown.
type eventBody struct {
	Seq       uint64  `json:"seq"`
	At        string  `json:"at"`
	Epoch     *uint64 `json:"epoch"`
	StateFrom *string `json:"state_from"`
	StateTo   *string `json:"state_to"`
	Step      *string `json:"step"`
	Kind      string  `json:"kind"`
	Cause     *string `json:"cause"`
	Message   string  `json:"message"`
}

type eventFlags struct {
	clientFlags
	since  uint64
	limit  uint
	last   uint
	follow bool
}

func newEventsCommand() *cobra.Command {
	var flags eventFlags
	cmd := &cobra.Command{
		Use:   "events",
		Short: "show what happened: transitions, steps, commands, refusals",
		Long: `Show what happened, oldest first.

With --follow, events are printed as they come until Ctrl-C or, with --limit, until that many were printed; a stream that breaks is taken
up again after the last event. With --json as well, each event is one line of JSON.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("limit") && flags.limit == 0 {
				return usageError(errors.New("--limit must be at least 1"))
			}
			if cmd.Flags().Changed("last") && flags.last == 0 {
				return usageError(errors.New("--last must be at least 1"))
			}
			if flags.follow {
				return flags.stream(cmd)
			}
			return flags.show(cmd, "/events", flags.query(cmd, flags.since), flags.printEvents)
		},
	}
	flags.add(cmd)
	cmd.Flags().Uint64Var(&flags.since, "since", 0, "only events after this sequence number")
	cmd.Flags().UintVar(&flags.limit, "limit", 0, "at most this many events")
	cmd.Flags().UintVar(&flags.last, "last", 0, "only the newest so many")
	cmd.Flags().BoolVarP(&flags.follow, "follow", "f", false, "go on printing events as they come")
	for _, other := range []string{"limit", "follow"} {
		cmd.MarkFlagsMutuallyExclusive("last", other)
	}
	return cmd
}

// query holds what was asked for and leaves the defaults to the proxy.
func (f *eventFlags) query(cmd *cobra.Command, since uint64) url.Values {
	query := url.Values{}
	if since > 0 || cmd.Flags().Changed("since") {
		query.Set("since", strconv.FormatUint(since, 10))
	}
	if f.last > 0 {
		query.Set("last", strconv.FormatUint(uint64(f.last), 10))
	}
	if f.limit > 0 && !f.follow {
		query.Set("limit", strconv.FormatUint(uint64(f.limit), 10))
	}
	return query
}

func (f *eventFlags) printEvents(p *printer, body []byte) error {
	var answer struct {
		Events []eventBody `json:"events"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return err
	}
	rows := [][]cell{header("SEQ", "AT", "EPOCH", "KIND", "STATE", "MESSAGE")}
	for _, e := range answer.Events {
		rows = append(rows, e.row())
	}
	p.table(rows)
	if n := len(answer.Events); f.last == 0 && (n == usualEvents || n > 0 && n == int(f.limit)) {
		p.line(text(fmt.Sprintf("there may be more: pgtether events --since %d", answer.Events[n-1].Seq)))
	}
	return nil
}

func (e eventBody) row() []cell {
	message := e.Message
	if cause := known(e.Cause, asIs); cause != unknownText && cause != message {
		message += " (" + cause + ")"
	}
	row := words(number(e.Seq), e.At, known(e.Epoch, number), e.Kind, e.state(), orUnknown(message))
	row[4].colour = plainText
	if e.StateTo != nil {
		row[4].colour = stateColour(*e.StateTo)
	}
	return row
}

// state shows where an event led to, and from where if it changed the state.
func (e eventBody) state() string {
	s := known(e.StateTo, asIs)
	if e.StateFrom != nil && *e.StateFrom != "" && *e.StateFrom != s {
		s = *e.StateFrom + " -> " + s
	}
	if step := known(e.Step, asIs); step != unknownText {
		s += "/" + step
	}
	return s
}

// follower prints a stream and remembers how far it came.
type follower struct {
	flags   *eventFlags
	client  *client
	printer *printer
	cmd     *cobra.Command
	since   uint64
	printed uint
}

// errEnough ends a stream when the limit is reached.
var errEnough = errors.New("as many events as asked for")

// stream follows until Ctrl-C, the limit, or an answer that no new attempt would better.
func (f *eventFlags) stream(cmd *cobra.Command) error {
	c, err := f.client()
	if err != nil {
		return err
	}
	defer c.http.CloseIdleConnections()
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	w := &follower{flags: f, client: c, printer: newPrinter(cmd.OutOrStdout()), cmd: cmd, since: f.since}
	for connected := false; ; {
		opened, err := w.once(ctx)
		connected = connected || opened
		var exit *exitError
		lost := err == nil || errors.As(err, &exit) && exit.code == exitUnreachable
		switch {
		case errors.Is(err, errEnough) || ctx.Err() != nil:
			return nil
		case !connected || !lost:
			return err
		case opened:
			fmt.Fprintf(cmd.ErrOrStderr(), "pgtether: the stream of %s ended, trying again\n", c.base)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retryAfter):
		}
	}
}

// once opens the stream and prints it until it ends; opened says whether there was one.
func (w *follower) once(ctx context.Context) (opened bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := w.client.request(ctx, "/events/stream", w.flags.query(w.cmd, w.since))
	if err != nil {
		return false, err
	}
	req.Header.Set("Accept", "text/event-stream")
	resp, err := w.client.http.Do(req)
	if err != nil {
		return false, unreachableError(fmt.Errorf("reach the proxy: %w", err))
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		body, err := readAnswer(resp.Body)
		if err != nil {
			return false, unreachableError(fmt.Errorf("read the answer of %s: %w", req.URL, err))
		}
		return false, checkAnswer(resp, body)
	}
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind != "text/event-stream" {
		return false, unreachableError(fmt.Errorf("%s answers with no stream of events: is this the proxy's admin address?", req.URL))
	}
	silent := time.AfterFunc(longestSilence, cancel)
	defer silent.Stop()
	err = readStream(resp.Body, func() { silent.Reset(longestSilence) }, w.print)
	if err != nil && !errors.Is(err, errEnough) && w.printer.err == nil && !errors.Is(err, errNotEvents) {
		err = unreachableError(fmt.Errorf("read the stream of %s: %w", req.URL, err))
	}
	return true, err
}

// print shows the data of one event of the stream.
func (w *follower) print(data []byte) error {
	var e eventBody
	if err := json.Unmarshal(data, &e); err != nil {
		return fmt.Errorf("read event: %w: %w", errNotEvents, err)
	}
	if w.flags.json {
		var oneLine bytes.Buffer
		if err := json.Compact(&oneLine, data); err != nil {
			return fmt.Errorf("read event: %w: %w", errNotEvents, err)
		}
		w.printer.write(oneLine.String() + "\n")
	} else {
		row := e.row()
		w.printer.line(text(fmt.Sprintf("%6s  %s  %5s  %-19s  ", row[0].text, row[1].text, row[2].text, row[3].text)), row[4], text("  "), row[5])
	}
	if w.printer.err != nil {
		return w.printer.err
	}
	w.since = e.Seq
	w.printed++
	if w.flags.limit > 0 && w.printed == w.flags.limit {
		return errEnough
	}
	return nil
}
