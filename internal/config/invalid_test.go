package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write what the code says into testdata; read the diff before it is committed")

// expectation begins the lines of a test file that say what it must be refused with; they stand at its end, as comments.
const expectation = "#= "

// TestEveryMistakeIsRefusedWithItsPlaceAndWhatWouldBeRight loads testdata/invalid-*.toml and compares the whole text of the refusal.
func TestEveryMistakeIsRefusedWithItsPlaceAndWhatWouldBeRight(t *testing.T) {
	files, err := filepath.Glob("testdata/invalid-*.toml")
	if err != nil || len(files) < 80 {
		t.Fatalf("found %d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "invalid-"), ".toml"), func(t *testing.T) {
			f, _, err := load(file, testSystem(nil), true)
			if err == nil || f != nil {
				t.Fatalf("was accepted")
			}
			got := withoutFolder(t, withoutFile(err.Error(), file))
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			document, want := splitExpectation(string(data))
			if *rewrite {
				for line := range strings.SplitSeq(got, "\n") {
					document += expectation + line + "\n"
				}
				if err := os.WriteFile(file, []byte(document), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != want {
				t.Errorf("refused with\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// withoutFolder removes where the repository happens to be.
func withoutFolder(t *testing.T, text string) string {
	t.Helper()
	dir, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(text, dir+string(filepath.Separator), "")
}

func splitExpectation(data string) (document, want string) {
	var doc, exp []string
	for line := range strings.SplitSeq(strings.TrimSuffix(data, "\n"), "\n") {
		if text, ok := strings.CutPrefix(line, expectation); ok {
			exp = append(exp, text)
			continue
		}
		doc = append(doc, line)
	}
	return strings.Join(doc, "\n") + "\n", strings.Join(exp, "\n")
}

func TestEachProblemCanBeTakenApart(t *testing.T) {
	path := write(t, "pgtether.toml", valid+"[limits]\nmax_clients = 0\n[listen]\nport = 1\n[admin]\ntoken_file = \"none\"\n")
	_, _, err := load(path, testSystem(nil), true)
	all := Problems(err)
	if len(all) != 3 {
		t.Fatalf("%d problems, want 3: %v", len(all), err)
	}
	first := all[0]
	if first.File != path || first.Key != "limits.max_clients" || first.Line != strings.Count(valid, "\n")+2 || first.Text == "" {
		t.Errorf("problem = %+v", first)
	}
	if !errors.Is(err, os.ErrNotExist) {
		t.Error("the cause of a missing file cannot be found in the error")
	}
	if Problems(nil) != nil || Problems(os.ErrClosed) != nil {
		t.Error("an error that is not of a configuration has problems")
	}
}

func TestAFileThatCannotBeReadSaysWhy(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]string{
		filepath.Join(dir, "none.toml"): "the configuration file does not exist",
		dir:                             "the configuration file is not a file but a folder",
		writeIn(t, dir, "huge.toml", strings.Repeat("#", maxFile+1)):     "the configuration file is not what it should be: it is larger than 1MiB",
		writeIn(t, dir, "latin1.toml", "[cluster]\nname = \"k\xe9y\"\n"): "not valid TOML: the file is not text in UTF-8",
	} {
		_, _, err := load(path, testSystem(nil), true)
		if err == nil || err.Error() != path+": "+want {
			t.Errorf("load %s: %v, want %q", path, err, path+": "+want)
		}
	}
}

func TestAPasswordFromTwoPlacesIsAContradiction(t *testing.T) {
	dir := t.TempDir()
	writeIn(t, dir, "password", "from-file\n")
	path := writeIn(t, dir, "pgtether.toml", strings.Replace(valid, `user = "pgtether"`, "user = \"pgtether\"\npassword_file = \"password\"", 1))
	_, _, err := load(path, testSystem(map[string]string{EnvProbePassword: "from-env"}), true)
	if err == nil {
		t.Fatal("accepted")
	}
	want := "10: probe.password_file: contradicts PGTETHER_PROBE_PASSWORD: both hold the password of probe.user; remove one of the two"
	if got := withoutFile(err.Error(), path); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
