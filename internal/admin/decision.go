package admin

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/pgtether/pgtether/decision"
)

// decisionBody is GET /decision and GET /decision/what-if.
type decisionBody struct {
	At             string          `json:"at"`
	Epoch          *uint64         `json:"epoch"`
	State          string          `json:"state"`
	Writer         *string         `json:"writer"`
	Candidate      *string         `json:"candidate"`
	Event          *string         `json:"event"`
	Verdict        string          `json:"verdict"`
	Risk           string          `json:"risk"`
	Lossless       string          `json:"lossless"`
	DataLossBytes  *uint64         `json:"data_loss_bytes"`
	RelaxedCommits *uint64         `json:"relaxed_commits"`
	Criteria       []criterionBody `json:"criteria"`
	Blocking       []string        `json:"blocking"`
	Overridden     []string        `json:"overridden"`
	NextAction     string          `json:"next_action"`
	IfPrimaryDies  outlookBody     `json:"if_primary_dies"`
}

type criterionBody struct {
	Name        string  `json:"name"`
	Verdict     string  `json:"verdict"`
	Value       *string `json:"value"`
	Threshold   *string `json:"threshold"`
	Node        *string `json:"node"`
	AgeMS       *int64  `json:"age_ms"`
	Explanation string  `json:"explanation"`
	Overridden  bool    `json:"overridden"`
}

type outlookBody struct {
	Verdict       string   `json:"verdict"`
	Risk          string   `json:"risk"`
	Lossless      string   `json:"lossless"`
	DataLossBytes *uint64  `json:"data_loss_bytes"`
	Blocking      []string `json:"blocking"`
}

// decision answers GET /decision.
func (s *Server) decision(w http.ResponseWriter, r *http.Request) {
	reply(w, r, http.StatusOK, s.renderDecision(s.deps.Decision()))
}

// whatIf answers GET /decision/what-if.
func (s *Server) whatIf(w http.ResponseWriter, r *http.Request) {
	q := decision.Question{Event: decision.ChangeEvent(r.FormValue("event")), To: r.FormValue("to")}
	if q.Event != decision.EventPrimaryDead && q.Event != decision.EventSwitchover {
		refuse(w, r, http.StatusBadRequest, "bad_request", shown(string(q.Event))+" is not an event", "give event=primary_dead or event=switchover")
		return
	}
	if q.To != "" && !s.isNode(q.To) {
		refuse(w, r, http.StatusBadRequest, "bad_request", "there is no node "+shown(q.To), "the nodes are in GET /status")
		return
	}
	d, err := s.deps.WhatIf(r.Context(), q)
	if err != nil {
		s.unavailable(w, r, err, "try again")
		return
	}
	reply(w, r, http.StatusOK, s.renderDecision(d))
}

// isNode reports whether a node of that name is configured.
func (s *Server) isNode(name string) bool {
	return slices.ContainsFunc(s.deps.Status().Nodes, func(n decision.NodeStatus) bool { return n.Name == name })
}

// unavailable answers when a dependency could not.
func (s *Server) unavailable(w http.ResponseWriter, r *http.Request, err error, hint string) {
	message := "no answer in time"
	if errors.Is(err, ErrUnavailable) {
		message = ErrUnavailable.Error()
	}
	s.deps.Log.Debug("admin request not answered", "path", r.URL.Path, "err", err)
	refuse(w, r, http.StatusServiceUnavailable, "unavailable", message, hint)
}

func (s *Server) renderDecision(d decision.Decision) decisionBody {
	return renderDecision(d, s.deps.Wall)
}

// renderDecision is the body for a decision; wall says what an instant is on the wall.
func renderDecision(d decision.Decision, wall func(decision.Instant) time.Time) decisionBody {
	body := decisionBody{
		At: timestamp(wall(d.At)), Epoch: known(d.Epoch), State: d.State.String(), Writer: known(d.Writer), Candidate: known(d.Candidate),
		Event: text(string(d.Event)), Verdict: verdict(d.Safe), Risk: string(d.Risk), Lossless: string(d.Lossless),
		DataLossBytes: known(d.LossBytes), RelaxedCommits: known(d.RelaxedCommits), Criteria: []criterionBody{}, Blocking: list(d.Blocking),
		Overridden: list(d.Overridden), NextAction: d.NextAction,
		IfPrimaryDies: outlookBody{
			Verdict: verdict(d.IfPrimaryDies.Safe), Risk: string(d.IfPrimaryDies.Risk), Lossless: string(d.IfPrimaryDies.Lossless),
			DataLossBytes: known(d.IfPrimaryDies.LossBytes), Blocking: list(d.IfPrimaryDies.Blocking),
		},
	}
	for _, c := range d.Criteria {
		body.Criteria = append(body.Criteria, criterionBody{
			Name: c.Name, Verdict: c.Verdict.String(), Value: text(c.Value), Threshold: text(c.Threshold), Node: text(c.Node),
			AgeMS: millis(c.Age), Explanation: c.Explanation, Overridden: c.Overridden,
		})
	}
	return body
}

func verdict(safe bool) string {
	if safe {
		return "SAFE"
	}
	return "BLOCKED"
}
