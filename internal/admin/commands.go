package admin

import (
	"net/http"

	"github.com/pgtether/pgtether/decision"
)

// CommandReply is what became of a command, with the decision as it stands after it.
type CommandReply struct {
	// Refusal is known when the command changed nothing.
	Refusal  decision.Opt[decision.Refusal]
	Message  string
	Decision decision.Decision
}

// commandBody is the answer to a command that was accepted.
type commandBody struct {
	Message  string       `json:"message"`
	Decision decisionBody `json:"decision"`
}

// refusalBody is the answer to a command that the engine refuses.
type refusalBody struct {
	Error    errorDetail  `json:"error"`
	Decision decisionBody `json:"decision"`
}

// approve answers POST /admin/approve. What was accepted goes on in the events.
func (s *Server) approve(w http.ResponseWriter, r *http.Request) {
	var c decision.Approve
	if !s.object(w, r, []field{
		{name: "epoch", want: "a whole number", into: &c.Epoch},
		{name: "target", want: "the name of a node", into: &c.Target},
		{name: "override", want: "a list of names of criteria", optional: true, into: &c.Override},
	}) {
		return
	}
	s.command(w, r, c, http.StatusAccepted)
}

// resolve answers POST /admin/resolve. What was accepted goes on in the events.
func (s *Server) resolve(w http.ResponseWriter, r *http.Request) {
	var c decision.Resolve
	if !s.object(w, r, []field{
		{name: "epoch", want: "a whole number", into: &c.Epoch},
		{name: "writer", want: "the name of a node", into: &c.Writer},
	}) {
		return
	}
	s.command(w, r, c, http.StatusAccepted)
}

// abort answers POST /admin/abort.
func (s *Server) abort(w http.ResponseWriter, r *http.Request) { s.plain(w, r, decision.Abort{}) }

// hold answers POST /admin/hold.
func (s *Server) hold(w http.ResponseWriter, r *http.Request) { s.plain(w, r, decision.Pause{}) }

// resume answers POST /admin/resume.
func (s *Server) resume(w http.ResponseWriter, r *http.Request) { s.plain(w, r, decision.Resume{}) }

// plain gives a command that takes no body and is done when it is answered.
func (s *Server) plain(w http.ResponseWriter, r *http.Request, c decision.Command) {
	if s.nothing(w, r) {
		s.command(w, r, c, http.StatusOK)
	}
}

// command hands a command to the engine and renders what became of it.
func (s *Server) command(w http.ResponseWriter, r *http.Request, c decision.Command, accepted int) {
	against := func(given CommandReply) decision.Decision { return given.Decision }
	if given, ok := s.give(w, r, c, against); ok {
		reply(w, r, accepted, commandBody{Message: given.Message, Decision: s.renderDecision(given.Decision)})
	}
}

// give hands a command to the engine. Unless it was accepted it is answered here; against says which decision a refusal carries.
func (s *Server) give(w http.ResponseWriter, r *http.Request, c decision.Command, against func(CommandReply) decision.Decision) (given CommandReply, ok bool) {
	given, err := s.deps.Command(r.Context(), c)
	if err != nil {
		s.unavailable(w, r, err, "GET /events says whether it was carried out all the same")
		return given, false
	}
	if refusal, refused := given.Refusal.Get(); refused {
		s.refuseCommand(w, r, c, refusal, against(given))
		return given, false
	}
	s.deps.Log.Info("admin command", "command", c.Name(), "client", r.RemoteAddr, "outcome", given.Message)
	return given, true
}

// refuseCommand answers a command that the engine refuses, with the decision that stands against it.
func (s *Server) refuseCommand(w http.ResponseWriter, r *http.Request, c decision.Command, why decision.Refusal, d decision.Decision) {
	s.deps.Log.Warn("admin command refused", "command", c.Name(), "client", r.RemoteAddr, "reason", why.Message)
	if why.Code.Malformed() {
		refuse(w, r, http.StatusBadRequest, string(why.Code), why.Message, why.Hint)
		return
	}
	reply(w, r, http.StatusConflict, refusalBody{
		Error:    errorDetail{Code: string(why.Code), Message: why.Message, Hint: why.Hint},
		Decision: s.renderDecision(d),
	})
}
