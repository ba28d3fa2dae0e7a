package config

import (
	"fmt"
	"reflect"
	"strings"
)

// Key describes one key of the document, as docs/CONFIGURATION.md shows it.
type Key struct {
	// Path is the full key: "limits.max_clients", "node.address".
	Path string
	// Type says what may be written: "duration, 100ms to 5m", "one of disable, allow, require, passthrough", ...
	Type string
	// Default is the default in the notation of the file; "required" when there is none.
	Default string
	// Restart says why a reload may not change it; empty when it may.
	Restart string
	// Unbuilt says what this version accepts instead of everything that Type says; empty when that is all of it.
	Unbuilt string
}

// required are the keys without a default.
var required = []string{"node.name", "node.address", "probe.user"}

// Keys lists every key in the order of the document.
func Keys() []Key {
	var keys []Key
	defaults := Default()
	defaults.Nodes = []Node{{}}
	walk(&defaults, func(path string, field reflect.StructField, v reflect.Value) {
		path = withoutIndices(path)
		k := Key{Path: path, Type: typeText(field), Default: literal(v), Restart: field.Tag.Get("restart")}
		for _, r := range required {
			if r == path {
				k.Default = "required"
			}
		}
		if _, ok := unbuiltKeys[path]; ok {
			k.Unbuilt = defaultOnly
		}
		keys = append(keys, k)
	})
	return keys
}

// walk calls visit for every key of the document, with its path, its field and its value.
func walk(f *File, visit func(path string, field reflect.StructField, v reflect.Value)) {
	walkStruct("", reflect.ValueOf(f).Elem(), visit)
}

func walkStruct(prefix string, s reflect.Value, visit func(string, reflect.StructField, reflect.Value)) {
	for i := range s.NumField() {
		field := s.Type().Field(i)
		tag, ok := field.Tag.Lookup("toml")
		if !ok {
			continue
		}
		path, v := join(prefix, tag), s.Field(i)
		switch list := v.Interface().(type) {
		case []Node:
			for n := range list {
				walkStruct(index(path, n), v.Index(n), visit)
			}
			continue
		}
		if v.Kind() == reflect.Struct {
			walkStruct(path, v, visit)
			continue
		}
		visit(path, field, v)
	}
}

// literal prints a value as the file would have it.
func literal(v reflect.Value) string {
	switch value := v.Interface().(type) {
	case Duration:
		return `"` + value.String() + `"`
	case Size:
		return `"` + value.String() + `"`
	case string:
		return fmt.Sprintf("%q", value)
	case []string:
		quoted := make([]string, len(value))
		for i, s := range value {
			quoted[i] = fmt.Sprintf("%q", s)
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	default:
		return fmt.Sprint(value)
	}
}

// wordsOf lists the words of a oneof tag; the empty one as the file writes it.
func wordsOf(tag string) []string {
	words := strings.Split(tag, "|")
	for i, w := range words {
		if w == "" {
			words[i] = `""`
		}
	}
	return words
}

// typeText says what may be written for a field.
func typeText(field reflect.StructField) string {
	text := map[reflect.Type]string{
		reflect.TypeFor[Duration](): "duration",
		reflect.TypeFor[Size]():     "size",
		reflect.TypeFor[string]():   "text",
		reflect.TypeFor[bool]():     "true or false",
		reflect.TypeFor[int]():      "number",
		reflect.TypeFor[[]string](): "list of texts",
	}[field.Type]
	if words := field.Tag.Get("oneof"); words != "" {
		return "one of " + strings.Join(wordsOf(words), ", ")
	}
	if kind := field.Tag.Get("path"); kind != "" {
		return map[string]string{"file": "file", "dir": "folder"}[kind]
	}
	least, most := field.Tag.Get("min"), field.Tag.Get("max")
	switch {
	case least != "" && most != "":
		return text + ", " + least + " to " + most
	case most != "":
		return text + ", at most " + most
	default:
		return text
	}
}
