package admin

import (
	_ "embed" // the description of the interface is part of the binary
	"errors"
	"net/http"
)

// openapiDocument describes the whole interface; a test compares it with the routes and with real answers.
//
//go:embed openapi.json
var openapiDocument []byte

// openapi answers GET /openapi.json.
func (s *Server) openapi(w http.ResponseWriter, r *http.Request) {
	send(w, r, http.StatusOK, "application/json", openapiDocument)
}

// metrics answers GET /metrics.
func (s *Server) metrics(w http.ResponseWriter, r *http.Request) { s.deps.Metrics.ServeHTTP(w, r) }

type healthBody struct {
	Alive bool `json:"alive"`
}

type readyBody struct {
	Ready  bool   `json:"ready"`
	Reason string `json:"reason"`
}

// healthz answers GET /healthz: that it answers is the answer.
func (s *Server) healthz(w http.ResponseWriter, r *http.Request) {
	reply(w, r, http.StatusOK, healthBody{Alive: true})
}

// readyz answers GET /readyz.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	ready, why := s.deps.Ready()
	status := http.StatusOK
	if !ready {
		status = http.StatusServiceUnavailable
	}
	reply(w, r, status, readyBody{Ready: ready, Reason: why})
}

type reloadBody struct {
	Reloaded bool     `json:"reloaded"`
	Changes  []string `json:"changes"`
	Warnings []string `json:"warnings"`
}

// reload answers POST /admin/reload.
func (s *Server) reload(w http.ResponseWriter, r *http.Request) {
	if !s.nothing(w, r) {
		return
	}
	done, err := s.deps.Reload(r.Context())
	switch {
	case errors.Is(err, ErrUnavailable) || err != nil && r.Context().Err() != nil:
		s.unavailable(w, r, err, "try again")
	case err != nil:
		s.deps.Log.Warn("admin command failed", "path", r.URL.Path, "client", r.RemoteAddr, "err", err)
		refuse(w, r, http.StatusBadRequest, "invalid_config", err.Error(), "nothing has changed: the configuration before it stays in force")
	default:
		s.deps.Log.Info("admin command", "path", r.URL.Path, "client", r.RemoteAddr)
		reply(w, r, http.StatusOK, reloadBody{Reloaded: true, Changes: list(done.Changes), Warnings: list(done.Warnings)})
	}
}
