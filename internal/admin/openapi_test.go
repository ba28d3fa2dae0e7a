package admin

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// document is the part of an OpenAPI document that the tests understand.
type document struct {
	OpenAPI    string
	Paths      map[string]map[string]operation
	Components struct {
		Schemas map[string]schema
	}
}

type operation struct {
	OperationID, Summary string
	Parameters           []struct{ Name, In, Description string }
	Responses            map[string]struct {
		Description string
		Content     map[string]struct{ Schema schema }
	}
}

type schema struct {
	Ref                  string `json:"$ref"`
	Type                 any
	Description          string
	Format               string
	Enum                 []any
	OneOf                []schema
	Properties           map[string]schema
	Required             []string
	AdditionalProperties any
	Items                *schema
	Minimum              *float64
}

// described parses the document that is served.
func described(t *testing.T) document {
	t.Helper()
	var d document
	if err := json.Unmarshal(openapiDocument, &d); err != nil {
		t.Fatalf("openapi.json: %v", err)
	}
	return d
}

// conforms holds a body to a schema of the document: every field is described, and everything described is there.
func conforms(t *testing.T, name, body string) {
	t.Helper()
	d := described(t)
	s, ok := d.Components.Schemas[name]
	if !ok {
		t.Fatalf("openapi.json has no schema %s", name)
	}
	var v any
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Errorf("%s: %v\n%s", name, err, body)
		return
	}
	for _, problem := range d.check(s, name, v) {
		t.Error(problem)
	}
}

func (d document) check(s schema, at string, v any) (problems []string) {
	if s.Ref != "" {
		return d.check(d.Components.Schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")], at, v)
	}
	if len(s.OneOf) > 0 {
		for _, option := range s.OneOf {
			more := d.check(option, at, v)
			if len(more) == 0 {
				return nil
			}
			problems = append(problems, more...)
		}
		return problems
	}
	if !slices.Contains(typesOf(s), jsonType(v)) {
		return []string{fmt.Sprintf("%s is %s, openapi.json says %v", at, jsonType(v), s.Type)}
	}
	if len(s.Enum) > 0 && !slices.Contains(s.Enum, v) {
		problems = append(problems, fmt.Sprintf("%s is %v, openapi.json says one of %v", at, v, s.Enum))
	}
	if text, ok := v.(string); ok && s.Format == "date-time" {
		if _, err := time.Parse("2006-01-02T15:04:05.000Z", text); err != nil {
			problems = append(problems, fmt.Sprintf("%s is %q, not a time with milliseconds in UTC", at, text))
		}
	}
	if n, ok := v.(float64); ok && s.Minimum != nil && n < *s.Minimum {
		problems = append(problems, fmt.Sprintf("%s is %v, openapi.json says at least %v", at, n, *s.Minimum))
	}
	if elements, ok := v.([]any); ok {
		for i, e := range elements {
			problems = append(problems, d.check(*s.Items, fmt.Sprintf("%s[%d]", at, i), e)...)
		}
	}
	if fields, ok := v.(map[string]any); ok {
		problems = append(problems, d.checkFields(s, at, fields)...)
	}
	return problems
}

func (d document) checkFields(s schema, at string, fields map[string]any) (problems []string) {
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		property, ok := s.Properties[name]
		switch {
		case ok:
			problems = append(problems, d.check(property, at+"."+name, fields[name])...)
		case s.AdditionalProperties != true:
			problems = append(problems, fmt.Sprintf("%s.%s is not described in openapi.json", at, name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		if _, ok := fields[name]; !ok {
			problems = append(problems, fmt.Sprintf("%s has no %s, which openapi.json describes", at, name))
		}
		if !slices.Contains(s.Required, name) {
			problems = append(problems, fmt.Sprintf("%s.%s is always there, openapi.json does not say so", at, name))
		}
	}
	return problems
}

// typesOf lists the types that a schema allows.
func typesOf(s schema) []string {
	switch t := s.Type.(type) {
	case string:
		return []string{t}
	case []any:
		var all []string
		for _, one := range t {
			all = append(all, one.(string))
		}
		return all
	}
	return nil
}

// jsonType names the type of a decoded value; every number of this interface is an integer.
func jsonType(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case float64:
		if v == float64(int64(v)) {
			return "integer"
		}
		return "number"
	case []any:
		return "array"
	default:
		return "object"
	}
}

func TestTheDescriptionHasEveryRouteAndNoOther(t *testing.T) {
	d := described(t)
	want := map[string]bool{}
	for _, r := range routes() {
		key := strings.ToLower(r.method) + " " + r.path
		want[key] = true
		op, ok := d.Paths[r.path][strings.ToLower(r.method)]
		if !ok {
			t.Errorf("openapi.json lacks %s", key)
			continue
		}
		var names []string
		for _, p := range op.Parameters {
			names = append(names, p.Name)
			if p.In != "query" || p.Description == "" {
				t.Errorf("%s: parameter %s is in %q, described as %q", key, p.Name, p.In, p.Description)
			}
		}
		if !slices.Equal(names, r.query) {
			t.Errorf("%s takes %v, openapi.json says %v", key, r.query, names)
		}
		if op.OperationID == "" || op.Summary == "" {
			t.Errorf("%s is not explained", key)
		}
	}
	for path, methods := range d.Paths {
		for method := range methods {
			if !want[method+" "+path] {
				t.Errorf("openapi.json describes %s %s, which does not exist", method, path)
			}
		}
	}
}

func TestEverySchemaIsUsedAndEveryFieldExplained(t *testing.T) {
	text := string(openapiDocument)
	d := described(t)
	for name, s := range d.Components.Schemas {
		if !strings.Contains(text, `"#/components/schemas/`+name+`"`) {
			t.Errorf("the schema %s is not used", name)
		}
		explained(t, name, s)
	}
}

func explained(t *testing.T, at string, s schema) {
	if s.Ref == "" && s.Description == "" {
		t.Errorf("%s has no description", at)
	}
	for name, p := range s.Properties {
		if p.Ref == "" {
			explained(t, at+"."+name, p)
		}
	}
}

// TestEveryAnswerIsOneOfThoseDescribed asks each route in ways that are right and wrong, and holds status, type and body to the document.
func TestEveryAnswerIsOneOfThoseDescribed(t *testing.T) {
	w := fullWorld()
	r := start(t, w)
	d := described(t)
	for _, c := range []struct{ method, path, query string }{
		{"GET", "/sessions", ""}, {"GET", "/sessions", "?user=x"}, {"POST", "/sessions", ""},
		{"POST", "/admin/switch", "?region=region-b"}, {"POST", "/admin/switch", "?region=region-b&dry_run=true"}, {"POST", "/admin/switch", ""},
		{"GET", "/admin/switch", "?region=region-b"}, {"POST", "/admin/approve", ""}, {"POST", "/admin/approve", "?epoch=1"}, {"GET", "/admin/approve", ""}, {"POST", "/admin/resolve", ""},
		{"PUT", "/admin/resolve", ""}, {"POST", "/admin/abort", ""}, {"GET", "/admin/abort", ""}, {"POST", "/admin/hold", ""},
		{"POST", "/admin/hold", "?for=1h"}, {"DELETE", "/admin/hold", ""}, {"POST", "/admin/resume", ""}, {"GET", "/admin/resume", ""},
		{"GET", "/status", ""}, {"GET", "/status", "?x=1"}, {"PUT", "/status", ""}, {"GET", "/decision", ""},
		{"GET", "/decision/what-if", "?event=primary_dead"}, {"GET", "/decision/what-if", "?event=earthquake"},
		{"GET", "/events", ""}, {"GET", "/events", "?limit=0"}, {"GET", "/events/stream", "?since=x"}, {"DELETE", "/events/stream", ""},
		{"GET", "/openapi.json", ""}, {"GET", "/metrics", ""}, {"GET", "/healthz", ""}, {"GET", "/readyz", ""}, {"POST", "/readyz", ""},
		{"POST", "/admin/reload", ""}, {"GET", "/admin/reload", ""}, {"POST", "/admin/reload", "?now=1"},
	} {
		a := r.do(c.method, c.path+c.query, withBody(commandBodies[c.path]))
		method := strings.ToLower(c.method)
		if a.status == http.StatusMethodNotAllowed {
			method = slices.Collect(maps.Keys(d.Paths[c.path]))[0]
		}
		described, ok := d.Paths[c.path][method].Responses[fmt.Sprint(a.status)]
		if !ok {
			t.Errorf("%s %s%s answers %d, which openapi.json does not describe", c.method, c.path, c.query, a.status)
			continue
		}
		kind, _, _ := strings.Cut(a.header.Get("Content-Type"), ";")
		content, ok := described.Content[kind]
		if !ok {
			t.Errorf("%s %s%s answers with %q, openapi.json has %v", c.method, c.path, c.query, kind, slices.Collect(maps.Keys(described.Content)))
			continue
		}
		if name, isRef := strings.CutPrefix(content.Schema.Ref, "#/components/schemas/"); isRef {
			conforms(t, name, a.body)
		}
	}
}

func TestTheCheckOfAnswersFindsWhatIsWrong(t *testing.T) {
	d := described(t)
	s := d.Components.Schemas["Node"]
	good := `{"name":"a","address":"b","role":"primary","evidence":"answers","evidence_detail":null,"quarantine":null,"system_identifier":null,` +
		`"timeline":1,"current_lsn":null,"received_lsn":null,"replayed_lsn":null,"lag_bytes":null,"divergence_bytes":null,"replay_lag_ms":null,` +
		`"sync_state":null,"streaming":true,"observed_age_ms":5}`
	for name, c := range map[string]struct {
		change [2]string
		wrong  int
	}{
		"nothing":         {[2]string{"", ""}, 0},
		"an extra field":  {[2]string{`"name":"a"`, `"name":"a","colour":"blue"`}, 1},
		"a missing field": {[2]string{`"streaming":true,`, ``}, 1},
		"a wrong word":    {[2]string{`"primary"`, `"master"`}, 1},
		"a wrong type":    {[2]string{`"timeline":1`, `"timeline":"1"`}, 1},
		"a fraction":      {[2]string{`"observed_age_ms":5`, `"observed_age_ms":5.5`}, 1},
		"a negative":      {[2]string{`"observed_age_ms":5`, `"observed_age_ms":-5`}, 1},
		"a null name":     {[2]string{`"name":"a"`, `"name":null`}, 1},
	} {
		var v any
		if err := json.Unmarshal([]byte(strings.Replace(good, c.change[0], c.change[1], 1)), &v); err != nil {
			t.Fatal(err)
		}
		if problems := d.check(s, "Node", v); len(problems) != c.wrong {
			t.Errorf("%s: found %v, want %d", name, problems, c.wrong)
		}
	}
}
