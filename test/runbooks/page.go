package runbooks

import (
	"fmt"
	"os"
	"regexp"
	"strings"
)

// Block is one sh block of the page.
type Block struct {
	// Names are those it is run by; On is the node to run it on, "" for pgtether's own machine. Line is that of its fence.
	Names []string
	On    string
	Line  int
	Text  string
}

var mark = regexp.MustCompile("^```sh run=([a-z0-9,-]+)(?: on=(region-[abc]))?$")

// ReadPage lists the sh blocks of a page. A block of shell commands that is not marked is an error.
func ReadPage(path string) ([]Block, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read page: %w", err)
	}
	var out []Block
	var open *Block // of the block that is being read; one that is not ours has no names
	for i, line := range strings.Split(string(content), "\n") {
		switch {
		case open == nil && strings.HasPrefix(line, "```"):
			open = &Block{Line: i + 1}
			if m := mark.FindStringSubmatch(line); m != nil {
				open.Names, open.On = strings.Split(m[1], ","), m[2]
			} else if language, _, _ := strings.Cut(line[3:], " "); language != "toml" && language != "json" && language != "bash" {
				return nil, fmt.Errorf("read page %s:%d: the block %q does not say how it is run", path, i+1, line)
			}
		case open != nil && line == "```":
			if open.Names != nil {
				out = append(out, *open)
			}
			open = nil
		case open != nil:
			open.Text += line + "\n"
		}
	}
	return out, nil
}
