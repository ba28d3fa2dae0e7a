package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// unknown reports a key that does not exist, and the one that was probably meant.
func (b *binder) unknown(path, key string, table reflect.Type) {
	here := tomlNames(table)
	at := join(path, key)
	prefix := withoutIndices(path)
	if near, ok := nearest(key, here); ok {
		b.report.refuse(at, "unknown key; did you mean %q?", join(prefix, near))
		return
	}
	if elsewhere := keysNamed(key); len(elsewhere) > 0 {
		b.report.refuse(at, "unknown key; did you mean %s?", quotedList(elsewhere))
		return
	}
	what := "a section is one of " + strings.Join(here, ", ")
	if path != "" {
		header := "[" + prefix + "]"
		if path != prefix {
			header = "[" + header + "]"
		}
		what = header + " has the keys " + strings.Join(here, ", ")
	}
	b.report.refuse(at, "unknown key; %s", what)
}

// tomlNames lists the keys of a table in the order of the document.
func tomlNames(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		if tag, ok := t.Field(i).Tag.Lookup("toml"); ok {
			names = append(names, tag)
		}
	}
	return names
}

// keysNamed lists the full keys whose last part is very close to the name, wherever they are.
func keysNamed(name string) []string {
	var found []string
	for _, k := range Keys() {
		_, last, _ := strings.Cut(k.Path, ".")
		if fold(last) == fold(name) || fold(k.Path) == fold(name) {
			found = append(found, k.Path)
		}
	}
	return found
}

func quotedList(keys []string) string {
	quoted := make([]string, len(keys))
	for i, k := range keys {
		quoted[i] = fmt.Sprintf("%q", k)
	}
	return strings.Join(quoted, " or ")
}

// fold removes what people vary in spelling.
func fold(s string) string {
	return strings.NewReplacer("_", "", "-", "", ".", "").Replace(strings.ToLower(s))
}

// nearest returns the candidate with the fewest typing errors, if they are few for a word of that length.
func nearest(word string, candidates []string) (string, bool) {
	if len(word) > 64 {
		return "", false
	}
	best, fewest := "", 1+(len(word)+2)/3
	for _, c := range candidates {
		if d := typos(fold(word), fold(c)); d < fewest {
			best, fewest = c, d
		}
	}
	return best, best != ""
}

// typos counts the insertions, deletions, replacements and swaps of neighbours that lead from a to b (optimal string alignment).
func typos(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		now := make([]int, len(b)+1)
		now[0] = i
		for j := 1; j <= len(b); j++ {
			replace := last[j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			now[j] = slices.Min([]int{last[j] + 1, now[j-1] + 1, replace})
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				now[j] = min(now[j], before[j-2]+1)
			}
		}
		before, last = last, now
	}
	return last[len(b)]
}
