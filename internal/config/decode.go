package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// decode reads a document over the defaults. What is wrong goes into the report; a value that is wrong leaves the default in place.
func decode(document string, r *report) File {
	file := Default()
	var tree map[string]any
	if _, err := toml.Decode(document, &tree); err != nil {
		r.syntax(document, err)
		return file
	}
	r.lines = locate(document)
	b := binder{report: r}
	b.table("", tree, reflect.ValueOf(&file).Elem())
	return file
}

// syntax records that the document is not TOML.
func (r *report) syntax(document string, err error) {
	p := &Problem{File: r.file, Text: "not valid TOML: " + err.Error(), Err: err}
	r.problems = append(r.problems, p)
	var parse toml.ParseError
	if !errors.As(err, &parse) {
		return
	}
	p.Line = parse.Position.Line
	if strings.Contains(parse.Message, `got '\n'`) && p.Line > 1 {
		p.Line-- // the decoder has already counted the line end that surprised it
	}
	p.Text = "not valid TOML: " + strings.TrimRight(strings.ToLower(parse.Message[:1])+parse.Message[1:], ".")
	// The decoder's last key may be that of an earlier line.
	last := parse.LastKey[strings.LastIndex(parse.LastKey, ".")+1:]
	if line := strings.TrimSpace(lineOf(document, p.Line)); last != "" && strings.HasPrefix(line, last) {
		p.Key = parse.LastKey
		p.Text += "; texts, durations and sizes stand in quotes, and a key only once"
	}
}

// lineOf returns one line of the document, counted from 1.
func lineOf(document string, n int) string {
	for line := range strings.SplitSeq(document, "\n") {
		if n--; n == 0 {
			return line
		}
	}
	return ""
}

// binder brings the values of a document into the struct, by its tags.
type binder struct{ report *report }

// table sets the fields of a struct, in the order in which the document has them.
func (b *binder) table(path string, tree map[string]any, into reflect.Value) {
	keys := slices.SortedFunc(maps.Keys(tree), func(x, y string) int {
		return cmp.Or(cmp.Compare(b.report.lines.near(join(path, x)), b.report.lines.near(join(path, y))), cmp.Compare(x, y))
	})
	for _, key := range keys {
		field, ok := fieldOf(into, key)
		if !ok {
			b.unknown(path, key, into.Type())
			continue
		}
		b.value(join(path, key), tree[key], field)
	}
}

// fieldOf finds the field for a key, by its exact spelling.
func fieldOf(v reflect.Value, key string) (reflect.Value, bool) {
	for i := range v.NumField() {
		if tag, ok := v.Type().Field(i).Tag.Lookup("toml"); ok && tag == key {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

// value sets one field, or reports why the value does not fit.
func (b *binder) value(path string, v any, into reflect.Value) {
	switch field := into.Addr().Interface().(type) {
	case *Duration:
		setParsed(b, path, v, field, ParseDuration, `a duration in quotes, such as "1.5s"`)
	case *Size:
		setParsed(b, path, v, field, ParseSize, `a size in quotes, such as "16MiB"`)
	case *string:
		setPlain(b, path, v, field, "text in quotes")
	case *bool:
		setPlain(b, path, v, field, "true or false")
	case *int:
		var n int64
		if setPlain(b, path, v, &n, "a whole number without quotes") {
			*field = int(n)
		}
	case *[]string:
		b.texts(path, v, field)
	case *[]Node:
		b.nodes(path, v, field)
	default:
		if tree, ok := v.(map[string]any); ok {
			b.table(path, tree, into)
			return
		}
		b.report.refuse(path, "want a table: [%s] on a line of its own, its keys below; found %s", path, describe(v))
	}
}

// setPlain sets a value that TOML already has in the right type.
func setPlain[T any](b *binder, path string, v any, field *T, want string) bool {
	typed, ok := v.(T)
	if !ok {
		b.report.refuse(path, "want %s, found %s", want, describe(v))
		return false
	}
	*field = typed
	return true
}

// setParsed sets a value that the file writes as text.
func setParsed[T any](b *binder, path string, v any, field *T, parse func(string) (T, error), want string) {
	text, ok := v.(string)
	if !ok {
		b.report.refuse(path, "want %s, found %s", want, describe(v))
		return
	}
	parsed, err := parse(text)
	if err != nil {
		b.report.refuse(path, "%s", err.Error()).Err = err
		return
	}
	*field = parsed
}

func (b *binder) texts(path string, v any, field *[]string) {
	list, ok := v.([]any)
	if !ok {
		b.report.refuse(path, `want a list of texts, such as ["a", "b"], found %s`, describe(v))
		return
	}
	texts := make([]string, len(list))
	for i, element := range list {
		setPlain(b, index(path, i), element, &texts[i], "text in quotes")
	}
	*field = texts
}

func (b *binder) nodes(path string, v any, field *[]Node) {
	var trees []map[string]any
	switch list := v.(type) {
	case []map[string]any:
		trees = list
	case []any:
		for i, element := range list {
			tree, ok := element.(map[string]any)
			if !ok {
				b.report.refuse(index(path, i), "want a table with name and address, found %s", describe(element))
				return
			}
			trees = append(trees, tree)
		}
	default:
		b.report.refuse(path, "want [[%s]], in double brackets, once per PostgreSQL server; found %s", path, describe(v))
		return
	}
	nodes := make([]Node, len(trees))
	for i, tree := range trees {
		b.table(index(path, i), tree, reflect.ValueOf(&nodes[i]).Elem())
	}
	*field = nodes
}

// describe says what a value of the file is, in the file's own notation.
func describe(v any) string {
	switch v := v.(type) {
	case string:
		return "the text " + quote(v)
	case int64:
		return "the number " + strconv.FormatInt(v, 10)
	case float64:
		return "the number " + strconv.FormatFloat(v, 'g', -1, 64)
	case bool:
		return strconv.FormatBool(v)
	case time.Time:
		return "a date or time"
	case map[string]any:
		return "a table"
	case []map[string]any:
		return "an array of tables"
	case []any:
		return "a list"
	default:
		return fmt.Sprintf("a %T", v)
	}
}
