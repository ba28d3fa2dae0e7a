package config

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestTyposAreCounted(t *testing.T) {
	for pair, want := range map[[2]string]int{
		{"", ""}: 0, {"abc", "abc"}: 0, {"abc", ""}: 3, {"", "abc"}: 3, {"abc", "acb"}: 1, {"address", "adress"}: 1, {"timeout", "tiemout"}: 1,
		{"login", "logni"}: 1, {"kitten", "sitting"}: 3, {"ca", "abc"}: 3, {"max_lag", "maxlag"}: 1,
	} {
		if got := typos(pair[0], pair[1]); got != want {
			t.Errorf("typos(%q, %q) = %d, want %d", pair[0], pair[1], got, want)
		}
	}
}

// TestTyposAreADistance checks what everybody expects of a distance, on short words of few letters, where it matters most.
func TestTyposAreADistance(t *testing.T) {
	word := rapid.StringMatching(`[abc]{0,6}`)
	rapid.Check(t, func(t *rapid.T) {
		a, b := word.Draw(t, "a"), word.Draw(t, "b")
		d := typos(a, b)
		if d != typos(b, a) {
			t.Fatalf("typos(%q, %q) depends on the order", a, b)
		}
		if (d == 0) != (a == b) {
			t.Fatalf("typos(%q, %q) = %d", a, b, d)
		}
		if least, most := max(len(a), len(b))-min(len(a), len(b)), max(len(a), len(b)); d < least || d > most {
			t.Fatalf("typos(%q, %q) = %d, want %d to %d", a, b, d, least, most)
		}
	})
}

func TestTheNearestIsTakenOnlyWhenItIsNear(t *testing.T) {
	words := []string{"login", "session", "max", "release_per_second"}
	for word, want := range map[string]string{
		"logins": "login", "Login": "login", "sesion": "session", "release-per-second": "release_per_second", "releasePerSecond": "release_per_second",
		"mx": "max", "maximum": "", "colour": "", "x": "", "": "", strings.Repeat("login", 1000): "",
	} {
		if got, ok := nearest(word, words); got != want || ok != (want != "") {
			t.Errorf("nearest(%.20q) = %q, %v, want %q", word, got, ok, want)
		}
	}
}
