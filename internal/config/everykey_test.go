package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

// with returns the valid document with one key set to a value in the notation of the file, whatever the document said before.
func with(key, value string) string {
	section, name, _ := strings.Cut(key, ".")
	if section == "node" {
		lines := strings.Split(valid, "\n")
		for i, line := range lines {
			if strings.HasPrefix(line, name+" = ") {
				lines[i] = name + " = " + value
				return strings.Join(lines, "\n")
			}
		}
		return strings.Replace(valid, "[[node]]\n", "[[node]]\n"+name+" = "+value+"\n", 1)
	}
	document := valid
	for _, known := range []string{`user = "pgtether"`, `mode = "observe"`} {
		if strings.HasPrefix(known, name+" = ") && strings.Contains(document, "["+section+"]\n"+known) {
			return strings.Replace(document, known, name+" = "+value, 1)
		}
	}
	if strings.Contains(document, "["+section+"]\n") {
		return strings.Replace(document, "["+section+"]\n", "["+section+"]\n"+name+" = "+value+"\n", 1)
	}
	return document + "[" + section + "]\n" + name + " = " + value + "\n"
}

// problemsWith decodes and validates, without looking at any file.
func problemsWith(document string) []*Problem {
	r := &report{file: "pgtether.toml"}
	f := decode(document, r)
	if r.lines != nil {
		validate(&f, r)
	}
	return r.problems
}

// about finds the problems of one key.
func about(problems []*Problem, key string) []*Problem {
	var found []*Problem
	for _, p := range problems {
		if p.Key == key || strings.HasPrefix(p.Key, key+"[") {
			found = append(found, p)
		}
	}
	return found
}

// lineWith is the line of the document that holds the assignment.
func lineWith(document, key, value string) int {
	_, name, _ := strings.Cut(key, ".")
	for i, line := range strings.Split(document, "\n") {
		if line == name+" = "+value {
			return i + 1
		}
	}
	return 0
}

func TestEveryKeyRefusesEveryOtherType(t *testing.T) {
	values := map[string]string{
		"true or false": "true", "number": "7", "float": "1.5", "text": `"some text"`, "list of texts": `["a"]`, "date": "2026-01-01",
		"table": "{a = 1}", "list of tables": "[{a = 1}]", "infinity": "inf",
	}
	for _, k := range Keys() {
		own, _, _ := strings.Cut(k.Type, ",")
		if _, known := values[own]; !known || strings.HasPrefix(k.Type, "one of") {
			own = "text" // durations, sizes, files, folders and words are written as text
		}
		for kind, value := range values {
			if kind == own {
				continue
			}
			document := with(k.Path, value)
			found := about(problemsWith(document), k.Path)
			if len(found) != 1 {
				t.Errorf("%s = %s: problems %v, want one", k.Path, value, found)
				continue
			}
			if line := lineWith(document, k.Path, value); found[0].Line != line && kind != "list of tables" {
				t.Errorf("%s = %s: line %d, want %d", k.Path, value, found[0].Line, line)
			}
			if !strings.HasPrefix(found[0].Text, "want ") || !strings.Contains(found[0].Text, "found ") {
				t.Errorf("%s = %s: refused with %q", k.Path, value, found[0].Text)
			}
		}
	}
}

func TestEveryBoundIsInclusiveAndHeld(t *testing.T) {
	checked := 0
	f := Default()
	f.Nodes = []Node{{}}
	walk(&f, func(path string, field reflect.StructField, _ reflect.Value) {
		key := withoutIndices(path)
		if _, ok := unbuiltKeys[key]; ok {
			return
		}
		for _, bound := range []struct {
			tag string
			by  int
		}{{"min", -1}, {"max", +1}} {
			text := field.Tag.Get(bound.tag)
			if text == "" {
				continue
			}
			checked++
			at, beyond := text, ""
			if field.Type == reflect.TypeFor[Duration]() {
				d, err := ParseDuration(text)
				if err != nil {
					t.Fatalf("%s: the tag %s: %v", key, bound.tag, err)
				}
				at, beyond = strconv.Quote(text), strconv.Quote((d + Duration(bound.by)*Duration(time.Microsecond)).String())
			} else {
				n, err := strconv.Atoi(text)
				if err != nil {
					t.Fatalf("%s: the tag %s: %v", key, bound.tag, err)
				}
				beyond = strconv.Itoa(n + bound.by)
			}
			for _, p := range about(problemsWith(with(key, at)), key) {
				if strings.Contains(p.Text, "out of bounds") {
					t.Errorf("%s = %s: %s", key, at, p.Text)
				}
			}
			if found := about(problemsWith(with(key, beyond)), key); len(found) == 0 {
				t.Errorf("%s = %s is accepted", key, beyond)
			}
		}
	})
	if checked < 30 {
		t.Errorf("only %d bounds were checked", checked)
	}
}

func TestEveryWordIsAcceptedAndNoOther(t *testing.T) {
	checked := 0
	f := Default()
	walk(&f, func(path string, field reflect.StructField, _ reflect.Value) {
		words, ok := field.Tag.Lookup("oneof")
		if !ok {
			return
		}
		for word := range strings.SplitSeq(words, "|") {
			checked++
			for _, p := range about(problemsWith(with(path, strconv.Quote(word))), path) {
				if strings.Contains(p.Text, "is not one of") {
					t.Errorf("%s = %q: %s", path, word, p.Text)
				}
			}
			for _, other := range []string{strings.ToUpper(word) + "X", word + " ", word + "\u00a0"} {
				found := about(problemsWith(with(path, strconv.Quote(other))), path)
				if len(found) != 1 || !strings.Contains(found[0].Text, "is not one of") {
					t.Errorf("%s = %q: problems %v", path, other, found)
				}
			}
		}
	})
	if checked < 25 {
		t.Errorf("only %d words were checked", checked)
	}
}

func TestWritingADefaultDownChangesNothing(t *testing.T) {
	want, _ := mustLoad(t, valid)
	for _, k := range Keys() {
		if k.Default == "required" || k.Path == "failover.mode" {
			continue
		}
		r := &report{file: "pgtether.toml"}
		f := decode(with(k.Path, k.Default), r)
		if validate(&f, r); len(r.problems) > 0 {
			t.Errorf("%s = %s: %v", k.Path, k.Default, r.err())
		}
		got := literals(&f)
		for path, value := range literals(want) {
			if got[path] != value {
				t.Errorf("%s = %s makes %s %s, was %s", k.Path, k.Default, path, got[path], value)
			}
		}
	}
}

func TestEveryKeyThatIsNotBuiltIsRefusedUnlessItSaysWhatHolds(t *testing.T) {
	other := map[string]string{
		"true or false": "true", "number": "7", "duration": `"33s"`, "size": `"33MiB"`, "text": `"https://10.0.0.1:7433"`,
		"list of texts": `["https://10.0.0.1:2379"]`,
	}
	for _, k := range Keys() {
		missing, ok := unbuiltKeys[k.Path]
		if !ok {
			continue
		}
		kind, _, _ := strings.Cut(k.Type, ",")
		value, known := other[kind]
		if words, isWord := strings.CutPrefix(k.Type, "one of "); isWord {
			list := strings.Split(words, ", ")
			value, known = strconv.Quote(list[len(list)-1]), true
		}
		if !known {
			t.Fatalf("%s has the type %s", k.Path, k.Type)
		}
		document := with(k.Path, value)
		found := about(problemsWith(document), k.Path)
		if len(found) != 1 || !strings.Contains(found[0].Text, "is not in this version ("+missing+")") || found[0].Line != lineWith(document, k.Path, value) {
			t.Errorf("%s = %s: problems %v", k.Path, value, found)
		}
	}
}

func TestEveryTextRefusesControlCharacters(t *testing.T) {
	for _, k := range Keys() {
		if k.Type != "text" && k.Type != "file" && k.Type != "folder" {
			continue
		}
		for _, c := range []string{`\u0000`, `\n`, `\u001b[31m`, `\u0085`} {
			found := about(problemsWith(with(k.Path, `"a`+c+`b"`)), k.Path)
			if len(found) != 1 || !strings.Contains(found[0].Text, "control character") {
				t.Errorf("%s with %s: problems %v", k.Path, c, found)
			}
			for _, p := range found {
				if strings.ContainsAny(p.Error(), "\x00\n\x1b\u0085") {
					t.Errorf("%s: the refusal itself holds the character: %q", k.Path, p.Error())
				}
			}
		}
	}
}

// TestAMisspelledKeyIsRecognised leaves out, doubles and swaps the letters of each key of the sections that the valid document does not open.
func TestAMisspelledKeyIsRecognised(t *testing.T) {
	missed, all := 0, 0
	for _, k := range Keys() {
		section, name, _ := strings.Cut(k.Path, ".")
		if strings.Contains(valid, "["+section+"]") {
			continue
		}
		for i := 1; i < len(name); i++ {
			for _, wrong := range []string{name[:i] + name[i+1:], name[:i] + name[i-1:], name[:i-1] + name[i:i+1] + name[i-1:i] + name[i+1:]} {
				if wrong == name {
					continue
				}
				all++
				problems := problemsWith(section + "." + wrong + " = 1\n" + valid)
				if len(problems) != 1 || problems[0].Line != 1 || !strings.Contains(problems[0].Text, fmt.Sprintf("did you mean %q", k.Path)) {
					missed++
					t.Logf("%s.%s: %v", section, wrong, problems)
				}
			}
		}
	}
	if all < 300 || missed*50 > all {
		t.Errorf("%d of %d misspelled keys were not recognised", missed, all)
	}
}
