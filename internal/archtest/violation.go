package archtest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Violation is one place where a rule is broken.
type Violation struct {
	// Pos is "file", "file:line" or an import path, relative to the module's root.
	Pos string
	// What says what was found there.
	What string
	// Why is the reason the rule exists.
	Why string
}

// String is the violation as one line of a failing test.
func (v Violation) String() string {
	return fmt.Sprintf("%s: %s\n\twhy: %s", v.Pos, v.What, v.Why)
}

// Report is the text of several violations, ordered by place, or "" when there are none.
func Report(vs []Violation) string {
	vs = slices.Clone(vs)
	slices.SortStableFunc(vs, func(a, b Violation) int { return cmp.Compare(a.Pos, b.Pos) })
	var b strings.Builder
	for _, v := range vs {
		b.WriteString("\n")
		b.WriteString(v.String())
	}
	return b.String()
}
