package main

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestOnlyTheProxysOwnFailuresAreCounted(t *testing.T) {
	direct := results{"same": passed, "broken anyway": failed, "skipped": skipped, "lost": passed, "missing": passed, "skipped there": passed}
	through := results{"same": passed, "broken anyway": failed, "skipped": failed, "lost": failed, "skipped there": skipped, "new": failed}
	want := []string{"lost", "missing", "new", "skipped there"}
	if got := onlyBehind(direct, through); !slices.Equal(got, want) {
		t.Errorf("only behind: %q, want %q", got, want)
	}
	if got := onlyBehind(direct, direct); got != nil {
		t.Errorf("the same run differs from itself in %q", got)
	}
}

func TestGoEventsAreReadByTheirLeaves(t *testing.T) {
	const events = `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"x"}
{"Action":"pass","Package":"p","Test":"TestA/one"}
{"Action":"fail","Package":"p","Test":"TestA/two"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"skip","Package":"p","Test":"TestB/dir/TestB2930144117/001"}
{"Action":"pass","Package":"p","Test":"TestAB"}
{"Action":"fail","Package":"broken"}
{"Action":"pass","Package":"p"}
`
	got, err := readGo(strings.NewReader(events))
	want := results{"p.TestA/one": passed, "p.TestA/two": failed, "p.TestB/dir/TestB.../001": skipped, "p.TestAB": passed, "broken": failed}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("read %v (%v), want %v", got, err, want)
	}
	if _, err := readGo(strings.NewReader("not JSON")); err == nil {
		t.Error("what is not JSON is no error")
	}
}

func TestReportsOfJavaAndPythonAreRead(t *testing.T) {
	const report = `<?xml version="1.0"?><testsuites><testsuite name="s"><properties><property name="x"/></properties>
<testcase classname="c" name="good" time="0.1"/><testcase classname="c" name="bad"><failure message="m">trace</failure></testcase>
<testcase classname="c" name="worse"><error/></testcase><testcase classname="c" name="left out"><skipped/></testcase>
<testcase classname="c" name="twice"><failure/></testcase><testcase classname="c" name="twice"/></testsuite></testsuites>`
	got := results{}
	err := readJUnit(strings.NewReader(report), got)
	want := results{"c.good": passed, "c.bad": failed, "c.worse": failed, "c.left out": skipped, "c.twice": failed}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("read %v (%v), want %v", got, err, want)
	}
	if err := readJUnit(strings.NewReader("<testsuite><testcase"), results{}); err == nil {
		t.Error("a torn report is no error")
	}
	if got.count(failed) != 3 || got.count(passed) != 1 {
		t.Errorf("counted %d failed and %d passed", got.count(failed), got.count(passed))
	}
}

func TestEachLineOfAWorkloadIsATest(t *testing.T) {
	d, p := readLines("a\t1\nb\t2\nb\t3\nc\t4\n", "a\t1\nb\t2\nb\t9\nd\t5\n")
	want := []string{"b", "c", "d"}
	if got := onlyBehind(d, p); !slices.Equal(got, want) {
		t.Errorf("differences %q, want %q", got, want)
	}
	if d, p := readLines("a\t1\n", "a\t1\n"); onlyBehind(d, p) != nil || len(d) != 1 {
		t.Error("equal outputs differ")
	}
}
