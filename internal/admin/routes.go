package admin

import (
	"net/http"
	"slices"
	"strings"
)

// route is one path: how it is called and who answers.
type route struct {
	method string
	path   string
	// query lists the parameters; any other is refused. A route with anyQuery takes whatever comes: probes and scrapers add their own.
	query    []string
	anyQuery bool
	serve    func(s *Server, w http.ResponseWriter, r *http.Request)
}

// routes is the whole interface; /openapi.json is tested against it. What is not here does not exist in this version.
func routes() []route {
	return []route{
		{method: http.MethodGet, path: "/status", serve: (*Server).status},
		{method: http.MethodGet, path: "/decision", serve: (*Server).decision},
		{method: http.MethodGet, path: "/decision/what-if", query: []string{"event", "to"}, serve: (*Server).whatIf},
		{method: http.MethodGet, path: "/events", query: []string{"since", "limit", "last"}, serve: (*Server).events},
		{method: http.MethodGet, path: "/events/stream", query: []string{"since"}, serve: (*Server).stream},
		{method: http.MethodGet, path: "/openapi.json", serve: (*Server).openapi},
		{method: http.MethodGet, path: "/metrics", anyQuery: true, serve: (*Server).metrics},
		{method: http.MethodGet, path: "/healthz", anyQuery: true, serve: (*Server).healthz},
		{method: http.MethodGet, path: "/readyz", anyQuery: true, serve: (*Server).readyz},
		{method: http.MethodGet, path: "/sessions", serve: (*Server).sessions},
		{method: http.MethodPost, path: "/admin/switch", query: []string{"region", "force", "timeout", "dry_run"}, serve: (*Server).change},
		{method: http.MethodPost, path: "/admin/approve", serve: (*Server).approve},
		{method: http.MethodPost, path: "/admin/resolve", serve: (*Server).resolve},
		{method: http.MethodPost, path: "/admin/abort", serve: (*Server).abort},
		{method: http.MethodPost, path: "/admin/hold", serve: (*Server).hold},
		{method: http.MethodPost, path: "/admin/resume", serve: (*Server).resume},
		{method: http.MethodPost, path: "/admin/reload", serve: (*Server).reload},
	}
}

// ServeHTTP finds the route and holds the request to it.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	all := routes()
	i := slices.IndexFunc(all, func(t route) bool { return t.path == r.URL.Path })
	if i < 0 {
		refuse(w, r, http.StatusNotFound, "not_found", "there is no "+shown(r.URL.Path), "GET /openapi.json lists what this version has")
		return
	}
	t := all[i]
	allowed := []string{t.method}
	if t.method == http.MethodGet {
		allowed = append(allowed, http.MethodHead)
	}
	if !slices.Contains(allowed, r.Method) {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		refuse(w, r, http.StatusMethodNotAllowed, "method_not_allowed", shown(r.Method)+" is not allowed for "+t.path, "use "+t.method)
		return
	}
	if t.method == http.MethodPost && !s.permit(w, r) {
		return
	}
	if !t.anyQuery && !checkQuery(w, r, t) {
		return
	}
	t.serve(s, w, r)
}

// secure tells browsers that nothing here is a page, nothing is to be kept, and nothing is for another site.
func secure(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
}

// checkQuery refuses parameters that the route does not have: a misspelled one would otherwise change the question without a word.
func checkQuery(w http.ResponseWriter, r *http.Request, t route) bool {
	takes := "it takes none"
	if len(t.query) > 0 {
		takes = "it takes " + strings.Join(t.query, ", ")
	}
	query, err := queryOf(r)
	if err != nil {
		refuse(w, r, http.StatusBadRequest, "bad_request", "the query is not well-formed", takes)
		return false
	}
	for _, name := range sortedNames(query) {
		switch {
		case !slices.Contains(t.query, name):
			refuse(w, r, http.StatusBadRequest, "bad_request", t.path+" has no parameter "+shown(name), takes)
			return false
		case len(query[name]) > 1:
			refuse(w, r, http.StatusBadRequest, "bad_request", "the parameter "+name+" is there more than once", "give it once")
			return false
		}
	}
	return true
}
