package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgtether/pgtether/internal/config"
	"github.com/pgtether/pgtether/internal/metrics"
	"github.com/pgtether/pgtether/proxy"
)

const root = "../.."

// read returns a file of the tree.
func read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// pages lists the README and every page below docs/.
func pages(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(found) == 0 {
		t.Fatalf("found no page below docs/ (%v)", err)
	}
	names := []string{"README.md", "CHANGELOG.md"}
	for _, f := range found {
		names = append(names, "docs/"+filepath.Base(f))
	}
	return names
}

// targets are the Makefile's targets that help lists.
func targets(t *testing.T) []string {
	var out []string
	for _, m := range regexp.MustCompile(`(?m)^([a-z-]+):[^#\n]*## `).FindAllStringSubmatch(read(t, "Makefile"), -1) {
		out = append(out, m[1])
	}
	return out
}

// binDir is where the command is built for these tests; TestMain makes and removes it.
var binDir string

// binary builds the command once and returns its path.
var binary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(binDir, "pgtether")
	cmd := exec.Command("go", "build", "-o", path, "./cmd/pgtether")
	cmd.Dir = root
	cmd.Stderr = os.Stderr
	return path, cmd.Run()
})

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "pgtether-docs-")
	if err != nil {
		panic(err)
	}
	binDir = dir
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		panic(err)
	}
	os.Exit(code)
}

// The rules by the first word of a command. A command without a rule fails: what nobody checks is not shown.
var rules = map[string]func(t *testing.T, c command){
	"make":         checkMake,
	"bin/pgtether": checkPgtether,
	"psql":         checkFiles,
	"curl":         checkCurl,
	"docker":       checkDocker,
	"export":       checkExport,
}

// commandPages are the pages whose commands are checked, with how many there are at least. Those of docs/OPERATIONS.md are run by test/runbooks.
var commandPages = map[string]int{"README.md": 10}

func TestEveryCommandOfAPageExists(t *testing.T) {
	for page, least := range commandPages {
		all := commands(read(t, page))
		if len(all) < least {
			t.Fatalf("%s: found %d commands; is the page still written with sh blocks?", page, len(all))
		}
		for _, c := range all {
			c.page = page
			t.Run(page+" "+strings.Join(c.words, " "), func(t *testing.T) {
				check, ok := rules[c.words[0]]
				if !ok {
					t.Fatalf("%s: no rule checks %q", c, c.words[0])
				}
				check(t, c)
			})
		}
	}
}

// notInCI says why a target of the README is not run by CI as it stands.
var notInCI = map[string]string{
	"keycloak-failover":   "it takes four minutes; CI boots Keycloak through make keycloak, and kills primaries in test/failover",
	"keycloak-switchover": "it takes two minutes and measures; CI boots Keycloak through make keycloak, and moves sessions in test/failover and proxy",
	"faults":              "go test ./test/faults plays three schedules of a fresh seed",
	"faults-gray":         "for the night; test/failover does each such fault once",
	"faults-rto":          "it measures, and CI's machine is anybody's",
	"bench-peers":         "it takes half an hour, and CI's machine is anybody's; go test ./bench/peers plays one tiny round of it",
	"faults-switchover":   "go test ./test/faults plays two of a fresh seed",
	"switchovers":         "for the night; test/failover switches there and back once with each kind of replication",
	"switchovers-moving":  "twenty minutes of switchovers; test/failover moves sessions there and back",
	"mutants":             "it takes minutes, and changes only when the engine does",
	"lab":                 "stays up for a person; make demo runs the same pair and proxy",
	"check":               "is CI",
	"docker":              "needs an image registry; scripts/docker-check.sh builds the same Dockerfile on images of its own",
}

func checkMake(t *testing.T, c command) {
	makefile, ci := read(t, "Makefile"), read(t, ".ci/run")
	for _, word := range c.words[1:] {
		if name, _, isVariable := strings.Cut(word, "="); isVariable {
			if !strings.Contains(makefile, "$("+name+")") {
				t.Errorf("%s: the Makefile does not use %s", c, name)
			}
			continue
		}
		if !slices.Contains(targets(t), word) {
			t.Errorf("%s: the Makefile has no target %s", c, word)
		}
		run := regexp.MustCompile(`(?m)^phase .*\bmake ` + word + `\b`).MatchString(ci)
		if _, excused := notInCI[word]; run == excused {
			t.Errorf("%s: make %s: run by CI %t, excused %t; want one of the two", c, word, run, excused)
		}
	}
}

func checkPgtether(t *testing.T, c command) {
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	help, err := exec.Command(path, c.words[1], "--help").CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %s --help: %v\n%s", c, c.words[1], err, help)
	}
	for _, word := range c.words[2:] {
		if flag, _, _ := strings.Cut(word, "="); strings.HasPrefix(flag, "--") && !strings.Contains(string(help), flag) {
			t.Errorf("%s: pgtether %s has no flag %s", c, c.words[1], flag)
		}
	}
}

func checkFiles(t *testing.T, c command) {
	for i, word := range c.words {
		if word == "-f" {
			read(t, c.words[i+1])
		}
	}
}

func checkCurl(t *testing.T, c command) {
	path := strings.TrimPrefix(c.words[len(c.words)-1], "http://127.0.0.1:7432")
	if !strings.Contains(read(t, "docs/CONTRACT.md"), "GET "+path+"`") {
		t.Errorf("%s: the contract has no page GET %s", c, path)
	}
}

func checkDocker(t *testing.T, c command) {
	dockerfile, script := read(t, "Dockerfile"), read(t, "scripts/docker.sh")
	for i, word := range c.words {
		if port, _, isPort := strings.Cut(word, ":"); isPort && c.words[i-1] == "-p" && !regexp.MustCompile(`(?m)^EXPOSE .*\b`+port+`\b`).MatchString(dockerfile) {
			t.Errorf("%s: the Dockerfile exposes no port %s", c, port)
		}
	}
	if image := c.words[len(c.words)-1]; !strings.Contains(script, "-t "+image+" ") {
		t.Errorf("%s: scripts/docker.sh builds no image %s", c, image)
	}
}

func checkExport(t *testing.T, c command) {
	if !strings.HasPrefix(c.words[1], "KC_DB_URL=jdbc:postgresql://") {
		t.Errorf("%s: %s is no JDBC URL for Keycloak", c, c.words[1])
	}
}

func TestTheConfigurationOfAPageLoads(t *testing.T) {
	for _, page := range []string{"README.md", "docs/FOLLOW.md", "docs/OPERATIONS.md"} {
		loadsConfiguration(t, page)
	}
}

// loadsConfiguration fails unless the page shows a configuration, and each that it shows is valid as it stands.
func loadsConfiguration(t *testing.T, page string) {
	t.Helper()
	found := 0
	for _, b := range blocks(read(t, page)) {
		if b.language != "toml" {
			continue
		}
		found++
		dir := t.TempDir()
		secret := filepath.Join(dir, "probe-password")
		if err := os.WriteFile(secret, []byte("secret\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(strings.Join(b.lines, "\n"), "/etc/pgtether/probe-password", secret)
		path := filepath.Join(dir, "pgtether.toml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := config.Load(path); err != nil {
			t.Errorf("%s:%d: %v", page, b.line, err)
		}
	}
	if found == 0 {
		t.Errorf("found no configuration in %s", page)
	}
}

func TestEveryMetricOfThePagesIsReal(t *testing.T) {
	reg := prometheus.NewRegistry()
	one := []string{"x"}
	metrics.New(reg, metrics.Labels{Nodes: one, States: one, Criteria: one, Steps: one, Reasons: one, Ends: one, LoginResults: one, CancelResults: one, MoveResults: one})
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var real []string
	for _, f := range families {
		real = append(real, f.GetName())
	}
	for _, page := range []string{"README.md", "docs/CONTRACT.md", "docs/OPERATIONS.md"} {
		names := regexp.MustCompile("`(pgtether_[a-z_]+)").FindAllStringSubmatch(read(t, page), -1)
		if len(names) == 0 {
			t.Errorf("%s names no metric", page)
		}
		for _, m := range names {
			if !slices.Contains(real, m[1]) {
				t.Errorf("%s: there is no metric %s", page, m[1])
			}
		}
	}
}

func TestEveryReasonForWhichASessionIsNotMovedIsExplained(t *testing.T) {
	page := read(t, "docs/OPERATIONS.md")
	for _, reason := range slices.Concat(proxy.CredentialObstacles(), proxy.MoveResults()) {
		if slices.Contains([]string{"moved", "failed", "timed_out", "interrupted"}, reason) {
			continue // what became of one that could be
		}
		if !strings.Contains(page, "`"+reason+"`") {
			t.Errorf("docs/OPERATIONS.md does not explain %s", reason)
		}
	}
}

func TestEveryFileThatAPageNamesIsThere(t *testing.T) {
	for _, page := range pages(t) {
		for _, target := range links(read(t, page)) {
			read(t, filepath.Join(filepath.Dir(page), target))
		}
	}
}

func TestEveryDependencyHasItsReason(t *testing.T) {
	page := read(t, "docs/DEPENDENCIES.md")
	direct, _, _ := strings.Cut(strings.SplitN(read(t, "go.mod"), "require (", 2)[1], ")")
	for line := range strings.Lines(direct) {
		fields := strings.Fields(line)
		if len(fields) < 2 || strings.Contains(line, "// indirect") {
			continue
		}
		if !regexp.MustCompile("(?m)^\\| `" + regexp.QuoteMeta(fields[0]) + "` \\| .{20,} \\|$").MatchString(page) {
			t.Errorf("docs/DEPENDENCIES.md has no reason for %s", fields[0])
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z.]+/[^`]+)` \\|").FindAllStringSubmatch(page, -1) {
		if !strings.Contains(m[1], "/cmd/") && !strings.Contains(direct, m[1]+" ") {
			t.Errorf("docs/DEPENDENCIES.md explains %s, which go.mod does not require", m[1])
		}
	}
}

func TestHelpListsEveryPromisedTarget(t *testing.T) {
	have := targets(t)
	for _, want := range strings.Fields("help setup build demo lab keycloak test race fuzz bench lint check docker clean") {
		if !slices.Contains(have, want) {
			t.Errorf("the Makefile has no target %s with a line of explanation", want)
		}
	}
	if !regexp.MustCompile(`(?m)^check:.*\n\t\.ci/run$`).MatchString(read(t, "Makefile")) {
		t.Error("make check is not what CI runs")
	}
}
