package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pgtether/pgtether/decision"
	"github.com/pgtether/pgtether/health"
	"github.com/pgtether/pgtether/internal/config"
)

// liveReport says what the nodes answered and what the failover engine makes of it.
type liveReport struct {
	// Summary is the engine's own sentence about the cluster.
	Summary string `json:"summary"`
	// Writer and Candidate are null when there is none.
	Writer    *string `json:"writer"`
	Candidate *string `json:"candidate"`
	// Blocking names every criterion that would block a failover if the writer died now.
	Blocking []string `json:"blocking"`
	// General holds those that are about no single node.
	General []finding    `json:"general"`
	Nodes   []nodeReport `json:"nodes"`
}

type nodeReport struct {
	Name           string    `json:"name"`
	Address        string    `json:"address"`
	Role           string    `json:"role"`
	Evidence       string    `json:"evidence"`
	EvidenceDetail string    `json:"evidence_detail,omitempty"`
	Quarantine     string    `json:"quarantine,omitempty"`
	Blocking       []finding `json:"blocking"`
	Warnings       []string  `json:"warnings"`
}

// finding is a criterion that does not pass.
type finding struct {
	Criterion   string `json:"criterion"`
	Verdict     string `json:"verdict"`
	Value       string `json:"value,omitempty"`
	Threshold   string `json:"threshold,omitempty"`
	Explanation string `json:"explanation"`
}

// examine asks every node twice and puts the answers to an engine that has just been started: the same function that decides in a running
// proxy says what would block a failover.
func examine(ctx context.Context, file *config.File) (*liveReport, error) {
	observations, err := observe(ctx, file)
	if err != nil {
		return nil, err
	}
	overlook(observations, running(ctx, file))
	engine := imagine(file.Decision(), observations)
	return summarize(engine.Status(), engine.Decide(decision.Question{Event: decision.EventPrimaryDead}), observations), nil
}

// running is the instance of the proxy that runs with this very configuration, as its admin listener says; "" when none answers there.
func running(ctx context.Context, file *config.File) string {
	base, err := parseAdmin(reachable(file.Admin.Address))
	if err != nil {
		return ""
	}
	c := newClient("")
	c.base = base
	defer c.http.CloseIdleConnections()
	body, err := c.get(ctx, "/status", nil)
	var s statusBody
	if err != nil || json.Unmarshal(body, &s) != nil {
		return ""
	}
	return s.Instance
}

// overlook takes one instance from those that watch the nodes: the proxy whose configuration is checked is no other one.
func overlook(observations []decision.Observation, instance string) {
	for i := range observations {
		if names, ok := observations[i].Rivals.Get(); ok {
			observations[i].Rivals = decision.Some(slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == instance }))
		}
	}
}

// observe probes all nodes at the same time. The second round of each has the persistent way in, too, and is the one that counts.
func observe(ctx context.Context, file *config.File) ([]decision.Observation, error) {
	cfg := file.Health()
	observations := make([]decision.Observation, len(file.Nodes))
	var all errgroup.Group
	for i, n := range file.Nodes {
		target, err := cfg.Target(n.Name, n.Address, "check")
		if err != nil {
			return nil, fmt.Errorf("probe node %s: %w", n.Name, err)
		}
		target.Passing = true // a proxy that is running must not take this for another one
		all.Go(func() error {
			started := time.Now()
			prober := health.NewProber(func() decision.Instant { return decision.Instant(time.Since(started)) })
			defer prober.Close()
			first := prober.Probe(ctx, target)
			o := prober.Probe(ctx, target)
			if o.Replication.Evidence == decision.EvidenceUnknown { // a refusal is not asked for again at once
				o.Replication = first.Replication
			}
			observations[i] = o
			return nil
		})
	}
	return observations, all.Wait()
}

// imagine returns an engine that has seen the observations for as long as it takes to believe them: a proxy that starts beside a dead node
// waits stable_for before it serves the other one. The time is the engine's own; nobody waits here.
func imagine(cfg decision.Config, observations []decision.Observation) *decision.Engine {
	engine := decision.New(cfg, decision.NewRecord(), decision.Opt[decision.LastKnown]{})
	enough := decision.Instant(cfg.StableFor + 2*cfg.ProbeInterval)
	rounds := 2 // after the adoption the engine must see the writer's facts, and then the standby's beside them
	for at := decision.Instant(0); at <= enough && rounds > 0; at = at.Add(cfg.ProbeInterval) {
		feed(engine, decision.Tick{At: at})
		for _, o := range observations {
			o.Began = at
			feed(engine, decision.Observed{At: at, Observation: o})
		}
		if engine.Status().Writer.Known {
			rounds--
		}
	}
	return engine
}

// feed steps the engine and reports everything that it asks for as done: nothing is kept, opened or cut here.
func feed(engine *decision.Engine, event decision.Event) {
	queue := engine.Step(event)
	for len(queue) > 0 {
		action := queue[0]
		queue = queue[1:]
		switch action.(type) {
		case decision.Persist, decision.Cut:
			queue = append(queue, engine.Step(decision.Completed{At: engine.Status().At, ActionID: action.Head().ID})...)
		}
	}
}

// beside are the criteria that judge a running proxy or the operator's choice of mode: a check of the nodes has nothing to say about them.
var beside = map[string]bool{"state_durable": true, "approved": true, "quorum": true, "not_flapping": true}

func summarize(status decision.Status, d decision.Decision, observations []decision.Observation) *liveReport {
	r := &liveReport{Summary: status.Message, Blocking: []string{}, General: []finding{}}
	if w, ok := d.Writer.Get(); ok {
		r.Writer = &w
	}
	if c, ok := d.Candidate.Get(); ok {
		r.Candidate = &c
	}
	place := map[string]*nodeReport{}
	r.Nodes = make([]nodeReport, len(status.Nodes))
	for i, n := range status.Nodes {
		r.Nodes[i] = nodeReport{Name: n.Name, Address: n.Address, Role: n.Role.String(), Evidence: n.Evidence.String(), EvidenceDetail: n.EvidenceDetail,
			Quarantine: n.Quarantine, Blocking: []finding{}, Warnings: []string{}}
		place[n.Name] = &r.Nodes[i]
	}
	for _, c := range d.Criteria {
		if beside[c.Name] || c.Verdict == decision.Pass || c.Verdict == decision.NotNeeded {
			continue
		}
		r.Blocking = append(r.Blocking, c.Name)
		f := finding{c.Name, c.Verdict.String(), c.Value, c.Threshold, c.Explanation}
		if n := place[c.Node]; n != nil {
			n.Blocking = append(n.Blocking, f)
		} else {
			r.General = append(r.General, f)
		}
	}
	for _, o := range observations {
		if n := place[o.Node]; n != nil {
			n.Warnings = append(n.Warnings, warningsAbout(o)...)
		}
	}
	return r
}

// verdict is the error that ends the command when a failover would be blocked.
func (r *liveReport) verdict() error {
	switch {
	case r.Writer == nil:
		return fmt.Errorf("check the nodes: no writer: %s", r.Summary)
	case len(r.Blocking) > 0:
		return fmt.Errorf("check the nodes: a failover would be blocked by %s", strings.Join(r.Blocking, ", "))
	default:
		return nil
	}
}

func (r *liveReport) print(p *printer) {
	p.line()
	p.line(text(r.Summary))
	p.findings(r.General)
	for _, n := range r.Nodes {
		p.line()
		p.line(text(n.Name+" at "+n.Address+": "+n.Role+", "), cell{n.Evidence, evidenceColour(n.Evidence)})
		if n.Quarantine != "" {
			p.line(text("  "), cell{"quarantined: ", red}, text(n.Quarantine))
		}
		if n.Evidence != decision.Answers.String() && n.EvidenceDetail != "" {
			p.line(text("  " + n.EvidenceDetail))
		}
		p.findings(n.Blocking)
		for _, w := range n.Warnings {
			p.line(cell{"  warning: ", yellow}, text(w))
		}
		if n.Evidence == decision.Answers.String() && n.Quarantine == "" && len(n.Blocking) == 0 {
			p.line(text("  nothing here would block a failover"))
		}
	}
}

func (p *printer) findings(findings []finding) {
	for _, f := range findings {
		p.line(cell{"  blocks: ", red}, text(f.Criterion+" ("+f.Verdict+"): "+f.Explanation))
	}
}
