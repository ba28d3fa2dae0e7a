package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// valid is a document that nothing is wrong with.
const valid = `
[[node]]
name = "region-a"
address = "10.0.0.11:5432"
[[node]]
name = "region-b"
address = "10.0.0.12:5432"
[probe]
user = "pgtether"
[failover]
mode = "observe"
`

// testNow is the time of every test that needs one.
var testNow = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// testSystem has the given environment and a clock that stands still.
func testSystem(env map[string]string) system {
	return system{getenv: func(name string) string { return env[name] }, now: func() time.Time { return testNow }}
}

// write puts a file into a folder of its own and returns its path.
func write(t *testing.T, name, content string) string {
	t.Helper()
	return writeIn(t, t.TempDir(), name, content)
}

func writeIn(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// mustLoad loads a document that must be accepted.
func mustLoad(t *testing.T, document string) (*File, []Warning) {
	t.Helper()
	f, warnings, err := load(write(t, "pgtether.toml", document), testSystem(nil), true)
	if err != nil {
		t.Fatalf("load: %v\n%s", err, document)
	}
	return f, warnings
}

// refusals loads a document that must be refused and returns its problems without the name of the file.
func refusals(t *testing.T, document string, env map[string]string) string {
	t.Helper()
	path := write(t, "pgtether.toml", document)
	f, _, err := load(path, testSystem(env), true)
	if err == nil {
		t.Fatalf("accepted, want a refusal:\n%s", document)
	}
	if f != nil {
		t.Fatalf("a refused document was returned all the same")
	}
	return withoutFile(err.Error(), path)
}

// withoutFile removes the name of the file from the beginning of each line.
func withoutFile(text, path string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		rest := strings.TrimPrefix(line, path)
		lines[i] = strings.TrimPrefix(strings.TrimPrefix(rest, ":"), " ")
	}
	return strings.Join(lines, "\n")
}

// texts prints warnings as one text.
func texts(warnings []Warning) string {
	var b strings.Builder
	for _, w := range warnings {
		b.WriteString(w.String() + "\n")
	}
	return b.String()
}
