package rig

import "context"

// Session is one entry of GET /sessions, as far as these programs use it.
type Session struct {
	ID    uint64 `json:"id"`
	User  string `json:"user"`
	State string `json:"state"`
	// Node and Epoch are those of its connection to a server.
	Node  string `json:"node"`
	Epoch uint64 `json:"epoch"`
	// Movable, and NotMovableReason when it is not.
	Movable          bool    `json:"movable"`
	NotMovableReason *string `json:"not_movable_reason"`
}

// Sessions asks the proxy for the client sessions that are open.
func (p *Proxy) Sessions(ctx context.Context) ([]Session, error) {
	var s struct {
		Sessions []Session `json:"sessions"`
	}
	err := p.get(ctx, "/sessions", &s)
	return s.Sessions, err
}
