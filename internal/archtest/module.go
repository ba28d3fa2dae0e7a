package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Package is what `go list` says about one package of the module, with its parsed files.
type Package struct {
	ImportPath   string
	Name         string
	Dir          string
	Standard     bool
	Export       string
	GoFiles      []string
	TestGoFiles  []string
	XTestGoFiles []string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Deps         []string
	Module       *struct{ Path string }
	Error        *struct{ Err string }

	// Source and Tests are the parsed files, by path relative to the module's root.
	Source map[string]*ast.File `json:"-"`
	Tests  map[string]*ast.File `json:"-"`
}

// Module is the module as the checks see it.
type Module struct {
	// Path is the module path, Root the directory of go.mod.
	Path, Root string
	Fset       *token.FileSet
	// Packages holds the module's own packages, ordered by import path.
	Packages []*Package

	// exports maps an import path to the compiler's export data, of every package the module depends on.
	exports map[string]string
}

// Load lists and parses every package of the module that contains dir. A package that does not compile is listed all the same; Check
// then says why.
func Load(dir string) (*Module, error) {
	root, err := findRoot(dir)
	if err != nil {
		return nil, err
	}
	m := &Module{Root: root, Fset: token.NewFileSet(), exports: map[string]string{}}
	cmd := exec.Command("go", "list", "-e", "-export", "-deps", "-json", "./...")
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list packages of %s: %w\n%s", root, err, stderr.String())
	}
	dec := json.NewDecoder(bytes.NewReader(out))
	for {
		p := &Package{}
		if err := dec.Decode(p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("read go list output: %w", err)
		}
		if p.Export != "" {
			m.exports[p.ImportPath] = p.Export
		}
		if p.Standard || p.Module == nil || !strings.HasPrefix(p.Dir, root) {
			continue
		}
		if p.Error != nil && len(p.GoFiles)+len(p.TestGoFiles)+len(p.XTestGoFiles) == 0 {
			return nil, fmt.Errorf("list package %s: %w", p.ImportPath, errors.New(p.Error.Err))
		}
		m.Path = p.Module.Path
		if err := m.parse(p); err != nil {
			return nil, err
		}
		m.Packages = append(m.Packages, p)
	}
	slices.SortFunc(m.Packages, func(a, b *Package) int { return strings.Compare(a.ImportPath, b.ImportPath) })
	return m, nil
}

// Room is the package's path inside the module: "decision", "internal/pgwire".
func (m *Module) Room(p *Package) string {
	return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, m.Path), "/")
}

// Rel is a position as "file:line", relative to the module's root.
func (m *Module) Rel(pos token.Pos) string {
	p := m.Fset.Position(pos)
	rel, err := filepath.Rel(m.Root, p.Filename)
	if err != nil {
		rel = p.Filename
	}
	return fmt.Sprintf("%s:%d", filepath.ToSlash(rel), p.Line)
}

// Check type-checks the package's non-test files against the export data of its dependencies.
func (m *Module) Check(p *Package) (*types.Info, error) {
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{}}
	conf := types.Config{Importer: importer.ForCompiler(m.Fset, "gc", func(path string) (io.ReadCloser, error) {
		file, ok := m.exports[path]
		if !ok {
			return nil, fmt.Errorf("find export data of %s (does it compile?): %w", path, fs.ErrNotExist)
		}
		return os.Open(file)
	})}
	var files []*ast.File
	for _, name := range sortedKeys(p.Source) {
		files = append(files, p.Source[name])
	}
	if _, err := conf.Check(p.ImportPath, m.Fset, files, info); err != nil {
		return nil, fmt.Errorf("type-check %s: %w", p.ImportPath, err)
	}
	return info, nil
}

// parse reads the package's files, comments included.
func (m *Module) parse(p *Package) error {
	p.Source, p.Tests = map[string]*ast.File{}, map[string]*ast.File{}
	read := func(into map[string]*ast.File, names []string) error {
		for _, name := range names {
			path := filepath.Join(p.Dir, name)
			f, err := parser.ParseFile(m.Fset, path, nil, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				return fmt.Errorf("parse %s: %w", path, err)
			}
			rel, err := filepath.Rel(m.Root, path)
			if err != nil {
				return fmt.Errorf("place %s in the module: %w", path, err)
			}
			into[filepath.ToSlash(rel)] = f
		}
		return nil
	}
	return errors.Join(read(p.Source, p.GoFiles), read(p.Tests, p.TestGoFiles), read(p.Tests, p.XTestGoFiles))
}

// findRoot walks up from dir to the directory that holds go.mod.
func findRoot(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("resolve %s: %w", dir, err)
	}
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
			return filepath.EvalSymlinks(d)
		}
		if d == filepath.Dir(d) {
			return "", fmt.Errorf("find go.mod above %s: %w", dir, fs.ErrNotExist)
		}
	}
}

// sortedKeys is the map's keys in order, so that reports do not depend on the run.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
