// Command mutants shows that the tests of package decision can fail: it seeds one bug at a time into the package, runs the tests, and says
// which test caught it. It ends with 1 when a bug was not caught, or when its place in the source is gone.
//
// No file of the tree is changed: the mutated source reaches the compiler through an overlay in a temporary folder.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

func main() {
	dir := flag.String("dir", "decision", "folder of the package")
	only := flag.String("only", "", "regular expression of the names of bugs to seed")
	tests := flag.String("tests", "", "regular expression of the tests to run; empty runs all, the quick ones first")
	flag.Parse()
	if err := run(*dir, *only, *tests); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

// errSurvived is returned when at least one bug was not caught.
var errSurvived = errors.New("not every seeded bug was caught")

func run(dir, only, tests string) error {
	match, err := regexp.Compile(only)
	if err != nil {
		return fmt.Errorf("read -only: %w", err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return fmt.Errorf("find the package: %w", err)
	}
	tmp, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	survived, seeded := 0, 0
	for _, m := range mutants() {
		if !match.MatchString(m.name) {
			continue
		}
		seeded++
		caught, err := seed(dir, tmp, tests, m)
		if err != nil {
			return fmt.Errorf("seed %q: %w", m.name, err)
		}
		if caught == "" {
			survived++
			caught = "NOT CAUGHT"
		}
		fmt.Printf("%-58s %s\n", m.name, caught)
	}
	fmt.Printf("%d bugs seeded, %d caught\n", seeded, seeded-survived)
	if survived > 0 || seeded == 0 {
		return errSurvived
	}
	return nil
}

// errPlace is returned when the source that a bug replaces is not there exactly once.
var errPlace = errors.New("its place in the source is not there exactly once")

// seed compiles the tests with one bug and returns the name of the test that failed, empty when none did.
func seed(dir, tmp, tests string, m mutant) (string, error) {
	file := filepath.Join(dir, m.file)
	src, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read source: %w", err)
	}
	if strings.Count(string(src), m.old) != 1 {
		return "", errPlace
	}
	mutated, overlay, bin := filepath.Join(tmp, m.file), filepath.Join(tmp, "overlay.json"), filepath.Join(tmp, "decision.test")
	if err := os.WriteFile(mutated, []byte(strings.Replace(string(src), m.old, m.bad, 1)), 0o600); err != nil {
		return "", fmt.Errorf("write mutated source: %w", err)
	}
	list, err := json.Marshal(map[string]map[string]string{"Replace": {file: mutated}})
	if err != nil {
		return "", fmt.Errorf("write overlay: %w", err)
	}
	if err := os.WriteFile(overlay, list, 0o600); err != nil {
		return "", fmt.Errorf("write overlay: %w", err)
	}
	build := exec.Command("go", "test", "-vet=off", "-overlay", overlay, "-c", "-o", bin, ".")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("compile: %w\n%s", err, out)
	}
	// What is quick comes first; the search through histories only when nothing else noticed.
	stages := [][]string{{"-test.skip=Random|Explored|EqualHistories|EveryRow|FailoverDoc"}, {"-test.run=Explored"}, {"-test.run=Random", "-sequences=8000"}}
	if tests != "" {
		stages = [][]string{{"-test.run=" + tests, "-sequences=8000"}}
	}
	for _, args := range stages {
		if caught, err := runTests(dir, bin, args); caught != "" || err != nil {
			return caught, err
		}
	}
	return "", nil
}

var failed = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)

// runTests returns the innermost name of the first test that failed, empty when all passed.
func runTests(dir, bin string, args []string) (string, error) {
	cmd := exec.Command(bin, append(args, "-test.failfast", "-test.timeout=10m")...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return "", nil
	case !errors.As(err, &exit):
		return "", fmt.Errorf("run the tests: %w", err)
	}
	name := ""
	for _, f := range failed.FindAllStringSubmatch(string(out), -1) {
		if name == "" || strings.HasPrefix(f[1], name+"/") {
			name = f[1]
		}
	}
	if name == "" {
		return "", fmt.Errorf("run the tests: %w\n%s", err, out)
	}
	return name, nil
}
