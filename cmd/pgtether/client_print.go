package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// colour is an ANSI colour code; the empty one leaves the text alone.
type colour string

const (
	plainText colour = ""
	green     colour = "32"
	yellow    colour = "33"
	red       colour = "31"
)

// unknownText stands where nothing is known, or where there is nothing to know.
const unknownText = "-"

// cell is one field of a table.
type cell struct {
	text   string
	colour colour
}

func text(s string) cell { return cell{text: s} }

// printer writes for people. It keeps the first error of the writer and writes nothing after it.
type printer struct {
	w        io.Writer
	coloured bool
	err      error
}

// newPrinter uses colour only on a terminal, and not there when NO_COLOR is set or the terminal says that it cannot.
func newPrinter(w io.Writer) *printer {
	p := &printer{w: w}
	if f, ok := w.(*os.File); ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" {
		info, err := f.Stat()
		p.coloured = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return p
}

func (p *printer) write(s string) {
	if p.err == nil {
		if _, err := io.WriteString(p.w, s); err != nil {
			p.err = fmt.Errorf("write: %w", err)
		}
	}
}

// paint returns text that is safe to show, in its colour.
func (p *printer) paint(c cell) string {
	s := plain(c.text)
	if !p.coloured || c.colour == plainText {
		return s
	}
	return "\x1b[" + string(c.colour) + "m" + s + "\x1b[0m"
}

// line writes its cells one after the other.
func (p *printer) line(cells ...cell) {
	var b strings.Builder
	for _, c := range cells {
		b.WriteString(p.paint(c))
	}
	p.write(b.String() + "\n")
}

// table writes rows in columns that are as wide as their widest cell. Nothing is written behind the last cell of a row.
func (p *printer) table(rows [][]cell) {
	var widths []int
	for _, row := range rows {
		for i, c := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(plain(c.text)))
		}
	}
	for _, row := range rows {
		var b strings.Builder
		for i, c := range row {
			b.WriteString(p.paint(c))
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(plain(c.text))+2))
			}
		}
		p.write(strings.TrimRight(b.String(), " ") + "\n")
	}
}

// plain makes text of others safe for a terminal and for one line: what is not printable becomes a replacement character.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r == ' ' || unicode.IsPrint(r) {
			return r
		}
		return utf8.RuneError
	}, s)
}

// header makes the first row of a table.
func header(names ...string) []cell { return words(names...) }

func words(texts ...string) []cell {
	row := make([]cell, len(texts))
	for i, s := range texts {
		row[i] = text(s)
	}
	return row
}

// known renders a value that may be null.
func known[T any](v *T, render func(T) string) string {
	if v == nil {
		return unknownText
	}
	return render(*v)
}

func orUnknown(s string) string {
	if s == "" {
		return unknownText
	}
	return s
}

func asIs(s string) string { return orUnknown(s) }

func number[T int | int64 | uint64](n T) string { return fmt.Sprint(n) }

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// size renders bytes exactly below 10 KiB and with one decimal above.
func size(bytes int64) string {
	const units = "KMGTPE"
	if bytes < 10<<10 {
		return strconv.FormatInt(bytes, 10) + " B"
	}
	v, unit := float64(bytes)/1024, 0
	for v >= 1024 && unit < len(units)-1 {
		v, unit = v/1024, unit+1
	}
	return fmt.Sprintf("%.1f %ciB", v, units[unit])
}

// millis renders a number of milliseconds as a duration.
func millis(ms int64) string { return (time.Duration(ms) * time.Millisecond).String() }
