package config

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// Duration is a length of time as the file writes it: "1.5s", "200ms", "1h30m". It is never negative.
type Duration time.Duration

// Std returns the duration as the standard library has it.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String prints the duration as a file would have it: "60s", "1h", not "1h0m0s". ParseDuration reads it back unchanged.
func (d Duration) String() string {
	const spoken = 2 * time.Minute
	if std := time.Duration(d); std < spoken && std%time.Second == 0 {
		return strconv.Itoa(int(std/time.Second)) + "s"
	}
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// ValueError says why a text is not the value that was wanted, and what would be.
type ValueError struct {
	Text string
	// Want says what would be right.
	Want string
}

// Error implements error.
func (e *ValueError) Error() string { return fmt.Sprintf("%s is not %s", quote(e.Text), e.Want) }

// ParseDuration reads a duration: a number and a unit (ns, us, ms, s, m, h), or several of them.
func ParseDuration(text string) (Duration, error) {
	d, err := time.ParseDuration(text)
	switch {
	case err == nil && d >= 0 && !strings.HasPrefix(text, "+") && !strings.HasPrefix(text, "-"):
		return Duration(d), nil
	case err == nil:
		return 0, &ValueError{text, `a duration of 0 or more without a sign, such as "1.5s"`}
	}
	if _, err := strconv.ParseFloat(text, 64); err == nil && len(text) <= 20 {
		return 0, &ValueError{text, fmt.Sprintf(`a duration: the unit is missing; %q would be right (units: ms, s, m, h)`, text+"s")}
	}
	return 0, &ValueError{text, `a duration such as "1.5s" (units: ms, s, m, h)`}
}

// Size is a number of bytes as the file writes it: "16MiB". It is never negative.
type Size int64

// Bytes returns the number of bytes.
func (s Size) Bytes() int64 { return int64(s) }

// sizeUnits are ordered from the greatest to the smallest.
var sizeUnits = []struct {
	name  string
	bytes int64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1},
}

// String prints the size in the greatest unit that needs no fraction. ParseSize reads it back unchanged.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if s != 0 && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return "0B"
}

// ParseSize reads a size: a number, whole or with a fraction, and one of B, KiB, MiB, GiB, TiB. It must be a whole number of bytes.
func ParseSize(text string) (Size, error) {
	digits := strings.TrimRight(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
	unit := text[len(digits):]
	digits = strings.TrimSuffix(digits, " ")
	if !decimal(digits) {
		return 0, &ValueError{text, `a size such as "16MiB" (units: B, KiB, MiB, GiB, TiB)`}
	}
	for _, u := range sizeUnits {
		if unit == u.name {
			return wholeBytes(text, digits, u.bytes)
		}
	}
	if unit == "" {
		return 0, &ValueError{text, fmt.Sprintf(`a size: the unit is missing; %q would be right (units: B, KiB, MiB, GiB, TiB)`, text+"B")}
	}
	return 0, &ValueError{text, fmt.Sprintf("a size: %q is not a unit (units: B, KiB, MiB, GiB, TiB)", unit)}
}

// decimal reports whether s is digits with at most one point between digits, short enough to be computed exactly.
func decimal(s string) bool {
	whole, fraction, hasPoint := strings.Cut(s, ".")
	onlyDigits := func(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
	return len(s) <= 40 && onlyDigits(whole) && (!hasPoint || onlyDigits(fraction))
}

func wholeBytes(text, digits string, unit int64) (Size, error) {
	n, ok := new(big.Rat).SetString(digits)
	if !ok {
		return 0, &ValueError{text, `a size such as "16MiB"`}
	}
	n.Mul(n, new(big.Rat).SetInt64(unit))
	switch {
	case !n.IsInt():
		return 0, &ValueError{text, "a whole number of bytes"}
	case !n.Num().IsInt64():
		return 0, &ValueError{text, "a size that fits 64 bits (at most 8388607TiB)"}
	}
	return Size(n.Num().Int64()), nil
}

// quote shows a value of the file, shortened: a value may be anything, also a whole document in the wrong place.
func quote(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		return strconv.Quote(string(r[:most])) + "..."
	}
	return strconv.Quote(s)
}
