package admin

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/pgtether/pgtether/decision"
)

// errorBody is the shape of every refusal.
type errorBody struct {
	Error errorDetail `json:"error"`
}

type errorDetail struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
}

// refuse answers with an error. Parts of the request may be in the message only as shown.
func refuse(w http.ResponseWriter, r *http.Request, status int, code, message, hint string) {
	reply(w, r, status, errorBody{errorDetail{Code: code, Message: message, Hint: hint}})
}

// reply answers with a value as JSON, indented for people.
func reply(w http.ResponseWriter, r *http.Request, status int, body any) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(body); err != nil {
		panic("admin: invariant: a body that is not JSON: " + err.Error())
	}
	send(w, r, status, "application/json", b.Bytes())
}

// send answers with a whole body; a HEAD gets its length only.
func send(w http.ResponseWriter, r *http.Request, status int, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		// An error means that the client is gone: there is nobody to tell.
		_, _ = w.Write(body)
	}
}

// shown makes a part of the request fit for a message: quoted, one line, bounded.
func shown(s string) string {
	const most = 100
	if len(s) > most {
		s = s[:most] + "..."
	}
	return strconv.QuoteToASCII(s)
}

// queryOf parses the query strictly.
func queryOf(r *http.Request) (url.Values, error) { return url.ParseQuery(r.URL.RawQuery) }

func sortedNames(query url.Values) []string { return slices.Sorted(maps.Keys(query)) }

// timestamp prints a time as every answer has it: RFC 3339 with milliseconds, in UTC.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }

// known returns what is known, and nil, which is null, for what is not.
func known[T any](o decision.Opt[T]) *T {
	if v, ok := o.Get(); ok {
		return &v
	}
	return nil
}

// position prints a WAL position as PostgreSQL does.
func position(o decision.Opt[decision.LSN]) *string {
	if v, ok := o.Get(); ok {
		s := v.String()
		return &s
	}
	return nil
}

// millis is a duration in whole milliseconds.
func millis(o decision.Opt[time.Duration]) *int64 {
	if v, ok := o.Get(); ok {
		ms := v.Milliseconds()
		return &ms
	}
	return nil
}

// text is nil, which is null, for an empty text.
func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// list is never null.
func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
