package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/pgtether/pgtether/decision"
)

// switchBody is the answer to a switchover that begins.
type switchBody struct {
	// ID is the number of the newest event before it: its own events are those after it.
	ID       uint64       `json:"id"`
	Message  string       `json:"message"`
	Decision decisionBody `json:"decision"`
}

// dryRunBody says what a switchover would do.
type dryRunBody struct {
	Decision decisionBody `json:"decision"`
	// Refused says why the order would be refused; null when it would be taken.
	Refused  *errorDetail   `json:"refused"`
	Plan     []planStepBody `json:"plan"`
	Findings []Finding      `json:"findings"`
}

type planStepBody struct {
	Step string `json:"step"`
	Does string `json:"does"`
}

// Finding is something about the nodes that whoever orders a switchover should know.
type Finding struct {
	// Node is null when it is about no single one.
	Node *string `json:"node"`
	// Severity is blocker, warning or info. A blocker refuses the order: the switchover would be undone after its sessions were ended.
	Severity string `json:"severity"`
	What     string `json:"what"`
	// Hint says what can be done about it; null when nothing need be.
	Hint *string `json:"hint"`
}

// preflightTimeout bounds what the nodes are asked for a dry run.
const preflightTimeout = 5 * time.Second

// change answers POST /admin/switch. What was accepted goes on in the events.
func (s *Server) change(w http.ResponseWriter, r *http.Request) {
	c, dry, ok := s.switchOf(w, r)
	if !ok || !s.nothing(w, r) {
		return
	}
	if dry {
		s.dryRun(w, r, c)
		return
	}
	if why := s.blocker(r.Context(), c); why != "" {
		refusal := decision.Refusal{Code: decision.RefusedBlocked, Message: "a switchover to " + c.To + " would fail: " + why, Hint: "dry_run=true says what else there is to know"}
		d, err := s.against(r.Context(), c)
		if err != nil {
			s.unavailable(w, r, err, "try again")
			return
		}
		s.refuseCommand(w, r, c, refusal, d)
		return
	}
	before := s.deps.EventsNewest()
	given, ok := s.give(w, r, c, func(given CommandReply) decision.Decision {
		if d, err := s.against(r.Context(), c); err == nil {
			return d
		}
		return given.Decision
	})
	if ok {
		reply(w, r, http.StatusAccepted, switchBody{ID: before, Message: given.Message, Decision: s.renderDecision(given.Decision)})
	}
}

// against is the decision that a switchover would meet with today's facts: what stands against it, rather than what is decided about now.
func (s *Server) against(ctx context.Context, c decision.Switch) (decision.Decision, error) {
	return s.deps.WhatIf(ctx, decision.Question{Event: decision.EventSwitchover, To: c.To})
}

// blocker says what the engine cannot know and would make a switchover fail; empty when nothing was found, or the engine refuses it anyway.
func (s *Server) blocker(ctx context.Context, c decision.Switch) string {
	if _, refusal, err := s.deps.Plan(ctx, c); err != nil || refusal.Known {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, preflightTimeout)
	defer cancel()
	return s.deps.Unfenceable(ctx)
}

// switchOf reads the order, and answers when it is none.
func (s *Server) switchOf(w http.ResponseWriter, r *http.Request) (c decision.Switch, dry, ok bool) {
	const usage = "POST /admin/switch?region=NAME, with force=true, timeout=DURATION and dry_run=true if wanted"
	bad := func(message string) {
		refuse(w, r, http.StatusBadRequest, "bad_request", message, usage)
	}
	query := r.URL.Query()
	flag := func(name string) (set, wellFormed bool) {
		v := query.Get(name)
		return v == "true", v == "true" || v == "false" || !query.Has(name)
	}
	if c.To = query.Get("region"); c.To == "" {
		bad("the region is missing")
		return c, false, false
	}
	var wellFormed bool
	if c.Force, wellFormed = flag("force"); !wellFormed {
		bad("force is neither true nor false")
		return c, false, false
	}
	if dry, wellFormed = flag("dry_run"); !wellFormed {
		bad("dry_run is neither true nor false")
		return c, false, false
	}
	if query.Has("timeout") {
		d, err := time.ParseDuration(query.Get("timeout"))
		if err != nil || d <= 0 {
			bad("timeout " + shown(query.Get("timeout")) + " is not a duration above 0, such as 5s")
			return c, false, false
		}
		c.Drain = d
	}
	return c, dry, true
}

// dryRun says what would happen, and changes nothing.
func (s *Server) dryRun(w http.ResponseWriter, r *http.Request, c decision.Switch) {
	if !s.isNode(c.To) {
		refuse(w, r, http.StatusBadRequest, string(decision.RefusedUnknownNode), "there is no node "+shown(c.To), "the nodes are in GET /status")
		return
	}
	d, err := s.against(r.Context(), c)
	if err != nil {
		s.unavailable(w, r, err, "try again")
		return
	}
	if s.deps.Status().Writer == decision.Some(c.To) {
		reply(w, r, http.StatusConflict, refusalBody{Error: errorDetail{Code: string(decision.RefusedBlocked), Message: c.To + " is the writer already"},
			Decision: s.renderDecision(d)})
		return
	}
	steps, refusal, err := s.deps.Plan(r.Context(), c)
	if err != nil {
		s.unavailable(w, r, err, "try again")
		return
	}
	body := dryRunBody{Decision: s.renderDecision(d), Plan: []planStepBody{}, Findings: []Finding{}}
	if why, refused := refusal.Get(); refused {
		body.Refused = &errorDetail{Code: string(why.Code), Message: why.Message, Hint: why.Hint}
	}
	for _, p := range steps {
		body.Plan = append(body.Plan, planStepBody{p.Step.String(), p.Does})
	}
	ctx, cancel := context.WithTimeout(r.Context(), preflightTimeout)
	defer cancel()
	body.Findings = append(body.Findings, s.deps.Preflight(ctx, c.To)...)
	reply(w, r, http.StatusOK, body)
}
