package admin

import (
	"net/http"

	"github.com/pgtether/pgtether/decision"
)

// statusBody is GET /status.
type statusBody struct {
	Cluster          string         `json:"cluster"`
	Version          string         `json:"version"`
	Instance         string         `json:"instance"`
	StateID          *string        `json:"state_id"`
	StartedAt        string         `json:"started_at"`
	Mode             string         `json:"mode"`
	Automation       string         `json:"automation"`
	AutomationReason *string        `json:"automation_reason"`
	State            string         `json:"state"`
	Step             *string        `json:"step"`
	Since            string         `json:"since"`
	Message          *string        `json:"message"`
	Degraded         []string       `json:"degraded"`
	Epoch            *uint64        `json:"epoch"`
	Writer           *string        `json:"writer"`
	Writes           string         `json:"writes"`
	SystemIdentifier *string        `json:"system_identifier"`
	Timeline         *uint32        `json:"timeline"`
	CrashLossBytes   *uint64        `json:"crash_loss_bytes"`
	Nodes            []nodeBody     `json:"nodes"`
	Sessions         Sessions       `json:"sessions"`
	Switchover       *progressBody  `json:"switchover"`
	LastKnown        *lastKnownBody `json:"last_known"`
	LastChange       *changeBody    `json:"last_change"`
}

type nodeBody struct {
	Name             string  `json:"name"`
	Address          string  `json:"address"`
	Role             string  `json:"role"`
	Evidence         string  `json:"evidence"`
	EvidenceDetail   *string `json:"evidence_detail"`
	Quarantine       *string `json:"quarantine"`
	SystemIdentifier *string `json:"system_identifier"`
	Timeline         *uint32 `json:"timeline"`
	CurrentLSN       *string `json:"current_lsn"`
	ReceivedLSN      *string `json:"received_lsn"`
	ReplayedLSN      *string `json:"replayed_lsn"`
	LagBytes         *uint64 `json:"lag_bytes"`
	DivergenceBytes  *uint64 `json:"divergence_bytes"`
	ReplayLagMS      *int64  `json:"replay_lag_ms"`
	SyncState        *string `json:"sync_state"`
	Streaming        *bool   `json:"streaming"`
	ObservedAgeMS    *int64  `json:"observed_age_ms"`
}

// progressBody is how far a switchover has come.
type progressBody struct {
	To            string                 `json:"to"`
	Force         bool                   `json:"force"`
	Since         string                 `json:"since"`
	Undoable      bool                   `json:"undoable"`
	DrainLeftMS   *int64                 `json:"drain_left_ms"`
	Sessions      *decision.SessionsLeft `json:"sessions"`
	BytesToReplay *uint64                `json:"bytes_to_replay"`
}

type lastKnownBody struct {
	Epoch              uint64   `json:"epoch"`
	Node               string   `json:"node"`
	LSN                string   `json:"lsn"`
	At                 *string  `json:"at"`
	RateBytesPerSecond *uint64  `json:"rate_bytes_per_second"`
	SyncNodes          []string `json:"sync_nodes"`
}

type changeBody struct {
	At                      string         `json:"at"`
	Kind                    string         `json:"kind"`
	From                    *string        `json:"from"`
	To                      string         `json:"to"`
	Epoch                   uint64         `json:"epoch"`
	Lossless                string         `json:"lossless"`
	DataLossBytes           *uint64        `json:"data_loss_bytes"`
	DataLossCommitsEstimate *uint64        `json:"data_loss_commits_estimate"`
	LossFromLSN             *string        `json:"loss_from_lsn"`
	LossToLSN               *string        `json:"loss_to_lsn"`
	RelaxedCommits          *uint64        `json:"relaxed_commits"`
	Sessions                changeSessions `json:"sessions"`
	Steps                   []stepBody     `json:"steps"`
}

type changeSessions struct {
	Moved   uint64 `json:"moved"`
	Ended   uint64 `json:"ended"`
	Refused uint64 `json:"refused"`
}

type stepBody struct {
	Step string `json:"step"`
	MS   int64  `json:"ms"`
}

// status answers GET /status.
func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	reply(w, r, http.StatusOK, s.renderStatus(s.deps.Status(), s.deps.Sessions()))
}

func (s *Server) renderStatus(st decision.Status, sessions Sessions) statusBody {
	id := s.deps.Identity
	writes := st.Writes.String()
	if s.deps.Exiting() {
		writes = "refused"
	}
	body := statusBody{
		Cluster: id.Cluster, Version: id.Version, Instance: id.Instance, StateID: text(id.StateID), StartedAt: timestamp(id.StartedAt),
		Mode: st.Mode.String(), Automation: st.Automation.String(), AutomationReason: text(st.AutomationReason),
		State: st.State.String(), Step: text(st.Step.String()), Since: s.at(st.Since), Message: text(st.Message), Degraded: list(st.Degraded),
		Epoch: known(st.Epoch), Writer: known(st.Writer), Writes: writes,
		SystemIdentifier: known(st.SystemID), Timeline: known(st.Timeline), CrashLossBytes: known(st.CrashLossBytes),
		Nodes: []nodeBody{}, Sessions: sessions,
	}
	for _, n := range st.Nodes {
		body.Nodes = append(body.Nodes, renderNode(n))
	}
	if k, ok := st.LastKnown.Get(); ok {
		body.LastKnown = s.renderLastKnown(k)
	}
	if p, ok := st.Planned.Get(); ok {
		body.Switchover = &progressBody{To: p.To, Force: p.Force, Since: s.at(p.Since), Undoable: p.Undoable, DrainLeftMS: millis(p.DrainLeft),
			Sessions: known(p.Sessions), BytesToReplay: known(p.ToReplay)}
	}
	if c, ok := st.LastChange.Get(); ok {
		body.LastChange = s.renderChange(c)
	}
	return body
}

func renderNode(n decision.NodeStatus) nodeBody {
	return nodeBody{
		Name: n.Name, Address: n.Address, Role: n.Role.String(), Evidence: n.Evidence.String(), EvidenceDetail: text(n.EvidenceDetail),
		Quarantine: text(n.Quarantine), SystemIdentifier: known(n.SystemID), Timeline: known(n.Timeline),
		CurrentLSN: position(n.CurrentLSN), ReceivedLSN: position(n.ReceivedLSN), ReplayedLSN: position(n.ReplayedLSN),
		LagBytes: known(n.LagBytes), DivergenceBytes: known(n.DivergenceBytes), ReplayLagMS: millis(n.ReplayLag),
		SyncState: known(n.SyncState), Streaming: known(n.Streaming), ObservedAgeMS: millis(n.ObservedAge),
	}
}

func (s *Server) renderLastKnown(k decision.LastKnown) *lastKnownBody {
	body := &lastKnownBody{Epoch: k.Epoch, Node: k.Node, LSN: k.LSN.String(), RateBytesPerSecond: known(k.Rate)}
	if at, ok := k.At.Get(); ok {
		body.At = text(s.at(at))
	}
	if nodes, ok := k.Sync.Get(); ok {
		body.SyncNodes = list(nodes)
	}
	return body
}

func (s *Server) renderChange(c decision.Change) *changeBody {
	body := &changeBody{
		At: s.at(c.At), Kind: string(c.Kind), From: text(c.From), To: c.To, Epoch: c.Epoch, Lossless: string(c.Lossless),
		DataLossBytes: known(c.LossBytes), DataLossCommitsEstimate: known(c.LossCommits), LossFromLSN: position(c.LossFrom),
		LossToLSN: position(c.LossTo), RelaxedCommits: known(c.RelaxedCommits),
		Sessions: changeSessions(c.Sessions), Steps: []stepBody{},
	}
	for _, step := range c.Steps {
		body.Steps = append(body.Steps, stepBody{step.Step.String(), step.Took.Milliseconds()})
	}
	return body
}

// at prints an instant of the engine.
func (s *Server) at(i decision.Instant) string { return timestamp(s.deps.Wall(i)) }
