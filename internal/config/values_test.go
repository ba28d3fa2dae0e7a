package config

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestDurationsAreReadAsTheyAreWritten(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"1.5s": 1500 * time.Millisecond, "0s": 0, "0": 0, "200ms": 200 * time.Millisecond, "1h30m": 90 * time.Minute, "10us": 10 * time.Microsecond,
	} {
		if got, err := ParseDuration(text); err != nil || got.Std() != want {
			t.Errorf("ParseDuration(%q) = %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "s", "15", "-1s", "+1s", "-0s", "1 s", "1d", "1s ", "one", "1e400s", "9999999999h", "1.s.5", "\x00", "NaN", "Inf"} {
		var bad *ValueError
		if got, err := ParseDuration(text); !errors.As(err, &bad) || got != 0 {
			t.Errorf("ParseDuration(%q) = %v, %v, want a *ValueError", text, got, err)
		}
	}
}

func TestSizesAreReadAsTheyAreWritten(t *testing.T) {
	for text, want := range map[string]int64{
		"0B": 0, "512B": 512, "1KiB": 1024, "16MiB": 16 << 20, "1.5GiB": 3 << 29, "2 TiB": 2 << 40, "0.5KiB": 512, "8388607TiB": 8388607 << 40,
	} {
		if got, err := ParseSize(text); err != nil || got.Bytes() != want {
			t.Errorf("ParseSize(%q) = %v, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "MiB", "16", "16MB", "16mib", "-1B", "+1B", "1.B", ".5MiB", "1e3B", "0.3B", "1,5GiB", "16MiBB", "8388608TiB", "99999999999999999999B",
		"0x10B", "1_000B", "1  B", strings.Repeat("9", 50) + "B", "1.5.2MiB", "\xff",
	} {
		var bad *ValueError
		if got, err := ParseSize(text); !errors.As(err, &bad) || got != 0 {
			t.Errorf("ParseSize(%q) = %v, %v, want a *ValueError", text, got, err)
		}
	}
}

func TestValuesPrintAsAFileWouldHaveThem(t *testing.T) {
	for want, d := range map[string]Duration{
		"60s": seconds(60), "1h": Duration(time.Hour), "1h30m": Duration(90 * time.Minute), "1.5s": Duration(1500 * time.Millisecond), "0s": 0,
		"2m": seconds(120), "10m": seconds(600), "168h": Duration(168 * time.Hour), "1h0m1s": Duration(time.Hour + time.Second), "2m30s": seconds(150),
	} {
		if d.String() != want {
			t.Errorf("String() = %q, want %q", d, want)
		}
	}
	for want, s := range map[string]Size{"0B": 0, "1B": 1, "1KiB": 1 << 10, "1025B": 1025, "16MiB": 16 << 20, "3GiB": 3 << 30, "1TiB": 1 << 40} {
		if s.String() != want {
			t.Errorf("String() = %q, want %q", s, want)
		}
	}
}

func TestALongWrongValueIsShownShortened(t *testing.T) {
	_, err := ParseSize(strings.Repeat("x", 10_000))
	if err == nil || len(err.Error()) > 300 {
		t.Errorf("error = %v", err)
	}
}

func FuzzParseDuration(f *testing.F) {
	for _, seed := range []string{"1.5s", "15", "-1s", "1h0m1s", "2562047h47m16.854775807s", "٣s", ".5s", "1e3s"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := ParseDuration(text)
		if err != nil {
			if err.Error() == "" || d != 0 {
				t.Fatalf("ParseDuration(%q) = %d with the error %q", text, d, err)
			}
			return
		}
		if d < 0 {
			t.Fatalf("ParseDuration(%q) is negative: %d", text, d)
		}
		if again, err := ParseDuration(d.String()); err != nil || again != d {
			t.Fatalf("%q prints as %q, which reads as %d, %v", text, d, again, err)
		}
	})
}

func FuzzParseSize(f *testing.F) {
	for _, seed := range []string{"16MiB", "1.5GiB", "16MB", "9223372036854775807B", "0.0009765625KiB", "1 B", "٣B"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSize(text)
		if err != nil {
			if err.Error() == "" || s != 0 {
				t.Fatalf("ParseSize(%q) = %d with the error %q", text, s, err)
			}
			return
		}
		if s < 0 {
			t.Fatalf("ParseSize(%q) = %d", text, s)
		}
		if again, err := ParseSize(s.String()); err != nil || again != s {
			t.Fatalf("%q prints as %q, which reads as %d, %v", text, s, again, err)
		}
	})
}
