package main

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// outcome is how one test came out.
type outcome string

const (
	passed  outcome = "pass"
	failed  outcome = "fail"
	skipped outcome = "skip"
)

// results are a suite's outcomes by the name of the test.
type results map[string]outcome

// count is how many tests came out so.
func (r results) count(o outcome) int {
	n := 0
	for _, got := range r {
		if got == o {
			n++
		}
	}
	return n
}

// onlyBehind names the tests that pass on a direct connection and do not behind the proxy. A test that is missing there did not pass: the
// suite may have ended before it.
func onlyBehind(direct, through results) []string {
	var names []string
	for name, o := range direct {
		if o == passed && through[name] != passed {
			names = append(names, name)
		}
	}
	// A test that only the proxied run knows, and that fails, is a difference too.
	for name, o := range through {
		if _, known := direct[name]; !known && o == failed {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// leaves drops the tests that only hold others: they fail when one of theirs does.
func (r results) leaves() results {
	sorted := slices.Sorted(maps.Keys(r))
	out := results{}
	for i, name := range sorted {
		if i+1 < len(sorted) && strings.HasPrefix(sorted[i+1], name+"/") {
			continue
		}
		out[name] = r[name]
	}
	return out
}

// madeUp are numbers of temporary directories and the like in the names of tests: they differ from run to run.
var madeUp = regexp.MustCompile(`[0-9]{7,}`)

// readGo reads what go test -json prints. A package that could not be built or panicked counts as one failed test of its own name.
func readGo(in io.Reader) (results, error) {
	out := results{}
	for d := json.NewDecoder(in); ; {
		var e struct{ Action, Package, Test string }
		err := d.Decode(&e)
		if err == io.EOF {
			return out.leaves(), nil
		}
		if err != nil {
			return nil, fmt.Errorf("read test events: %w", err)
		}
		name := e.Package
		if e.Test != "" {
			name += "." + madeUp.ReplaceAllString(e.Test, "...")
		}
		switch o := outcome(e.Action); {
		case e.Test == "" && o != failed:
		case o == passed, o == failed, o == skipped:
			out[name] = o
		}
	}
}

// readJUnit adds what a file in JUnit's format says: surefire and pytest write such.
func readJUnit(in io.Reader, out results) error {
	type testCase struct {
		Class   string    `xml:"classname,attr"`
		Name    string    `xml:"name,attr"`
		Failure *struct{} `xml:"failure"`
		Error   *struct{} `xml:"error"`
		Skipped *struct{} `xml:"skipped"`
	}
	for d := xml.NewDecoder(in); ; {
		token, err := d.Token()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read report: %w", err)
		}
		start, ok := token.(xml.StartElement)
		if !ok || start.Name.Local != "testcase" {
			continue
		}
		var c testCase
		if err := d.DecodeElement(&c, &start); err != nil {
			return fmt.Errorf("read report: %w", err)
		}
		name, o := c.Class+"."+c.Name, passed
		switch {
		case c.Failure != nil, c.Error != nil:
			o = failed
		case c.Skipped != nil:
			o = skipped
		}
		if out[name] != failed { // of several with one name the worst counts
			out[name] = o
		}
	}
}

// readLines makes each line that a workload printed a test of its own: the line's key is its name, the value has to be the same both ways.
func readLines(direct, through string) (d, p results) {
	d, p = results{}, results{}
	values := func(text string) map[string]string {
		m := map[string]string{}
		for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
			key, value, _ := strings.Cut(line, "\t")
			m[key] += value + "\n"
		}
		return m
	}
	want, got := values(direct), values(through)
	for key, value := range want {
		d[key], p[key] = passed, passed
		if got[key] != value {
			p[key] = failed
		}
	}
	for key := range got {
		if _, known := want[key]; !known {
			p[key] = failed
		}
	}
	return d, p
}
