package config

import (
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

func TestEveryKeyIsFoundOnItsLine(t *testing.T) {
	document := strings.Join([]string{
		/* 1 */ `# a comment with [brackets] and a = b`,
		/* 2 */ `top = "a # no comment"`,
		/* 3 */ `[listen] # a comment`,
		/* 4 */ `address = "0.0.0.0:6432"`,
		/* 5 */ `text = """`,
		/* 6 */ `[not.a.table]`,
		/* 7 */ `still = "text" \"""" # closed by the last three`,
		/* 8 */ `literal = '''`,
		/* 9 */ `a = 1''''`,
		/* 10 */ `tls = "x"`,
		/* 11 */ `[[node]]`,
		/* 12 */ `name = "a"`,
		/* 13 */ `list = [ # comment ]`,
		/* 14 */ `  "one", # "two"`,
		/* 15 */ `  ["]", '['],`,
		/* 16 */ `]`,
		/* 17 */ ``,
		/* 18 */ `[[ node ]]`,
		/* 19 */ `"name" = 'b'`,
		/* 20 */ `inline = { x = 1, y.z = "}", w = [ {v = 2}, {v = 3} ] }`,
		/* 21 */ `[node.sub]`,
		/* 22 */ `key = 2026-01-01T00:00:00Z`,
		/* 23 */ `[a."b.c"]`,
		/* 24 */ `d . e = true`,
		/* 25 */ `  [hold]`,
		/* 26 */ "\tlogin = \"15s\"\r\n",
	}, "\n")
	if _, err := toml.Decode(document, new(map[string]any)); err != nil {
		t.Fatalf("the example is not valid: %v", err)
	}
	found := locate(document)
	for path, want := range map[string]int{
		"top": 2, "listen": 3, "listen.address": 4, "listen.text": 5, "listen.literal": 8, "listen.tls": 10, "node": 11, "node[0]": 11,
		"node[0].name": 12, "node[0].list": 13, "node[0].list[0]": 14, "node[0].list[1]": 15, "node[0].list[1][1]": 15, "node[1]": 18,
		"node[1].name": 19, "node[1].inline.x": 20, "node[1].inline.y.z": 20, "node[1].inline.w[1].v": 20, "node[1].sub": 21,
		"node[1].sub.key": 22, `a."b.c"`: 23, `a."b.c".d.e`: 24, "hold": 25, "hold.login": 26,
	} {
		if found[path] != want {
			t.Errorf("%s is on line %d, want %d", path, found[path], want)
		}
	}
	if _, ok := found["not.a.table"]; ok {
		t.Error("a table was found inside a text")
	}
}

func TestTheNearestPlaceStandsForWhatIsNotThere(t *testing.T) {
	p := locate("a = 1\n[hold]\n[[node]]\nname = 1\n[[node]]\nname = 2\n")
	for path, want := range map[string]int{
		"hold.login": 2, "node[1].address": 5, "node[1].name": 6, "node[0].list[3]": 3, "node": 3, "probe.user": 0, "": 0, "node[7].x": 3,
	} {
		if got := p.near(path); got != want {
			t.Errorf("near(%q) = %d, want %d", path, got, want)
		}
	}
	for path, want := range map[string]string{"node[1].address": "node.address", "a[0][1].b[2]": "a.b", "plain": "plain", "open[": "open"} {
		if got := withoutIndices(path); got != want {
			t.Errorf("withoutIndices(%q) = %q, want %q", path, got, want)
		}
	}
}

// leaves lists the path of every value of a decoded document.
func leaves(path string, v any, visit func(string)) {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			leaves(join(path, key), value, visit)
		}
	case []map[string]any:
		for i, element := range v {
			leaves(index(path, i), element, visit)
		}
	case []any:
		for i, element := range v {
			leaves(index(path, i), element, visit)
		}
	default:
		visit(path)
	}
}

// FuzzLocate holds the walk over a document to the decoder's own reading: whatever the decoder accepts, every value has a line, and none lies
// behind the end.
func FuzzLocate(f *testing.F) {
	f.Add(valid)
	for _, seed := range []string{
		"a=[1,[2,{b='x'}],]", "\"a\\u0041\".'b c' = 1", "a = {b={c=[{d=1},{d=2}]}}\n[x]\ny=1", "\ufeffa=1", "a = '''\n'''\r\nb = 2",
		"[[a]]\n[[a.b]]\nc=1\n[[a]]\n[[a.b]]\nc=2\n[a.b.d]\ne=1", "a.b.c = \"\"\"x\\\n  y\"\"\"", "a = -inf\nb = 0xff\nc = 1979-05-27 07:32:00",
		"[a]\nb.c = 1\n[a.d]\ne = 2", "a = [ # ]\n'#', \"]\" ]", "'' = 1", "a = \"\"\"\"\"\"\"\"", "a = {\n b = 1,\n # c\n}",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, document string) {
		found := locate(document)
		var tree map[string]any
		if _, err := toml.Decode(document, &tree); err != nil {
			return
		}
		lines := 1 + strings.Count(document, "\n")
		leaves("", tree, func(path string) {
			if line := found[path]; line < 1 || line > lines {
				t.Errorf("%s is on line %d of %d", path, line, lines)
			}
		})
	})
}

// FuzzLoad feeds whole documents: no panic, and what is accepted is what the rooms can work with.
func FuzzLoad(f *testing.F) {
	f.Add(valid)
	f.Add("node = [{name='a',address='b:1'}]\nprobe.user='x'\nfailover.mode='observe'\n")
	f.Add("[[node]]\n[node.name]\n[probe]\nuser = {}\n")
	f.Fuzz(func(t *testing.T, document string) {
		r := &report{file: "pgtether.toml"}
		file := decode(document, r)
		if r.lines == nil {
			if r.err() == nil {
				t.Fatal("not TOML, and no problem")
			}
			return
		}
		validate(&file, r)
		file.material = &material{}
		if err := r.err(); err != nil {
			if strings.TrimSpace(err.Error()) == "" {
				t.Fatal("refused without a word")
			}
			return
		}
		if checkRooms(&file, r); len(r.problems) > 0 {
			t.Fatalf("accepted here, refused by a room: %v\n%s", r.err(), document)
		}
	})
}
