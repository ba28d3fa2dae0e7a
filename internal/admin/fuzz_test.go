package admin

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// FuzzRequest sends whatever a client may send: no panic, and an answer that is in the contract.
func FuzzRequest(f *testing.F) {
	f.Add("GET", "/events", "since=1&limit=2", "", "", "")
	f.Add("GET", "/events", "last=3", "", "", "")
	f.Add("GET", "/decision/what-if", "event=switchover&to=region-a", "localhost", "", "")
	f.Add("POST", "/admin/reload", "", "[::1]:7432", "Bearer x", "")
	f.Add("GET", "/events/stream", "since=%zz;", "\x00", "Bearer", "")
	f.Add("POST", "/admin/approve", "", "localhost", "Bearer token", `{"epoch": 7, "target": "region-b", "override": ["loss_allowed"]}`)
	f.Add("POST", "/admin/resolve", "", "localhost", "Bearer token", `{"epoch": 7, "writer": "region-b"} {`)
	f.Add("POST", "/admin/hold", "", "localhost", "Bearer token", "{}")
	w := fullWorld()
	w.token = "token"
	s := New(w.deps())
	f.Fuzz(func(t *testing.T, method, path, query, host, authorization, body string) {
		r := &http.Request{
			Method: method, URL: &url.URL{Path: path, RawQuery: query}, Host: host, Body: io.NopCloser(strings.NewReader(body)),
			Header: http.Header{"Authorization": {authorization}},
		}
		rec := httptest.NewRecorder()
		s.ServeHTTP(rec, r.WithContext(t.Context()))
		if !slices.Contains([]int{200, 202, 400, 401, 403, 404, 405, 413, 503}, rec.Code) {
			t.Fatalf("answers %d", rec.Code)
		}
		if method == http.MethodHead || rec.Header().Get("Content-Type") != "application/json" {
			return
		}
		if !json.Valid(rec.Body.Bytes()) {
			t.Fatalf("not JSON: %s", rec.Body)
		}
		var e errorBody
		if err := json.Unmarshal(rec.Body.Bytes(), &e); rec.Code >= 400 && (err != nil || e.Error.Message == "") {
			t.Fatalf("%d without an error: %s", rec.Code, rec.Body)
		}
	})
}
