package config

import (
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// validate finds everything that is wrong with the values of a document; it looks at no file and no environment.
func validate(f *File, r *report) {
	checkTags(f, r)
	refuseUnbuilt(f, r)
	checkName(r, "cluster.name", f.Cluster.Name, "the cluster")
	if f.State.Dir == "" {
		r.refuse("state.dir", "is empty; name a folder that survives a restart")
	}
	checkListeners(f, r)
	checkNodes(f, r)
	checkClientTLS(f, r)
	checkBackendTLS(f, r)
	checkProbe(f, r)
	checkTimes(f, r)
	checkFailover(f, r)
	checkAuth(f, r)
}

// checkTags holds every value to the words and bounds that its field states.
func checkTags(f *File, r *report) {
	defaults := map[string]string{}
	for _, k := range Keys() {
		defaults[k.Path] = k.Default
	}
	walk(f, func(path string, field reflect.StructField, v reflect.Value) {
		if r.refused(path) || literal(v) == defaults[withoutIndices(path)] {
			return
		}
		switch value := v.Interface().(type) {
		case string:
			checkText(r, path, field, value)
		case Duration:
			least, _ := ParseDuration(field.Tag.Get("min"))
			most, err := ParseDuration(field.Tag.Get("max"))
			if value < least || (err == nil && value > most) {
				r.refuse(path, "%s is out of bounds: %s", literal(v), typeText(field))
			}
		case int:
			least, _ := strconv.Atoi(field.Tag.Get("min"))
			most, err := strconv.Atoi(field.Tag.Get("max"))
			if value < least || (err == nil && value > most) {
				r.refuse(path, "%d is out of bounds: %s", value, typeText(field))
			}
		}
	})
}

func checkText(r *report, path string, field reflect.StructField, value string) {
	if strings.ContainsFunc(value, unicode.IsControl) {
		r.refuse(path, "%s holds a control character; remove it", quote(value))
		return
	}
	words, ok := field.Tag.Lookup("oneof")
	if !ok {
		return
	}
	for word := range strings.SplitSeq(words, "|") {
		if word == value {
			return
		}
	}
	near, found := nearest(value, strings.Split(words, "|"))
	if found {
		r.refuse(path, "%s is not one of %s; did you mean %q?", quote(value), strings.Join(wordsOf(words), ", "), near)
		return
	}
	r.refuse(path, "%s is not one of %s", quote(value), strings.Join(wordsOf(words), ", "))
}

// maxNameLength bounds the names of the cluster and of the nodes; they are labels of metrics and parts of commands.
const maxNameLength = 63

// checkName holds a name to what needs no quoting in a shell, a URL or a metric label.
func checkName(r *report, path, name, whose string) {
	fits := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.'
	}
	switch {
	case name == "":
		r.refuse(path, "%s needs a name: 1 to %d letters, digits, '-', '_' or '.'", whose, maxNameLength)
	case len(name) > maxNameLength || strings.ContainsFunc(name, func(c rune) bool { return !fits(c) }):
		r.refuse(path, "%s is not a name; use 1 to %d letters, digits, '-', '_' or '.'", quote(name), maxNameLength)
	}
}

// checkProbe checks who asks the nodes.
func checkProbe(f *File, r *report) {
	if f.Probe.User == "" {
		r.refuse("probe.user", `missing; it names the role that configs/sql/probe-role.sql creates: write user = "pgtether" in [probe]`)
	}
	if f.Probe.Database == "" {
		r.refuse("probe.database", `is empty; write the database in which configs/sql/probe-role.sql was run, such as "postgres"`)
	}
}

// drainReserve is what must be left of hold.session after a drain that took all its time: to cut, promote, verify and open.
const drainReserve = Duration(3e9)

// checkTimes checks the durations against each other.
func checkTimes(f *File, r *report) {
	anyRefused := func(paths ...string) bool {
		for _, p := range paths {
			if r.refused(p) {
				return true
			}
		}
		return false
	}
	if least := f.Drain.Timeout + drainReserve; f.Hold.Session <= least && !anyRefused("hold.session", "drain.timeout") {
		path := "hold.session"
		if r.lines[path] == 0 && r.lines["drain.timeout"] > 0 {
			path = "drain.timeout"
		}
		r.refuse(path, "hold.session (%s) must be greater than drain.timeout (%s) + %s, or a switchover that drains to the end would "+
			"outlast the sessions that it holds; raise hold.session or lower drain.timeout", f.Hold.Session, f.Drain.Timeout, drainReserve)
	}
	if round := f.Probe.Interval + f.Probe.Timeout; f.Failover.StableFor < round &&
		!anyRefused("failover.stable_for", "probe.interval", "probe.timeout") {
		path := "failover.stable_for"
		for _, other := range []string{"probe.interval", "probe.timeout"} {
			if r.lines[path] == 0 && r.lines[other] > 0 {
				path = other
			}
		}
		r.refuse(path, "failover.stable_for (%s) must be at least probe.interval (%s) + probe.timeout (%s), or one failed probe would count "+
			"as a failure that lasts; raise failover.stable_for to %s", f.Failover.StableFor, f.Probe.Interval, f.Probe.Timeout, round)
	}
}

// checkAuth checks who answers SCRAM, and where verifiers come from.
func checkAuth(f *File, r *report) {
	a := f.Auth
	if r.refused("auth.scram") {
		return
	}
	proxies, some := a.Scram == "proxy", a.VerifierFile != "" || a.VerifierLookup != ""
	switch {
	case proxies && f.Listen.TLS == "passthrough":
		r.refuse("auth.scram", `"proxy" contradicts listen.tls = "passthrough": pgtether cannot answer what it cannot see; write scram = "relay"`)
	case proxies && !some:
		r.refuse("auth.scram", `"proxy" needs the roles' verifiers: set verifier_file, or verifier_lookup with configs/sql/verifier-lookup.sql`)
	case a.VerifierFile != "" && a.VerifierLookup != "":
		r.refuse("auth.verifier_lookup", "contradicts auth.verifier_file: one of the two says where verifiers come from; remove the other")
	case a.VerifierLookup != "" && !qualifiedFunction.MatchString(a.VerifierLookup):
		r.refuse("auth.verifier_lookup", `%s is not the name of a function with its schema, such as "pgtether.scram_verifier"`, quote(a.VerifierLookup))
	}
}

// qualifiedFunction is "schema.function" in names that need no quotes in SQL: the name becomes part of a statement.
var qualifiedFunction = regexp.MustCompile(`^[a-z_][a-z0-9_$]{0,62}\.[a-z_][a-z0-9_$]{0,62}$`)
