package archtest

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// The patterns are put together from parts, so that this file does not match itself.
var (
	leftOpen    = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X|HA` + `CK)\b`)
	machinePath = regexp.MustCompile(`(^|[^A-Za-z0-9_.}])/(wo` + `rk/|fa` + `rm/|ro` + `ot/|tm` + `p/[A-Za-z0-9_]|ho` + `me/[a-z])`)
)

const (
	whyLeftOpen    = "a note about missing work is not work: build it, refuse it with a reason, or file it where it is planned"
	whyMachinePath = "the path exists on one machine only; derive it, take it as a flag, or use a temporary directory"
	whySkip        = "a skipped test proves nothing and looks green: what a test needs is installed by `make setup`, and missing is failing"
)

// textSuffixes are the files whose text is checked; others (binary fixtures, fuzz corpora) are data.
var textSuffixes = []string{".go", ".sh", ".md", ".toml", ".sql", ".yaml", ".yml", ".json", ".service", ".mod", "Makefile", "Dockerfile", "run"}

// CheckText finds open notes and machine paths in one text file.
func CheckText(rel string, content []byte) []Violation {
	var out []Violation
	for i, line := range bytes.Split(content, []byte("\n")) {
		at := fmt.Sprintf("%s:%d", rel, i+1)
		if m := leftOpen.Find(line); m != nil {
			out = append(out, Violation{Pos: at, What: fmt.Sprintf("holds the open note %q", m), Why: whyLeftOpen})
		}
		if m := machinePath.Find(line); m != nil {
			out = append(out, Violation{Pos: at, What: fmt.Sprintf("holds the machine path %q", bytes.TrimSpace(m)), Why: whyMachinePath})
		}
	}
	return out
}

// CheckTree runs CheckText on every text file below root, but for version control, build output, caches and test data.
func CheckTree(root string) ([]Violation, error) {
	var out []Violation
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // another test's temporary file, gone meanwhile
		}
		if err != nil {
			return err
		}
		if d.IsDir() {
			if path != root && slices.Contains([]string{".git", ".cache", "bin", "testdata", "node_modules"}, d.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() || !slices.ContainsFunc(textSuffixes, func(s string) bool { return strings.HasSuffix(d.Name(), s) }) {
			return nil
		}
		content, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return fmt.Errorf("place %s: %w", path, err)
		}
		out = append(out, CheckText(filepath.ToSlash(rel), content)...)
		return nil
	})
	return out, err
}

// CheckSkips finds tests that skip themselves.
func CheckSkips(file *ast.File, rel func(token.Pos) string) []Violation {
	var out []Violation
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || !slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, sel.Sel.Name) {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); ok && slices.Contains([]string{"t", "b", "f", "tb", "rt"}, x.Name) {
			out = append(out, Violation{Pos: rel(call.Pos()), What: fmt.Sprintf("calls %s.%s", x.Name, sel.Sel.Name), Why: whySkip})
		}
		return true
	})
	return out
}
