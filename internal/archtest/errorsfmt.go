package archtest

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
)

const whyWrap = "an error that is printed into another one can no longer be classified by type; wrap it with %w"

// CheckErrorWrapping finds calls of fmt.Errorf that format an error with a verb other than %w (%T, which prints its type, is fine).
func CheckErrorWrapping(file *ast.File, info *types.Info, rel func(token.Pos) string) []Violation {
	var out []Violation
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) < 2 || !isErrorf(call, info) {
			return true
		}
		format, ok := info.Types[call.Args[0]]
		if !ok || format.Value == nil || format.Value.Kind() != constant.String {
			return true
		}
		for i, verb := range verbs(constant.StringVal(format.Value)) {
			if i+1 >= len(call.Args) || verb == 'w' || verb == 'T' {
				continue
			}
			arg := call.Args[i+1]
			if t := info.TypeOf(arg); t != nil && isError(t) {
				out = append(out, Violation{Pos: rel(arg.Pos()), Why: whyWrap,
					What: fmt.Sprintf("fmt.Errorf formats the error %s with %%%c", types.ExprString(arg), verb)})
			}
		}
		return true
	})
	return out
}

// isErrorf reports whether the call is fmt.Errorf.
func isErrorf(call *ast.CallExpr, info *types.Info) bool {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	fn, ok := info.Uses[sel.Sel].(*types.Func)
	return ok && fn.FullName() == "fmt.Errorf"
}

// isError reports whether values of the type are errors.
func isError(t types.Type) bool {
	iface, ok := types.Universe.Lookup("error").Type().Underlying().(*types.Interface)
	return ok && types.Implements(t, iface)
}

// verbs lists the verb that consumes each operand of a format; a '*' width consumes one of its own. Explicit operand indexes are not
// used in this module and end the list.
func verbs(format string) []rune {
	var out []rune
	inside := false
	for _, r := range format {
		switch {
		case !inside:
			inside = r == '%'
		case r == '%':
			inside = false
		case r == '*':
			out = append(out, r)
		case r == '[':
			return out
		case r == '+' || r == '-' || r == '#' || r == ' ' || r == '.' || r >= '0' && r <= '9':
		default:
			out = append(out, r)
			inside = false
		}
	}
	return out
}
