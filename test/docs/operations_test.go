package docs

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgtether/pgtether/decision"
	"github.com/pgtether/pgtether/internal/lab"
)

const operations = "docs/OPERATIONS.md"

// section is the part of a page below a title, up to the next title.
func section(t *testing.T, page, title string) string {
	t.Helper()
	_, rest, found := strings.Cut(read(t, page), "\n"+title+"\n")
	if !found {
		t.Fatalf("%s has no %q", page, title)
	}
	text, _, _ := strings.Cut(rest, "\n## ")
	return text
}

// wayBack is the old node of a pair, on which the commands of the page are run in place of those on a machine of its own.
type wayBack struct {
	t        *testing.T
	ctx      context.Context
	old, now *lab.Node
	aside    string
}

// run does what the command says, with the page's addresses and folders replaced.
func (w *wayBack) run(c command) {
	w.t.Helper()
	words := slices.Clone(c.words)
	replacer := strings.NewReplacer("/var/lib/postgresql/15/main", w.old.DataDir(), "/var/tmp", w.aside)
	for i, word := range words {
		words[i] = replacer.Replace(word)
		if strings.HasPrefix(word, "host=10.0.0.12 ") {
			words[i] = w.now.SuperDSN("postgres")
		}
	}
	switch words[0] {
	case "systemctl":
		w.service(words[1])
		return
	case "psql":
		w.sql(words[1:])
		return
	case "pg_rewind", "pg_basebackup":
		words[0] = postgresProgram(w.t, words[0])
	}
	cmd := exec.CommandContext(w.ctx, words[0], words[1:]...)
	cmd.Dir = "/"
	info, err := os.Stat(filepath.Dir(w.old.DataDir()))
	if err != nil {
		w.t.Fatal(err)
	}
	if owner := info.Sys().(*syscall.Stat_t); os.Geteuid() == 0 && strings.HasPrefix(c.words[0], "pg_") {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("%s: %v: %v\n%s", c, words, err, out)
	}
}

func (w *wayBack) service(verb string) {
	var err error
	switch {
	case verb == "start":
		err = w.old.Start(w.ctx)
	case w.old.Running():
		err = w.old.Stop(w.ctx, lab.Fast)
	}
	if err != nil {
		w.t.Fatalf("%s the old node: %v", verb, err)
	}
}

// sql runs the statements of -c, each on its own, on the new writer where the page names its host.
func (w *wayBack) sql(words []string) {
	on := w.old
	for i, word := range words {
		switch word {
		case "-h":
			on = w.now
		case "-c":
			if err := on.Exec(w.ctx, "postgres", words[i+1]); err != nil {
				w.t.Fatalf("%s: %v", words[i+1], err)
			}
		}
	}
}

// TestTheOldNodeComesBackByTheCommandsOfThePage kills a primary, promotes its standby, writes to both, and does as the page says: once with
// pg_rewind, then with pg_basebackup in the other direction.
func TestTheOldNodeComesBackByTheCommandsOfThePage(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	pair, err := lab.Start(ctx, lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pair.Close(); err != nil {
			t.Error(err)
		}
	})
	a, b := pair.Node(lab.RegionA), pair.Node(lab.RegionB)
	ways := map[string][]command{}
	var lines []block
	for _, bl := range blocks(section(t, operations, "## After a failover: bring the old node back")) {
		if bl.language == "sh" {
			lines = append(lines, bl)
		}
	}
	if len(lines) != 2 {
		t.Fatalf("%s shows %d ways back", operations, len(lines))
	}
	for i, name := range []string{"pg_rewind", "pg_basebackup"} {
		ways[name] = commands("```sh\n" + strings.Join(lines[i].lines, "\n") + "\n```\n")
	}
	for _, turn := range []struct {
		way      string
		old, now *lab.Node
	}{{"pg_rewind", a, b}, {"pg_basebackup", b, a}} {
		if err := turn.now.AwaitCaughtUp(ctx, turn.old); err != nil {
			t.Fatal(err)
		}
		if err := turn.old.Exec(ctx, "postgres", "CREATE TABLE "+turn.way+" (id int)"); err != nil {
			t.Fatal(err)
		}
		if err := turn.now.AwaitCaughtUp(ctx, turn.old); err != nil {
			t.Fatal(err)
		}
		if err := turn.now.Promote(ctx); err != nil {
			t.Fatal(err)
		}
		for _, n := range []*lab.Node{turn.old, turn.now} { // both believe to be in charge
			if err := n.Exec(ctx, "postgres", "INSERT INTO "+turn.way+" SELECT generate_series(1, 1000)"); err != nil {
				t.Fatal(err)
			}
		}
		if err := turn.old.Kill9(); err != nil {
			t.Fatal(err)
		}
		w := &wayBack{t: t, ctx: ctx, old: turn.old, now: turn.now, aside: t.TempDir()}
		for _, c := range ways[turn.way] {
			c.page = operations
			w.run(c)
		}
		if err := turn.old.AwaitStreaming(ctx); err != nil {
			t.Fatalf("%s: %v", turn.way, err)
		}
		if err := turn.old.AwaitCaughtUp(ctx, turn.now); err != nil {
			t.Fatalf("%s: %v", turn.way, err)
		}
		if n, err := turn.old.QueryText(ctx, "postgres", "SELECT count(*) FROM "+turn.way); err != nil || n != "1000" {
			t.Errorf("%s: the old node has %s rows, %v", turn.way, n, err)
		}
	}
}

// TestTheFenceOfThePageSaysWhatItDid runs the example with an ssh that does what it is told.
func TestTheFenceOfThePageSaysWhatItDid(t *testing.T) {
	var script, event string
	for _, bl := range blocks(section(t, operations, "## A fence of your own")) {
		switch bl.language {
		case "bash":
			script = strings.Join(bl.lines, "\n") + "\n"
		case "json":
			event = strings.Join(bl.lines, "\n")
		}
	}
	dir := t.TempDir()
	fence := filepath.Join(dir, "fence")
	for name, text := range map[string]string{
		fence:                     script,
		filepath.Join(dir, "ssh"): "#!/bin/sh\nprintf '%s\\n' \"$@\" > " + filepath.Join(dir, "asked") + "\nexit ${SSH_EXIT:-0}\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	compact := func(node string) string {
		var fields map[string]any
		if err := json.Unmarshal([]byte(event), &fields); err != nil {
			t.Fatalf("the event of %s: %v", operations, err)
		}
		fields["node"] = node
		b, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		return string(b) + "\n"
	}
	for name, c := range map[string]struct {
		stdin, exit string
		fenced      bool
		asked       string
	}{
		"as the page has it":     {event + "\n", "0", true, "fence@10.0.0.11"},
		"as pgtether writes it":  {compact("region-b"), "0", true, "fence@10.0.0.12"},
		"ssh cannot get through": {compact("region-a"), "255", false, "fence@10.0.0.11"},
		"it still runs":          {compact("region-a"), "1", false, "fence@10.0.0.11"},
		"another node":           {compact("region-c"), "0", false, ""},
		"no event":               {"", "0", false, ""},
	} {
		_ = os.Remove(filepath.Join(dir, "asked")) // of the case before
		cmd := exec.CommandContext(t.Context(), fence)
		cmd.Stdin = strings.NewReader(c.stdin)
		cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH"), "SSH_EXIT=" + c.exit}
		out, err := cmd.CombinedOutput()
		asked, _ := os.ReadFile(filepath.Join(dir, "asked"))
		if (err == nil) != c.fenced || !strings.Contains(string(asked), c.asked) || c.asked == "" && len(asked) > 0 {
			t.Errorf("%s: fenced %t, asked %q\n%s", name, err == nil, asked, out)
		}
	}
}

func TestThePageSaysWhatToDoAboutEveryCriterionAndStep(t *testing.T) {
	blocked := section(t, operations, "## PRIMARY_FAILED and blocked")
	for _, name := range decision.CriterionNames() {
		if name != "quorum" && !strings.Contains(blocked, "`"+name+"`") { // with one proxy it never blocks
			t.Errorf("%s does not say what to do about %s", operations, name)
		}
	}
	page := read(t, operations)
	for _, state := range decision.States() {
		if !strings.Contains(page, "`"+state.String()) {
			t.Errorf("%s does not say what to do in %s", operations, state)
		}
	}
	for _, word := range []string{"proven", "relaxed", "bounded", "unknown"} {
		if !strings.Contains(section(t, operations, "## What the last change cost"), "| `"+word+"` |") {
			t.Errorf("%s does not say what %s means", operations, word)
		}
	}
}
