package archtest

import (
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"strings"
	"testing"
)

// Sources of all cases share one file set and one importer, which remembers the packages it has read.
var (
	caseFset     = token.NewFileSet()
	caseImporter = importer.ForCompiler(caseFset, "source", nil)
)

// source parses and type-checks one file of bad or good code.
func source(t *testing.T, code string) (*token.FileSet, *ast.File, *types.Info, func(token.Pos) string) {
	t.Helper()
	fset := caseFset
	f, err := parser.ParseFile(fset, "case.go", code, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{}}
	conf := types.Config{Importer: caseImporter}
	if _, err := conf.Check("case", fset, []*ast.File{f}, info); err != nil {
		t.Fatal(err)
	}
	return fset, f, info, func(p token.Pos) string { return fmt.Sprintf("case.go:%d", fset.Position(p).Line) }
}

// expect demands exactly the violations whose texts contain the wanted parts, in order of place.
func expect(t *testing.T, got []Violation, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("found %d violations, want %d:%s", len(got), len(want), Report(got))
	}
	for i, w := range want {
		if !strings.Contains(got[i].Pos+": "+got[i].What, w) {
			t.Errorf("violation %d is %q, want one with %q", i, got[i].Pos+": "+got[i].What, w)
		}
		if got[i].Why == "" {
			t.Errorf("violation %q gives no reason", got[i].What)
		}
	}
}

func TestPurityFindsWhatMakesAnEngineDependOnTheRun(t *testing.T) {
	for name, c := range map[string]struct {
		code string
		want []string
	}{
		"units and types are allowed": {code: `import "time"; const d time.Duration = 3 * time.Second`},
		"a clock":                     {code: `import "time"; func f() { _ = time.Now() }`, want: []string{"time.Now"}},
		"a time value":                {code: `import "time"; var at time.Time`, want: []string{"time.Time"}},
		"a timer":                     {code: `import "time"; func f() { time.Sleep(1) }`, want: []string{"time.Sleep"}},
		"a renamed import":            {code: `import clock "time"; var d clock.Duration`, want: []string{"renamed to clock"}},
		"a goroutine":                 {code: `func f() { go f() }`, want: []string{"goroutine"}},
		"a channel":                   {code: `var c chan int`, want: []string{"channel"}},
		"a map in random order":       {code: `func f(m map[string]int) { for range m { } }`, want: []string{"ranges over a map"}},
		"a named map type":            {code: `type m map[string]int; func f(x m) { for k := range x { _ = k } }`, want: []string{"ranges over a map"}},
		"unsorted keys":               {code: `import "maps"; func f(m map[string]int) { for k := range maps.Keys(m) { _ = k } }`, want: []string{"ranges over a map"}},
		"sorted keys are allowed":     {code: `import ("maps"; "slices"); func f(m map[string]int) { for _, k := range slices.Sorted(maps.Keys(m)) { _ = k } }`},
		"a slice is allowed":          {code: `func f(s []int) { for range s { } }`},
	} {
		t.Run(name, func(t *testing.T) {
			fset, f, info, rel := source(t, "package decision\n"+c.code)
			expect(t, CheckPure(fset, f, info, rel), c.want...)
		})
	}
}

func TestImportRulesFindEveryWayAround(t *testing.T) {
	rooms := []Room{
		{Path: "core", Std: []string{"fmt"}, Why: "core is pure"},
		{Path: "data", Ours: []string{"wire"}, Tests: []string{"lab"}, Never: []string{"database/sql"}, NeverReach: []string{"net/http"}, Why: "data has no policy"},
		{Path: "wire", Why: "wire is a leaf"},
		{Path: "lab", Why: "lab is a leaf"},
		{Path: "cmd", Ours: []string{"*"}, Why: "cmd wires"},
	}
	for name, c := range map[string]struct {
		pkg  Package
		want []string
	}{
		"allowed imports":                     {Package{ImportPath: "m/data/sub", Imports: []string{"m/wire", "m/data", "net"}}, nil},
		"a room may import itself":            {Package{ImportPath: "m/core/x", Imports: []string{"m/core/y"}}, nil},
		"the shell imports any room":          {Package{ImportPath: "m/cmd/tool", Imports: []string{"m/core", "m/data/sub"}}, nil},
		"the core imports a room":             {Package{ImportPath: "m/core", Imports: []string{"m/wire"}}, []string{"imports m/wire"}},
		"the core imports a clock":            {Package{ImportPath: "m/core", Imports: []string{"os"}}, []string{"imports os"}},
		"the core imports another module":     {Package{ImportPath: "m/core", Imports: []string{"example.org/x"}}, []string{"imports example.org/x"}},
		"a room imports its neighbour":        {Package{ImportPath: "m/data", Imports: []string{"m/core"}}, []string{"imports m/core"}},
		"a test may use the lab":              {Package{ImportPath: "m/data", TestImports: []string{"m/lab"}}, nil},
		"a test imports a neighbour":          {Package{ImportPath: "m/data", XTestImports: []string{"m/core"}}, []string{"in a test m/core"}},
		"a banned import":                     {Package{ImportPath: "m/data", Imports: []string{"database/sql/driver"}}, []string{"imports database/sql/driver"}},
		"a banned package through another":    {Package{ImportPath: "m/data", Deps: []string{"fmt", "net/http"}}, []string{"reaches net/http"}},
		"nobody imports the command":          {Package{ImportPath: "m/data", TestImports: []string{"m/cmd/tool"}}, []string{"nobody imports the command"}},
		"a package outside the plan":          {Package{ImportPath: "m/util"}, []string{"m/util: this package has no room"}},
		"a name that only begins like a room": {Package{ImportPath: "m/wires"}, []string{"no room"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := &Module{Path: "m", Packages: []*Package{&c.pkg}}
			expect(t, CheckImports(m, rooms), c.want...)
		})
	}
}

func TestErrorsPrintedIntoErrorsAreFound(t *testing.T) {
	const head = "package p\nimport (\"fmt\"; \"os\")\nvar err error\nvar path *os.PathError\n"
	for name, c := range map[string]struct {
		code string
		want []string
	}{
		"wrapped":                     {code: `var _ = fmt.Errorf("open %q: %w", "x", err)`},
		"its type only":               {code: `var _ = fmt.Errorf("open: unexpected %T", err)`},
		"a text with %v":              {code: `var _ = fmt.Errorf("open %v", "x")`},
		"printed with %v":             {code: `var _ = fmt.Errorf("open: %v", err)`, want: []string{"error err with %v"}},
		"printed with %s":             {code: `var _ = fmt.Errorf("open: %s", err)`, want: []string{"error err with %s"}},
		"printed with a flag":         {code: `var _ = fmt.Errorf("open %d: %+v", 1, err)`, want: []string{"error err with %v"}},
		"a concrete error type":       {code: `var _ = fmt.Errorf("open: %v", path)`, want: []string{"error path with %v"}},
		"behind a width of its own":   {code: `var _ = fmt.Errorf("%*d %v", 3, 4, err)`, want: []string{"error err with %v"}},
		"behind a per cent sign":      {code: `var _ = fmt.Errorf("95 %% %v", err)`, want: []string{"error err with %v"}},
		"its text taken out by hand":  {code: `var _ = fmt.Errorf("open: %s", err.Error())`},
		"printed by another function": {code: `var _ = fmt.Sprintf("open: %v", err)`},
	} {
		t.Run(name, func(t *testing.T) {
			_, f, info, rel := source(t, head+c.code)
			expect(t, CheckErrorWrapping(f, info, rel), c.want...)
		})
	}
}

func TestUndocumentedExportsAreFound(t *testing.T) {
	_, f, _, rel := source(t, `package p
// A is documented.
type A struct{}
type B struct{}
func (A) M() {}
func (*B) N() {}
func (hidden) Exported() {}
type hidden struct{}
// Both are documented by the group.
const (
	C = 1
	D = 2
)
var E = 1
var F = 2 // F is documented at the end of its line.
func g() {}
type G[T any] struct{}
func (G[T]) H() {}
`)
	exported, missing := undocumented(f, rel)
	if exported != 10 {
		t.Errorf("counted %d exported names, want 10", exported)
	}
	expect(t, missing, "exported B", "exported M", "exported N", "exported E", "exported G", "exported H")
}

func TestLongFunctionsAreFoundAndTablesAreNot(t *testing.T) {
	body := strings.Repeat("\t_ = 1\n", MaxFuncLines)
	rows := strings.Repeat("\t\t1,\n", MaxFuncLines)
	fset, f, _, rel := source(t, "package p\nfunc long() {\n"+body+"}\nfunc table() []int {\n\treturn []int{\n"+rows+"\t}\n}\nfunc short() {\n}\n")
	lengths, over := checkFuncs(fset, f, rel)
	expect(t, over, "function long has 82 lines")
	if fmt.Sprint(lengths) != "[82 2]" {
		t.Errorf("lengths %v, want [82 2]", lengths)
	}
	if n := fileLines(fset, f); n != 1+82+84+2 {
		t.Errorf("file has %d lines, want 169", n)
	}
}

func TestOpenNotesAndMachinePathsAreFound(t *testing.T) {
	for line, want := range map[string]string{
		"// TO" + "DO: later":               "open note",
		"# FIX" + "ME":                      "open note",
		"cp file /wo" + "rk/main":           "machine path",
		`dir := "/tm` + `p/pgtether"`:       "machine path",
		"cd /ro" + "ot/go":                  "machine path",
		`dir="${TMPDIR:-/tm` + `p}/lab"`:    "",
		"mktemp -d pgtether.XX" + "XXXX":    "",
		"https://example.org/wo" + "rk/it":  "",
		"the work/rest balance":             "",
		"state.dir = \"/var/lib/pgtether\"": "",
	} {
		got := CheckText("file.go", []byte("first\n"+line+"\n"))
		if want == "" {
			expect(t, got)
			continue
		}
		expect(t, got, "file.go:2: holds the "+want)
	}
}

func TestSkipsAreFound(t *testing.T) {
	_, f, _, rel := source(t, `package p
import "testing"
func a(t *testing.T) { t.Sk`+`ip("no server") }
func b(b *testing.B) { b.Sk`+`ipNow() }
type list struct{}
func (list) Skip() {}
func c(l list) { l.Skip() }
`)
	expect(t, CheckSkips(f, rel), "case.go:3: calls t.Sk"+"ip", "case.go:4: calls b.Sk"+"ipNow")
}

func TestPercentilesAreOfTheNearestRank(t *testing.T) {
	values := []int{5, 1, 4, 2, 3, 10, 9, 8, 7, 6}
	for p, want := range map[int]int{50: 5, 95: 10, 90: 9, 100: 10, 0: 1} {
		if got := Percentile(values, p); got != want {
			t.Errorf("percentile %d is %d, want %d", p, got, want)
		}
	}
	if Percentile(nil, 50) != 0 {
		t.Error("no values must give 0")
	}
}
