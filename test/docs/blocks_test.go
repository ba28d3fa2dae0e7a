package docs

import (
	"fmt"
	"testing"
)

const page = "# Title\n\nSee [the design](docs/DESIGN.md#words) and [the site](https://example.org/x).\n\n```sh\nmake demo   # a minute\n\n" +
	"# a remark\nexport URL='a b?c=d'\n```\n\n```toml\nmake = \"believe\"\n```\n"

func TestBlocksKnowTheirLanguageAndLine(t *testing.T) {
	got := blocks(page)
	if len(got) != 2 || got[0].language != "sh" || got[0].line != 6 || got[1].language != "toml" || got[1].line != 13 {
		t.Errorf("blocks %+v", got)
	}
}

func TestCommandsComeFromShellBlocksWithoutComments(t *testing.T) {
	var got string
	for _, c := range commands(page) {
		got += fmt.Sprintf("%d: %q\n", c.line, c.words)
	}
	want := "6: [\"make\" \"demo\"]\n9: [\"export\" \"URL=a b?c=d\"]\n"
	if got != want {
		t.Errorf("commands %s, want %s", got, want)
	}
}

func TestLinksAreThoseIntoTheTree(t *testing.T) {
	if got := fmt.Sprint(links(page)); got != "[docs/DESIGN.md]" {
		t.Errorf("links %s", got)
	}
}
