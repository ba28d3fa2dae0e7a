package follow

import (
	"os"
	"strings"
	"testing"
)

func TestThePageShowsTheSettingsThatAreTested(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../../docs/FOLLOW.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(content), "```yaml\n")
	block, _, found := strings.Cut(rest, "```")
	if !found || strings.Count(block, "\n") < 5 {
		t.Fatalf("the page shows no settings of Patroni: %q", block)
	}
	for line := range strings.Lines(block) {
		if !strings.Contains(patroniText, "\n"+line) {
			t.Errorf("the page shows %q, which the tested pair does not have", line)
		}
	}
}
