package archtest

import (
	"fmt"
	"go/ast"
	"go/token"
	"slices"
)

// The budgets. Readability is lost at the tail: every code base that is hard to read has one file that holds "the protocol" or "the
// decision" and one function of several hundred lines.
const (
	// MaxFileLines bounds a non-test file, MedianFileLines is the aim for the median of all.
	MaxFileLines, MedianFileLines = 500, 150
	// MaxFuncLines bounds a function, P95FuncLines is the bound for 95 of 100.
	MaxFuncLines, P95FuncLines = 80, 50
)

const (
	whyFileBudget = "a file is read in one sitting; what is longer holds two reasons and should be two files"
	whyFuncBudget = "a function fits a screen; what is longer is tested through the whole of it, never by its parts"
)

// Sizes are the measured lengths of the module's code, in lines.
type Sizes struct {
	Files, Funcs []int
	// SourceLines and TestLines are the totals; programs and suites below test/ and bench/ count as tests.
	SourceLines, TestLines int
}

// CheckBudgets measures every file and function and finds those over their budget.
func CheckBudgets(m *Module) (Sizes, []Violation) {
	var sizes Sizes
	var out []Violation
	for _, p := range m.Packages {
		isTest := covers("test", m.Room(p)) || covers("bench", m.Room(p))
		for _, rel := range sortedKeys(p.Tests) {
			sizes.TestLines += fileLines(m.Fset, p.Tests[rel])
		}
		for _, rel := range sortedKeys(p.Source) {
			f := p.Source[rel]
			if ast.IsGenerated(f) {
				continue
			}
			lines := fileLines(m.Fset, f)
			if isTest {
				sizes.TestLines += lines
			} else {
				sizes.SourceLines += lines
			}
			sizes.Files = append(sizes.Files, lines)
			if lines > MaxFileLines {
				out = append(out, Violation{Pos: rel, What: fmt.Sprintf("has %d lines; the budget is %d", lines, MaxFileLines), Why: whyFileBudget})
			}
			funcs, over := checkFuncs(m.Fset, f, m.Rel)
			sizes.Funcs = append(sizes.Funcs, funcs...)
			out = append(out, over...)
		}
	}
	return sizes, out
}

// checkFuncs measures the file's functions; a function that only returns a literal is a table and has no bound.
func checkFuncs(fset *token.FileSet, f *ast.File, rel func(token.Pos) string) (lengths []int, out []Violation) {
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Body == nil {
			continue
		}
		if isTable(fn) {
			continue
		}
		lines := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line + 1
		lengths = append(lengths, lines)
		if lines > MaxFuncLines {
			out = append(out, Violation{Pos: rel(fn.Pos()), Why: whyFuncBudget,
				What: fmt.Sprintf("function %s has %d lines; the budget is %d", fn.Name.Name, lines, MaxFuncLines)})
		}
	}
	return lengths, out
}

// isTable reports whether the function is one return of one composite literal.
func isTable(fn *ast.FuncDecl) bool {
	if len(fn.Body.List) != 1 {
		return false
	}
	ret, ok := fn.Body.List[0].(*ast.ReturnStmt)
	if !ok || len(ret.Results) != 1 {
		return false
	}
	_, ok = ret.Results[0].(*ast.CompositeLit)
	return ok
}

// fileLines counts the file's lines as an editor does.
func fileLines(fset *token.FileSet, f *ast.File) int {
	return fset.File(f.FileStart).LineCount()
}

// Percentile is the smallest value that at least p per cent of the values do not exceed; 0 for no values.
func Percentile(values []int, p int) int {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	i := (len(sorted)*p + 99) / 100
	return sorted[max(i, 1)-1]
}
