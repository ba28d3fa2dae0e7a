package admin

import (
	"net/http"
	"time"

	"github.com/pgtether/pgtether/decision"
)

// Session is one client of the data plane.
type Session struct {
	ID uint64
	// Client is the address and port that it comes from.
	Client, User, Database string
	// State is active, idle, in_transaction, waiting (for the end of a switchover) or opaque (not to be looked into).
	State string
	// Since is when the session began, InTransaction since when its transaction is open, as the server said a moment ago; unknown when it had none or did not say.
	Since         time.Time
	InTransaction decision.Opt[time.Time]
	Node          string
	Epoch         uint64
	// PID is its backend's; 0 when the server gave none.
	PID uint32
	// Immovable says why it would not be moved to another writer; empty when it would.
	Immovable string
}

// sessionsBody is GET /sessions.
type sessionsBody struct {
	Sessions []sessionBody `json:"sessions"`
}

type sessionBody struct {
	ID                 uint64  `json:"id"`
	Client             string  `json:"client"`
	User               string  `json:"user"`
	Database           string  `json:"database"`
	State              string  `json:"state"`
	Since              string  `json:"since"`
	InTransactionSince *string `json:"in_transaction_since"`
	Node               string  `json:"node"`
	Epoch              uint64  `json:"epoch"`
	BackendPID         *uint32 `json:"backend_pid"`
	Movable            bool    `json:"movable"`
	NotMovableReason   *string `json:"not_movable_reason"`
}

// sessions answers GET /sessions.
func (s *Server) sessions(w http.ResponseWriter, r *http.Request) {
	body := sessionsBody{Sessions: []sessionBody{}}
	for _, n := range s.deps.ListSessions(r.Context()) {
		b := sessionBody{ID: n.ID, Client: n.Client, User: n.User, Database: n.Database, State: n.State, Since: timestamp(n.Since), Node: n.Node, Epoch: n.Epoch,
			Movable: n.Immovable == "", NotMovableReason: text(n.Immovable)}
		if at, ok := n.InTransaction.Get(); ok {
			b.InTransactionSince = text(timestamp(at))
		}
		if n.PID != 0 {
			b.BackendPID = &n.PID
		}
		body.Sessions = append(body.Sessions, b)
	}
	reply(w, r, http.StatusOK, body)
}
