package main

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func collect(r io.Reader) (events []string, err error) {
	err = readStream(r, func() {}, func(data []byte) error {
		events = append(events, string(data))
		return nil
	})
	return events, err
}

func TestStreamIsReadAsTheStandardSays(t *testing.T) {
	for name, c := range map[string]struct {
		stream string
		want   []string
	}{
		"nothing":                    {"", nil},
		"one event":                  {"data: a\n\n", []string{"a"}},
		"with name and identifier":   {"id: 7\nevent: step\nretry: 10\ndata: a\n\n", []string{"a"}},
		"lines of data are joined":   {"data: a\ndata: b\n\n", []string{"a\nb"}},
		"no space after the colon":   {"data:a\n\n", []string{"a"}},
		"only one space is taken":    {"data:  a\n\n", []string{" a"}},
		"comments are skipped":       {": hello\n\ndata: a\n: there\ndata: b\n\n", []string{"a\nb"}},
		"carriage returns":           {"data: a\r\n\r\ndata: b\r\n\r\n", []string{"a", "b"}},
		"empty data":                 {"data\n\ndata:\n\n", []string{"", ""}},
		"events without data":        {"event: ping\n\nid: 3\n\n", nil},
		"cut off before the end":     {"data: a\n\ndata: b\n", []string{"a"}},
		"cut off in the line":        {"data: a\n\ndata: b", []string{"a"}},
		"a field that only looks so": {"database: x\ndata: a\n\n", []string{"a"}},
	} {
		t.Run(name, func(t *testing.T) {
			for way, r := range map[string]io.Reader{"whole": strings.NewReader(c.stream), "byte by byte": iotest.OneByteReader(strings.NewReader(c.stream))} {
				got, err := collect(r)
				if err != nil || strings.Join(got, "|") != strings.Join(c.want, "|") || len(got) != len(c.want) {
					t.Errorf("%s: %q, %v; want %q", way, got, err, c.want)
				}
			}
		})
	}
}

func TestStreamIsBounded(t *testing.T) {
	line := "data: " + strings.Repeat("x", 60000) + "\n"
	for name, stream := range map[string]string{
		"a long line":  "data: " + strings.Repeat("x", maxEvent+1),
		"a long event": strings.Repeat(line, maxEvent/60000+1) + "\n",
	} {
		if got, err := collect(strings.NewReader(stream)); !errors.Is(err, errNotEvents) || len(got) > 0 {
			t.Errorf("%s: %d events, %v; want errNotEvents", name, len(got), err)
		}
	}
}

func TestStreamEndsWithTheErrorOfEitherSide(t *testing.T) {
	broken := errors.New("broken")
	if _, err := collect(io.MultiReader(strings.NewReader("data: a\n\n"), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("reader: %v", err)
	}
	taken := 0
	err := readStream(strings.NewReader("data: a\n\ndata: b\n\n"), func() {}, func([]byte) error { taken++; return broken })
	if !errors.Is(err, broken) || taken != 1 {
		t.Errorf("taker: %v after %d events", err, taken)
	}
}

func FuzzStream(f *testing.F) {
	for _, s := range []string{"data: a\n\n", "data\n\n", ":\n\ndata: a\r\n\r\n", "id: 1\nevent: x\ndata: a\ndata: b\n\n", "\n\n\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := collect(strings.NewReader(s))
		again, errAgain := collect(iotest.HalfReader(strings.NewReader(s)))
		if strings.Join(got, "|") != strings.Join(again, "|") || (err == nil) != (errAgain == nil) {
			t.Fatalf("%q in halves: %q, %v", s, again, errAgain)
		}
		for _, data := range got {
			if len(data) > maxEvent {
				t.Fatalf("event of %d bytes", len(data))
			}
		}
	})
}

func TestEveryLineOfAStreamIsASignOfLife(t *testing.T) {
	signs := 0
	err := readStream(strings.NewReader(": pgtether\n\n:\n\ndata: a\n\n"), func() { signs++ }, func([]byte) error { return nil })
	if err != nil || signs != 6 {
		t.Errorf("%d signs of life in 6 lines, %v", signs, err)
	}
}
