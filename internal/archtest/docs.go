package archtest

import (
	"fmt"
	"go/ast"
	"go/token"
	"strings"
)

const (
	whyPackageDoc  = "a package says what it guarantees and what it never does before a reader meets its code"
	whyExportedDoc = "what another room may use is explained where it is declared: meaning, unit, bounds, errors"
)

// CheckPackageDocs finds packages without a package comment.
func CheckPackageDocs(m *Module) []Violation {
	var out []Violation
	for _, p := range m.Packages {
		files := p.Source
		if len(files) == 0 {
			files = p.Tests
		}
		has := false
		for _, f := range files {
			has = has || f.Doc != nil && len(strings.TrimSpace(f.Doc.Text())) > 0
		}
		if !has {
			out = append(out, Violation{Pos: p.ImportPath, What: "has no package comment", Why: whyPackageDoc})
		}
	}
	return out
}

// CheckExportedDocs counts exported declarations and finds those without a comment. Package main exports nothing that can be used.
func CheckExportedDocs(m *Module) (exported int, missing []Violation) {
	for _, p := range m.Packages {
		if p.Name == "main" {
			continue
		}
		for _, rel := range sortedKeys(p.Source) {
			n, vs := undocumented(p.Source[rel], m.Rel)
			exported += n
			missing = append(missing, vs...)
		}
	}
	return exported, missing
}

// undocumented counts the file's exported declarations and finds those without a comment. A comment on a group covers its members.
func undocumented(f *ast.File, rel func(token.Pos) string) (exported int, missing []Violation) {
	see := func(name *ast.Ident, docs ...*ast.CommentGroup) {
		if !name.IsExported() {
			return
		}
		exported++
		for _, d := range docs {
			if d != nil {
				return
			}
		}
		missing = append(missing, Violation{Pos: rel(name.Pos()), What: fmt.Sprintf("exported %s has no comment", name.Name), Why: whyExportedDoc})
	}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil || exportedReceiver(d.Recv) {
				see(d.Name, d.Doc)
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					see(s.Name, d.Doc, s.Doc, s.Comment)
				case *ast.ValueSpec:
					for _, name := range s.Names {
						see(name, d.Doc, s.Doc, s.Comment)
					}
				}
			}
		}
	}
	return exported, missing
}

// exportedReceiver reports whether the method belongs to an exported type.
func exportedReceiver(recv *ast.FieldList) bool {
	t := recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return false
		}
	}
}
