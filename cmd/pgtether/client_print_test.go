package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

func TestColoursDoNotMoveColumns(t *testing.T) {
	rows := [][]cell{header("NODE", "EVIDENCE", "SEEN"), {text("region-a"), {"answers", green}, text("1s ago")}, {text("b"), {"refused", red}, text("-")}}
	var bare, painted bytes.Buffer
	(&printer{w: &bare}).table(rows)
	(&printer{w: &painted, coloured: true}).table(rows)
	if !strings.Contains(painted.String(), "\x1b[32manswers\x1b[0m") {
		t.Errorf("no colour in %q", &painted)
	}
	without := strings.NewReplacer("\x1b[32m", "", "\x1b[31m", "", "\x1b[0m", "").Replace(painted.String())
	if without != bare.String() {
		t.Errorf("coloured:\n%s\nplain:\n%s", without, &bare)
	}
	if strings.Contains(bare.String(), "\x1b") {
		t.Errorf("colour although none was asked for: %q", &bare)
	}
}

func TestColourIsForTerminalsOnly(t *testing.T) {
	file, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if newPrinter(file).coloured || newPrinter(&bytes.Buffer{}).coloured {
		t.Errorf("colour in a file or a buffer")
	}
	// A character device stands for a terminal: it is what the printer looks for.
	device, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = device.Close() }()
	t.Setenv("NO_COLOR", "")
	t.Setenv("TERM", "xterm")
	if !newPrinter(device).coloured {
		t.Errorf("no colour on a device")
	}
	t.Setenv("TERM", "dumb")
	if newPrinter(device).coloured {
		t.Errorf("colour on a dumb terminal")
	}
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "1")
	if newPrinter(device).coloured {
		t.Errorf("colour although NO_COLOR is set")
	}
}

func TestTextOfOthersCannotSteerTheTerminal(t *testing.T) {
	for in, want := range map[string]string{
		"region-a":                "region-a",
		"größe 12 µs – ✓":         "größe 12 µs – ✓",
		"\x1b[2J\x1b]0;title\x07": "\uFFFD[2J\uFFFD]0;title\uFFFD",
		"two\nlines\r\ttab":       "two\uFFFDlines\uFFFD\uFFFDtab",
		"\u202eright to left":     "\uFFFDright to left",
		"\u009b31m":               "\uFFFD31m",
		"\xff\xfe":                "\uFFFD\uFFFD",
	} {
		if got := plain(in); got != want {
			t.Errorf("%q is shown as %q; want %q", in, got, want)
		}
	}
}

func TestSizesAreExactWhileSmall(t *testing.T) {
	for bytes, want := range map[int64]string{
		0: "0 B", 1: "1 B", 10239: "10239 B", 10240: "10.0 KiB", 16 << 20: "16.0 MiB", 1536 << 20: "1.5 GiB", 1 << 62: "4.0 EiB", -1: "-1 B",
	} {
		if got := size(bytes); got != want {
			t.Errorf("%d: %q; want %q", bytes, got, want)
		}
	}
}
