package archtest

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strconv"
)

// timeUnits are the only names of package time that a pure package may use: a type and units, no clock, timer or formatter.
var timeUnits = []string{"Duration", "Nanosecond", "Microsecond", "Millisecond", "Second", "Minute", "Hour"}

// Why a pure package may not do what CheckPure looks for.
const (
	whyNoClock   = "time is passed in with every event; a clock would make a replay differ from what happened"
	whyNoRename  = "a renamed import hides which package is used from this check and from the reader"
	whyNoGo      = "the engine is stepped by one owner; a goroutine would make the order of its actions depend on the scheduler"
	whyNoMapIter = "map order is random: actions, events and texts built from it would differ between two runs of the same inputs"
	whyNoChannel = "a channel waits for another goroutine, and the engine has none"
)

// CheckPure finds what makes a package impure beyond its import list: clocks, goroutines, channels and iteration over maps. info may
// be nil, then iteration is not checked.
func CheckPure(fset *token.FileSet, file *ast.File, info *types.Info, rel func(token.Pos) string) []Violation {
	var out []Violation
	add := func(pos token.Pos, why, format string, args ...any) {
		out = append(out, Violation{Pos: rel(pos), What: fmt.Sprintf(format, args...), Why: why})
	}
	for _, imp := range file.Imports {
		if imp.Name != nil {
			path, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				path = imp.Path.Value
			}
			add(imp.Pos(), whyNoRename, "import %s is renamed to %s", path, imp.Name.Name)
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			add(n.Pos(), whyNoGo, "starts a goroutine")
		case *ast.ChanType:
			add(n.Pos(), whyNoChannel, "uses a channel")
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && !slices.Contains(timeUnits, n.Sel.Name) {
				add(n.Pos(), whyNoClock, "uses time.%s; of package time only the units may be used", n.Sel.Name)
			}
		case *ast.RangeStmt:
			if rangesOverMap(n, info) {
				add(n.Pos(), whyNoMapIter, "ranges over a map; range over slices.Sorted(maps.Keys(m)) instead")
			}
		}
		return true
	})
	return out
}

// rangesOverMap reports whether the statement visits a map in its random order, directly or through maps.Keys, Values or All.
func rangesOverMap(n *ast.RangeStmt, info *types.Info) bool {
	if call, ok := n.X.(*ast.CallExpr); ok {
		if sel, ok := call.Fun.(*ast.SelectorExpr); ok {
			x, ok := sel.X.(*ast.Ident)
			return ok && x.Name == "maps" && slices.Contains([]string{"Keys", "Values", "All"}, sel.Sel.Name)
		}
	}
	if info == nil {
		return false
	}
	t := info.TypeOf(n.X)
	if t == nil {
		return false
	}
	_, isMap := t.Underlying().(*types.Map)
	return isMap
}
