package rig

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Criterion is one entry of GET /decision.
type Criterion struct {
	Name        string `json:"name"`
	Verdict     string `json:"verdict"`
	Node        string `json:"node"`
	Explanation string `json:"explanation"`
}

// Decision is what GET /decision says, as far as these programs use it.
type Decision struct {
	Verdict    string      `json:"verdict"`
	State      string      `json:"state"`
	Criteria   []Criterion `json:"criteria"`
	Blocking   []string    `json:"blocking"`
	NextAction string      `json:"next_action"`
	// IfPrimaryDies is the answer of a quiet day.
	IfPrimaryDies struct {
		Verdict  string `json:"verdict"`
		Lossless string `json:"lossless"`
	} `json:"if_primary_dies"`
}

// Criterion returns one criterion by its name; the zero value if there is none.
func (d Decision) Criterion(name string) Criterion {
	for _, c := range d.Criteria {
		if c.Name == name {
			return c
		}
	}
	return Criterion{}
}

// Event is one entry of GET /events.
type Event struct {
	Seq       uint64                     `json:"seq"`
	At        time.Time                  `json:"at"`
	Epoch     *uint64                    `json:"epoch"`
	StateFrom string                     `json:"state_from"`
	StateTo   string                     `json:"state_to"`
	Step      string                     `json:"step"`
	Kind      string                     `json:"kind"`
	Message   string                     `json:"message"`
	Operands  map[string]json.RawMessage `json:"operands"`
}

// Change is what GET /status says of the last change of the writer.
type Change struct {
	Kind     string  `json:"kind"`
	From     *string `json:"from"`
	To       string  `json:"to"`
	Epoch    uint64  `json:"epoch"`
	Lossless string  `json:"lossless"`
	// LossTo is the end of what may be lost, an LSN; nil when nothing is or it is not known.
	LossTo *string `json:"loss_to_lsn"`
	// DataLossBytes and RelaxedCommits are nil when they are not known.
	DataLossBytes  *uint64 `json:"data_loss_bytes"`
	RelaxedCommits *uint64 `json:"relaxed_commits"`
	Steps          []struct {
		Step string `json:"step"`
		MS   int64  `json:"ms"`
	} `json:"steps"`
}

// Decision asks the proxy what it would do now.
func (p *Proxy) Decision(ctx context.Context) (Decision, error) {
	var d Decision
	err := p.get(ctx, "/decision", &d)
	return d, err
}

// Events asks the proxy for everything that has happened.
func (p *Proxy) Events(ctx context.Context) ([]Event, error) {
	var e struct {
		Events []Event `json:"events"`
	}
	err := p.get(ctx, "/events?limit=10000", &e)
	return e.Events, err
}

// Switch orders a switchover to a node; more is what else the query says, as "force=true&timeout=1s". An order that is refused is an error.
func (p *Proxy) Switch(ctx context.Context, to, more string) error {
	return p.command(ctx, "/admin/switch?region="+url.QueryEscape(to)+"&"+more)
}

// Abort asks for the change that is under way to be undone.
func (p *Proxy) Abort(ctx context.Context) error { return p.command(ctx, "/admin/abort") }

// command posts and wants it accepted.
func (p *Proxy) command(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+p.Admin+strings.TrimSuffix(path, "&"), nil)
	if err != nil {
		return fmt.Errorf("command %s: %w", path, err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("command %s: %w", path, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("read answer to %s: %w", path, err)
	}
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusAccepted {
		return fmt.Errorf("command %s: %s: %s", path, res.Status, strings.TrimSpace(string(body)))
	}
	return nil
}

// Counter asks the proxy for a metric without labels.
func (p *Proxy) Counter(ctx context.Context, name string) (float64, error) {
	body, err := p.page(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(body) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				return 0, fmt.Errorf("read metric %s: %w", name, err)
			}
			return n, nil
		}
	}
	return 0, fmt.Errorf("read metric %s: %w", name, errNoMetric)
}

var errNoMetric = errors.New("there is none")
