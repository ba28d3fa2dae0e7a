package docs

import (
	"fmt"
	"regexp"
	"strings"
)

// block is one fenced block of a page.
type block struct {
	// language is the word after the fence, line the number of its first line of content.
	language string
	line     int
	lines    []string
}

// blocks finds the fenced blocks of a page.
func blocks(page string) []block {
	var out []block
	var open *block
	for i, line := range strings.Split(page, "\n") {
		fence, isFence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case isFence && open == nil:
			open = &block{language: strings.TrimSpace(fence), line: i + 2}
		case isFence:
			out = append(out, *open)
			open = nil
		case open != nil:
			open.lines = append(open.lines, line)
		}
	}
	return out
}

// command is one line of a shell block, without its comment.
type command struct {
	page  string
	line  int
	words []string
}

// String says where the command is.
func (c command) String() string { return fmt.Sprintf("%s:%d", c.page, c.line) }

// commands lists the commands of the page's sh blocks.
func commands(page string) []command {
	var out []command
	for _, b := range blocks(page) {
		if b.language != "sh" {
			continue
		}
		for i, line := range b.lines {
			text, _, _ := strings.Cut(" "+line, " #")
			if words := shellWords(text); len(words) > 0 {
				out = append(out, command{line: b.line + i, words: words})
			}
		}
	}
	return out
}

var shellWord = regexp.MustCompile(`(?:[^\s']|'[^']*')+`)

// shellWords splits a line at blanks outside single quotes, and removes the quotes.
func shellWords(text string) []string {
	words := shellWord.FindAllString(text, -1)
	for i := range words {
		words[i] = strings.ReplaceAll(words[i], "'", "")
	}
	return words
}

var link = regexp.MustCompile(`\]\(([^)#]+)(?:#[^)]*)?\)`)

// links lists the targets of the page's links that are files of the tree.
func links(page string) []string {
	var out []string
	for _, m := range link.FindAllStringSubmatch(page, -1) {
		if !strings.Contains(m[1], "://") {
			out = append(out, m[1])
		}
	}
	return out
}
