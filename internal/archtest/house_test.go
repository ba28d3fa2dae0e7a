package archtest

import (
	"go/ast"
	"go/types"
	"sync"
	"testing"
)

// load loads the module once for all tests of this package.
var load = sync.OnceValues(func() (*Module, error) { return Load(".") })

func module(t *testing.T) *Module {
	t.Helper()
	m, err := load()
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Packages) < 3 {
		t.Fatalf("found %d packages in %s; the rules would pass on nothing", len(m.Packages), m.Root)
	}
	return m
}

func TestImportsPointOneWay(t *testing.T) {
	if r := Report(CheckImports(module(t), Rooms())); r != "" {
		t.Error(r)
	}
}

func TestTheDecisionIsPure(t *testing.T) {
	m := module(t)
	seen := 0
	for _, p := range m.Packages {
		if !covers("decision", m.Room(p)) {
			continue
		}
		info := check(t, m, p)
		for _, rel := range sortedKeys(p.Source) {
			seen++
			if r := Report(CheckPure(m.Fset, p.Source[rel], info, m.Rel)); r != "" {
				t.Error(r)
			}
		}
	}
	if seen == 0 {
		t.Fatal("found no file of package decision; was it renamed? the rule must follow it")
	}
}

func TestEveryRoomOfThePlanExists(t *testing.T) {
	m := module(t)
	for _, r := range Rooms() {
		if r.Path == "test" || r.Path == "configs" {
			continue // folders of programs and files, with code only as needed
		}
		found := false
		for _, p := range m.Packages {
			found = found || covers(r.Path, m.Room(p))
		}
		if !found {
			t.Errorf("room %s of archtest.Rooms holds no package: a renamed room would escape its rule", r.Path)
		}
	}
}

func TestEveryPackageSaysWhatItGuarantees(t *testing.T) {
	if r := Report(CheckPackageDocs(module(t))); r != "" {
		t.Error(r)
	}
}

func TestExportedNamesAreDocumented(t *testing.T) {
	exported, missing := CheckExportedDocs(module(t))
	if exported == 0 {
		t.Fatal("found no exported name")
	}
	documented := 100 * float64(exported-len(missing)) / float64(exported)
	t.Logf("%d of %d exported names are documented (%.1f %%)", exported-len(missing), exported, documented)
	if documented < 95 {
		t.Errorf("%.1f %% of the exported names are documented; the budget is 95 %%%s", documented, Report(missing))
	}
}

func TestFilesAndFunctionsKeepTheirBudgets(t *testing.T) {
	sizes, over := CheckBudgets(module(t))
	if r := Report(over); r != "" {
		t.Error(r)
	}
	if p95 := Percentile(sizes.Funcs, 95); p95 > P95FuncLines {
		t.Errorf("95 of 100 functions have up to %d lines; the budget is %d: split the longest ones", p95, P95FuncLines)
	}
	t.Logf("files: median %d (aim %d), longest %d; functions: median %d, p95 %d, longest %d", Percentile(sizes.Files, 50),
		MedianFileLines, Percentile(sizes.Files, 100), Percentile(sizes.Funcs, 50), Percentile(sizes.Funcs, 95), Percentile(sizes.Funcs, 100))
}

func TestTestsOutnumberTheSource(t *testing.T) {
	sizes, _ := CheckBudgets(module(t))
	t.Logf("%d lines of source, %d lines of tests", sizes.SourceLines, sizes.TestLines)
	if sizes.TestLines < sizes.SourceLines {
		t.Errorf("%d lines of tests for %d lines of source: a promise without a test is a hope", sizes.TestLines, sizes.SourceLines)
	}
}

func TestErrorsAreWrappedNotPrinted(t *testing.T) {
	m := module(t)
	for _, p := range m.Packages {
		if len(p.Source) == 0 {
			continue
		}
		info := check(t, m, p)
		for _, rel := range sortedKeys(p.Source) {
			if r := Report(CheckErrorWrapping(p.Source[rel], info, m.Rel)); r != "" {
				t.Error(r)
			}
		}
	}
}

func TestNoTestSkipsItself(t *testing.T) {
	m := module(t)
	for _, p := range m.Packages {
		for _, files := range []map[string]*ast.File{p.Source, p.Tests} {
			for _, rel := range sortedKeys(files) {
				if r := Report(CheckSkips(files[rel], m.Rel)); r != "" {
					t.Error(r)
				}
			}
		}
	}
}

func TestTheTreeHoldsNoOpenNoteAndNoMachinePath(t *testing.T) {
	found, err := CheckTree(module(t).Root)
	if err != nil {
		t.Fatal(err)
	}
	if r := Report(found); r != "" {
		t.Error(r)
	}
}

// check type-checks the package or fails the test.
func check(t *testing.T, m *Module, p *Package) *types.Info {
	t.Helper()
	info, err := m.Check(p)
	if err != nil {
		t.Fatal(err)
	}
	return info
}
