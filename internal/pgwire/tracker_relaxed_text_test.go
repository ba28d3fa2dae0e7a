package pgwire

import (
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// markOf scans a text in pieces of at most size bytes, of which the last may be known to be the last or not.
func markOf(text string, size int) mark {
	var s nameScan
	b := []byte(text)
	for len(b) > size {
		s.feed(b[:size], false)
		b = b[size:]
	}
	s.feed(b, true)
	return s.mark()
}

var marks = []struct {
	text string
	want mark
}{
	{"", markNone},
	{"SELECT 1", markNone},
	{"COMMIT", markNone},
	{"SET LOCAL application_name = 'x'", markNone},
	{"SELECT synchronous, commit FROM t", markNone},
	{"SET synchronous_commi = off", markNone},
	{"SET synchronous commit = off", markNone},
	{"SET synchronous-commit = off", markNone},
	{"SELECT 'synchronous_synchronous_comm'", markNone},

	{"SET LOCAL synchronous_commit TO OFF", markLocal},
	{"SET LOCAL synchronous_commit TO OFF\x00", markLocal},
	{"set local synchronous_commit=off;", markLocal},
	{"\n SeT\tLOCAL\r\nSYNCHRONOUS_COMMIT\f=\vLoCaL ; ; ", markLocal},
	{"SET LOCAL synchronous_commit = 'off'", markLocal},
	{"SET LOCAL synchronous_commit='local'", markLocal},
	{"SET LOCAL synchronous_commit TO 0", markLocal},
	{"SET LOCAL synchronous_commit TO nonsense", markLocal},

	{"SET LOCAL synchronous_commit TO ON", markNone},
	{"SET LOCAL synchronous_commit = 'remote_apply';", markNone},
	{"SET SESSION synchronous_commit = remote_write", markNone},
	{"SET synchronous_commit TO DEFAULT", markNone},
	{"SET synchronous_commit=true", markNone},
	{"set synchronous_commit to YES", markNone},
	{"RESET synchronous_commit", markNone},
	{"SHOW synchronous_commit;", markNone},

	{"SET synchronous_commit TO OFF", markSession},
	{"SET SESSION synchronous_commit = local", markSession},
	{"SET synchronous_commit = 1", markSession}, // high, but not among those that are understood
	{"SET synchronous_commit = remote_applying", markSession},
	{"SET synchronous_commit", markSession},
	{"SET synchronous_commit TO", markSession},
	{"SET synchronous_commit TO 'on", markSession},
	{"SET synchronous_commit TO 'on '", markSession},
	{"SET synchronous_commit TO ''", markSession},
	{"SET synchronous_commit TO 'on'\n'off'", markSession},
	{"SET synchronous_commit TO on off", markSession},
	{"SET synchronous_commit TO on, off", markSession},
	{"SET synchronous_commit TO on\x00off", markSession},
	{"SET synchronous_commit TO = on", markSession},
	{"SET LOCAL synchronous_commit FROM CURRENT", markSession},
	{"SET LOCAL \"synchronous_commit\" TO off", markSession},
	{"SET LOCAL /* x */ synchronous_commit TO off", markSession},
	{"-- x\nSET LOCAL synchronous_commit TO off", markSession},
	{"; SET LOCAL synchronous_commit TO off", markSession},
	{"SET LOCAL synchronous_commit TO off; SET synchronous_commit TO off", markSession},
	{"SET LOCAL synchronous_commit TO on; SELECT 1", markSession},
	{"BEGIN; SET LOCAL synchronous_commit TO off; COMMIT", markSession},
	{"SET LOCAL LOCAL synchronous_commit TO off", markSession},
	{"SET LOCAL my.synchronous_commit TO off", markSession},
	{"SET LOCAL synchronous_commits TO off", markSession},
	{"SET LOCAL x_synchronous_commit TO off", markSession},
	{"SHOW synchronous_commit; SET synchronous_commit TO off", markSession},
	{"RESET synchronous_commit off", markSession},
	{"SET search_path TO synchronous_commit", markSession},
	{"SELECT set_config('synchronous_commit', 'off', true)", markSession},
	{"SELECT set_config('Synchronous_Commit', 'off', false)", markSession},
	{"DO $$ BEGIN PERFORM set_config('synchronous_commit', 'off', false); END $$", markSession},
	{"ALTER ROLE keycloak SET synchronous_commit = off", markSession},
	{"PREPARE p AS SELECT set_config('synchronous_commit', $1, false)", markSession},
	{"UPDATE pg_settings SET setting = 'off' WHERE name = 'synchronous_commit'", markSession},
	{"/* synchronous_commit */ SELECT 1", markSession},
	{"SELECT 'ssynchronous_commit'", markSession},
	{"SELECT 'synchronousynchronous_commit'", markSession},
	{"SELECT 'synchronoussynchronous_commit'", markSession},
	{"SELECT 'ysynchronous_commity'", markSession},
	{"synchronous_commit", markSession},
}

func TestTextsAreMarkedByWhatTheyDoToSynchronousCommit(t *testing.T) {
	for _, c := range marks {
		for size := range len(c.text) + 1 {
			if got := markOf(c.text, size+1); got != c.want {
				t.Errorf("%q in pieces of %d: %d, want %d", c.text, size+1, got, c.want)
			}
		}
		for cut := range len(c.text) { // two pieces, cut anywhere, and an empty one behind
			var s nameScan
			s.feed([]byte(c.text[:cut]), false)
			s.feed([]byte(c.text[cut:]), false)
			s.feed(nil, true)
			if got := s.mark(); got != c.want {
				t.Errorf("%q cut at %d: %d, want %d", c.text, cut, got, c.want)
			}
		}
	}
}

func TestANameIsFoundHoweverLongTheText(t *testing.T) {
	for _, filler := range []string{"x", "y", "Y", " ", "s", "sy", "synchronous", ";", "synchronous_commi "} {
		filler := strings.Repeat(filler, 1+1<<20/len(filler))
		for _, size := range []int{1 << 30, 32 << 10, 4097, 17, 1} {
			if got := markOf(filler, size); got != markNone {
				t.Errorf("%.20q in pieces of %d: %d", filler, size, got)
			}
			if got := markOf(filler+"synchronous_commit"+filler, size); got != markSession {
				t.Errorf("%.20q and the name in pieces of %d: %d", filler, size, got)
			}
		}
	}
}

// understood is the documentation of nameScan as a regular expression: the scope and the value of a statement that is understood.
var understood = regexp.MustCompile(strings.NewReplacer(" ", `[ \t\n\r\f\v\x00]`, "VALUE", `([A-Za-z0-9_$\x{80}-\x{ff}]+)`).Replace(
	`(?i)^ *(?:SET +(?:(LOCAL|SESSION) +)?synchronous_commit(?: *= *VALUE| *= *'VALUE'| +TO +VALUE| +TO *'VALUE')|(?:SHOW|RESET) +synchronous_commit) *(?:; *)*$`))

// markedBy says by the documentation what a text's mark is.
func markedBy(text []byte) mark {
	letters := make([]rune, len(text)) // one for each byte
	for i, c := range text {
		letters[i] = rune(c)
		if c >= 'A' && c <= 'Z' {
			letters[i] += 'a' - 'A'
		}
	}
	if !strings.Contains(string(letters), "synchronous_commit") {
		return markNone
	}
	m := understood.FindStringSubmatch(string(letters))
	switch {
	case m == nil:
		return markSession
	case slices.Contains([]string{"", "on", "true", "yes", "remote_write", "remote_apply", "default"}, m[2]+m[3]+m[4]+m[5]):
		return markNone
	case m[1] == "local":
		return markLocal
	default:
		return markSession
	}
}

func FuzzNameScan(f *testing.F) {
	for _, c := range marks {
		f.Add([]byte(c.text), uint8(3))
	}
	f.Fuzz(func(t *testing.T, text []byte, size uint8) {
		want := markedBy(text)
		if got := markOf(string(text), len(text)+1); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
		if got := markOf(string(text), int(size)+1); got != want {
			t.Errorf("%q in pieces of %d: %d, want %d", text, int(size)+1, got, want)
		}
	})
}

// TestRandomTextsAreMarkedAsDocumented puts texts together of the words that matter.
func TestRandomTextsAreMarkedAsDocumented(t *testing.T) {
	words := []string{"SET", "set", "LOCAL", "local", "SESSION", "synchronous_commit", "SYNCHRONOUS_COMMIT", "TO", "=", "off", "on", "'on'", "'off'", "DEFAULT",
		"remote_apply", "SHOW", "RESET", ";", "'", "x", "--", "\x00", "\xe9", "$", "SELECT"}
	gaps := []string{"", " ", " ", " ", "\n\t"}
	frames := [][]string{{"SET", "LOCAL", "synchronous_commit", "TO", "off"}, {"SET", "synchronous_commit", "=", "on", ";"}, {"SHOW", "synchronous_commit"}}
	seen := map[mark]int{}
	for seed := range modelSeeds(t) {
		rng := rand.New(rand.NewPCG(seed, 5))
		list := slices.Clone(frames[rng.IntN(len(frames))])
		for range rng.IntN(3) {
			switch i := rng.IntN(len(list)); rng.IntN(3) {
			case 0:
				list[i] = words[rng.IntN(len(words))]
			case 1:
				list = slices.Insert(list, i, words[rng.IntN(len(words))])
			default:
				list = slices.Delete(list, i, i+1)
			}
			if len(list) == 0 {
				break
			}
		}
		text := ""
		for _, w := range list {
			text += w + gaps[rng.IntN(len(gaps))]
		}
		want := markedBy([]byte(text))
		seen[want]++
		if got := markOf(text, 1+rng.IntN(30)); got != want {
			t.Fatalf("seed %d: %q: %d, want %d", seed, text, got, want)
		}
	}
	if len(seen) != 3 {
		t.Errorf("the texts do not reach every mark: %v", seen)
	}
}

func TestAStartupPacketThatRelaxesIsSeen(t *testing.T) {
	for _, c := range []struct {
		name, value string
		want        bool
	}{
		{"application_name", "synchronous_commit", false},
		{"synchronous_commit", "off", true},
		{"Synchronous_Commit", "LOCAL", true},
		{"synchronous_commit", "", true},
		{"synchronous_commit", "on", false},
		{"synchronous_commit", "Remote_Write", false},
		{"options", "-c search_path=x", false},
		{"options", "-c synchronous_commit=off", true},
		{"options", "-csynchronous_commit=off", true},
		{"options", "-c geqo=off --synchronous-commit=off", true},
		{"options", "-c SYNCHRONOUS-commit=local", true},
		{"options", `-c synchron\ous_commit=off`, true},
		{"options", "-c synchronous_commit=on", true}, // not looked at more closely
	} {
		s := &Startup{Params: []Param{{"user", "u"}, {c.name, c.value}, {"database", "d"}}}
		if got := s.RelaxesCommits(); got != c.want {
			t.Errorf("%s=%q: %t", c.name, c.value, got)
		}
	}
}
