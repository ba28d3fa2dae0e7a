package docs

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgtether/pgtether/decision"
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
