package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// crossSite tells a browser's request for another site from all others, by Sec-Fetch-Site or else by Origin against Host.
var crossSite = http.NewCrossOriginProtection()

// permit decides whether a POST may go on, and answers it when not.
func (s *Server) permit(w http.ResponseWriter, r *http.Request) bool {
	token := s.deps.Token()
	if err := crossSite.Check(r); err != nil {
		s.refused.warn(r, "cross_site")
		refuse(w, r, http.StatusForbidden, "forbidden", "a web page of another site may not give commands", "use the pgtether command or curl")
		return false
	}
	switch {
	case token != "" && !showsToken(r, token):
		s.refused.warn(r, "token")
		w.Header().Set("WWW-Authenticate", `Bearer realm="pgtether"`)
		refuse(w, r, http.StatusUnauthorized, "unauthorized", "this command needs the token", "send Authorization: Bearer, or set PGTETHER_TOKEN for the pgtether command")
		return false
	case token == "" && !s.loopback:
		s.refused.warn(r, "no_token_set")
		refuse(w, r, http.StatusForbidden, "forbidden", "commands are refused: the admin listener is not on loopback and no token is set",
			"set token_file in [admin], or let [admin] listen on 127.0.0.1")
		return false
	case token == "" && !isLocalName(r.Host):
		// A page of another site whose name was made to point to this machine looks like a page of its own to the browser: only the name tells.
		s.refused.warn(r, "host")
		refuse(w, r, http.StatusForbidden, "forbidden", "without a token commands are taken only under the name of this machine itself, not "+shown(r.Host),
			"use http://127.0.0.1 or http://localhost, or set token_file in [admin]")
		return false
	}
	return true
}

// showsToken compares in a time that does not depend on where the two differ, nor on the token's length.
func showsToken(r *http.Request, token string) bool {
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	a, b := sha256.Sum256([]byte(strings.TrimSpace(given))), sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1 && strings.EqualFold(scheme, "Bearer")
}

// isLocalName reports whether a Host header names this machine as only this machine does.
func isLocalName(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}
	if ip, err := netip.ParseAddr(name); err == nil {
		return ip.IsLoopback()
	}
	return strings.EqualFold(name, "localhost")
}

// quietLog writes at most one refusal per second: whoever is refused must not be able to fill the log.
type quietLog struct {
	log *slog.Logger
	now func() time.Time

	mu         sync.Mutex // guards the following fields
	last       time.Time
	suppressed int
}

func (q *quietLog) warn(r *http.Request, reason string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	if !q.last.IsZero() && now.Sub(q.last) < time.Second {
		q.suppressed++
		return
	}
	q.log.Warn("admin command refused", "reason", reason, "client", r.RemoteAddr, "path", r.URL.Path, "suppressed", q.suppressed)
	q.last, q.suppressed = now, 0
}
